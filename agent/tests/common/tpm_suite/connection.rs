//! Resets, a TPM that goes away, one that never was there, and what else may come in between.

use super::super::common::Swtpm;
use super::super::connect;
use super::credentials::make_credential;
use super::{open, sha256};
use mote_agent::tpm::{KeyKind, TpmAddress, TpmError, TpmOptions};

#[test]
fn the_keys_outlive_a_reset_and_differ_between_tpms() {
    let mut swtpm = Swtpm::start();
    let first = open(&swtpm, KeyKind::Ecc, KeyKind::Ecc).identity().unwrap();
    swtpm.restart();
    let second = open(&swtpm, KeyKind::Ecc, KeyKind::Ecc).identity().unwrap();
    assert_eq!(first, second);
    let rsa = open(&swtpm, KeyKind::Rsa, KeyKind::Rsa).identity().unwrap();
    swtpm.restart();
    assert_eq!(
        rsa,
        open(&swtpm, KeyKind::Rsa, KeyKind::Rsa).identity().unwrap()
    );

    let other = open(&Swtpm::start(), KeyKind::Ecc, KeyKind::Ecc)
        .identity()
        .unwrap();
    assert_ne!(first.ek, other.ek);
    assert_ne!(first.ak, other.ak);
}

#[test]
fn a_reset_of_the_tpm_goes_unnoticed_by_the_caller() {
    let mut swtpm = Swtpm::start();
    let mut tpm = open(&swtpm, KeyKind::Auto, KeyKind::Auto);
    let identity = tpm.identity().unwrap();
    tpm.quote(&sha256(1), &[1; 32]).unwrap();
    swtpm.restart();
    let quote = tpm.quote(&sha256(1), &[2; 32]).unwrap();
    assert!(!quote.signature.is_empty());
    swtpm.restart();
    assert_eq!(tpm.identity().unwrap(), identity);
    let (blob, encrypted) = make_credential(&identity, b"secret");
    swtpm.restart();
    let released = tpm.activate_credential(&blob, &encrypted).unwrap();
    assert_eq!(released.as_bytes(), b"secret");
}

#[test]
fn a_tpm_that_went_away_is_named_with_what_to_do() {
    let mut swtpm = Swtpm::start();
    let TpmAddress::Swtpm { host, port } = swtpm.address() else {
        panic!("an address of swtpm");
    };
    let mut tpm = open(&swtpm, KeyKind::Auto, KeyKind::Auto);
    tpm.identity().unwrap();
    swtpm.power_off();
    let gone = TpmError::NoSimulator { host, port };
    assert_eq!(tpm.quote(&sha256(1), &[1; 32]).unwrap_err(), gone);
    assert_eq!(tpm.identity().unwrap_err(), gone);
    assert!(gone.to_string().contains("start `swtpm socket --tpm2"));
    swtpm.restart();
    tpm.identity().unwrap();
}

#[test]
fn a_missing_device_is_named_with_what_to_do() {
    for path in [
        "/dev/tpmrm99",
        "/dev/null/tpm",
        "/nowhere/tpm",
        "/etc/hostname",
    ] {
        let options = TpmOptions {
            address: format!("device:{path}").parse().unwrap(),
            ..TpmOptions::default()
        };
        let error = connect(options).err().unwrap();
        let path = path.to_owned();
        assert_eq!(error, TpmError::NoDevice { path });
        assert!(error.to_string().contains("is tpm_tis or tpm_crb loaded"));
    }
}

#[test]
fn an_endorsement_hierarchy_with_a_password_is_named() {
    let swtpm = Swtpm::start();
    swtpm.tool("tpm2_changeauth", &["-c", "endorsement", "password"]);
    let mut tpm = open(&swtpm, KeyKind::Auto, KeyKind::Auto);
    assert_eq!(tpm.identity().unwrap_err(), TpmError::EndorsementLocked);
    assert_eq!(
        tpm.quote(&sha256(1), &[0; 32]).unwrap_err(),
        TpmError::EndorsementLocked
    );
}

#[test]
fn random_bytes_fill_the_buffer() {
    let swtpm = Swtpm::start();
    let mut tpm = open(&swtpm, KeyKind::Auto, KeyKind::Auto);
    let (mut a, mut b) = ([0; 100], [0; 100]);
    tpm.random(&mut a).unwrap();
    tpm.random(&mut b).unwrap();
    assert_ne!(a, b);
    // 10 zero octets at the end by chance: once in 2^80.
    assert_ne!(a[90..], [0; 10]);
    tpm.random(&mut []).unwrap();
}
