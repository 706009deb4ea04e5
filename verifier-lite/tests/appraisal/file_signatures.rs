//! Files that no manifest lists, signed: what `evmctl` signed, in a log that a quote certifies.
#![allow(clippy::cloned_ref_to_slice_refs)]

use std::fs;
use std::process::Command;

use crate::common::{TempDir, run};
use crate::device::{Device, recorded_pcrs, recorded_selection};
use crate::makers::{keyring, makers, signature};
use mote_schemas::ima::{Endian, TemplateWriter};
use mote_schemas::message::Tier;
use mote_schemas::tpm::{Digest, HashAlg, hash};
use mote_verifier::appraise::{Appraisal, Deviation, Fault, appraise_next};
use mote_verifier::ima_signature::{Keyring, LearnedKeys};
use mote_verifier::manifest::{
    BufferExpectations, FileDigest, FileEntry, Manifest, ReferenceValues, SignedManifest,
    StaticPcrs, sign,
};
use mote_verifier::prefix::{LogState, Outcome, PendingLog};
use mote_verifier::signing_key::SigningKey;
use mote_verifier::store::Record;

const LISTED: &[u8] = b"listed contents";
const ADDED: &[u8] = b"added contents";

fn sha256(contents: &[u8]) -> Digest {
    hash(HashAlg::Sha256, &[contents])
}

/// A manifest that lists `/bin/listed` alone.
fn references(keyring: Option<Keyring>) -> ReferenceValues {
    of_manifest(keyring, BufferExpectations::default())
}

fn of_manifest(keyring: Option<Keyring>, buffers: BufferExpectations) -> ReferenceValues {
    let key = SigningKey::generate().unwrap();
    let files = vec![FileEntry {
        path: "/bin/listed".into(),
        digests: vec![FileDigest(sha256(LISTED).as_bytes().try_into().unwrap())],
    }];
    let manifest = Manifest::new(
        "edge",
        "1.3",
        None,
        files,
        Vec::new(),
        StaticPcrs::default(),
    )
    .and_then(|manifest| manifest.with_buffers(buffers))
    .unwrap();
    let signed = sign(&manifest, &key).unwrap();
    let verified = SignedManifest::parse(&signed)
        .unwrap()
        .verify(&[key.public_key().clone()])
        .unwrap();
    let references = ReferenceValues::new([&verified]).unwrap();
    match keyring {
        Some(keyring) => references.with_ima_keys(keyring),
        None => references,
    }
}

fn record(template: &str, name: &str, digest: &Digest, last: &[u8]) -> Record {
    let mut buffer = [0; 4096];
    let mut writer = TemplateWriter::new(Endian::Little, &mut buffer);
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

fn signed_file(path: &str, contents: &[u8], signature: &[u8]) -> Record {
    record("ima-sig", path, &sha256(contents), signature)
}

fn added_key(dir: &TempDir, kernel_keyring: &str, maker: &str) -> Record {
    let payload = fs::read(dir.file(&format!("{maker}.der"))).unwrap();
    record("ima-buf", kernel_keyring, &sha256(&payload), &payload)
}

/// A boot whose log arrives in these parts, each certified by a quote of its own.
fn judge(parts: &[&[Record]], references: &ReferenceValues) -> Appraisal {
    let boot = recorded_pcrs(1);
    let mut device = Device::new(recorded_selection(), &boot);
    let values: Vec<&[u8]> = (0..10)
        .map(|pcr| boot[&(HashAlg::Sha256, pcr)].as_bytes())
        .collect();
    let aggregate = hash(HashAlg::Sha256, &values);
    let first = [record("ima-sig", "boot_aggregate", &aggregate, &[])];
    let mut pending = PendingLog::new(LogState::at_boot());
    let mut learned = LearnedKeys::default();
    let mut whole = Appraisal::default();
    for part in [&[&first[..]], parts].concat() {
        for record in part {
            device.extend(record);
        }
        let next = pending.next_record();
        pending.append(next, part.to_vec()).unwrap();
        let claims = device.pcrs.clone();
        let certified = match pending.certify(&device.quote(), &claims, true) {
            Ok(Outcome::Certified(certified)) => certified,
            other => panic!("not certified: {other:?}"),
        };
        // As the store keeps them between two messages.
        let stored: Vec<Vec<u8>> = learned.ders().map(<[u8]>::to_vec).collect();
        learned = LearnedKeys::from_ders(stored.iter().map(Vec::as_slice));
        let mut found = appraise_next(&certified, references, &mut learned, Endian::Little);
        whole.tier = whole.tier.max(found.tier);
        whole.deviations.append(&mut found.deviations);
    }
    whole
}

fn only(appraisal: Appraisal) -> Deviation {
    let [deviation] = <[Deviation; 1]>::try_from(appraisal.deviations).unwrap();
    assert_eq!(appraisal.tier, deviation.fault.tier());
    deviation
}

#[test]
fn a_file_that_is_not_listed_is_affirmed_if_an_allowed_key_signed_it() {
    let dir = makers();
    let file = signed_file("/opt/added", ADDED, &signature(&dir, "maker", ADDED));
    let allowed = references(Some(keyring(&dir, &["other", "maker"])));
    let right = judge(&[&[file.clone()]], &allowed);
    assert_eq!((right.tier, right.deviations), (Tier::Affirming, vec![]));

    let other = only(judge(
        &[&[file.clone()]],
        &references(Some(keyring(&dir, &["other"]))),
    ));
    assert_eq!(other.fault, Fault::FileSignerUnknown);
    assert_eq!(other.fault.reason().token(), "file-signer-unknown");
    let note = other.note.unwrap();
    let id = keyring(&dir, &["maker"]).all()[0].ids()[0].to_string();
    assert!(note.contains(&id), "{note}");

    // Without a policy on signatures nothing is said about them.
    let unknown = only(judge(&[&[file]], &references(None)));
    assert_eq!((unknown.fault, unknown.note), (Fault::FileUnknown, None));
}

#[test]
fn a_signature_that_does_not_hold_is_worse_than_none_and_named() {
    let dir = makers();
    let references = references(Some(keyring(&dir, &["maker"])));
    let signature = signature(&dir, "maker", ADDED);
    let changed = only(judge(
        &[&[signed_file("/opt/added", b"changed", &signature)]],
        &references,
    ));
    assert_eq!(changed.fault, Fault::FileSignatureInvalid);
    assert_eq!(changed.fault.reason().token(), "file-signature-invalid");
    assert_eq!(changed.fault.tier(), Tier::Contraindicated);

    let cut = &signature[..signature.len() - 1];
    let malformed = only(judge(
        &[&[signed_file("/opt/added", ADDED, cut)]],
        &references,
    ));
    assert_eq!(malformed.fault, Fault::FileSignatureInvalid);
    assert!(malformed.note.unwrap().contains("offset 7"));

    let unsigned = only(judge(
        &[&[signed_file("/opt/added", ADDED, &[])]],
        &references,
    ));
    assert_eq!(unsigned.fault, Fault::FileUnknown);
}

#[test]
fn a_signature_never_outweighs_what_a_manifest_says_of_the_path() {
    let dir = makers();
    let references = references(Some(keyring(&dir, &["maker"])));
    let signature = signature(&dir, "maker", ADDED);
    // Contents that the maker signed, at a path where the manifest has others.
    let moved = only(judge(
        &[&[signed_file("/bin/listed", ADDED, &signature)]],
        &references,
    ));
    assert_eq!(moved.fault, Fault::FileModified);
    // What the manifest lists needs no signature, and a bad one does not spoil it.
    let listed = judge(
        &[&[signed_file("/bin/listed", LISTED, &signature)]],
        &references,
    );
    assert_eq!(listed.deviations, []);
}

#[test]
fn a_key_added_to_the_kernels_keyring_counts_only_if_policy_says_so_and_from_then_on() {
    let dir = makers();
    let file = signed_file("/opt/added", ADDED, &signature(&dir, "maker", ADDED));
    let added = added_key(&dir, ".ima", "maker");
    let mut learning = Keyring::default();
    learning.learn_from(".ima");
    let learning = references(Some(learning));

    // In one part of the log or in two.
    for parts in [
        &[&[added.clone(), file.clone()][..]][..],
        &[&[added.clone()], &[file.clone()]],
    ] {
        assert_eq!(
            judge(parts, &learning).deviations,
            [],
            "{} parts",
            parts.len()
        );
    }
    // Not for files before it.
    let early = only(judge(&[&[file.clone()], &[added.clone()]], &learning));
    assert_eq!((early.record, early.fault), (1, Fault::FileSignerUnknown));

    let not_learning = references(Some(keyring(&dir, &["other"])));
    let found = judge(&[&[added, file.clone()]], &not_learning);
    let faults: Vec<_> = found.deviations.iter().map(|d| d.fault).collect();
    assert_eq!(faults, [Fault::BufferUnknown, Fault::FileSignerUnknown]);

    // Another keyring, and a payload that is no key.
    for other in [
        added_key(&dir, ".platform", "maker"),
        record("ima-buf", ".ima", &sha256(b"no key"), b"no key"),
    ] {
        let found = judge(&[&[other, file.clone()]], &learning);
        let faults: Vec<_> = found.deviations.iter().map(|d| d.fault).collect();
        assert_eq!(faults, [Fault::BufferUnknown, Fault::FileSignerUnknown]);
    }
}

#[test]
fn a_keyring_whose_keys_are_listed_is_not_learned_from_beyond_them() {
    let dir = makers();
    let listed = |maker: &str| {
        let key = fs::read(dir.file(&format!("{maker}.der"))).unwrap();
        let mut learning = Keyring::default();
        learning.learn_from(".ima");
        let known = FileEntry {
            path: ".ima".into(),
            digests: vec![FileDigest(sha256(&key).as_bytes().try_into().unwrap())],
        };
        let buffers = BufferExpectations {
            known: vec![known],
            ..BufferExpectations::default()
        };
        of_manifest(Some(learning), buffers)
    };
    let file = signed_file("/opt/added", ADDED, &signature(&dir, "maker", ADDED));
    let log = [added_key(&dir, ".ima", "maker"), file];
    assert_eq!(judge(&[&log], &listed("maker")).deviations, []);
    let found = judge(&[&log], &listed("other"));
    let faults: Vec<_> = found.deviations.iter().map(|d| d.fault).collect();
    assert_eq!(faults, [Fault::BufferModified, Fault::FileSignerUnknown]);
}

#[test]
fn keys_of_an_unjudged_keyring_pass_and_sign_nothing() {
    let dir = makers();
    let file = signed_file("/opt/added", ADDED, &signature(&dir, "maker", ADDED));
    let unjudged = |keyrings: &[&str]| {
        let buffers = BufferExpectations {
            unjudged_keyrings: keyrings.iter().map(ToString::to_string).collect(),
            ..BufferExpectations::default()
        };
        of_manifest(Some(keyring(&dir, &["other"])), buffers)
    };
    for keyrings in [&[".ima"][..], &["*"], &[".evm", ".ima"]] {
        let found = judge(
            &[&[added_key(&dir, ".ima", "maker"), file.clone()]],
            &unjudged(keyrings),
        );
        let faults: Vec<_> = found.deviations.iter().map(|d| d.fault).collect();
        assert_eq!(faults, [Fault::FileSignerUnknown], "{keyrings:?}");
        // What is no key is judged, whatever keyring it names.
        let other = record("ima-buf", ".ima", &sha256(b"no key"), b"no key");
        let found = only(judge(&[&[other]], &unjudged(keyrings)));
        assert_eq!(found.fault, Fault::BufferUnknown, "{keyrings:?}");
    }
    let found = only(judge(
        &[&[added_key(&dir, ".ima", "maker")]],
        &unjudged(&[".evm"]),
    ));
    assert_eq!(found.fault, Fault::BufferUnknown);
}

/// With `ima_template=evm-sig` the writer of a file chooses its attributes: here a file that is a key, with
/// the same key in an attribute, read from a detached mount where its path is `.ima`. Labelled so that the
/// attribute is a buffer, it would let its writer sign files.
#[test]
fn a_file_does_not_pass_for_a_key_that_the_kernel_added() {
    let dir = makers();
    let key = fs::read(dir.file("maker.der")).unwrap();
    let file = signed_file("/opt/added", ADDED, &signature(&dir, "maker", ADDED));
    let mut learning = Keyring::default();
    learning.learn_from(".ima");
    let learning = references(Some(learning));

    let mut buffer = [0; 4096];
    let mut writer = TemplateWriter::new(Endian::Little, &mut buffer);
    writer.digest("sha256", sha256(&key).as_bytes()).unwrap();
    writer.text(b".ima").unwrap();
    writer.bytes(&[5]).unwrap();
    writer.text(b"security.selinux").unwrap();
    let length = u32::try_from(key.len()).unwrap();
    writer.bytes(&length.to_le_bytes()).unwrap();
    writer.bytes(&key).unwrap();
    for number in [&[0; 4][..], &[0; 4], &[0xed, 0x81]] {
        writer.bytes(number).unwrap();
    }
    let data = writer.finish().to_vec();
    for label in [
        "evm-sig",
        "d-ng|n-ng|sig|sig|sig|buf|sig|sig|sig",
        "d-ng|n-ng|evmsig|xattrnames|xattrlengths|buf|iuid|igid|imode",
    ] {
        let implant = Record {
            template: label.into(),
            data: data.clone(),
            pcr: 10,
            violation: false,
        };
        let found = judge(&[&[implant, file.clone()]], &learning);
        let faults: Vec<_> = found.deviations.iter().map(|d| d.fault).collect();
        let expected = [Fault::FileSignatureInvalid, Fault::FileSignerUnknown];
        assert_eq!(faults, expected, "{label}");
    }
}

/// What the kernel measures of a module with an appended signature, `ima_template=ima-modsig`.
#[test]
fn a_module_that_is_not_listed_is_affirmed_if_an_allowed_key_signed_it_by_appending() {
    let dir = makers();
    fs::write(dir.file("module"), ADDED).unwrap();
    let message = run(Command::new("openssl")
        .args(["cms", "-sign", "-binary", "-outform", "DER", "-nosmimecap"])
        .args(["-noattr", "-nocerts", "-md", "sha256", "-signer"])
        .arg(dir.file("maker.crt"))
        .arg("-inkey")
        .arg(dir.file("maker.key"))
        .arg("-in")
        .arg(dir.file("module")));
    let module = |contents: &[u8]| {
        let mut buffer = [0; 4096];
        let mut writer = TemplateWriter::new(Endian::Little, &mut buffer);
        let whole = sha256(&[contents, &message].concat());
        writer.digest("sha256", whole.as_bytes()).unwrap();
        writer.text(b"/lib/modules/pump.ko").unwrap();
        writer.bytes(&[]).unwrap();
        writer
            .digest("sha256", sha256(contents).as_bytes())
            .unwrap();
        writer.bytes(&message).unwrap();
        Record {
            template: "ima-modsig".into(),
            data: writer.finish().to_vec(),
            pcr: 10,
            violation: false,
        }
    };
    let allowed = references(Some(keyring(&dir, &["other", "maker"])));
    assert_eq!(judge(&[&[module(ADDED)]], &allowed).deviations, []);
    let changed = only(judge(&[&[module(b"changed")]], &allowed));
    assert_eq!(changed.fault, Fault::FileSignatureInvalid);
    let other = references(Some(keyring(&dir, &["other"])));
    let unknown = only(judge(&[&[module(ADDED)]], &other));
    assert_eq!(unknown.fault, Fault::FileSignerUnknown);
    assert!(unknown.note.unwrap().contains("signed by certificate "));
}
