//! PCR values: initial value, extend, replay, and the composite digest that a quote signs
//! (TPM 2.0 Library, part 1, 17; PC Client Platform TPM Profile, 4.6).
//!
//! All of it is arithmetic on what a peer claims. It becomes evidence when the outcome equals the
//! `pcrDigest` of a quote whose signature holds.

mod bank;
mod composite;
mod replay;

pub use bank::{PcrBank, extend, initial};
pub use composite::PcrValues;
pub use replay::{Replay, replay_sha256};

use core::fmt;

use crate::tpm::HashAlg;

/// Values that do not belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PcrError {
    /// A digest of another algorithm than the bank's.
    WrongBank {
        /// The bank.
        bank: HashAlg,
        /// The digest's algorithm.
        digest: HashAlg,
    },
    /// No such PCR.
    NoSuchPcr(u32),
    /// The values' total length is not that of the selection, in bytes.
    Length {
        /// Length given.
        len: usize,
        /// Length of the selected PCRs.
        expected: usize,
    },
}

impl fmt::Display for PcrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongBank { bank, digest } => write!(f, "{digest} digest for the {bank} bank"),
            Self::NoSuchPcr(n) => write!(f, "PCR {n} does not exist"),
            Self::Length { len, expected } => {
                write!(f, "{len} bytes of PCR values, expected {expected}")
            }
        }
    }
}

impl core::error::Error for PcrError {}
