//! Quotes, and the PCR values under them, against `tpm2_checkquote` and `tpm2_pcrread`.

use super::super::common::interposer::{command_code, interpose, pcr_extend};
use super::super::common::{Swtpm, TempDir, run, tpm2b};
use super::super::connect;
use super::{BOOT_AND_IMA, SHA1, SHA256, SHA384, SHA512, hex, open, sha256};
use mote_agent::tpm::{KeyKind, PcrSelection, TpmError, TpmOptions};
use sha2::{Digest as _, Sha256};
use std::process::Command;

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
