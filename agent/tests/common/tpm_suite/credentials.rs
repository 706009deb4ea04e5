//! The two keys and the proof that they live in one TPM: `TPM2_ActivateCredential`, which tpm2-tools make the
//! challenge for.

use super::super::common::interposer::interpose;
use super::super::common::{Swtpm, TempDir, run, split_tpm2b, tpm2b};
use super::super::connect;
use super::{ECC, RSA, hex, key_type, name, open, sha256};
use mote_agent::tpm::{HeldHandles, Identity, KeyKind, TpmError, TpmOptions};
use std::process::Command;

/// Lets tpm2-tools play the verifier; returns the contents of `TPM2B_ID_OBJECT` and
/// `TPM2B_ENCRYPTED_SECRET`.
pub(super) fn make_credential(identity: &Identity, secret: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let dir = TempDir::new("agent").unwrap();
    let ek = dir.write("ek", &tpm2b(&identity.ek)).unwrap();
    let secret = dir.write("secret", secret).unwrap();
    let out = dir.join("credential");
    let name = hex(&name(&identity.ak));
    run(Command::new("tpm2_makecredential").args([
        "-T",
        "none",
        "-u",
        ek.to_str().unwrap(),
        "-s",
        secret.to_str().unwrap(),
        "-n",
        &name,
        "-o",
        out.to_str().unwrap(),
    ]));
    let file = std::fs::read(out).unwrap();
    assert_eq!(file[..8], [0xBA, 0xDC, 0xC0, 0xDE, 0, 0, 0, 1]);
    let (blob, rest) = split_tpm2b(&file[8..]);
    let (encrypted, rest) = split_tpm2b(rest);
    assert_eq!(rest, b"");
    (blob.to_vec(), encrypted.to_vec())
}

#[test]
fn a_credential_made_for_the_two_keys_is_activated() {
    let swtpm = Swtpm::start();
    let secret = *b"the secret of thirty-two octets!";
    for (ek, ek_type) in [(KeyKind::Ecc, ECC), (KeyKind::Rsa, RSA)] {
        for (ak, ak_type) in [(KeyKind::Ecc, ECC), (KeyKind::Rsa, RSA)] {
            let mut tpm = open(&swtpm, ek, ak);
            let identity = tpm.identity().unwrap();
            assert_eq!(key_type(&identity.ek), ek_type);
            assert_eq!(key_type(&identity.ak), ak_type);
            let (blob, encrypted) = make_credential(&identity, &secret);
            let released = tpm.activate_credential(&blob, &encrypted).unwrap();
            assert_eq!(released.as_bytes(), secret);
            assert_eq!(format!("{released:?}"), "Secret(32 bytes)");
        }
    }
}

#[test]
fn a_credential_for_other_keys_is_refused() {
    let swtpm = Swtpm::start();
    let other = Swtpm::start();
    for ek in [KeyKind::Ecc, KeyKind::Rsa] {
        let mut tpm = open(&swtpm, ek, KeyKind::Ecc);
        let identity = tpm.identity().unwrap();
        let strangers = open(&other, ek, KeyKind::Ecc).identity().unwrap();
        let (blob, encrypted) = make_credential(&identity, b"secret");

        let others_ak = Identity {
            ak: strangers.ak.clone(),
            ..identity.clone()
        };
        let (other_blob, other_encrypted) = make_credential(&others_ak, b"secret");
        let error = tpm.activate_credential(&other_blob, &other_encrypted);
        assert_eq!(error.unwrap_err(), TpmError::WrongCredential);

        let (other_blob, other_encrypted) = make_credential(&strangers, b"secret");
        let error = tpm.activate_credential(&other_blob, &other_encrypted);
        assert_eq!(error.unwrap_err(), TpmError::WrongCredential);

        for at in [2, blob.len() - 1] {
            let mut altered = blob.clone();
            altered[at] ^= 1;
            let error = tpm.activate_credential(&altered, &encrypted);
            assert_eq!(error.unwrap_err(), TpmError::WrongCredential, "byte {at}");
        }
        for (blob, encrypted) in [
            (&blob[..10], &encrypted[..]),
            (&[], &encrypted),
            (&blob, &encrypted[..20]),
            (&blob, &[]),
            (&[0x55; 4096], &encrypted),
            (&blob, &[0x55; 4096]),
        ] {
            let error = tpm.activate_credential(blob, encrypted).unwrap_err();
            assert!(
                matches!(
                    error,
                    TpmError::MalformedCredential | TpmError::WrongCredential
                ),
                "{error:?}"
            );
        }
        // None of that keeps the right one from working.
        let released = tpm.activate_credential(&blob, &encrypted).unwrap();
        assert_eq!(released.as_bytes(), b"secret");
    }
}

#[test]
fn the_activated_secret_does_not_cross_the_bus_in_the_clear() {
    let swtpm = Swtpm::start();
    for ek in [KeyKind::Ecc, KeyKind::Rsa] {
        let (address, bus) = interpose(&swtpm.address(), Box::new(|_| Vec::new()));
        let mut tpm = connect(TpmOptions {
            address,
            ek,
            ..TpmOptions::default()
        })
        .unwrap();
        let (blob, encrypted) = make_credential(&tpm.identity().unwrap(), b"not for the bus");
        let released = tpm.activate_credential(&blob, &encrypted).unwrap();
        assert_eq!(released.as_bytes(), b"not for the bus");
        drop(tpm);
        let bus = bus.lock().unwrap();
        let crosses = |what: &[u8]| bus.windows(what.len()).any(|heard| heard == what);
        assert!(crosses(&blob), "the bus was not listened to");
        assert!(!crosses(b"not for the bus"));
    }
}

#[test]
fn no_call_leaves_a_handle_behind() {
    let swtpm = Swtpm::start();
    let only_the_ak = HeldHandles {
        objects: 1,
        sessions: 0,
    };
    for ek in [KeyKind::Ecc, KeyKind::Rsa] {
        let mut tpm = open(&swtpm, ek, KeyKind::Auto);
        let nothing = HeldHandles {
            objects: 0,
            sessions: 0,
        };
        assert_eq!(tpm.held_handles().unwrap(), nothing);
        let identity = tpm.identity().unwrap();
        assert_eq!(tpm.held_handles().unwrap(), only_the_ak);
        let (blob, encrypted) = make_credential(&identity, b"secret");
        let mut altered = blob.clone();
        altered[5] ^= 0x80;
        for round in 0..8 {
            // A TPM has room for three of either kind.
            tpm.activate_credential(&blob, &encrypted).unwrap();
            tpm.activate_credential(&altered, &encrypted).unwrap_err();
            tpm.activate_credential(&blob, &encrypted[1..]).unwrap_err();
            tpm.activate_credential(&blob, &[0; 4096]).unwrap_err();
            tpm.quote(&sha256(1), &[round; 32]).unwrap();
            tpm.quote(&sha256(0), &[round; 32]).unwrap_err();
            tpm.read_pcrs(&sha256(1), &mut [0; 32]).unwrap();
            tpm.read_pcrs(&sha256(1), &mut [0; 31]).unwrap_err();
            tpm.ek_certificate(&mut []).unwrap();
            assert_eq!(tpm.held_handles().unwrap(), only_the_ak);
        }
    }
    // And the connection leaves nothing either.
    let handles = swtpm.tool("tpm2_getcap", &["handles-transient"]);
    assert_eq!(String::from_utf8_lossy(&handles), "");
    let handles = swtpm.tool("tpm2_getcap", &["handles-loaded-session"]);
    assert_eq!(String::from_utf8_lossy(&handles), "");
}
