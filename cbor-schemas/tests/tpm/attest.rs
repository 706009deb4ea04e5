//! Quotes and PCR selections.

use mote_schemas::limits;
use mote_schemas::tpm::{
    Attest, AttestError, BankSelection, ClockInfo, EncodeError, HashAlg, PcrSelection,
    PcrSelectionError, WireError,
};
use proptest::prelude::*;

use crate::vectors::{AK_QN, ATTEST, hex};
use crate::{mutated, noise};

#[test]
fn the_real_quotes_parse_and_encode_to_the_same_bytes() {
    for (bytes, extra) in [
        (ATTEST[0], "00112233445566778899aabbccddeeff"),
        (ATTEST[1], "ffeeddccbbaa99887766554433221100"),
    ] {
        let attest = Attest::parse(bytes).unwrap();
        assert_eq!(attest.qualified_signer, AK_QN);
        assert_eq!(hex(attest.extra_data), extra);
        assert_eq!(attest.clock_info.boot(), (1, 0));
        assert!(attest.clock_info.safe);
        assert_eq!(
            attest.pcr_select,
            PcrSelection::single(HashAlg::Sha256, 0x47FF).unwrap()
        );
        assert_eq!(attest.pcr_select.count(), 12);
        let mut out = [0; limits::MAX_TPMS_ATTEST];
        assert_eq!(attest.encode(&mut out).unwrap(), bytes);
        let mut short = vec![0; bytes.len() - 1];
        assert_eq!(attest.encode(&mut short), Err(EncodeError::BufferTooSmall));
    }
}

#[test]
fn each_fault_of_a_quote_is_named() {
    let with = |at: usize, v: u8| {
        let mut bytes = ATTEST[0].to_vec();
        bytes[at] = v;
        bytes
    };
    let magic = with(3, 0x48);
    assert_eq!(
        Attest::parse(&magic),
        Err(AttestError::WrongMagic(0xFF54_4348))
    );
    // TPM_ST_ATTEST_CERTIFY
    let certify = with(5, 0x17);
    assert_eq!(Attest::parse(&certify), Err(AttestError::WrongType(0x8017)));
    // magic and type, 36 and 18 bytes of buffers, clock, two counters
    let safe = with(4 + 2 + 36 + 18 + 16, 2);
    assert_eq!(Attest::parse(&safe), Err(AttestError::WrongYesNo(2)));
    let banks = with(4 + 2 + 36 + 18 + 17 + 8 + 3, 5);
    assert_eq!(
        Attest::parse(&banks),
        Err(AttestError::PcrSelection(PcrSelectionError::TooManyBanks(
            5
        )))
    );
    let mut long = ATTEST[0].to_vec();
    long.push(0);
    assert_eq!(
        Attest::parse(&long),
        Err(AttestError::Wire(WireError::TrailingBytes { at: 129 }))
    );
}

#[test]
fn pcrs_come_in_the_order_in_which_the_tpm_hashes_them() {
    let mut selection = PcrSelection::EMPTY;
    for (alg, mask) in [(HashAlg::Sha256, 0x80_0401), (HashAlg::Sha1, 0x3)] {
        selection
            .push(BankSelection::new(alg, mask).unwrap())
            .unwrap();
    }
    let order: Vec<_> = selection.iter().collect();
    assert_eq!(
        order,
        [
            (HashAlg::Sha256, 0),
            (HashAlg::Sha256, 10),
            (HashAlg::Sha256, 23),
            (HashAlg::Sha1, 0),
            (HashAlg::Sha1, 1)
        ]
    );
    assert!(selection.contains(HashAlg::Sha1, 1));
    assert!(!selection.contains(HashAlg::Sha1, 10));
    assert!(!selection.contains(HashAlg::Sha256, 42));
    assert!(!selection.contains(HashAlg::Sha384, 0));
}

#[test]
fn each_fault_of_a_selection_is_named() {
    let one = |bank: &[u8]| [&[0, 0, 0, 1], bank].concat();
    for (bytes, err) in [
        (
            one(&[0, 0x12, 3, 1, 0, 0]),
            PcrSelectionError::UnknownHash(0x12),
        ),
        (one(&[0, 0x0B, 0]), PcrSelectionError::SelectSize(0)),
        (
            one(&[0, 0x0B, 5, 1, 0, 0, 0, 0]),
            PcrSelectionError::SelectSize(5),
        ),
        (
            one(&[0, 0x0B, 4, 1, 0, 0, 1]),
            PcrSelectionError::NoSuchPcr(24),
        ),
        (
            vec![0, 0, 0, 2, 0, 0x0B, 1, 1, 0, 0x0B, 1, 2],
            PcrSelectionError::DuplicateBank(HashAlg::Sha256),
        ),
        (vec![0xFF; 4], PcrSelectionError::TooManyBanks(u32::MAX)),
        (
            vec![0, 0, 0, 0, 0],
            PcrSelectionError::Wire(WireError::TrailingBytes { at: 4 }),
        ),
    ] {
        assert_eq!(PcrSelection::parse(&bytes), Err(err), "{bytes:?}");
    }
    assert_eq!(
        BankSelection::new(HashAlg::Sha1, 1 << 31),
        Err(PcrSelectionError::NoSuchPcr(31))
    );
    // One octet is a selection of its own and stays one.
    let octet = one(&[0, 0x0B, 1, 0x81]);
    let mut out = [0; PcrSelection::MAX_ENCODED];
    let selection = PcrSelection::parse(&octet).unwrap();
    assert_eq!(selection.encode(&mut out).unwrap(), octet);
    assert_eq!(selection.banks()[0].mask(), 0x81);
}

fn selection() -> impl Strategy<Value = PcrSelection> {
    prop::collection::vec(0..0x100_0000_u32, 0..=4).prop_map(|masks| {
        let mut selection = PcrSelection::EMPTY;
        for (alg, mask) in HashAlg::ALL.into_iter().rev().zip(masks) {
            selection
                .push(BankSelection::new(alg, mask).unwrap())
                .unwrap();
        }
        selection
    })
}

proptest! {
    #[test]
    fn whatever_parses_as_a_quote_encodes_to_the_same_bytes(
        bytes in prop_oneof![mutated(ATTEST[0]), noise()]
    ) {
        if let Ok(attest) = Attest::parse(&bytes) {
            let mut out = [0; limits::MAX_TPMS_ATTEST];
            prop_assert_eq!(attest.encode(&mut out).unwrap(), &bytes[..]);
        }
    }

    #[test]
    fn every_quote_survives_encode_and_parse(
        signer in prop::collection::vec(any::<u8>(), 0..=66),
        extra in prop::collection::vec(any::<u8>(), 0..=66),
        digest in prop::collection::vec(any::<u8>(), 0..=64),
        (clock, reset_count, restart_count, safe) in any::<(u64, u32, u32, bool)>(),
        firmware_version: u64,
        pcr_select in selection(),
    ) {
        let attest = Attest {
            qualified_signer: &signer,
            extra_data: &extra,
            clock_info: ClockInfo { clock, reset_count, restart_count, safe },
            firmware_version,
            pcr_select,
            pcr_digest: &digest,
        };
        let mut out = [0; limits::MAX_TPMS_ATTEST];
        let bytes = attest.encode(&mut out).unwrap();
        prop_assert_eq!(Attest::parse(bytes), Ok(attest));
        for cut in 0..bytes.len() {
            prop_assert!(Attest::parse(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn selections_survive_encode_and_parse(selection in selection()) {
        let mut out = [0; PcrSelection::MAX_ENCODED];
        let bytes = selection.encode(&mut out).unwrap();
        prop_assert_eq!(PcrSelection::parse(bytes), Ok(selection));
        prop_assert_eq!(selection.iter().count(), selection.count());
    }
}

#[test]
fn each_fault_says_what_it_is() {
    for (error, text) in [
        (
            AttestError::WrongMagic(1),
            "not made by a TPM: magic is 0x00000001",
        ),
        (
            AttestError::WrongType(0x8017),
            "not a quote: attestation type 0x8017",
        ),
        (
            AttestError::WrongYesNo(2),
            "clockInfo.safe is 2, neither 0 nor 1",
        ),
    ] {
        assert_eq!(error.to_string(), text);
    }
}
