//! The soft TPM against the verifier that it is to be believed by.

use mote_schemas::tpm::Public;
use mote_verifier::credential::EndorsementKey;
use mote_verifier::quote::VerifiedQuote;
use mote_verifier::signature::VerifyingKey;

use super::*;

const PCR10: &[PcrSelection] = &[PcrSelection {
    bank: 0x000b,
    mask: 1 << 10,
}];

#[test]
fn opens_only_credentials_made_for_its_own_two_keys() {
    let mut tpm = SoftTpm::new(1);
    let make = |ek: &[u8], ak: &[u8]| {
        let ek = EndorsementKey::new(&Public::parse(ek).unwrap()).unwrap();
        let ak = Public::parse(ak).unwrap();
        ek.make_credential(&ak.name(), b"sixteen or so").unwrap()
    };
    let good = make(tpm.ek_public(), tpm.ak_public());
    let secret = tpm.activate_credential(&good.blob, &good.encrypted_secret);
    assert_eq!(secret.unwrap().as_bytes(), b"sixteen or so");

    let other = SoftTpm::new(2);
    for (ek, ak) in [
        (tpm.ek_public(), other.ak_public()),
        (other.ek_public(), tpm.ak_public()),
    ] {
        let foreign = make(ek, ak);
        let secret = tpm
            .clone()
            .activate_credential(&foreign.blob, &foreign.encrypted_secret);
        assert_eq!(secret.unwrap_err(), TpmError::WrongCredential);
    }
}

#[test]
fn the_verifier_accepts_its_quotes_and_sees_its_clock_and_pcrs() {
    let mut tpm = SoftTpm::new(3);
    tpm.extend(10, |alg| Some(vec![7; alg.digest_len()]));
    tpm.reboot();
    tpm.extend(10, |alg| Some(vec![9; alg.digest_len()]));
    tpm.resume();
    tpm.advance(500);
    let quote = tpm.quote(PCR10, &[5; 32]).unwrap();
    let public = tpm.ak_public().to_vec();
    let key = VerifyingKey::new(&Public::parse(&public).unwrap()).unwrap();
    let verified =
        VerifiedQuote::verify(&quote.attest, &quote.signature, &key, &[5; 32], None).unwrap();
    let clock = verified.clock_info();
    assert_eq!((clock.clock, clock.safe), (1500, true));
    assert_eq!((clock.reset_count, clock.restart_count), (1, 1));
    let expected = hash(HashAlg::Sha256, &[&[0; 32], &[9; 32]]);
    assert_eq!(tpm.pcr(HashAlg::Sha256, 10), Some(&expected[..]));
}

#[test]
fn the_seed_decides_everything() {
    let run = |seed| {
        let mut tpm = SoftTpm::new(seed);
        let mut random = [0; 40];
        tpm.random(&mut random).unwrap();
        (
            tpm.identity().unwrap(),
            tpm.quote(PCR10, &[1; 32]).unwrap(),
            random,
        )
    };
    assert_eq!(run(4), run(4));
    assert_ne!(run(4), run(5));
}

#[test]
fn a_bank_that_it_does_not_have_is_an_error_not_an_omission() {
    let mut tpm = SoftTpm::with_banks(6, &[HashAlg::Sha256]);
    let sha1 = PcrSelection {
        bank: 0x0004,
        mask: 1,
    };
    let error = tpm.quote(&[PCR10[0], sha1], &[0; 32]).unwrap_err();
    assert_eq!(
        error,
        TpmError::NoSuchPcr {
            bank: 0x0004,
            missing: 1
        }
    );
}
