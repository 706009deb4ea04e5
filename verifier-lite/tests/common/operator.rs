//! A verifier's store with a device whose log is certified, and `motectl` on it.

use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};

use super::common::TempDir;
use mote_schemas::ima::{Endian, Record, TemplateWriter};
use mote_schemas::message::{DeviceId, Tier};
use mote_schemas::pcr::{extend, initial};
use mote_schemas::tpm::{HashAlg, hash};
use mote_verifier::log_entry::LogEntry;
use mote_verifier::manifest::{FileDigest, FileEntry, Manifest, StaticPcrs, sign};
use mote_verifier::signing_key::SigningKey;
use mote_verifier::store::{
    Admission, BootState, Change, Content, DeviceRecord, Durability, PcrBank, PcrValue,
    Record as StoredRecord, RecordId, RedbStore, Store, VerdictRecord,
};

pub(crate) const GATE: DeviceId = DeviceId([0x3F; 16]);

pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis() as u64
}

fn run(dir: &TempDir, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_motectl"))
        .current_dir(dir.path())
        .env("USER", "ann")
        .env("MOTE_STATE", "state")
        .args(arguments.split(' '))
        .output()
        .unwrap()
}

/// Standard output of a command that succeeds.
pub(crate) fn good(dir: &TempDir, arguments: &str) -> String {
    let output = run(dir, arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments}: {stderr}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let narrow = |line: &str| line.chars().count() <= 80;
    let machine = arguments.contains("--json") || arguments.starts_with("result");
    assert!(
        machine || stdout.lines().all(narrow),
        "{arguments}: too wide: {stdout}"
    );
    stdout
}

/// Standard error of a command that fails.
pub(crate) fn bad(dir: &TempDir, arguments: &str) -> String {
    let output = run(dir, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments}");
    assert!(output.stdout.is_empty(), "{arguments}");
    String::from_utf8(output.stderr).unwrap()
}

pub(crate) fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

/// `key new` and `key trust` of `image.key` for manifests and `policy.key` for policies.
pub(crate) fn keys(dir: &TempDir) {
    good(dir, "key new --out image.key");
    good(dir, "key new --out policy.key");
    good(dir, "key trust image.key.pub --manifests");
    good(dir, "key trust policy.key.pub --policies");
}

/// A manifest `edge-VERSION` of files with one-byte contents, signed with `image.key`.
pub(crate) fn manifest(dir: &TempDir, version: &str, files: &[(&str, u8)]) {
    let files = files.iter().map(|(path, contents)| FileEntry {
        path: (*path).into(),
        digests: vec![FileDigest(digest(*contents))],
    });
    let manifest = Manifest::new(
        "edge",
        version,
        None,
        files.collect(),
        vec![],
        StaticPcrs::new(),
    );
    let key = SigningKey::load(&dir.file("image.key")).unwrap();
    let bytes = sign(&manifest.unwrap(), &key).unwrap();
    std::fs::write(dir.file(&format!("edge-{version}.mote")), bytes).unwrap();
}

/// A policy from JSON, signed with `policy.key` and stored.
pub(crate) fn policy(dir: &TempDir, source: &serde_json::Value) -> String {
    std::fs::write(dir.file("p.json"), source.to_string()).unwrap();
    good(dir, "policy build p.json --sign policy.key -o p.policy");
    good(dir, "policy add p.policy")
}

pub(crate) fn digest(contents: u8) -> [u8; 32] {
    let digest = hash(HashAlg::Sha256, &[&[contents]]);
    digest.as_bytes().try_into().unwrap()
}

pub(crate) fn record(path: &str, digest: &[u8]) -> StoredRecord {
    let mut buffer = [0; 512];
    let mut writer = TemplateWriter::new(Endian::Little, &mut buffer);
    writer.digest("sha256", digest).unwrap();
    writer.text(path.as_bytes()).unwrap();
    (&Record::measured(10, HashAlg::Sha1, "ima-ng", writer.finish())).into()
}

pub(crate) fn open(dir: &TempDir) -> RedbStore {
    RedbStore::open_or_create(&dir.file("state")).unwrap()
}

/// The device `gate-7`, admitted, with a certified log of `boot_aggregate` and these files.
pub(crate) fn device(dir: &TempDir, files: &[(&str, u8)]) {
    let files = files.iter();
    let files = files.map(|(path, contents)| record(path, &digest(*contents)));
    device_logging(dir, files.collect(), false);
}

/// The same with these records, by a kernel that fills its bank with its own hash or with padded SHA-1.
pub(crate) fn device_logging(dir: &TempDir, logged: Vec<StoredRecord>, padded: bool) {
    let boot_pcrs = [[0u8; 32]; 10];
    let mut records = vec![record(
        "boot_aggregate",
        hash(HashAlg::Sha256, &[boot_pcrs.as_flattened()]).as_bytes(),
    )];
    records.extend(logged);
    let mut pcr = initial(HashAlg::Sha256, 10);
    for record in &records {
        let digest = if padded {
            record.extend_digest_padded(HashAlg::Sha256, true)
        } else {
            record.extend_digest(HashAlg::Sha256)
        };
        pcr = extend(&pcr, &digest).unwrap();
    }
    let mut values: Vec<_> = (0u8..10)
        .map(|index| PcrValue {
            index,
            value: vec![0; 32],
        })
        .collect();
    values.push(PcrValue {
        index: 10,
        value: pcr.as_bytes().to_vec(),
    });
    let then = now() - 180_500;
    let boot = BootState {
        number: 1,
        reset_count: 4,
        restart_count: 0,
        clock: 1,
        clock_safe: true,
        since: then,
        quoted_at: then,
        certified: records.len() as u64,
        pcrs: vec![PcrBank {
            alg: HashAlg::Sha256.to_u16(),
            values,
        }],
        log_pcrs: 1 << 10,
        outstanding: None,
        content: Content::default(),
        quoted: None,
        guessed: None,
        in_full: None,
        padded_banks: padded.then(|| vec![HashAlg::Sha256.to_u16()]),
        restarted: None,
        boot_log: None,
    };
    let device = DeviceRecord {
        name: Some("gate-7".into()),
        admission: Admission::Admitted {
            by: "ek-certificate".into(),
            at: then,
        },
        boot: Some(boot),
        last_seen: Some(then),
        ..DeviceRecord::new(vec![1; 90], vec![2; 90], then)
    };
    let mut changes = vec![Change::PutDevice(GATE, device)];
    let ids = records.iter().map(RecordId::of).collect();
    changes.extend(records.into_iter().map(Change::PutRecord));
    changes.push(Change::AppendLog {
        device: GATE,
        boot: 1,
        first: 0,
        records: ids,
    });
    open(dir).commit(&changes, Durability::Immediate).unwrap();
}

/// Adds a verdict, as the engine would.
pub(crate) fn verdict(dir: &TempDir, tier: Tier, reasons: &[&str]) {
    let verdict = VerdictRecord {
        at: now(),
        boot: 1,
        tier,
        reasons: reasons.iter().map(ToString::to_string).collect(),
    };
    open(dir)
        .commit(&[Change::AddVerdict(GATE, verdict)], Durability::Immediate)
        .unwrap();
}

/// The verdict of `gate-7` in `device list`, and its reasons.
pub(crate) fn verdict_of(dir: &TempDir) -> (String, Vec<String>) {
    let list = json(&good(dir, "device list --json"));
    let verdict = &list[0]["verdict"];
    let reasons = verdict["reasons"].as_array().unwrap().iter();
    (
        verdict["verdict"].as_str().unwrap().to_owned(),
        reasons.map(|r| r.as_str().unwrap().to_owned()).collect(),
    )
}

/// The verdicts of `gate-7`, newest first.
pub(crate) fn history(dir: &TempDir) -> Vec<String> {
    let shown = json(&good(dir, "device show gate-7 --json"));
    let history = shown["history"].as_array().unwrap().iter();
    history
        .map(|verdict| verdict["verdict"].as_str().unwrap().to_owned())
        .collect()
}
