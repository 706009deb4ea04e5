//! What is right and wrong with certified records.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "common/device.rs"]
mod device;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::Command;

use common::{run, unhex};
use device::{Device, Pcrs, recorded_list, recorded_pcrs, recorded_quote, recorded_selection};
use mote_schemas::ima::{Endian, Record, TemplateWriter};
use mote_schemas::message::Tier;
use mote_schemas::tpm::{BankSelection, Digest, HashAlg, PcrSelection, hash};
use mote_verifier::appraise::{Appraisal, Deviation, Fault, KnownFile, ReferenceLookup, appraise};
use mote_verifier::manifest::{
    BufferExpectations, BufferReference, DeviceTable, FileDigest, FileEntry, Manifest,
    ReferenceValues, SignedManifest, StaticPcrs, sign,
};
use mote_verifier::prefix::{Certified, LogState, Outcome, PendingLog};
use mote_verifier::signing_key::SigningKey;
use mote_verifier::store::Record as StoredRecord;
use proptest::prelude::*;

/// Reference values as `sha256sum` prints them.
#[derive(Default)]
struct Files {
    by_path: HashMap<Vec<u8>, Vec<Digest>>,
    by_digest: HashMap<Digest, Vec<Vec<u8>>>,
    excluded: HashSet<Vec<u8>>,
    buffers: Vec<BufferReference>,
}

impl Files {
    /// Every file of the recorded device's root file system before it booted.
    fn recorded() -> Self {
        let list = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../tests/data/debian12-amd64-6.1/rootfs.sha256.gz");
        let text = String::from_utf8(run(Command::new("zcat").arg(list))).unwrap();
        let mut files = Files::default();
        for line in text.lines() {
            let (digest, path) = line.split_once("  ").unwrap();
            // A backslash in front says that those in the name are doubled.
            let (digest, path) = match digest.strip_prefix('\\') {
                Some(digest) => (digest, path.replace("\\\\", "\\")),
                None => (digest, path.to_owned()),
            };
            files.add(&path, Digest::new(HashAlg::Sha256, &unhex(digest)).unwrap());
        }
        files
    }

    fn add(&mut self, path: &str, digest: Digest) {
        let path = path.replace(' ', "_").into_bytes();
        self.by_path.entry(path.clone()).or_default().push(digest);
        self.by_digest.entry(digest).or_default().push(path);
    }

    fn add_buffer(&mut self, name: &str, content: &[u8]) {
        let digest = hash(HashAlg::Sha256, &[content]);
        let known = FileEntry {
            path: name.into(),
            digests: vec![FileDigest(digest.as_bytes().try_into().unwrap())],
        };
        self.buffers.push(BufferReference {
            manifest: "edge-1.3".to_owned(),
            expectations: BufferExpectations {
                known: vec![known],
                ..BufferExpectations::default()
            },
        });
    }
}

impl ReferenceLookup for Files {
    fn allows(&self, path: &[u8], digest: &Digest) -> bool {
        self.by_path
            .get(path)
            .is_some_and(|digests| digests.contains(digest))
    }

    fn with_path(&self, path: &[u8]) -> Vec<KnownFile> {
        let digests = self.by_path.get(path).into_iter().flatten();
        digests.map(|digest| known(path, digest)).collect()
    }

    fn with_digest(&self, digest: &Digest) -> Vec<KnownFile> {
        let paths = self.by_digest.get(digest).into_iter().flatten();
        paths.map(|path| known(path, digest)).collect()
    }

    fn is_excluded(&self, path: &[u8]) -> bool {
        self.excluded.contains(path)
    }

    fn buffers(&self) -> &[BufferReference] {
        &self.buffers
    }
}

fn known(path: &[u8], digest: &Digest) -> KnownFile {
    KnownFile {
        path: path.to_vec(),
        digest: *digest,
        manifest: "edge-1.3".to_owned(),
    }
}

fn certified(
    pending: &mut PendingLog<StoredRecord>,
    quote: &mote_verifier::quote::VerifiedQuote,
    claims: &Pcrs,
) -> Certified<StoredRecord> {
    match pending.certify(quote, claims, true) {
        Ok(Outcome::Certified(certified)) => certified,
        other => panic!("not certified: {other:?}"),
    }
}

fn summary(appraisal: &Appraisal) -> Vec<(u64, &'static str, String)> {
    let line = |deviation: &Deviation| {
        (
            deviation.record,
            deviation.fault.reason().token(),
            String::from_utf8_lossy(&deviation.path).into_owned(),
        )
    };
    appraisal.deviations.iter().map(line).collect()
}

#[test]
fn of_the_recorded_log_exactly_what_was_made_at_run_time_deviates() {
    let files = Files::recorded();
    let mut pending = PendingLog::new(LogState::at_boot());
    pending.append(0, recorded_list()).unwrap();
    let first = certified(&mut pending, &recorded_quote(1), &recorded_pcrs(1));
    let first = appraise(&first, &files, Endian::Little);
    assert_eq!(first.tier, Tier::Contraindicated);
    let lines = summary(&first);
    let found: Vec<_> = lines
        .iter()
        .map(|(record, token, path)| (*record, *token, path.as_str()))
        .collect();
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(
        found[0],
        (184, "file-unknown", "/var/lib/systemd/random-seed")
    );
    assert_eq!((found[1].0, found[1].1), (212, "file-unknown"));
    assert!(found[1].2.starts_with("/var/log/journal/") || found[1].2.starts_with("/run/log/"));
    assert_eq!(found[2], (285, "file-unknown", "/capture.sh"));

    let second = certified(&mut pending, &recorded_quote(2), &recorded_pcrs(2));
    let second = appraise(&second, &files, Endian::Little);
    assert_eq!(second.tier, Tier::Contraindicated);
    let jobs: Vec<_> = (1..=7)
        .map(|job| {
            (
                2382 + job,
                "file-unknown",
                format!("/usr/local/bin/job{job}"),
            )
        })
        .collect();
    assert_eq!(summary(&second), jobs);
}

#[test]
fn without_the_unknown_files_the_recorded_device_is_affirmed() {
    let mut files = Files::recorded();
    let mut pending = PendingLog::new(LogState::at_boot());
    pending.append(0, recorded_list()).unwrap();
    let first = certified(&mut pending, &recorded_quote(1), &recorded_pcrs(1));
    for deviation in appraise(&first, &files, Endian::Little).deviations {
        files.excluded.insert(deviation.path);
    }
    let appraisal = appraise(&first, &files, Endian::Little);
    assert_eq!(appraisal.deviations, []);
    assert_eq!(appraisal.tier, Tier::Affirming);
    let nothing = certified(&mut pending, &recorded_quote(2), &recorded_pcrs(2));
    files.excluded.clear();
    assert_eq!(
        appraise(&nothing, &files, Endian::Little).deviations.len(),
        7
    );
    let nothing = certified(&mut pending, &recorded_quote(2), &recorded_pcrs(2));
    assert_eq!(appraise(&nothing, &files, Endian::Little).tier, Tier::None);
}

fn digest(byte: u8) -> Digest {
    Digest::new(HashAlg::Sha256, &[byte; 32]).unwrap()
}

fn record(template: &str, build: impl FnOnce(&mut TemplateWriter<'_>)) -> StoredRecord {
    let mut buffer = [0; 2048];
    let mut writer = TemplateWriter::new(Endian::Little, &mut buffer);
    build(&mut writer);
    (&Record::measured(10, HashAlg::Sha1, template, writer.finish())).into()
}

fn file(path: &str, digest: &Digest) -> StoredRecord {
    record("ima-ng", |writer| {
        writer
            .digest(digest.alg().name(), digest.as_bytes())
            .unwrap();
        writer.text(path.as_bytes()).unwrap();
    })
}

fn boot_aggregate(pcrs: &Pcrs, bank: HashAlg, last: u32) -> StoredRecord {
    let values: Vec<&[u8]> = (0..=last)
        .map(|pcr| pcrs[&(bank, pcr)].as_bytes())
        .collect();
    file("boot_aggregate", &hash(bank, &values))
}

/// Appraises this whole log of a device that quotes `selection`.
fn judge(
    selection: PcrSelection,
    boot: &Pcrs,
    log: &[StoredRecord],
    files: &impl ReferenceLookup,
) -> Appraisal {
    let mut device = Device::new(selection, boot);
    for record in log {
        device.extend(record);
    }
    let claims = device.pcrs.clone();
    let mut pending = PendingLog::new(LogState::at_boot());
    pending.append(0, log.to_vec()).unwrap();
    appraise(
        &certified(&mut pending, &device.quote(), &claims),
        files,
        Endian::Little,
    )
}

/// Appraises one record behind a boot aggregate that is right.
fn judge_one(record: StoredRecord, files: &impl ReferenceLookup) -> Appraisal {
    let boot = recorded_pcrs(1);
    let log = [boot_aggregate(&boot, HashAlg::Sha256, 9), record];
    judge(recorded_selection(), &boot, &log, files)
}

fn only(appraisal: Appraisal) -> Deviation {
    let [deviation] = <[Deviation; 1]>::try_from(appraisal.deviations).unwrap();
    assert_eq!(appraisal.tier, deviation.fault.tier());
    assert_eq!(deviation.record, 1);
    deviation
}

#[test]
fn a_changed_file_is_told_from_an_unknown_one() {
    let mut files = Files::default();
    files.add("/usr/bin/pump ctl", digest(1));
    files.add("/usr/bin/other", digest(2));

    let right = judge_one(file("/usr/bin/pump_ctl", &digest(1)), &files);
    assert_eq!((right.tier, right.deviations.len()), (Tier::Affirming, 0));

    let modified = only(judge_one(file("/usr/bin/pump_ctl", &digest(3)), &files));
    assert_eq!(modified.fault, Fault::FileModified);
    assert_eq!(modified.expected, [known(b"/usr/bin/pump_ctl", &digest(1))]);
    assert_eq!(modified.note, None);
    assert_eq!(
        modified.measured.unwrap().to_string(),
        format!("sha256:{}", "03".repeat(32))
    );

    let unknown = only(judge_one(file("/tmp/x", &digest(3)), &files));
    assert_eq!(unknown.fault, Fault::FileUnknown);
    assert!(unknown.expected.is_empty());
    assert_eq!(unknown.note, None);

    let moved = only(judge_one(file("/tmp/x", &digest(1)), &files));
    assert_eq!(moved.fault, Fault::FileUnknown);
    assert_eq!(
        moved.note.unwrap(),
        "this content is known as /usr/bin/pump_ctl in manifest edge-1.3"
    );

    let sha1 = Digest::new(HashAlg::Sha1, &[1; 20]).unwrap();
    let other_algorithm = only(judge_one(file("/usr/bin/other", &sha1), &files));
    assert_eq!(other_algorithm.fault, Fault::DigestAlgorithmUnknown);

    let verity = record("ima-ngv2", |writer| {
        writer.digest("verity:sha256", &[2; 32]).unwrap();
        writer.text(b"/usr/bin/other").unwrap();
    });
    assert_eq!(
        only(judge_one(verity, &files)).fault,
        Fault::DigestAlgorithmUnknown
    );
}

#[test]
fn verified_manifests_are_looked_up() {
    let entry = |path: &str, digest: u8| FileEntry {
        path: path.into(),
        digests: vec![FileDigest([digest; 32])],
    };
    let key = SigningKey::generate().unwrap();
    let signed = |version, files, exclusions: &[&str]| {
        let exclusions = exclusions.iter().map(|glob| (*glob).to_owned()).collect();
        let manifest = Manifest::new(
            "edge",
            version,
            None,
            files,
            exclusions,
            StaticPcrs::default(),
        )
        .unwrap();
        let bytes = sign(&manifest, &key).unwrap();
        let trusted = [key.public_key().clone()];
        SignedManifest::parse(&bytes)
            .unwrap()
            .verify(&trusted)
            .unwrap()
    };
    let old = signed("1.3", vec![entry("/bin/pump", 1)], &["/var/**"]);
    let new = signed(
        "1.4",
        vec![entry("/bin/pump", 2), entry("/bin/log", 3)],
        &[],
    );
    let files = ReferenceValues::new([&old, &new]).unwrap();

    for (path, content) in [
        ("/bin/pump", 1),
        ("/bin/pump", 2),
        ("/bin/log", 3),
        ("/var/x", 9),
    ] {
        let right = judge_one(file(path, &digest(content)), &files);
        assert_eq!(right.deviations, [], "{path} {content}");
    }
    let modified = only(judge_one(file("/bin/pump", &digest(9)), &files));
    assert_eq!(modified.fault, Fault::FileModified);
    let sources: Vec<_> = modified
        .expected
        .iter()
        .map(|known| (known.digest, known.manifest.as_str()))
        .collect();
    assert_eq!(sources, [(digest(1), "edge-1.3"), (digest(2), "edge-1.4")]);
    let moved = only(judge_one(file("/tmp/pump", &digest(2)), &files));
    assert_eq!(moved.fault, Fault::FileUnknown);
    assert_eq!(
        moved.note.unwrap(),
        "this content is known as /bin/pump in manifest edge-1.4"
    );
    let sha1 = Digest::new(HashAlg::Sha1, &[1; 20]).unwrap();
    let other = only(judge_one(file("/bin/pump", &sha1), &files));
    assert_eq!(other.fault, Fault::DigestAlgorithmUnknown);
}

#[test]
fn an_excluded_path_is_not_judged_but_still_replayed() {
    let mut files = Files::default();
    files.excluded.insert(b"/var/lib/state".to_vec());
    let log = file("/var/lib/state", &digest(9));
    assert_eq!(judge_one(log.clone(), &files).deviations, []);

    // Another content there that was not in the TPM is still a log that does not replay.
    let boot = recorded_pcrs(1);
    let mut device = Device::new(recorded_selection(), &boot);
    device.extend(&log);
    let mut pending = PendingLog::new(LogState::at_boot());
    pending
        .append(0, [file("/var/lib/state", &digest(8))])
        .unwrap();
    let claims = device.pcrs.clone();
    let refused = pending.certify(&device.quote(), &claims, true);
    assert_eq!(refused.unwrap_err().reason().token(), "log-does-not-replay");
}

#[test]
fn a_violation_is_reported_even_for_an_excluded_path() {
    let mut files = Files::default();
    files.excluded.insert(b"/var/log/messages".to_vec());
    let mut violation = file("/var/log/messages", &digest(0));
    violation.violation = true;
    let found = only(judge_one(violation, &files));
    assert_eq!(found.fault, Fault::MeasurementViolation);
    assert_eq!(found.fault.tier(), Tier::Warning);
    assert_eq!(found.path, b"/var/log/messages");
    assert_eq!(found.measured, None);
}

#[test]
fn what_cannot_be_judged_is_never_affirmed() {
    let files = Files::default();
    let unknown = record("vendor-thing", |writer| {
        writer.bytes(b"anything").unwrap();
    });
    let found = only(judge_one(unknown, &files));
    assert_eq!(found.fault, Fault::TemplateUnknown);
    assert_eq!(found.note.unwrap(), "vendor-thing");

    for template in ["ima-ng", "ima-sig", "d-ng"] {
        let malformed = record(template, |writer| writer.text(b"/x").unwrap());
        assert_eq!(
            only(judge_one(malformed, &files)).fault,
            Fault::TemplateMalformed,
            "{template}"
        );
    }
}

/// What a big-endian kernel writes, unless it is told `ima_canonical_fmt`; nothing says which it is.
#[test]
fn a_log_of_the_other_byte_order_is_read_as_well() {
    let mut files = Files::default();
    files.add("/bin/pump", digest(1));
    let big = |path: &str, digest: &Digest| {
        let mut buffer = [0; 2048];
        let mut writer = TemplateWriter::new(Endian::Big, &mut buffer);
        writer.digest("sha256", digest.as_bytes()).unwrap();
        writer.text(path.as_bytes()).unwrap();
        writer.bytes(&[]).unwrap();
        let record = Record::measured(10, HashAlg::Sha1, "ima-sig", writer.finish());
        StoredRecord::from(&record)
    };
    let boot = recorded_pcrs(1);
    let values: Vec<&[u8]> = (0..10)
        .map(|pcr| boot[&(HashAlg::Sha256, pcr)].as_bytes())
        .collect();
    let first = big("boot_aggregate", &hash(HashAlg::Sha256, &values));
    let found = |second: StoredRecord| {
        judge(
            recorded_selection(),
            &boot,
            &[first.clone(), second],
            &files,
        )
    };
    let right = found(big("/bin/pump", &digest(1)));
    assert_eq!((right.tier, right.deviations), (Tier::Affirming, vec![]));
    assert_eq!(
        only(found(big("/bin/pump", &digest(2)))).fault,
        Fault::FileModified
    );
    // A device has one order; each record is read by itself all the same.
    let little = found(file("/bin/pump", &digest(1)));
    assert_eq!(little.deviations, []);
}

/// What the kernel measures besides files, under its own names (`process_buffer_measurement`): all of it
/// is the hash of the buffer, which is the last field.
#[test]
fn critical_data_is_known_by_name_and_hash_or_reported() {
    let buffers: [(&str, &[u8]); 9] = [
        ("kexec-cmdline", b"root=/dev/vda ro"),
        (".ima", b"\x30\x82 a certificate"),
        (".blacklist", b"a hash"),
        (
            "dm_table_load",
            b"dm_version=4.47.0;name=root,uuid=,major=253,minor=0;",
        ),
        (
            "dm_device_resume",
            b"name=root,uuid=;active_table_hash=sha256:00;",
        ),
        (
            "selinux-state",
            b"initialized=1;enforcing=1;checkreqprot=0;",
        ),
        ("selinux-policy-hash", &[7; 32]),
        ("kernel_version", b"6.1.0-28-amd64"),
        ("ima_policy_update", b"measure func=BPRM_CHECK\n"),
    ];
    let buffer = |name: &str, content: &[u8], stated: &[u8]| {
        record("ima-buf", |writer| {
            let digest = hash(HashAlg::Sha256, &[stated]);
            writer.digest("sha256", digest.as_bytes()).unwrap();
            writer.text(name.as_bytes()).unwrap();
            writer.bytes(content).unwrap();
        })
    };
    for (name, content) in buffers {
        let mut files = Files::default();
        let measured = buffer(name, content, content);
        let found = only(judge_one(measured.clone(), &files));
        assert_eq!(found.fault, Fault::BufferUnknown, "{name}");
        assert_eq!(found.path, name.as_bytes());

        // A file that is called so is no buffer.
        files.add(name, hash(HashAlg::Sha256, &[content]));
        let found = only(judge_one(measured.clone(), &files));
        assert_eq!(found.fault, Fault::BufferUnknown, "{name}");
        files = Files::default();
        files.add_buffer(name, content);
        assert_eq!(judge_one(measured, &files).deviations, [], "{name}");
        // Nor is a buffer a file.
        let of_file = record("ima-ng", |writer| {
            let digest = hash(HashAlg::Sha256, &[content]);
            writer.digest("sha256", digest.as_bytes()).unwrap();
            writer.text(name.as_bytes()).unwrap();
        });
        let found = only(judge_one(of_file, &files));
        assert_eq!(found.fault, Fault::FileUnknown, "{name}");
        // Another content under a known name, and what it is expected to be.
        let other = only(judge_one(buffer(name, b"other", b"other"), &files));
        assert_eq!(other.fault, Fault::BufferUnknown, "{name}");
        assert_eq!(other.expected.len(), 1);
        // The known content is shown, and another one was measured.
        let false_digest = only(judge_one(buffer(name, content, b"other"), &files));
        assert_eq!(false_digest.fault, Fault::FileUnknown, "{name}");

        files = Files::default();
        files.excluded.insert(name.as_bytes().to_vec());
        let excluded = judge_one(buffer(name, b"other", b"other"), &files);
        assert_eq!(excluded.deviations, [], "{name}");
    }
}

/// What dm-verity measures of a root file system.
const VERITY: &str = "dm_version=4.47.0;name=root,uuid=,major=253,minor=0,minor_count=1,num_targets=1;\
    target_index=0,target_begin=0,target_len=8192,target_name=verity,target_version=1.9.0,hash_failed=V,\
    verity_version=1,data_device_name=254:2,hash_device_name=254:3,verity_algorithm=sha256,root_digest=ab12,\
    salt=cd,ignore_zero_blocks=n,check_at_most_once=n;";

#[test]
fn a_device_of_the_device_mapper_is_known_by_its_table() {
    let mut files = Files::default();
    files.buffers.push(BufferReference {
        manifest: "edge-1.3".to_owned(),
        expectations: BufferExpectations {
            tables: vec![DeviceTable::verity("root", "ab12")],
            ..BufferExpectations::default()
        },
    });
    let measured = |event: &str, content: &str| {
        record("ima-buf", |writer| {
            let digest = hash(HashAlg::Sha256, &[content.as_bytes()]);
            writer.digest("sha256", digest.as_bytes()).unwrap();
            writer.text(event.as_bytes()).unwrap();
            writer.bytes(content.as_bytes()).unwrap();
        })
    };
    assert_eq!(
        judge_one(measured("dm_table_load", VERITY), &files).deviations,
        []
    );
    let other = VERITY.replace("ab12", "ab13");
    let found = only(judge_one(measured("dm_table_load", &other), &files));
    assert_eq!(found.fault, Fault::BufferUnknown);
    assert_eq!(
        found.note.unwrap(),
        "root_digest of target 0 is \"ab13\", not \"ab12\""
    );
    // The same bytes under another name are no table.
    let found = only(judge_one(measured("kexec-cmdline", VERITY), &files));
    assert_eq!((found.fault, found.note), (Fault::BufferUnknown, None));
}

#[test]
fn a_template_that_does_not_begin_with_digest_and_name_excuses_nothing() {
    let mut files = Files::default();
    files.add("/bin/pump", digest(1));
    files.excluded.insert(b"/var/x".to_vec());
    for (template, path) in [("n-ng|d-ng", "/bin/pump"), ("n-ng|d-ng", "/var/x")] {
        let odd = record(template, |writer| {
            writer.text(path.as_bytes()).unwrap();
            writer.digest("sha256", &[1; 32]).unwrap();
        });
        let found = only(judge_one(odd, &files));
        assert_eq!(found.fault, Fault::TemplateOrder, "{path}");
        assert_eq!(found.fault.tier(), Tier::Contraindicated);
        assert_eq!((found.path, found.measured), (vec![], None));
        assert_eq!(found.note.unwrap(), template);
    }
}

#[test]
fn a_file_does_not_pass_for_a_buffer_by_another_template_name() {
    let mut files = Files::default();
    let content = b"a key";
    let buffer = |name: &[u8], template: &str| {
        record(template, |writer| {
            let digest = hash(HashAlg::Sha256, &[content]);
            writer.digest("sha256", digest.as_bytes()).unwrap();
            writer.text(name).unwrap();
            writer.bytes(content).unwrap();
        })
    };
    let found = only(judge_one(buffer(b".ima", "ima-buf"), &files));
    assert_eq!(found.fault, Fault::BufferUnknown);
    assert_eq!(found.fault.tier(), Tier::Warning);
    // The template's name is in no PCR: a file whose signature is its content, relabelled.
    let found = only(judge_one(buffer(b"/tmp/x", "ima-buf"), &files));
    assert_eq!(found.fault, Fault::FileUnknown);
    files.add_buffer(".ima", content);
    assert_eq!(judge_one(buffer(b".ima", "ima-buf"), &files).deviations, []);
}

#[test]
fn the_boot_aggregate_ties_the_log_to_the_boot_pcrs() {
    let files = Files::default();
    let mut selection = PcrSelection::EMPTY;
    for bank in [HashAlg::Sha1, HashAlg::Sha256] {
        selection
            .push(BankSelection::new(bank, 0x07ff).unwrap())
            .unwrap();
    }
    let boot: Pcrs = selection
        .iter()
        .map(|(bank, pcr)| ((bank, pcr), hash(bank, &[&[pcr as u8]])))
        .collect();
    let found = |selection, boot: &Pcrs, first: StoredRecord| {
        let appraisal = judge(selection, boot, &[first], &files);
        appraisal.deviations.first().map(|found| found.fault)
    };
    for bank in [HashAlg::Sha1, HashAlg::Sha256] {
        for last in [7, 9] {
            let first = boot_aggregate(&boot, bank, last);
            assert_eq!(found(selection, &boot, first), None, "{bank} 0-{last}");
        }
        let first = boot_aggregate(&boot, bank, 8);
        assert_eq!(
            found(selection, &boot, first),
            Some(Fault::BootAggregateMismatch)
        );
    }
    // A board whose firmware measures nothing.
    let zero: Pcrs = boot.keys().map(|pcr| (*pcr, Digest::zero(pcr.0))).collect();
    let first = boot_aggregate(&zero, HashAlg::Sha256, 9);
    assert_eq!(found(selection, &zero, first.clone()), None);
    assert_eq!(
        found(selection, &boot, first),
        Some(Fault::BootAggregateMismatch)
    );
    // PCR 10 alone says nothing about the boot.
    let only_ima = PcrSelection::single(HashAlg::Sha256, 1 << 10).unwrap();
    let first = boot_aggregate(&boot, HashAlg::Sha256, 9);
    assert_eq!(
        found(only_ima, &Pcrs::new(), first),
        Some(Fault::BootAggregateUnchecked)
    );
    assert_eq!(
        found(selection, &boot, file("/bin/sh", &digest(1))),
        Some(Fault::BootAggregateMissing)
    );
    let mut violation = boot_aggregate(&boot, HashAlg::Sha256, 9);
    violation.violation = true;
    assert_eq!(
        found(selection, &boot, violation),
        Some(Fault::BootAggregateMissing)
    );
    // After a kexec it stands there once more.
    let again = boot_aggregate(&boot, HashAlg::Sha256, 9);
    let twice = [again.clone(), again];
    assert_eq!(judge(selection, &boot, &twice, &files).deviations, []);
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

/// Every bit that a device sends of its log: the quote does not certify it any more, or the appraisal says
/// something else. Of a violation the TPM vouches for nothing but that there was one; it never becomes less.
#[test]
#[allow(clippy::too_many_lines)] // One log, and what becomes of each of its bits.
fn no_changed_bit_of_a_log_goes_unnoticed() {
    let mut files = Files::default();
    files.add("/bin/pump", digest(1));
    files.add("/bin/log", digest(2));
    files.add_buffer("kexec-cmdline", b"quiet");
    let with_last = |template: &str, path: &str, digest: &Digest, last: &[u8]| {
        record(template, |writer| {
            writer.digest("sha256", digest.as_bytes()).unwrap();
            writer.text(path.as_bytes()).unwrap();
            writer.bytes(last).unwrap();
        })
    };
    let mut violation = file("/var/log/messages", &digest(0));
    violation.violation = true;
    let boot = recorded_pcrs(1);
    let log = [
        boot_aggregate(&boot, HashAlg::Sha256, 9),
        file("/bin/pump", &digest(1)),
        with_last("ima-sig", "/bin/log", &digest(2), &[3, 2, 4, 9]),
        with_last(
            "ima-buf",
            "kexec-cmdline",
            &hash(HashAlg::Sha256, &[b"quiet"]),
            b"quiet",
        ),
        file("/tmp/unknown", &digest(3)),
        violation,
    ];
    let mut device = Device::new(recorded_selection(), &boot);
    for record in &log {
        device.extend(record);
    }
    let quote = device.quote();
    let appraised = |log: &[StoredRecord]| {
        let mut pending = PendingLog::new(LogState::at_boot());
        pending.append(0, log.to_vec()).ok()?;
        match pending.certify(&quote, &device.pcrs, true) {
            Ok(Outcome::Certified(certified)) => Some(appraise(&certified, &files, Endian::Little)),
            _ => None,
        }
    };
    let right = appraised(&log).unwrap();
    let faults: Vec<_> = right.deviations.iter().map(|found| found.fault).collect();
    assert_eq!(faults, [Fault::FileUnknown, Fault::MeasurementViolation]);

    let mut bits = 0;
    for (number, original) in log.iter().enumerate() {
        let mut changed: Vec<(String, StoredRecord)> = Vec::new();
        for bit in 0..8 * original.data.len() {
            let data = flipped(&original.data, bit);
            let record = StoredRecord {
                data,
                ..original.clone()
            };
            changed.push((format!("data, bit {bit}"), record));
        }
        for bit in 0..8 * original.template.len() {
            // A name that is no text does not come out of the message.
            if let Ok(template) = String::from_utf8(flipped(original.template.as_bytes(), bit)) {
                let template = template.into();
                let record = StoredRecord {
                    template,
                    ..original.clone()
                };
                changed.push((format!("template, bit {bit}"), record));
            }
        }
        for bit in 0..32 {
            let pcr = original.pcr ^ 1 << bit;
            changed.push((
                format!("PCR, bit {bit}"),
                StoredRecord {
                    pcr,
                    ..original.clone()
                },
            ));
        }
        let violation = !original.violation;
        changed.push((
            "violation".into(),
            StoredRecord {
                violation,
                ..original.clone()
            },
        ));
        for (what, record) in changed {
            bits += 1;
            let mut log = log.to_vec();
            log[number] = record;
            let Some(found) = appraised(&log) else {
                continue;
            };
            let seen = if original.violation {
                found.tier >= right.tier && found.deviations.len() >= right.deviations.len()
            } else {
                found != right && found.tier >= right.tier
            };
            assert!(seen, "record {number}, {what}: {found:?}");
        }
    }
    assert!(bits > 3_000, "{bits}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(16) })]

    /// Appraising the log in any increments finds what appraising it whole finds.
    #[test]
    fn increments_find_the_same_deviations(
        cuts in proptest::collection::btree_set(1usize..2390, 0..8),
    ) {
        let files = Files::recorded();
        let list = recorded_list();
        let mut boot = recorded_pcrs(2);
        boot.retain(|(_, pcr), _| *pcr != 10);
        let mut device = Device::new(recorded_selection(), &boot);
        let mut pending = PendingLog::new(LogState::at_boot());
        let mut done = 0;
        let mut tier = Tier::None;
        let mut deviations = Vec::new();
        for cut in cuts.into_iter().chain([list.len()]) {
            for record in &list[done..cut] {
                device.extend(record);
            }
            pending.append(done as u64, list[done..cut].to_vec()).unwrap();
            done = cut;
            let part = certified(&mut pending, &device.quote(), &boot);
            let mut part = appraise(&part, &files, Endian::Little);
            tier = tier.max(part.tier);
            deviations.append(&mut part.deviations);
        }
        let whole = judge(recorded_selection(), &boot, &list, &files);
        prop_assert_eq!(whole.deviations.len(), 10);
        prop_assert_eq!(Appraisal { tier, deviations }, whole);
    }

    /// No record, however odd, makes the appraisal panic or pass unnoticed.
    #[test]
    fn arbitrary_template_data_is_a_deviation(
        template in prop_oneof![
            Just("ima"), Just("ima-ng"), Just("ima-sig"), Just("ima-ngv2"), Just("ima-buf"),
            Just("ima-modsig"), Just("evm-sig"), Just("d-ng|n-ng|buf|imode"), Just("zzz"),
        ],
        data in proptest::collection::vec(any::<u8>(), 0..96),
        big_endian in any::<bool>(),
    ) {
        let odd: StoredRecord = (&Record::measured(10, HashAlg::Sha1, template, &data)).into();
        let boot = recorded_pcrs(1);
        let log = [boot_aggregate(&boot, HashAlg::Sha256, 9), odd];
        let mut device = Device::new(recorded_selection(), &boot);
        for record in &log {
            device.extend(record);
        }
        let mut pending = PendingLog::new(LogState::at_boot());
        pending.append(0, log).unwrap();
        let part = certified(&mut pending, &device.quote(), &device.pcrs.clone());
        let endian = if big_endian { Endian::Big } else { Endian::Little };
        prop_assert!(!appraise(&part, &Files::default(), endian).deviations.is_empty());
    }
}
