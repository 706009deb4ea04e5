//! What is right and wrong with single records that a quote certifies.

use super::bench::known;
use super::bench::{Files, boot_aggregate, digest, file, judge, judge_one, only, record};
use crate::device::{Device, Pcrs, recorded_pcrs, recorded_selection};
use mote_schemas::ima::{Endian, Record, TemplateWriter};
use mote_schemas::message::Tier;
use mote_schemas::tpm::{BankSelection, Digest, HashAlg, PcrSelection, hash};
use mote_verifier::appraise::Fault;
use mote_verifier::manifest::{
    BufferExpectations, BufferReference, DeviceTable, FileDigest, FileEntry, Manifest,
    ReferenceValues, SignedManifest, StaticPcrs, sign,
};
use mote_verifier::prefix::{LogState, PendingLog};
use mote_verifier::signing_key::SigningKey;
use mote_verifier::store::Record as StoredRecord;

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
        assert_eq!(other.fault, Fault::BufferModified, "{name}");
        assert_eq!(other.fault.tier(), Tier::Contraindicated);
        assert_eq!(other.expected.len(), 1);
        // Which nothing excludes.
        files.excluded.insert(name.as_bytes().to_vec());
        let other = only(judge_one(buffer(name, b"other", b"other"), &files));
        assert_eq!(other.fault, Fault::BufferModified, "{name}");
        files.excluded.clear();
        // The known content is shown, and another one was measured.
        let false_digest = only(judge_one(buffer(name, content, b"other"), &files));
        assert_eq!(false_digest.fault, Fault::FileUnknown, "{name}");

        files = Files::default();
        files.excluded.insert(name.as_bytes().to_vec());
        let excluded = judge_one(buffer(name, b"other", b"other"), &files);
        assert_eq!(excluded.deviations, [], "{name}");
    }
}

/// The buffer is in the record, so it does not matter which algorithm the kernel hashes with; and one that
/// is listed is none the less if its first byte could begin a signature (`selinux-policy-hash` is a hash).
#[test]
fn a_listed_buffer_is_known_under_any_digest_and_with_any_first_byte() {
    for alg in [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha512] {
        for first in [3, 5, 6, 7] {
            let measured = |content: &[u8]| {
                record("ima-buf", |writer| {
                    let digest = hash(alg, &[content]);
                    writer.digest(alg.name(), digest.as_bytes()).unwrap();
                    writer.text(b"selinux-policy-hash").unwrap();
                    writer.bytes(content).unwrap();
                })
            };
            let content = [first; 8];
            let mut files = Files::default();
            files.add_buffer("selinux-policy-hash", &content);
            assert_eq!(judge_one(measured(&content), &files).deviations, []);
            for bit in 0..8 * content.len() {
                let mut changed = content;
                changed[bit / 8] ^= 1 << (bit % 8);
                let found = only(judge_one(measured(&changed), &files));
                assert_eq!(
                    found.fault.tier(),
                    Tier::Contraindicated,
                    "{alg}, bit {bit}"
                );
            }
        }
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
    assert_eq!(found.fault, Fault::BufferModified);
    assert_eq!(
        found.note.unwrap(),
        "root_digest of target 0 is \"ab13\", not \"ab12\""
    );
    // A device that no manifest has.
    let swap = VERITY.replace("name=root", "name=swap");
    let found = only(judge_one(measured("dm_table_load", &swap), &files));
    assert_eq!(found.fault, Fault::BufferUnknown);
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
