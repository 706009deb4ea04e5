//! The endorsement key's certificate in NV memory.

use super::super::common::{Swtpm, TempDir, run};
use super::{ECC, RSA, hex, key_type, open};
use mote_agent::tpm::{KeyKind, TpmError};
use mote_schemas::limits::MAX_EK_CERTIFICATE;
use std::process::Command;

#[test]
fn without_a_certificate_there_is_none() {
    let swtpm = Swtpm::start();
    for (ek, algorithm) in [
        (KeyKind::Auto, ECC),
        (KeyKind::Ecc, ECC),
        (KeyKind::Rsa, RSA),
    ] {
        let mut tpm = open(&swtpm, ek, KeyKind::Auto);
        assert_eq!(key_type(&tpm.identity().unwrap().ek), algorithm);
        assert_eq!(tpm.ek_certificate(&mut [0; 2048]).unwrap(), None);
    }
}

#[test]
fn the_certificate_is_that_of_the_endorsement_key() {
    let swtpm = Swtpm::manufactured();
    // It has an RSA certificate, and one for ECC P-384, which is not the default template's.
    let mut tpm = open(&swtpm, KeyKind::Auto, KeyKind::Auto);
    let ek = tpm.identity().unwrap().ek;
    assert_eq!(key_type(&ek), RSA);
    let mut out = [0xEE; MAX_EK_CERTIFICATE];
    let size = tpm.ek_certificate(&mut out).unwrap().unwrap();
    let certificate = &out[..size];
    assert!(out[size..].iter().all(|byte| *byte == 0xEE));

    // An independent reader takes it, whole, and it is about this very key.
    let dir = TempDir::new("agent").unwrap();
    let der = dir.write("ek.der", certificate).unwrap();
    let text = run(Command::new("openssl")
        .args(["x509", "-inform", "der", "-noout", "-modulus", "-in"])
        .arg(der));
    let modulus = hex(&ek[ek.len() - 256..]).to_uppercase();
    assert_eq!(
        String::from_utf8(text).unwrap().trim(),
        format!("Modulus={modulus}")
    );

    for limit in [0, 3, 100, size - 1] {
        let error = tpm.ek_certificate(&mut out[..limit]).unwrap_err();
        assert!(
            matches!(error, TpmError::TooLarge { limit: at, .. } if at == limit),
            "{error:?}"
        );
    }
    assert_eq!(tpm.ek_certificate(&mut out[..size]).unwrap(), Some(size));
    // The other endorsement key has no certificate that we could take for its own.
    let mut tpm = {
        drop(tpm);
        open(&swtpm, KeyKind::Ecc, KeyKind::Auto)
    };
    assert_eq!(tpm.ek_certificate(&mut out).unwrap(), None);
}

#[test]
fn garbage_in_the_certificates_place_is_no_certificate() {
    let swtpm = Swtpm::start();
    let dir = TempDir::new("agent").unwrap();
    for content in [&[0xFF; 700][..], &[0x30, 0x82, 0x7F, 0xFF, 0], b"0", b""] {
        let size = content.len().max(1).to_string();
        // The range is the platform's (TCG Registry of Reserved TPM 2.0 Handles).
        swtpm.tool(
            "tpm2_nvdefine",
            &[
                "0x1c0000a",
                "-C",
                "p",
                "-s",
                &size,
                "-a",
                "ppwrite|ppread|ownerread|authread|no_da|platformcreate",
            ],
        );
        if !content.is_empty() {
            let file = dir.write("content", content).unwrap();
            swtpm.tool(
                "tpm2_nvwrite",
                &["0x1c0000a", "-C", "p", "-i", file.to_str().unwrap()],
            );
        }
        let mut tpm = open(&swtpm, KeyKind::Ecc, KeyKind::Auto);
        assert_eq!(tpm.ek_certificate(&mut [0; 2048]).unwrap(), None);
        drop(tpm);
        swtpm.tool("tpm2_nvundefine", &["0x1c0000a", "-C", "p"]);
    }
}
