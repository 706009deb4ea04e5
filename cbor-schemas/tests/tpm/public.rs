//! Public areas and Names.

use mote_schemas::limits;
use mote_schemas::tpm::{
    EccCurve, HashAlg, Hierarchy, Key, KeyScheme, MAX_ECC_UNCOMPRESSED, Name, NameError,
    ObjectAttributes, Public, PublicError, WireError, hash, tpm2b,
};
use proptest::prelude::*;

use crate::vectors::{AK_NAME, AK_QN, AK_TPMT};
use crate::{mutated, noise};

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
    let mut out = [0xAA; MAX_ECC_UNCOMPRESSED];
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
fn a_key_that_lacks_any_one_property_is_no_endorsement_key() {
    let ek = rsa_ek(2048, 0);
    let with = |at: std::ops::Range<usize>, v: &[u8]| {
        let mut tpmt = ek.clone();
        tpmt.splice(at, v.iter().copied());
        tpmt
    };
    let attributes = |bits: u32| with(4..8, &bits.to_be_bytes());
    let good = 0x0003_00B2;
    let storage = |tpmt: &[u8]| {
        let key = Public::parse(tpmt).unwrap();
        (key.is_storage_key(), key.is_endorsement_key())
    };
    assert_eq!(storage(&attributes(good)), (true, true));
    // fixedTPM, fixedParent, sensitiveDataOrigin, restricted, decrypt
    for bit in [1, 4, 5, 16, 17] {
        assert_eq!(
            storage(&attributes(good & !(1 << bit))),
            (false, false),
            "bit {bit}"
        );
    }
    // sign
    assert_eq!(storage(&attributes(good | 1 << 18)), (false, false));
    // adminWithPolicy, and the policy itself
    assert_eq!(storage(&attributes(good & !(1 << 7))), (true, false));
    assert_eq!(storage(&with(8..42, &[0, 0])), (true, false));
    // no cipher; RSASSA with SHA-256
    assert_eq!(storage(&with(42..48, &[0, 0x10])), (false, false));
    assert_eq!(storage(&with(48..50, &[0, 0x14, 0, 0x0B])), (false, false));
    // AES with 64 bits, in CBC mode
    assert_eq!(
        Public::parse(&with(44..46, &[0, 64])),
        Err(PublicError::UnsupportedSymmetric(6))
    );
    assert_eq!(
        Public::parse(&with(46..48, &[0, 0x42])),
        Err(PublicError::UnsupportedSymmetric(0x42))
    );
}

#[test]
fn a_signing_key_without_a_scheme_cannot_attest() {
    let mut tpmt = AK_TPMT.to_vec();
    tpmt.splice(12..16, [0, 0x10]);
    let key = Public::parse(&tpmt).unwrap();
    assert_eq!(key.scheme(), KeyScheme::Null);
    assert!(!key.is_restricted_signing_key());
}

#[test]
fn each_attribute_is_its_bit() {
    type Accessor = fn(ObjectAttributes) -> bool;
    let bits: [(u32, Accessor); 14] = [
        (1, ObjectAttributes::fixed_tpm),
        (2, ObjectAttributes::st_clear),
        (4, ObjectAttributes::fixed_parent),
        (5, ObjectAttributes::sensitive_data_origin),
        (6, ObjectAttributes::user_with_auth),
        (7, ObjectAttributes::admin_with_policy),
        (8, ObjectAttributes::firmware_limited),
        (9, ObjectAttributes::svn_limited),
        (10, ObjectAttributes::no_da),
        (11, ObjectAttributes::encrypted_duplication),
        (16, ObjectAttributes::restricted),
        (17, ObjectAttributes::decrypt),
        (18, ObjectAttributes::sign),
        (19, ObjectAttributes::x509_sign),
    ];
    for (bit, _) in bits {
        let attributes = ObjectAttributes::from_bits(1 << bit).unwrap();
        assert_eq!(attributes.bits(), 1 << bit);
        let set: Vec<_> = bits
            .iter()
            .filter(|(_, is_set)| is_set(attributes))
            .map(|(n, _)| *n)
            .collect();
        assert_eq!(set, [bit]);
    }
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

proptest! {
    #[test]
    fn any_public_area_is_parsed_or_refused(bytes in prop_oneof![mutated(AK_TPMT), noise()]) {
        if let Ok(public) = Public::parse(&bytes) {
            prop_assert_eq!(public.as_bytes(), &bytes[..]);
            prop_assert_eq!(Name::parse(public.name().as_bytes()), Ok(public.name()));
            if let Key::Ecc(point) = public.key() {
                let _ = point.uncompressed(&mut [0; MAX_ECC_UNCOMPRESSED]);
            }
        }
    }
}
