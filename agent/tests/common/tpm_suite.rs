//! What any implementation of [`Tpm`] must do, on a real swtpm, judged by tpm2-tools. Each has a test
//! binary of its own, which says how to connect.
//!
//! Tools: swtpm, swtpm-tools, tpm2-tools.

use super::common::interposer::{command_code, interpose, pcr_extend};
use super::common::{Swtpm, TempDir, run, split_tpm2b, tpm2b};
use super::connect;
use mote_agent::tpm::{
    HeldHandles, Identity, KeyKind, PcrSelection, Tpm, TpmAddress, TpmError, TpmOptions,
};
use mote_schemas::limits::MAX_EK_CERTIFICATE;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::process::Command;

const SHA1: u16 = 0x0004;
const SHA256: u16 = 0x000B;
const SHA384: u16 = 0x000C;
const SHA512: u16 = 0x000D;
const ECC: u16 = 0x0023;
const RSA: u16 = 0x0001;
/// PCRs 0 to 10 and 14.
const BOOT_AND_IMA: u32 = 0x47FF;

fn open(swtpm: &Swtpm, ek: KeyKind, ak: KeyKind) -> Box<dyn Tpm> {
    let address = swtpm.address();
    connect(TpmOptions { address, ek, ak }).unwrap()
}

fn sha256(mask: u32) -> [PcrSelection; 1] {
    [PcrSelection { bank: SHA256, mask }]
}

fn key_type(public: &[u8]) -> u16 {
    u16::from_be_bytes([public[0], public[1]])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").unwrap();
        out
    })
}

/// Name of an object whose nameAlg is SHA-256 (TPM 2.0 Library part 1, 16).
fn name(public: &[u8]) -> Vec<u8> {
    [&SHA256.to_be_bytes()[..], &Sha256::digest(public)].concat()
}

/// Lets tpm2-tools play the verifier; returns the contents of `TPM2B_ID_OBJECT` and
/// `TPM2B_ENCRYPTED_SECRET`.
fn make_credential(identity: &Identity, secret: &[u8]) -> (Vec<u8>, Vec<u8>) {
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

#[test]
fn a_quote_passes_tpm2_checkquote() {
    let swtpm = Swtpm::start();
    for pcr in [4, 10, 14] {
        swtpm.tool(
            "tpm2_pcrextend",
            &[format!("{pcr}:sha256={}", "5a".repeat(32))],
        );
    }
    let sha384 = PcrSelection {
        bank: SHA384,
        mask: 0b11,
    };
    let [sha256] = sha256(BOOT_AND_IMA);
    for selection in [&[sha256][..], &[sha384, sha256]] {
        for ak in [KeyKind::Ecc, KeyKind::Rsa] {
            let mut tpm = open(&swtpm, KeyKind::Auto, ak);
            let identity = tpm.identity().unwrap();
            let qualifying_data = Sha256::digest(b"a nonce").into();
            let quote = tpm.quote(selection, &qualifying_data).unwrap();
            let mut values = [0; 2 * 48 + 12 * 32];
            let size = tpm.read_pcrs(selection, &mut values).unwrap();

            // The last field of TPMS_ATTEST is the digest over just these values, in this order.
            let digest = Sha256::digest(&values[..size]);
            assert!(quote.attest.ends_with(&digest));

            let dir = TempDir::new("agent").unwrap();
            run(Command::new("tpm2_checkquote")
                .arg("-u")
                .arg(dir.write("ak", &tpm2b(&identity.ak)).unwrap())
                .arg("-m")
                .arg(dir.write("attest", &quote.attest).unwrap())
                .arg("-s")
                .arg(dir.write("signature", &quote.signature).unwrap())
                .arg("-f")
                .arg(
                    dir.write("pcrs", &as_tpm2_tools_keep_pcrs(selection, &values))
                        .unwrap(),
                )
                .args(["-q", &hex(&qualifying_data)]));
        }
    }
}

/// The format in which tpm2_quote writes PCR values: `TPML_PCR_SELECTION` and as many `TPML_DIGEST`
/// as needed, each as the C structure lies in memory.
fn as_tpm2_tools_keep_pcrs(selection: &[PcrSelection], values: &[u8]) -> Vec<u8> {
    let u32_bytes = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
    let mut out = u32_bytes(selection.len()).to_vec();
    let (mut digests, mut rest) = (Vec::new(), values);
    for bank in selection {
        out.extend(bank.bank.to_le_bytes());
        out.push(3);
        out.extend(bank.mask.to_le_bytes());
        out.push(0);
        let size = if bank.bank == SHA384 { 48 } else { 32 };
        for _ in 0..bank.mask.count_ones() {
            let (digest, after) = rest.split_at(size);
            digests.push(digest);
            rest = after;
        }
    }
    out.resize(4 + 16 * 8, 0);
    out.extend(u32_bytes(digests.chunks(8).len()));
    for list in digests.chunks(8) {
        let end = out.len() + 4 + 8 * (2 + 64);
        out.extend(u32_bytes(list.len()));
        for digest in list {
            out.extend(u16::try_from(digest.len()).unwrap().to_le_bytes());
            out.extend_from_slice(digest);
            out.resize(out.len() + 64 - digest.len(), 0);
        }
        out.resize(end, 0);
    }
    out
}

#[test]
fn pcr_values_are_those_of_tpm2_pcrread() {
    let swtpm = Swtpm::start();
    // Only a dynamic launch may extend 17 to 22.
    for pcr in (0..17).chain([23]) {
        swtpm.tool(
            "tpm2_pcrextend",
            &[format!(
                "{pcr}:sha1={},sha512={}",
                format!("{pcr:02x}").repeat(20),
                format!("{pcr:02x}").repeat(64)
            )],
        );
    }
    let banks = [
        ("sha512", SHA512, 64),
        ("sha1", SHA1, 20),
        ("sha384", SHA384, 48),
        ("sha256", SHA256, 32),
    ];
    let mut expected = Vec::new();
    for (name, ..) in banks {
        let out = swtpm.dir.join("pcrs");
        swtpm.tool(
            "tpm2_pcrread",
            &[&format!("{name}:all"), "-o", out.to_str().unwrap()],
        );
        expected.extend(std::fs::read(out).unwrap());
    }
    assert_eq!(expected.len(), 24 * (64 + 20 + 48 + 32));

    let mut tpm = open(&swtpm, KeyKind::Auto, KeyKind::Auto);
    let all = banks.map(|(_, bank, _)| PcrSelection {
        bank,
        mask: 0xFF_FFFF,
    });
    let mut values = vec![0xEE; expected.len() + 1];
    assert_eq!(tpm.read_pcrs(&all, &mut values).unwrap(), expected.len());
    assert_eq!(values[..expected.len()], expected);
    assert_eq!(values[expected.len()], 0xEE);

    // A few scattered ones: each value in its place.
    let some = all.map(|bank| PcrSelection {
        mask: 0x84_2102,
        ..bank
    });
    let size = tpm.read_pcrs(&some, &mut values).unwrap();
    let mut wanted = Vec::new();
    let mut bank_starts_at = 0;
    for (.., size) in banks {
        for pcr in [1, 8, 13, 18, 23] {
            wanted.extend_from_slice(&expected[bank_starts_at + pcr * size..][..size]);
        }
        bank_starts_at += 24 * size;
    }
    assert_eq!(values[..size], wanted);
}

/// `TPM_CC_PCR_Read`.
const PCR_READ: u32 = 0x17E;

#[test]
fn pcr_values_are_all_of_one_moment() {
    let swtpm = Swtpm::start();
    let mut reads = 0;
    // Nine PCRs take two reads; between them, one PCR of each read moves.
    let (address, _) = interpose(
        &swtpm.address(),
        Box::new(move |command| {
            reads += u32::from(command_code(command) == PCR_READ);
            if command_code(command) == PCR_READ && reads == 2 {
                vec![pcr_extend(1, [0xA5; 32]), pcr_extend(9, [0x5A; 32])]
            } else {
                Vec::new()
            }
        }),
    );
    let mut tpm = connect(TpmOptions {
        address,
        ..TpmOptions::default()
    })
    .unwrap();
    let mut out = [0; 9 * 32];
    assert_eq!(tpm.read_pcrs(&sha256(0x3FE), &mut out), Ok(9 * 32));
    let extended = |event: [u8; 32]| Sha256::digest([[0; 32], event].concat());
    assert_eq!(out[..32], *extended([0xA5; 32]));
    assert_eq!(out[8 * 32..], *extended([0x5A; 32]));
    assert_eq!(out[32..8 * 32], [0; 7 * 32]);
}

#[test]
fn pcrs_that_never_hold_still_are_reported() {
    let swtpm = Swtpm::start();
    let (address, _) = interpose(
        &swtpm.address(),
        Box::new(|command| {
            if command_code(command) == PCR_READ {
                vec![pcr_extend(1, [0xA5; 32])]
            } else {
                Vec::new()
            }
        }),
    );
    let mut tpm = connect(TpmOptions {
        address,
        ..TpmOptions::default()
    })
    .unwrap();
    let mut out = [0; 9 * 32];
    let error = tpm.read_pcrs(&sha256(0x3FE), &mut out).unwrap_err();
    assert_eq!(error, TpmError::PcrsMoving);
    // What fits one read cannot be torn.
    assert_eq!(tpm.read_pcrs(&sha256(0xFF), &mut out), Ok(8 * 32));
}

#[test]
fn selections_the_tpm_would_cut_short_are_refused() {
    // Only the SHA-256 bank is active.
    let swtpm = Swtpm::manufactured();
    let mut tpm = open(&swtpm, KeyKind::Auto, KeyKind::Auto);
    assert_eq!(
        *tpm.banks().unwrap(),
        [PcrSelection {
            bank: SHA256,
            mask: 0xFF_FFFF
        }]
    );
    let both = [
        PcrSelection {
            bank: SHA256,
            mask: 1,
        },
        PcrSelection {
            bank: SHA1,
            mask: 0x81,
        },
    ];
    let missing = TpmError::NoSuchPcr {
        bank: SHA1,
        missing: 0x81,
    };
    let twice = [both[0], both[0]];
    let mut out = [0; 256];
    for (selection, error) in [
        (&both[..], missing),
        (&twice, TpmError::BadSelection),
        (&sha256(0), TpmError::BadSelection),
        (&[], TpmError::BadSelection),
    ] {
        assert_eq!(tpm.quote(selection, &[7; 32]).unwrap_err(), error);
        assert_eq!(tpm.read_pcrs(selection, &mut out).unwrap_err(), error);
        assert_eq!(out, [0; 256]);
    }
    assert_eq!(
        tpm.read_pcrs(&sha256(0b111), &mut out[..95]).unwrap_err(),
        TpmError::TooLarge {
            what: "the selected PCRs",
            size: 96,
            limit: 95
        }
    );
}

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
