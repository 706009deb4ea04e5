//! The values under a quote.

use super::PcrError;
use crate::tpm::{Digest, HashAlg, Hasher, PcrSelection};

/// The values of selected PCRs, one behind the other in the order in which the TPM hashes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcrValues<'a> {
    selection: PcrSelection,
    bytes: &'a [u8],
}

impl<'a> PcrValues<'a> {
    /// Takes `bytes` for the values of `selection`; only their length is checked.
    pub fn new(selection: PcrSelection, bytes: &'a [u8]) -> Result<Self, PcrError> {
        let expected = selection.iter().map(|(alg, _)| alg.digest_len()).sum();
        if bytes.len() != expected {
            return Err(PcrError::Length {
                len: bytes.len(),
                expected,
            });
        }
        Ok(Self { selection, bytes })
    }

    /// The PCRs.
    pub const fn selection(&self) -> &PcrSelection {
        &self.selection
    }

    /// Their values, one behind the other.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Each PCR with its value.
    pub fn iter(&self) -> impl Iterator<Item = (u32, Digest)> {
        let mut rest = self.bytes;
        self.selection.iter().filter_map(move |(alg, pcr)| {
            // `new` checked the total, so no PCR is left out.
            let (value, tail) = rest.split_at_checked(alg.digest_len())?;
            rest = tail;
            Some((pcr, Digest::new(alg, value)?))
        })
    }

    /// Value of `pcr` in bank `alg`, if selected.
    pub fn get(&self, alg: HashAlg, pcr: u32) -> Option<Digest> {
        self.iter()
            .find(|(n, value)| *n == pcr && value.alg() == alg)
            .map(|(_, value)| value)
    }

    /// The `pcrDigest` of a quote over these values: their concatenation, hashed with the hash of
    /// the *signing scheme* (TPM 2.0 Library, part 3, `TPM2_Quote`).
    pub fn digest(&self, scheme_hash: HashAlg) -> Digest {
        let mut hasher = Hasher::new(scheme_hash);
        hasher.update(self.bytes);
        hasher.finish()
    }

    /// The `pcrDigest` if `pcr` had `value` in that value's bank, and all others theirs. The same
    /// as [`Self::digest`] if that PCR is not selected.
    pub fn digest_with(&self, scheme_hash: HashAlg, pcr: u32, value: &Digest) -> Digest {
        let mut hasher = Hasher::new(scheme_hash);
        for (n, own) in self.iter() {
            let replaced = n == pcr && own.alg() == value.alg();
            hasher.update(if replaced { value } else { &own }.as_bytes());
        }
        hasher.finish()
    }
}
