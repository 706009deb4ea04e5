//! PCR banks: TPM 2.0 part 2, 6.3 (`TPM_ALG_ID`), and how a kernel extends each.

use sha1::{Digest, Sha1};
use sha2::{Sha256, Sha384, Sha512};

/// A PCR bank that libtpms can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bank {
    /// `TPM_ALG_SHA1`
    Sha1,
    /// `TPM_ALG_SHA256`
    Sha256,
    /// `TPM_ALG_SHA384`
    Sha384,
    /// `TPM_ALG_SHA512`
    Sha512,
}

impl Bank {
    /// Every bank, in the order of their algorithm identifiers.
    pub const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The bank with this `TPM_ALG_ID`.
    pub fn from_alg(alg: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|bank| bank.alg() == alg)
    }

    /// The bank with this name, as in `pcrs.txt` and tpm2-tools: `sha256`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bank| bank.name() == name)
    }

    /// `TPM_ALG_ID`.
    pub fn alg(self) -> u16 {
        match self {
            Self::Sha1 => 0x0004,
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
            Self::Sha512 => 0x000d,
        }
    }

    /// The kernel's and tpm2-tools' name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Digest length in bytes.
    pub fn size(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The digest of `data` in this bank's algorithm.
    pub fn digest(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => Sha1::digest(data).to_vec(),
            Self::Sha256 => Sha256::digest(data).to_vec(),
            Self::Sha384 => Sha384::digest(data).to_vec(),
            Self::Sha512 => Sha512::digest(data).to_vec(),
        }
    }

    /// The value after `digest` is extended into a PCR that holds `pcr`: TPM 2.0 part 1, 17.
    pub fn extend(self, pcr: &[u8], digest: &[u8]) -> Vec<u8> {
        self.digest(&[pcr, digest].concat())
    }

    /// What the recorded kernel extends for a record with this template data. SHA-384 and SHA-512
    /// were modules there, not loaded when IMA started: it then pads the SHA-1 digest with zeros
    /// (Linux 6.1, `ima_calc_field_array_hash`), and `pcrs.txt` bears that out.
    pub fn template_digest(self, template_data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 | Self::Sha256 => self.digest(template_data),
            Self::Sha384 | Self::Sha512 => {
                let mut padded = Self::Sha1.digest(template_data);
                padded.resize(self.size(), 0);
                padded
            }
        }
    }
}
