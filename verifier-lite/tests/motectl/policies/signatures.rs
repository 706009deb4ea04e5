//! What policies say of signatures and hash algorithms.

use std::fs;
use std::process::Command;

use crate::common::TempDir;
use crate::operator::{device_logging, good, keys, manifest, open, policy, verdict_of};
use crate::{common, makers, operator};
use mote_schemas::ima::{Endian, TemplateWriter};
use mote_schemas::tpm::{HashAlg, hash};
use mote_verifier::policy::ima_keys_bytes;
use mote_verifier::store::{Change, Durability, ObjectKind, Record, Store};
use serde_json::json;

use super::OLD;

const ADDED: &[u8] = b"added contents";

/// A record of a file or buffer with these contents.
fn logged(template: &str, name: &str, contents: &[u8], last: &[u8]) -> Record {
    let mut buffer = [0; 4096];
    let mut writer = TemplateWriter::new(Endian::Little, &mut buffer);
    let digest = hash(HashAlg::Sha256, &[contents]);
    writer.digest("sha256", digest.as_bytes()).unwrap();
    writer.text(name.as_bytes()).unwrap();
    writer.bytes(last).unwrap();
    Record {
        template: template.into(),
        data: writer.finish().to_vec(),
        pcr: 10,
        violation: false,
    }
}

/// `gate-7` runs `/opt/added`, which no manifest lists; `maker` has signed it. The verifier has these keys.
fn with_signed_file(dir: &TempDir, makers: &TempDir, mut log: Vec<Record>, keys_of: &[&str]) {
    let signature = makers::signature(makers, "maker", ADDED);
    log.push(logged("ima-sig", "/opt/added", ADDED, &signature));
    device_logging(dir, log, false);
    let learned = [".ima".to_owned()];
    let bytes = ima_keys_bytes(&makers::keyring(makers, keys_of), &learned);
    let stored = Change::PutObject(ObjectKind::ImaKeys, "all".into(), bytes);
    open(dir).commit(&[stored], Durability::Immediate).unwrap();
    keys(dir);
    manifest(dir, "1.3", &OLD);
    good(dir, "manifest add edge-1.3.mote");
}

/// The key identifier of a certificate, as `openssl` shows it.
fn key_identifier(makers: &TempDir, maker: &str) -> String {
    let shown = common::run(
        Command::new("openssl")
            .args(["x509", "-noout", "-ext", "subjectKeyIdentifier", "-in"])
            .arg(makers.file(&format!("{maker}.crt"))),
    );
    let shown = String::from_utf8(shown).unwrap();
    let line = shown.lines().last().unwrap();
    line.trim().replace(':', "").to_lowercase()
}

#[test]
fn a_policy_says_whose_signatures_count() {
    let (dir, makers) = (TempDir::new("policies"), makers::makers());
    with_signed_file(&dir, &makers, vec![], &["maker", "other"]);
    assert_eq!(
        verdict_of(&dir),
        ("trusted".into(), vec![]),
        "no policy: every key"
    );
    let (maker, other) = (
        key_identifier(&makers, "maker"),
        key_identifier(&makers, "other"),
    );
    assert_eq!(maker.len(), 40);
    // Ends as the maker's does, and is another.
    let alike = format!("{}{}", "00".repeat(16), &maker[32..]);
    policy(&dir, &json!({ "name": "open", "version": 1 }));
    good(&dir, "policy bind open all");
    for (version, ids, trusted) in [
        (2, vec![&other[32..]], false),
        (3, vec![&maker[32..]], true),
        (4, vec![&alike], false),
        (5, vec![&maker], true),
        (6, vec![&other[..], &maker[20..]], true),
        (7, vec![&other], false),
    ] {
        policy(
            &dir,
            &json!({ "name": "open", "version": version, "ima-keys": ids }),
        );
        let expected = if trusted {
            ("trusted".to_owned(), vec![])
        } else {
            (
                "untrusted".to_owned(),
                vec!["file-signer-unknown".to_owned()],
            )
        };
        assert_eq!(verdict_of(&dir), expected, "version {version}");
    }
}

#[test]
fn keys_that_a_log_brings_count_unless_a_policy_names_the_ones_that_do() {
    let (dir, makers) = (TempDir::new("policies"), makers::makers());
    let key = fs::read(makers.file("maker.der")).unwrap();
    let added = logged("ima-buf", ".ima", &key, &key);
    with_signed_file(&dir, &makers, vec![added], &["other"]);
    assert_eq!(verdict_of(&dir), ("trusted".into(), vec![]));
    let other = key_identifier(&makers, "other");
    policy(
        &dir,
        &json!({ "name": "named", "version": 1, "ima-keys": [other] }),
    );
    good(&dir, "policy bind named all");
    let reasons = vec![
        "file-signer-unknown".to_owned(),
        "buffer-unknown".to_owned(),
    ];
    assert_eq!(verdict_of(&dir), ("untrusted".into(), reasons));
}

#[test]
fn a_bank_of_padded_sha1_counts_as_sha1() {
    let sha1 = (
        "untrusted".to_owned(),
        vec!["pcr-bank-not-allowed".to_owned()],
    );
    let trusted = ("trusted".to_owned(), vec![]);
    for (padded, bank, expected) in [
        (false, "sha256", &trusted),
        (false, "sha1", &sha1),
        (true, "sha256", &sha1),
        (true, "sha1", &trusted),
    ] {
        let dir = TempDir::new("policies");
        let log = OLD.map(|(path, contents)| operator::record(path, &operator::digest(contents)));
        device_logging(&dir, log.into(), padded);
        keys(&dir);
        manifest(&dir, "1.3", &OLD);
        good(&dir, "manifest add edge-1.3.mote");
        policy(
            &dir,
            &json!({ "name": "banks", "version": 1, "banks": [bank] }),
        );
        good(&dir, "policy bind banks all");
        assert_eq!(&verdict_of(&dir), expected, "{bank}, padded: {padded}");
    }
}
