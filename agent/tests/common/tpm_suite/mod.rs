//! What any implementation of [`Tpm`] must do, on a real swtpm, judged by tpm2-tools. Each has a test
//! binary of its own, which says how to connect.
//!
//! Tools: swtpm, swtpm-tools, tpm2-tools.

mod certificate;
mod connection;
mod credentials;
mod pcrs;

use super::common::Swtpm;
use super::connect;
use mote_agent::tpm::{KeyKind, PcrSelection, Tpm, TpmOptions};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

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
