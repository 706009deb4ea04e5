//! Replay of a real kernel's list to the PCRs and quotes recorded beside it.
#![allow(clippy::unwrap_used)]

mod vectors;

use mote_schemas::ima::{ListFormat, ListParser, Record, Step};
use mote_schemas::pcr::{PcrBank, PcrError, PcrValues, Replay, extend, initial, replay_sha256};
use mote_schemas::tpm::{Attest, BankSelection, Digest, HashAlg, PcrSelection, Signature, hash};
use proptest::prelude::*;

use vectors::{ATTEST, LIST, PCRS, QUOTED, RECORDS, SIG};

fn records() -> Vec<Record<'static>> {
    let mut parser = ListParser::new(ListFormat::LITTLE_SHA1);
    let mut rest = LIST;
    let mut out = Vec::new();
    while let Step::Record(record, len) = parser.next(rest).unwrap() {
        out.push(record);
        rest = &rest[len..];
    }
    out
}

/// A PCR as sysfs showed it.
fn recorded(bank: HashAlg, pcr: u32) -> String {
    let line = format!("{bank} {pcr} ");
    let text = core::str::from_utf8(PCRS).unwrap();
    let value = text.lines().find_map(|l| l.strip_prefix(&line)).unwrap();
    value.to_lowercase()
}

#[test]
fn the_real_list_replays_to_pcr_10_of_every_bank() {
    let mut replay = Replay::new(10, [HashAlg::Sha1, HashAlg::Sha256]);
    // This kernel had no SHA-384 when IMA started, and padded SHA-1 instead.
    let mut padded = Replay::new(10, [HashAlg::Sha384]);
    for record in records() {
        replay
            .extend(&[HashAlg::Sha1, HashAlg::Sha256].map(|bank| record.extend_digest(bank)))
            .unwrap();
        padded
            .extend(&[record.extend_digest_padded(HashAlg::Sha384)])
            .unwrap();
    }
    assert_eq!(replay.count(), 2390);
    for value in replay.values().iter().chain(padded.values()) {
        assert_eq!(value.to_string(), recorded(value.alg(), 10));
    }
}

#[test]
fn the_quoted_prefix_and_no_other_gives_the_quoted_digest() {
    let all = records();
    for quote in 0..2 {
        let attest = Attest::parse(ATTEST[quote]).unwrap();
        let scheme_hash = Signature::parse(SIG[quote]).unwrap().hash();
        let values = PcrValues::new(attest.pcr_select, QUOTED[quote]).unwrap();
        assert_eq!(values.digest(scheme_hash).as_bytes(), attest.pcr_digest);

        let mut replay = Replay::new(10, [HashAlg::Sha256]);
        let mut matches = Vec::new();
        for (i, record) in all.iter().enumerate() {
            replay
                .extend(&[record.extend_digest(HashAlg::Sha256)])
                .unwrap();
            let value = replay.value(HashAlg::Sha256).unwrap();
            if values.digest_with(scheme_hash, 10, value).as_bytes() == attest.pcr_digest {
                matches.push(i + 1);
                assert_eq!(values.get(HashAlg::Sha256, 10), Some(*value));
            }
        }
        assert_eq!(matches, [RECORDS[quote]]);
    }
}

#[test]
fn the_other_recorded_pcrs_are_those_under_the_quote() {
    let attest = Attest::parse(ATTEST[1]).unwrap();
    let values = PcrValues::new(attest.pcr_select, QUOTED[1]).unwrap();
    assert_eq!(values.iter().count(), 12);
    for (pcr, value) in values.iter() {
        assert_eq!(value.to_string(), recorded(HashAlg::Sha256, pcr));
    }
    assert_eq!(values.get(HashAlg::Sha256, 11), None);
    assert_eq!(values.get(HashAlg::Sha1, 10), None);
}

#[test]
fn the_bare_loop_agrees_with_the_replay() {
    let all = records();
    let digests: Vec<[u8; 32]> = all
        .iter()
        .map(|r| {
            r.extend_digest(HashAlg::Sha256)
                .as_bytes()
                .try_into()
                .unwrap()
        })
        .collect();
    let value = replay_sha256([0; 32], &digests);
    let value = Digest::new(HashAlg::Sha256, &value).unwrap();
    assert_eq!(value.to_string(), recorded(HashAlg::Sha256, 10));
    assert_eq!(replay_sha256([7; 32], &[]), [7; 32]);
}

#[test]
fn pcrs_start_as_the_platform_profile_says() {
    for bank in [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384] {
        let fresh = PcrBank::new(bank);
        // Nothing touched these on the recorded machine.
        for pcr in 15..24 {
            assert_eq!(fresh.get(pcr).unwrap().to_string(), recorded(bank, pcr));
            assert_eq!(*fresh.get(pcr).unwrap(), initial(bank, pcr));
        }
        assert_eq!(fresh.get(24), None);
    }
}

#[test]
fn digests_of_another_bank_are_refused_and_change_nothing() {
    let sha1 = Digest::ones(HashAlg::Sha1);
    let wrong = PcrError::WrongBank {
        bank: HashAlg::Sha256,
        digest: HashAlg::Sha1,
    };
    let mut bank = PcrBank::new(HashAlg::Sha256);
    assert_eq!(bank.extend(10, &sha1), Err(wrong));
    assert_eq!(bank.set(10, sha1), Err(wrong));
    let one = Digest::ones(HashAlg::Sha256);
    assert_eq!(bank.extend(24, &one), Err(PcrError::NoSuchPcr(24)));
    assert_eq!(bank, PcrBank::new(HashAlg::Sha256));
    bank.extend(10, &one).unwrap();
    let value = hash(HashAlg::Sha256, &[&[0; 32], &[0xFF; 32]]);
    assert_eq!(bank.get(10), Some(&value));
    bank.set(10, one).unwrap();
    assert_eq!(bank.get(10), Some(&one));

    let mut replay = Replay::new(10, [HashAlg::Sha1, HashAlg::Sha256]);
    let before = replay;
    assert_eq!(replay.extend(&[sha1, sha1]), Err(wrong));
    assert_eq!(replay, before);
}

#[test]
fn values_must_have_the_length_of_their_selection() {
    let mut selection = PcrSelection::single(HashAlg::Sha256, 1 << 10).unwrap();
    selection
        .push(BankSelection::new(HashAlg::Sha1, 0b11).unwrap())
        .unwrap();
    for len in [0, 71, 73] {
        assert_eq!(
            PcrValues::new(selection, &vec![0; len]),
            Err(PcrError::Length { len, expected: 72 })
        );
    }
    let bytes: Vec<u8> = (0..72).collect();
    let values = PcrValues::new(selection, &bytes).unwrap();
    let sha1 = values.get(HashAlg::Sha1, 1).unwrap();
    assert_eq!(sha1.as_bytes(), &bytes[52..]);
    // A PCR of another bank is another PCR.
    let other = Digest::ones(HashAlg::Sha1);
    assert_eq!(
        values.digest_with(HashAlg::Sha384, 10, &other),
        values.digest(HashAlg::Sha384)
    );
    assert_eq!(
        values.digest_with(HashAlg::Sha384, 0, &other),
        hash(HashAlg::Sha384, &[&bytes[..32], &[0xFF; 20], &bytes[52..]])
    );
}

proptest! {
    #[test]
    fn a_replay_in_parts_ends_where_the_whole_does(
        digests in prop::collection::vec(any::<[u8; 32]>(), 0..20),
        cut: prop::sample::Index,
    ) {
        let value = |d: &[u8; 32]| Digest::new(HashAlg::Sha256, d).unwrap();
        let mut whole = Replay::new(10, [HashAlg::Sha256]);
        for d in &digests {
            whole.extend(&[value(d)]).unwrap();
        }
        let cut = cut.index(digests.len() + 1);
        let mut first = Replay::new(10, [HashAlg::Sha256]);
        for d in &digests[..cut] {
            first.extend(&[value(d)]).unwrap();
        }
        let mut rest = Replay::resume(10, first.count(), *first.values());
        for d in &digests[cut..] {
            rest.extend(&[value(d)]).unwrap();
        }
        prop_assert_eq!(rest, whole);
        let bare = replay_sha256([0; 32], &digests);
        prop_assert_eq!(whole.values()[0].as_bytes(), bare);
    }

    #[test]
    fn changing_any_bit_of_any_digest_changes_the_replay(
        digests in prop::collection::vec(any::<[u8; 32]>(), 1..8),
        at: prop::sample::Index,
        bit in 0..256_usize,
    ) {
        let mut changed = digests.clone();
        let at = at.index(digests.len());
        changed[at][bit / 8] ^= 1 << (bit % 8);
        prop_assert_ne!(replay_sha256([0; 32], &changed), replay_sha256([0; 32], &digests));
    }

    #[test]
    fn extend_is_the_hash_of_both(old: [u8; 20], new: [u8; 20]) {
        let value = |d: &[u8]| Digest::new(HashAlg::Sha1, d).unwrap();
        let both = [old, new].concat();
        prop_assert_eq!(
            extend(&value(&old), &value(&new)),
            Ok(hash(HashAlg::Sha1, &[&both]))
        );
    }
}
