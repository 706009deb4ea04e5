//! TPM structures against a real TPM's output, and against arbitrary bytes.
#![allow(clippy::unwrap_used)]

mod vectors;

use mote_schemas::limits;
use mote_schemas::tpm::{
    Attest, AttestError, BankSelection, ClockInfo, Digest, EccCurve, EncodeError, HashAlg,
    Hierarchy, Key, KeyScheme, Name, NameError, ObjectAttributes, PcrSelection, PcrSelectionError,
    Public, PublicError, Signature, SignatureError, WireError, hash, tpm2b,
};
use proptest::prelude::*;

use vectors::{AK_NAME, AK_QN, AK_TPMT, ATTEST, SIG, hex};

/// Everything between the parts that a test changes.
fn ecc_public(attributes: u32) -> Vec<u8> {
    let mut tpmt = AK_TPMT.to_vec();
    tpmt[4..8].copy_from_slice(&attributes.to_be_bytes());
    tpmt
}

/// The template of an RSA EK (TCG EK Credential Profile, B.3.3) with an arbitrary modulus.
fn rsa_ek(bits: u16, exponent: u32) -> Vec<u8> {
    let mut v = Vec::from([0x00, 0x01, 0x00, 0x0B]);
    v.extend(0x0003_00B2_u32.to_be_bytes());
    v.extend([0, 32]);
    v.extend([0x83; 32]);
    v.extend([0x00, 0x06, 0x00, 0x80, 0x00, 0x43, 0x00, 0x10]);
    v.extend(bits.to_be_bytes());
    v.extend(exponent.to_be_bytes());
    v.extend((bits / 8).to_be_bytes());
    v.extend(vec![0xC5; usize::from(bits / 8)]);
    v
}

#[test]
fn the_real_ak_has_the_name_and_qualified_name_that_the_tpm_says() {
    let ak = Public::parse(AK_TPMT).unwrap();
    assert_eq!(ak.as_bytes(), AK_TPMT);
    assert_eq!(ak.name().as_bytes(), AK_NAME);
    assert_eq!(Name::parse(AK_NAME).unwrap(), ak.name());
    assert_eq!(
        ak.name().qualified_in(Hierarchy::Endorsement).as_bytes(),
        AK_QN
    );
    assert_ne!(ak.name().qualified_in(Hierarchy::Owner).as_bytes(), AK_QN);
    // Below a parent the parent's qualified name takes the place of the handle.
    let child = ak.name().qualified_under(&Name::parse(AK_QN).unwrap());
    assert_eq!(
        child.as_bytes()[2..],
        *hash(HashAlg::Sha256, &[AK_QN, AK_NAME]).as_bytes()
    );
}

#[test]
fn the_real_ak_is_a_restricted_signing_key_and_nothing_else() {
    let ak = Public::parse(AK_TPMT).unwrap();
    assert!(ak.is_restricted_signing_key());
    assert!(!ak.is_storage_key());
    assert!(!ak.is_endorsement_key());
    assert_eq!(ak.name_alg(), HashAlg::Sha256);
    assert_eq!(ak.scheme(), KeyScheme::Ecdsa(HashAlg::Sha256));
    assert_eq!(ak.symmetric(), None);
    assert_eq!(ak.auth_policy(), b"");
    let Key::Ecc(point) = ak.key() else {
        panic!("{:?}", ak.key())
    };
    assert_eq!(point.curve, EccCurve::P256);
    let mut out = [0xAA; mote_schemas::tpm::MAX_ECC_UNCOMPRESSED];
    let sec1 = point.uncompressed(&mut out);
    assert_eq!(sec1[0], 4);
    assert_eq!(&sec1[1..33], &AK_TPMT[22..54]);
    assert_eq!(&sec1[33..], &AK_TPMT[56..88]);
}

#[test]
fn a_key_that_lacks_any_one_attribute_cannot_attest() {
    let good = Public::parse(AK_TPMT).unwrap().attributes().bits();
    // fixedTPM, fixedParent, sensitiveDataOrigin, restricted, sign
    for bit in [1, 4, 5, 16, 18] {
        let tpmt = ecc_public(good & !(1 << bit));
        assert!(
            !Public::parse(&tpmt).unwrap().is_restricted_signing_key(),
            "bit {bit}"
        );
    }
    // decrypt, x509sign
    for bit in [17, 19] {
        let tpmt = ecc_public(good | 1 << bit);
        assert!(
            !Public::parse(&tpmt).unwrap().is_restricted_signing_key(),
            "bit {bit}"
        );
    }
    for bit in [0, 3, 12, 15, 20, 31] {
        let tpmt = ecc_public(good | 1 << bit);
        assert_eq!(
            Public::parse(&tpmt),
            Err(PublicError::ReservedAttributes(good | 1 << bit))
        );
    }
}

#[test]
fn rsa_endorsement_keys_of_every_size_parse() {
    for bits in [2048, 3072, 4096] {
        let tpmt = rsa_ek(bits, 0);
        let ek = Public::parse(&tpmt).unwrap();
        assert!(ek.is_endorsement_key() && ek.is_storage_key(), "{bits}");
        assert!(!ek.is_restricted_signing_key());
        assert_eq!(ek.symmetric().unwrap().aes_bits, 128);
        let Key::Rsa { modulus, exponent } = ek.key() else {
            panic!("{:?}", ek.key())
        };
        assert_eq!((modulus.len() * 8, exponent), (usize::from(bits), 65537));
    }
    let Key::Rsa { exponent, .. } = Public::parse(&rsa_ek(2048, 3)).unwrap().key() else {
        panic!("not RSA")
    };
    assert_eq!(exponent, 3);
}

#[test]
fn unsafe_rsa_keys_are_refused() {
    for e in [1, 2, 65536] {
        assert_eq!(
            Public::parse(&rsa_ek(2048, e)),
            Err(PublicError::RsaExponent(e))
        );
    }
    assert_eq!(
        Public::parse(&rsa_ek(1024, 0)),
        Err(PublicError::UnsupportedRsaBits(1024))
    );
    let mut short = rsa_ek(2048, 0);
    let at = short.len() - 256;
    short[at] = 0x7F;
    assert_eq!(Public::parse(&short), Err(PublicError::RsaModulus));
}

#[test]
fn each_fault_of_a_public_area_is_named() {
    let patched = |at: usize, v: [u8; 2]| {
        let mut tpmt = AK_TPMT.to_vec();
        tpmt[at..at + 2].copy_from_slice(&v);
        tpmt
    };
    for (at, v, err) in [
        (0, [0, 8], PublicError::UnsupportedType(8)),
        (2, [0, 0x12], PublicError::UnsupportedHash(0x12)),
        (10, [0, 0x26], PublicError::UnsupportedSymmetric(0x26)),
        (12, [0, 0x1A], PublicError::UnsupportedScheme(0x1A)),
        (14, [0, 0x10], PublicError::UnsupportedHash(0x10)),
        (16, [0, 5], PublicError::UnsupportedCurve(5)),
        (18, [0, 0x21], PublicError::UnsupportedHash(32)),
        (20, [0, 0], PublicError::EccCoordinate(0)),
        (20, [0, 33], PublicError::EccCoordinate(33)),
    ] {
        assert_eq!(Public::parse(&patched(at, v)), Err(err), "at {at}: {v:?}");
    }
    let mut policy = AK_TPMT.to_vec();
    policy.splice(8..10, [0, 1, 0xFF]);
    assert_eq!(Public::parse(&policy), Err(PublicError::PolicyLength(1)));
    let mut long = AK_TPMT.to_vec();
    long.push(0);
    assert_eq!(
        Public::parse(&long),
        Err(PublicError::Wire(WireError::TrailingBytes { at: 88 }))
    );
    long.resize(limits::MAX_TPMT_PUBLIC + 1, 0);
    assert!(matches!(
        Public::parse(&long),
        Err(PublicError::Wire(WireError::TooLong { .. }))
    ));
}

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
fn the_real_signatures_parse_and_encode_to_the_same_bytes() {
    for bytes in SIG {
        let sig = Signature::parse(bytes).unwrap();
        assert_eq!(sig.hash(), HashAlg::Sha256);
        let mut out = [0; limits::MAX_TPMT_SIGNATURE];
        assert_eq!(sig.encode(&mut out).unwrap(), bytes);
        let mut fixed = [0; mote_schemas::tpm::MAX_ECDSA_FIXED];
        let rs = sig.ecdsa_fixed(EccCurve::P256, &mut fixed).unwrap();
        assert_eq!(rs.len(), 64);
        assert_eq!(
            Signature::from_ecdsa_fixed(HashAlg::Sha256, rs).unwrap(),
            sig
        );
    }
}

#[test]
fn short_r_and_s_are_padded_on_the_left() {
    let sig = Signature::Ecdsa {
        hash: HashAlg::Sha384,
        r: &[1, 2],
        s: &[3; 48],
    };
    let mut out = [0xAA; mote_schemas::tpm::MAX_ECDSA_FIXED];
    let rs = sig.ecdsa_fixed(EccCurve::P384, &mut out).unwrap();
    assert_eq!(&rs[..46], [0; 46]);
    assert_eq!(&rs[46..48], [1, 2]);
    assert_eq!(&rs[48..], [3; 48]);
    assert_eq!(
        sig.ecdsa_fixed(EccCurve::P256, &mut out),
        Err(SignatureError::EccLength(48))
    );
    let rsa = Signature::RsaSsa {
        hash: HashAlg::Sha256,
        sig: &[1; 256],
    };
    assert_eq!(
        rsa.ecdsa_fixed(EccCurve::P256, &mut out),
        Err(SignatureError::NotEcdsa)
    );
}

#[test]
fn each_fault_of_a_signature_is_named() {
    // TPM_ALG_ECDAA, HMAC
    for scheme in [0x1A, 0x05] {
        let mut bytes = SIG[0].to_vec();
        bytes[1] = scheme;
        assert_eq!(
            Signature::parse(&bytes),
            Err(SignatureError::UnsupportedScheme(scheme.into()))
        );
    }
    let mut bytes = SIG[0].to_vec();
    bytes[3] = 0x10;
    assert_eq!(
        Signature::parse(&bytes),
        Err(SignatureError::UnsupportedHash(0x10))
    );
    assert_eq!(
        Signature::parse(&[0, 0x18, 0, 0x0B, 0, 0, 0, 1, 1]),
        Err(SignatureError::EccLength(0))
    );
    assert_eq!(
        Signature::from_ecdsa_fixed(HashAlg::Sha256, &[1; 63]),
        Err(SignatureError::EccLength(63))
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

#[test]
fn names_and_sized_buffers_are_exact() {
    assert_eq!(Name::parse(&[]), Err(NameError::Length { len: 0 }));
    assert_eq!(
        Name::parse(&AK_NAME[..33]),
        Err(NameError::Length { len: 33 })
    );
    assert_eq!(
        Name::parse(&Hierarchy::Endorsement.handle().to_be_bytes()),
        Err(NameError::UnknownHash(0x4000))
    );
    assert_eq!(tpm2b(&[0, 2, 7, 8], 2), Ok(&[7, 8][..]));
    assert_eq!(
        tpm2b(&[0, 3, 7, 8], 2),
        Err(WireError::TooLong {
            at: 0,
            len: 3,
            max: 2
        })
    );
    assert_eq!(
        tpm2b(&[0, 2, 7], 2),
        Err(WireError::Truncated { at: 2, needed: 2 })
    );
}

#[test]
fn digests_match_fips_180_examples() {
    for (alg, want) in [
        (HashAlg::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (
            HashAlg::Sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        (
            HashAlg::Sha384,
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed\
             8086072ba1e7cc2358baeca134c825a7",
        ),
        (
            HashAlg::Sha512,
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ),
    ] {
        let digest = hash(alg, &[b"a", b"", b"bc"]);
        assert_eq!(digest.to_string(), want);
        assert_eq!(digest.as_bytes().len(), alg.digest_len());
        assert_eq!(HashAlg::from_u16(alg.to_u16()), Some(alg));
        assert_eq!(HashAlg::from_name(alg.name()), Some(alg));
        assert_eq!(Digest::new(alg, &digest.as_bytes()[1..]), None);
        assert!(Digest::zero(alg).is_zero());
        assert_eq!(Digest::ones(alg).as_bytes(), vec![0xFF; alg.digest_len()]);
    }
}

/// Valid bytes with a few changed, cut or added: closer to the parsers' edges than noise.
fn mutated(seed: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (edits, any::<prop::sample::Index>(), any::<bool>()).prop_map(move |(edits, cut, do_cut)| {
        let mut bytes = seed.to_vec();
        for (at, v) in edits {
            let at = at.index(bytes.len());
            bytes[at] = v;
        }
        if do_cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        bytes
    })
}

fn noise() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..700)
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
    fn whatever_parses_as_a_signature_encodes_to_the_same_bytes(
        bytes in prop_oneof![mutated(SIG[0]), noise()]
    ) {
        if let Ok(sig) = Signature::parse(&bytes) {
            let mut out = [0; limits::MAX_TPMT_SIGNATURE];
            prop_assert_eq!(sig.encode(&mut out).unwrap(), &bytes[..]);
            let mut fixed = [0; mote_schemas::tpm::MAX_ECDSA_FIXED];
            let _ = sig.ecdsa_fixed(EccCurve::P256, &mut fixed);
        }
    }

    #[test]
    fn any_public_area_is_parsed_or_refused(bytes in prop_oneof![mutated(AK_TPMT), noise()]) {
        if let Ok(public) = Public::parse(&bytes) {
            prop_assert_eq!(public.as_bytes(), &bytes[..]);
            prop_assert_eq!(Name::parse(public.name().as_bytes()), Ok(public.name()));
            if let Key::Ecc(point) = public.key() {
                let _ = point.uncompressed(&mut [0; mote_schemas::tpm::MAX_ECC_UNCOMPRESSED]);
            }
        }
    }

    #[test]
    fn selections_survive_encode_and_parse(selection in selection()) {
        let mut out = [0; PcrSelection::MAX_ENCODED];
        let bytes = selection.encode(&mut out).unwrap();
        prop_assert_eq!(PcrSelection::parse(bytes), Ok(selection));
        prop_assert_eq!(selection.iter().count(), selection.count());
    }

    #[test]
    fn attributes_are_their_bits(bits: u32) {
        if let Some(attributes) = ObjectAttributes::from_bits(bits) {
            prop_assert_eq!(attributes.bits(), bits);
            prop_assert_eq!(attributes.fixed_tpm(), bits & 2 != 0);
            prop_assert_eq!(attributes.sign(), bits & 1 << 18 != 0);
        }
    }
}
