//! A quote certifies exactly the records that were in the TPM when it was made.

use crate::common;
use crate::device::{
    Device, Pcrs, recorded_list, recorded_pcrs, recorded_quote, recorded_selection,
};
use mote_schemas::ima::{Endian, Record, TemplateWriter};
use mote_schemas::tpm::{BankSelection, Digest, HashAlg, PcrSelection};
use mote_verifier::log_entry::LogEntry;
use mote_verifier::prefix::{Certified, LogState, Outcome, PendingLog, PrefixError};
use mote_verifier::store::Record as StoredRecord;
use proptest::prelude::*;

fn boot() -> PendingLog<StoredRecord> {
    PendingLog::new(LogState::at_boot())
}

fn certified(outcome: Result<Outcome<StoredRecord>, PrefixError>) -> Certified<StoredRecord> {
    match outcome {
        Ok(Outcome::Certified(certified)) => certified,
        other => panic!("not certified: {other:?}"),
    }
}

fn without_ima_pcr(mut pcrs: Pcrs) -> Pcrs {
    pcrs.retain(|(_, pcr), _| *pcr != 10);
    pcrs
}

#[test]
fn recorded_quotes_certify_2383_records_and_then_7_more() {
    let list = recorded_list();
    assert_eq!(list.len(), 2390);
    // With a claim for PCR 10, and without: the claim saves work and changes nothing.
    for claims in [recorded_pcrs(1), without_ima_pcr(recorded_pcrs(1))] {
        let mut pending = boot();
        pending.append(0, list.clone()).unwrap();
        let first = certified(pending.certify(&recorded_quote(1), &claims, true));
        assert_eq!(first.prefix().state().records, 2383);
        assert_eq!(first.prefix().state().values, recorded_pcrs(1));
        assert_eq!(first.entries().len(), 2383);
        assert_eq!(pending.next_record(), 2390);

        // The boot PCRs are known from the first quote.
        let second = certified(pending.certify(&recorded_quote(2), &Pcrs::new(), true));
        assert_eq!(second.prefix().state().records, 2390);
        assert_eq!(second.prefix().state().values, recorded_pcrs(2));
        let numbers: Vec<u64> = second.entries().map(|(number, _)| number).collect();
        assert_eq!(numbers, (2383..2390).collect::<Vec<_>>());
        // Certifying again adds nothing.
        let again = certified(pending.certify(&recorded_quote(2), &Pcrs::new(), true));
        assert_eq!(again.prefix(), second.prefix());
        assert_eq!(again.entries().len(), 0);
    }
}

#[test]
fn a_stored_state_goes_on_where_it_stood() {
    let list = recorded_list();
    let state = LogState {
        records: 2383,
        log_pcrs: 1 << 10,
        padded: std::collections::BTreeSet::new(),
        values: recorded_pcrs(1),
    };
    let mut pending = PendingLog::new(state);
    // A retransmission that overlaps what is certified.
    assert_eq!(pending.append(2380, list[2380..].to_vec()), Ok(7));
    let second = certified(pending.certify(&recorded_quote(2), &Pcrs::new(), true));
    assert_eq!(second.prefix().state().values, recorded_pcrs(2));
}

#[test]
fn records_that_have_not_arrived_are_waited_for_and_missing_ones_are_not() {
    let list = recorded_list();
    let quote = recorded_quote(2);
    let claims = recorded_pcrs(2);
    let mut pending = boot();
    pending.append(0, list[..2000].to_vec()).unwrap();
    assert_eq!(
        pending.certify(&quote, &claims, false),
        Ok(Outcome::NeedMore)
    );
    assert_eq!(
        pending.certify(&quote, &claims, true),
        Err(PrefixError::DoesNotReplay { records: 2000 })
    );
    // Neither answer has lost anything.
    assert_eq!(
        pending.append(2001, list[2001..].to_vec()),
        Err(PrefixError::Gap {
            wanted: 2000,
            got: 2001
        })
    );
    assert_eq!(pending.append(1990, list[1990..].to_vec()), Ok(390));
    let all = certified(pending.certify(&quote, &claims, true));
    assert_eq!(all.entries().len(), 2390);
}

#[test]
fn a_record_left_out_changed_or_added_does_not_replay() {
    let list = recorded_list();
    let quote = recorded_quote(2);
    let claims = without_ima_pcr(recorded_pcrs(2));
    let refused = |list: Vec<StoredRecord>| {
        let mut pending = boot();
        pending.append(0, list).unwrap();
        pending
            .certify(&quote, &claims, true)
            .unwrap_err()
            .reason()
            .token()
    };
    let mut left_out = list.clone();
    left_out.remove(1000);
    assert_eq!(refused(left_out), "log-does-not-replay");
    let mut added = list.clone();
    added.insert(1000, list[0].clone());
    assert_eq!(refused(added), "log-does-not-replay");
    let mut swapped = list.clone();
    swapped.swap(1000, 1001);
    assert_eq!(refused(swapped), "log-does-not-replay");
    let mut violation = list.clone();
    violation[1000].violation = true;
    assert_eq!(refused(violation), "log-does-not-replay");
}

#[test]
fn pcr_values_are_believed_only_if_they_hash_to_the_quote() {
    let list = recorded_list();
    let quote = recorded_quote(2);
    let mut pending = boot();
    pending.append(0, list).unwrap();
    for pcr in [0, 9, 10, 14] {
        let mut claims = recorded_pcrs(2);
        claims.insert((HashAlg::Sha256, pcr), Digest::ones(HashAlg::Sha256));
        assert_eq!(
            pending.certify(&quote, &claims, true),
            Err(PrefixError::PcrDigestMismatch),
            "PCR {pcr}"
        );
    }
    let mut claims = recorded_pcrs(2);
    claims.remove(&(HashAlg::Sha256, 7));
    assert_eq!(
        pending.certify(&quote, &claims, true),
        Err(PrefixError::UnknownPcr {
            bank: HashAlg::Sha256,
            pcr: 7
        })
    );
}

/// Without the rule that PCR 10 is always replayed, a device could send no log at all.
#[test]
fn claims_alone_certify_no_log() {
    let mut pending = boot();
    let claims = recorded_pcrs(2);
    assert_eq!(
        pending.certify(&recorded_quote(2), &claims, true),
        Err(PrefixError::DoesNotReplay { records: 0 })
    );
    let mut pending = boot();
    pending.append(0, recorded_list()).unwrap();
    let no_ima_pcr = PcrSelection::single(HashAlg::Sha256, 0x03ff).unwrap();
    let device = Device::new(no_ima_pcr, &claims);
    assert_eq!(
        pending.certify(&device.quote(), &claims, true),
        Err(PrefixError::ImaPcrNotQuoted { pcr: 10 })
    );
}

/// A TPM driver that comes up after IMA: the list grows, the PCR does not.
#[test]
fn a_log_that_was_never_extended_certifies_nothing() {
    let boot_pcrs = without_ima_pcr(recorded_pcrs(1));
    let device = Device::new(recorded_selection(), &boot_pcrs);
    let mut pending = boot();
    pending.append(0, recorded_list()).unwrap();
    for claims in [&device.pcrs, &boot_pcrs] {
        assert_eq!(
            pending.certify(&device.quote(), claims, true),
            Err(PrefixError::ImaWithoutTpm)
        );
    }
    assert_eq!(pending.next_record(), 2390);

    // No log at all: a kernel without IMA.
    let mut none = boot();
    assert_eq!(
        none.certify(&device.quote(), &boot_pcrs, false),
        Ok(Outcome::NeedMore)
    );
    assert_eq!(
        none.certify(&device.quote(), &boot_pcrs, true),
        Err(PrefixError::ImaWithoutTpm)
    );
}

fn measured(pcr: u32, path: &[u8], digest: u8) -> StoredRecord {
    let mut buffer = [0; 512];
    let mut writer = TemplateWriter::new(Endian::Little, &mut buffer);
    writer.digest("sha256", &[digest; 32]).unwrap();
    writer.text(path).unwrap();
    let data = writer.finish();
    (&Record::measured(pcr, HashAlg::Sha1, "ima-ng", data)).into()
}

#[test]
fn a_log_in_two_pcrs_and_two_banks_replays_in_all_of_them() {
    let mut selection = PcrSelection::EMPTY;
    for bank in [HashAlg::Sha1, HashAlg::Sha256] {
        selection
            .push(BankSelection::new(bank, 1 << 10 | 1 << 11 | 1).unwrap())
            .unwrap();
    }
    let mut device = Device::new(selection, &Pcrs::new());
    let list = [
        measured(10, b"boot_aggregate", 1),
        measured(11, b"/a", 2),
        measured(10, b"/b", 3),
    ];
    for record in &list {
        device.extend(record);
    }
    let quote = device.quote();
    let boot_pcrs: Pcrs = device
        .pcrs
        .iter()
        .filter(|((_, pcr), _)| *pcr == 0)
        .map(|(pcr, value)| (*pcr, *value))
        .collect();
    let mut pending = boot();
    pending.append(0, list.clone()).unwrap();
    let all = certified(pending.certify(&quote, &boot_pcrs, true));
    assert_eq!(all.prefix().state().log_pcrs, 1 << 10 | 1 << 11);
    assert_eq!(all.prefix().state().values, device.pcrs);

    // A record moved to the other PCR is another log.
    let mut moved = list.clone();
    moved[2].pcr = 11;
    let mut pending = boot();
    pending.append(0, moved).unwrap();
    assert_eq!(
        pending.certify(&quote, &boot_pcrs, true),
        Err(PrefixError::DoesNotReplay { records: 3 })
    );
    let mut pending = boot();
    assert_eq!(
        pending.append(0, [measured(24, b"/c", 4)]),
        Err(PrefixError::NoSuchPcr { record: 0, pcr: 24 })
    );
    assert_eq!(pending.next_record(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    /// However the log is cut into messages, and wherever quotes are taken, each quote certifies what was
    /// in the TPM then, and the end is the same.
    #[test]
    fn increments_do_not_matter(
        cuts in proptest::collection::btree_set(1usize..2390, 0..12),
        ahead in proptest::collection::vec(0usize..200, 13),
        with_claims in any::<bool>(),
    ) {
        let list = recorded_list();
        let boot_pcrs = without_ima_pcr(recorded_pcrs(2));
        let mut device = Device::new(recorded_selection(), &boot_pcrs);
        let mut pending = boot();
        let mut quoted = 0;
        for (cut, ahead) in cuts.into_iter().chain([list.len()]).zip(ahead) {
            for record in &list[quoted..cut] {
                device.extend(record);
            }
            let quote = device.quote();
            let claims = if with_claims { device.pcrs.clone() } else { boot_pcrs.clone() };
            // Half of what is quoted comes in one message, and more than that in the next.
            let half = usize::try_from(pending.next_record()).unwrap().midpoint(cut);
            let next = usize::try_from(pending.next_record()).unwrap();
            if next < half {
                pending.append(next as u64, list[next..half].to_vec()).unwrap();
            }
            if half < cut && pending.next_record() < cut as u64 {
                prop_assert_eq!(pending.certify(&quote, &claims, false), Ok(Outcome::NeedMore));
            }
            let end = list.len().min(cut + ahead);
            let next = usize::try_from(pending.next_record()).unwrap();
            if next < end {
                pending.append(next as u64, list[next..end].to_vec()).unwrap();
            }
            let got = certified(pending.certify(&quote, &claims, true));
            prop_assert_eq!(got.prefix().state(), &device.state(cut));
            let numbers: Vec<_> = got.entries().map(|(number, _)| number as usize).collect();
            prop_assert_eq!(numbers, (quoted..cut).collect::<Vec<_>>());
            quoted = cut;
        }
        prop_assert_eq!(&pending.start().values, &recorded_pcrs(2));
    }
}

/// Every PCR of the recorded device after all 2,390 records.
fn final_pcrs(bank: HashAlg) -> Pcrs {
    let text = String::from_utf8(common::recorded("pcrs.txt")).unwrap();
    text.lines()
        .filter_map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            let value = common::unhex(&words[2].to_lowercase());
            (words[0] == bank.name()).then(|| {
                (
                    (bank, words[1].parse().unwrap()),
                    Digest::new(bank, &value).unwrap(),
                )
            })
        })
        .collect()
}

#[test]
fn a_bank_that_a_real_kernel_filled_with_padded_sha1_is_certified_as_such() {
    // Linux 6.1 had no SHA-384 when IMA started: see the README of the recording.
    let list = recorded_list();
    for (banks, padded) in [
        (&[HashAlg::Sha384][..], &[HashAlg::Sha384][..]),
        (&[HashAlg::Sha256, HashAlg::Sha384], &[HashAlg::Sha384]),
        (&[HashAlg::Sha1, HashAlg::Sha256], &[]),
    ] {
        let mut selection = PcrSelection::EMPTY;
        let mut values = Pcrs::new();
        for bank in banks {
            selection
                .push(BankSelection::new(*bank, 0x47ff).unwrap())
                .unwrap();
            values.extend(final_pcrs(*bank));
        }
        values.retain(|(_, pcr), _| 0x47ff >> pcr & 1 == 1);
        let mut device = Device::new(selection, &values);
        device.pcrs = values.clone();
        for claims in [values.clone(), without_ima_pcr(values.clone())] {
            let mut pending = boot();
            // Without claims each step hashes every combination: the end of the list will do.
            pending.append(0, list.clone()).unwrap();
            let certified = certified(pending.certify(&device.quote(), &claims, true));
            let state = certified.prefix().state();
            assert_eq!(state.records, 2390);
            assert_eq!(state.padded.iter().copied().collect::<Vec<_>>(), padded);
            assert_eq!(state.values, values);
        }
    }
}

#[test]
fn once_records_have_told_how_a_bank_is_filled_it_stays_so() {
    let record = |n: u8, violation| StoredRecord {
        template: "ima-ng".into(),
        data: vec![n],
        pcr: 10,
        violation,
    };
    let selection = PcrSelection::single(HashAlg::Sha256, 1 << 10).unwrap();
    let padded = |record: &StoredRecord, ones| record.extend_digest_padded(HashAlg::Sha256, ones);
    let own = |record: &StoredRecord, _| record.extend_digest(HashAlg::Sha256);
    let extend = |device: &mut Device, digest: Digest| {
        let value = device.pcrs.get_mut(&(HashAlg::Sha256, 10)).unwrap();
        *value = mote_schemas::pcr::extend(value, &digest).unwrap();
    };
    for ones in [false, true] {
        let mut device = Device::new(selection, &Pcrs::new());
        let mut pending = boot();
        // A violation tells Linux before 5.8 from later ones.
        for batch in [
            [record(1, false), record(2, false)],
            [record(3, true), record(4, false)],
        ] {
            for record in &batch {
                extend(&mut device, padded(record, ones));
            }
            let first = pending.next_record();
            pending.append(first, batch).unwrap();
            let state = certified(pending.certify(&device.quote(), &Pcrs::new(), true));
            assert!(state.prefix().state().padded.contains(&HashAlg::Sha256));
        }
        // The same device cannot go on with SHA-256.
        let record = record(5, false);
        extend(&mut device, own(&record, ones));
        pending.append(4, [record]).unwrap();
        assert_eq!(
            pending.certify(&device.quote(), &Pcrs::new(), true),
            Err(PrefixError::DoesNotReplay { records: 5 })
        );
    }
    // Nor one that began with SHA-256 with padded SHA-1.
    let mut device = Device::new(selection, &Pcrs::new());
    let mut pending = boot();
    extend(&mut device, own(&record(1, false), false));
    pending.append(0, [record(1, false)]).unwrap();
    let state = certified(pending.certify(&device.quote(), &Pcrs::new(), true));
    assert!(state.prefix().state().padded.is_empty());
    extend(&mut device, padded(&record(2, false), true));
    pending.append(1, [record(2, false)]).unwrap();
    assert_eq!(
        pending.certify(&device.quote(), &Pcrs::new(), true),
        Err(PrefixError::DoesNotReplay { records: 2 })
    );
}

proptest! {
    /// However a kernel fills the bank and the records arrive: all that were quoted are certified, and the
    /// reading is the kernel's.
    #[test]
    fn a_bank_is_read_as_it_was_filled(
        list in prop::collection::vec((any::<u8>(), prop::bool::weighted(0.3)), 1..20),
        quoted in any::<prop::sample::Index>(),
        batch in 1..8usize,
        reading in 0..3u8,
        claimed in any::<bool>(),
    ) {
        let bank = HashAlg::Sha256;
        let quoted = 1 + quoted.index(list.len());
        let records: Vec<StoredRecord> = list
            .into_iter()
            .map(|(n, violation)| StoredRecord {
                template: "ima-ng".into(),
                data: vec![n],
                pcr: 10,
                violation,
            })
            .collect();
        let selection = PcrSelection::single(bank, 1 << 10).unwrap();
        let mut device = Device::new(selection, &Pcrs::new());
        for record in &records[..quoted] {
            let digest = match reading {
                0 => record.extend_digest(bank),
                padded => record.extend_digest_padded(bank, padded == 2),
            };
            let value = device.pcrs.get_mut(&(bank, 10)).unwrap();
            *value = mote_schemas::pcr::extend(value, &digest).unwrap();
        }
        let claims = if claimed { device.pcrs.clone() } else { Pcrs::new() };
        let quote = device.quote();
        let mut pending = boot();
        let mut outcome = Ok(Outcome::NeedMore);
        for batch in records.chunks(batch) {
            prop_assert!(matches!(outcome, Ok(Outcome::NeedMore)));
            pending.append(pending.next_record(), batch.to_vec()).unwrap();
            outcome = pending.certify(&quote, &claims, false);
            if pending.start().records > 0 {
                break;
            }
        }
        let state = certified(outcome).prefix().state().clone();
        prop_assert_eq!(state.records, quoted as u64);
        prop_assert_eq!(&state.values, &device.pcrs);
        // Violations alone do not tell a bank of its own from one padded with ones.
        let told = reading != 2 || records[..quoted].iter().any(|record| !record.violation);
        prop_assert_eq!(state.padded.contains(&bank), reading > 0 && told);
    }
}
