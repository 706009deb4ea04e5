//! Signatures and digests.

use mote_schemas::limits;
use mote_schemas::tpm::{
    Digest, EccCurve, HashAlg, MAX_ECDSA_FIXED, Signature, SignatureError, WireError, hash,
};
use proptest::prelude::*;

use crate::vectors::SIG;
use crate::{mutated, noise};

#[test]
fn the_real_signatures_parse_and_encode_to_the_same_bytes() {
    for bytes in SIG {
        let sig = Signature::parse(bytes).unwrap();
        assert_eq!(sig.hash(), HashAlg::Sha256);
        let mut out = [0; limits::MAX_TPMT_SIGNATURE];
        assert_eq!(sig.encode(&mut out).unwrap(), bytes);
        let mut fixed = [0; MAX_ECDSA_FIXED];
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
    let mut out = [0xAA; MAX_ECDSA_FIXED];
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
    for empty in [[0, 0, 0, 1, 1], [0, 1, 1, 0, 0]] {
        assert_eq!(
            Signature::parse(&[&[0, 0x18, 0, 0x0B], &empty[..]].concat()),
            Err(SignatureError::EccLength(0))
        );
    }
    let rsa = |len: u16| {
        [
            &[0, 0x16, 0, 0x0B],
            &len.to_be_bytes()[..],
            &vec![1; len.into()],
        ]
        .concat()
    };
    assert_eq!(
        Signature::parse(&rsa(512)),
        Ok(Signature::RsaPss {
            hash: HashAlg::Sha256,
            sig: &[1; 512]
        })
    );
    let too_long = WireError::TooLong {
        at: 4,
        len: 513,
        max: 512,
    };
    assert_eq!(
        Signature::parse(&rsa(513)),
        Err(SignatureError::Wire(too_long))
    );
    assert_eq!(
        Signature::from_ecdsa_fixed(HashAlg::Sha256, &[1; 63]),
        Err(SignatureError::EccLength(63))
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

proptest! {
    #[test]
    fn whatever_parses_as_a_signature_encodes_to_the_same_bytes(
        bytes in prop_oneof![mutated(SIG[0]), noise()]
    ) {
        if let Ok(sig) = Signature::parse(&bytes) {
            let mut out = [0; limits::MAX_TPMT_SIGNATURE];
            prop_assert_eq!(sig.encode(&mut out).unwrap(), &bytes[..]);
            let mut fixed = [0; MAX_ECDSA_FIXED];
            let _ = sig.ecdsa_fixed(EccCurve::P256, &mut fixed);
        }
    }
}

#[test]
fn each_fault_says_what_it_is() {
    for (error, text) in [
        (
            SignatureError::UnsupportedScheme(0x1b),
            "unsupported signature scheme 0x001b",
        ),
        (
            SignatureError::UnsupportedHash(0x12),
            "unsupported hash algorithm 0x0012",
        ),
        (SignatureError::NotEcdsa, "not an ECDSA signature"),
        (
            SignatureError::EccLength(49),
            "ECDSA r or s of 49 bytes does not fit the curve",
        ),
    ] {
        assert_eq!(error.to_string(), text);
    }
}
