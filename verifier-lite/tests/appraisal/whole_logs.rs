//! Whole logs: the recorded one, in one piece and in any, and what becomes of each bit of a small one.

use super::bench::{Files, boot_aggregate, certified, digest, file, judge, record, summary};
use crate::device::{Device, recorded_list, recorded_pcrs, recorded_quote, recorded_selection};
use mote_schemas::ima::{Endian, Record};
use mote_schemas::message::Tier;
use mote_schemas::tpm::{Digest, HashAlg, hash};
use mote_verifier::appraise::{Appraisal, Fault, appraise};
use mote_verifier::prefix::{LogState, Outcome, PendingLog};
use mote_verifier::store::Record as StoredRecord;
use proptest::prelude::*;

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
