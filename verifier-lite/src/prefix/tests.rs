//! PCR values as they are stored, and what failures say.

use mote_schemas::tpm::{BankSelection, hash};

use super::*;

fn state() -> LogState {
    let value = |bank: HashAlg, n: u8| Digest::new(bank, &vec![n; bank.digest_len()]).unwrap();
    LogState {
        values: [
            (HashAlg::Sha1, 10),
            (HashAlg::Sha256, 0),
            (HashAlg::Sha256, 10),
        ]
        .map(|(bank, pcr)| ((bank, pcr), value(bank, pcr as u8)))
        .into(),
        ..LogState::at_boot()
    }
}

#[test]
fn stored_values_are_those_of_the_state_and_of_no_other() {
    let state = state();
    let stored = values_by_bank(&state);
    assert_eq!(stored.len(), 2, "one entry for each bank");
    assert_eq!(values_of(&stored), state.values);
    assert!(are_values(&stored, &state));
    for key in state.values.keys() {
        let mut less = state.clone();
        less.values.remove(key);
        assert!(!are_values(&stored, &less), "{key:?}");
        let mut other = state.clone();
        other.values.insert(*key, Digest::zero(key.0));
        let is_zero = state.values[key] == Digest::zero(key.0);
        assert_eq!(are_values(&stored, &other), is_zero, "{key:?}");
    }
    // A bank that is not known, and a value that is none of its bank's.
    let mut odd = stored;
    odd[0].alg = 0x12;
    odd[1].values[0].value.pop();
    assert_eq!(values_of(&odd).len(), 1);
}

#[test]
fn a_stored_digest_is_what_a_quote_over_these_values_has() {
    let (state, mut both) = (state(), PcrSelection::EMPTY);
    both.push(BankSelection::new(HashAlg::Sha256, 1 | 1 << 10).unwrap())
        .unwrap();
    both.push(BankSelection::new(HashAlg::Sha1, 1 << 10).unwrap())
        .unwrap();
    let stored = values_by_bank(&state);
    let quoted = |alg| {
        // In the order of the selection, PCRs of a bank by number.
        let keys = [
            (HashAlg::Sha256, 0),
            (HashAlg::Sha256, 10),
            (HashAlg::Sha1, 10),
        ];
        let values: Vec<&[u8]> = keys
            .iter()
            .map(|key| state.values[key].as_bytes())
            .collect();
        hash(alg, &values)
    };
    for alg in [HashAlg::Sha1, HashAlg::Sha256] {
        assert_eq!(stored_digest(&stored, &both, alg), Some(quoted(alg)));
    }
    for unknown in [
        PcrSelection::single(HashAlg::Sha256, 1 << 7).unwrap(),
        PcrSelection::single(HashAlg::Sha384, 1).unwrap(),
    ] {
        assert_eq!(stored_digest(&stored, &unknown, HashAlg::Sha256), None);
    }
    let mut spoiled = stored;
    spoiled[1].values[0].value.pop();
    assert_eq!(stored_digest(&spoiled, &both, HashAlg::Sha256), None);
}

#[test]
fn each_failure_has_a_reason_and_says_where() {
    let bank = HashAlg::Sha256;
    for (error, reason, says) in [
        (
            PrefixError::Gap { wanted: 3, got: 5 },
            Reason::LogIncomplete,
            "record 3 is wanted next, but 5",
        ),
        (
            PrefixError::NoSuchPcr { record: 2, pcr: 99 },
            Reason::RecordMalformed,
            "record 2 is in PCR 99",
        ),
        (
            PrefixError::ImaPcrNotQuoted { pcr: 11 },
            Reason::QuotePcrSelection,
            "PCR 11 too",
        ),
        (
            PrefixError::UnknownPcr { bank, pcr: 4 },
            Reason::QuoteOutstanding,
            "PCR 4 in bank sha256",
        ),
        (
            PrefixError::PcrDigestMismatch,
            Reason::PcrDigestMismatch,
            "pcrDigest",
        ),
        (
            PrefixError::ImaWithoutTpm,
            Reason::ImaWithoutTpm,
            "no record",
        ),
        (
            PrefixError::DoesNotReplay { records: 7 },
            Reason::LogDoesNotReplay,
            "7 records",
        ),
    ] {
        assert_eq!(error.reason(), reason);
        assert!(error.to_string().contains(says), "{error}");
    }
}
