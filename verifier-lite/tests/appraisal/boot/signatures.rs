//! PK, KEK, db and dbx, signature by signature.

use std::collections::BTreeMap;

use mote_schemas::bootlog::{BootLog, Event, Guid, Signatures, Variable};
use mote_schemas::reason::Reason;
use mote_schemas::tpm::HashAlg;
use mote_verifier::boot::appraise;
use mote_verifier::manifest::{BootExpectations, FileDigest, KeyVariable};

use super::{MASK, SECURE, of_secure, only, pcrs, prefix_of, reasons, reference, with_event};

/// Digests of the signatures that the recorded secure boot measured in a variable.
fn held(key: KeyVariable) -> Vec<FileDigest> {
    let log = BootLog::parse(SECURE.0).unwrap();
    let variable = log
        .events()
        .filter_map(|event| Variable::parse(event.data))
        .find(|variable| variable.guid == key.guid() && variable.name == *key.name())
        .unwrap();
    Signatures::new(variable.value)
        .map(|signature| {
            let digest = signature.unwrap().digest();
            FileDigest(digest.as_bytes().try_into().unwrap())
        })
        .collect()
}

#[test]
fn signatures_are_judged_one_by_one() {
    let one_more = |mut list: Vec<FileDigest>| {
        list.push(FileDigest([9; 32]));
        list
    };
    for key in KeyVariable::ALL {
        // Any part of what is allowed, and at least what is required.
        let fits = BootExpectations {
            allowed_signatures: [(key, one_more(held(key)))].into(),
            required_signatures: [(key, held(key))].into(),
            ..BootExpectations::default()
        };
        let fits = BootExpectations {
            required_signatures: if held(key).is_empty() {
                BTreeMap::new()
            } else {
                fits.required_signatures.clone()
            },
            ..fits
        };
        assert_eq!(reasons(&of_secure(fits)), [], "{}", key.name());

        // Each signature that is not allowed is named.
        let forbidden = BootExpectations {
            allowed_signatures: [(key, vec![])].into(),
            ..BootExpectations::default()
        };
        let found = of_secure(forbidden).deviations;
        assert_eq!(found.len(), held(key).len(), "{}", key.name());
        for (deviation, held) in found.iter().zip(held(key)) {
            assert_eq!(deviation.reason, Reason::SecureBootKeysUnexpected);
            assert_eq!(deviation.measured.as_deref(), Some(&held.0[..]));
            assert_eq!(deviation.pcr, Some(7));
            assert!(deviation.event.is_some());
            let note = deviation.note.as_deref().unwrap();
            assert!(
                note.starts_with(&format!("{} holds ", key.name())),
                "{note}"
            );
            assert!(note.contains(", owner "), "{note}");
        }

        let lacking = BootExpectations {
            required_signatures: [(key, one_more(held(key)))].into(),
            ..BootExpectations::default()
        };
        let lacking = only(of_secure(lacking));
        assert_eq!(lacking.reason, Reason::SecureBootKeysUnexpected);
        assert_eq!(lacking.expected, [[9; 32]], "what is there is not listed");
        let note = lacking.note.unwrap();
        let says = format!("{} lacks 1 of {} sig", key.name(), held(key).len() + 1);
        assert!(note.starts_with(&says), "{note}");
    }
    assert!(
        !held(KeyVariable::Db).is_empty(),
        "there was something to judge"
    );

    // A device whose firmware has no such variable shows nothing of it.
    let expected = BootExpectations {
        allowed_signatures: [(KeyVariable::Db, vec![])].into(),
        ..BootExpectations::default()
    };
    let blind = prefix_of(&pcrs(SECURE.1), &[HashAlg::Sha256], MASK & !(1 << 7));
    let expected = [reference("edge-1.4", expected)];
    let unseen = only(appraise(&blind, Some(SECURE.0), &expected));
    assert!(unseen.note.unwrap().contains("PCR 7"));
}

#[test]
fn a_variable_that_holds_no_lists_of_signatures_is_not_taken_for_an_empty_one() {
    let expected = BootExpectations {
        allowed_signatures: [(KeyVariable::Db, vec![])].into(),
        ..BootExpectations::default()
    };
    let expected = [reference("edge-1.4", expected)];
    let variable = |value: &[u8]| {
        let name: Vec<u8> = "db".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let sizes = [2u64, value.len() as u64].map(u64::to_le_bytes).concat();
        [&KeyVariable::Db.guid().0[..], &sizes, &name, value].concat()
    };
    let list = |list_size: u32, header: u32, size: u32, rest: &[u8]| {
        let sizes = [list_size, header, size].map(u32::to_le_bytes).concat();
        [&Guid::CERT_SHA256.0[..], &sizes, rest].concat()
    };
    let recorded = BootLog::parse(SECURE.0).unwrap();
    let first = recorded.events().find(Event::is_extended).unwrap();
    let header = &SECURE.0[..first.offset];
    for (value, ok) in [
        (vec![], true),
        (list(28, 0, 48, &[]), true),
        (list(30, 2, 48, &[1, 2]), true),
        (vec![1], false),
        (list(28, 0, 16, &[]), false),
        (list(27, 0, 48, &[]), false),
        (list(29, 2, 48, &[1]), false),
        (list(30, 0, 48, &[1, 2]), false),
        (list(u32::MAX, 0, 48, &[]), false),
        (list(28, u32::MAX, 48, &[]), false),
    ] {
        let data = variable(&value);
        let (log, values) = with_event(header, 7, 0x8000_0001, &data, &data);
        let appraisal = appraise(
            &prefix_of(&values, &[HashAlg::Sha256], MASK),
            Some(&log),
            &expected,
        );
        if ok {
            assert_eq!(reasons(&appraisal), [], "{value:?}");
            continue;
        }
        let note = only(appraisal).note.unwrap();
        assert_eq!(
            note, "the contents of db are not EFI_SIGNATURE_LISTs",
            "{value:?}"
        );
    }
}
