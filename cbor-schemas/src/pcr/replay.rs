//! Replay: what a PCR must be after a list of extends.

use sha2::block_api::compress256;

use super::{PcrError, extend, initial};
use crate::tpm::{Digest, HashAlg};

/// One PCR in `N` banks at once, on its way through a log.
///
/// The caller brings one digest per bank and extend, in the order of the banks; where they come
/// from (template data, a table of reference values) is not the replay's business. The same
/// algorithm may take part twice, to follow two readings of a log at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay<const N: usize> {
    pcr: u32,
    values: [Digest; N],
    count: u64,
}

impl<const N: usize> Replay<N> {
    /// Starts `pcr` at its value after a TPM reset.
    pub fn new(pcr: u32, banks: [HashAlg; N]) -> Self {
        Self::resume(pcr, 0, banks.map(|alg| initial(alg, pcr)))
    }

    /// Starts `pcr` at `values`, which are those after `count` extends.
    pub const fn resume(pcr: u32, count: u64, values: [Digest; N]) -> Self {
        Self { pcr, values, count }
    }

    /// The PCR.
    pub const fn pcr(&self) -> u32 {
        self.pcr
    }

    /// Extends so far.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Its values, in the order of the banks.
    pub const fn values(&self) -> &[Digest; N] {
        &self.values
    }

    /// Its value in bank `alg`.
    pub fn value(&self, alg: HashAlg) -> Option<&Digest> {
        self.values.iter().find(|value| value.alg() == alg)
    }

    /// Extends every bank by its digest. On an error nothing has changed.
    pub fn extend(&mut self, digests: &[Digest; N]) -> Result<(), PcrError> {
        let mut values = self.values;
        for (value, digest) in values.iter_mut().zip(digests) {
            *value = extend(value, digest)?;
        }
        self.values = values;
        self.count += 1;
        Ok(())
    }
}

/// SHA-256's initial state (FIPS 180-4, 5.3.3).
const IV: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// SHA-256's padding behind a message of 64 bytes (FIPS 180-4, 5.1.1).
const PADDING: [u8; 64] = {
    let mut block = [0; 64];
    block[0] = 0x80;
    block[62] = 0x02;
    block
};

/// Extends a SHA-256 PCR with `value` by each digest in turn; returns its value after the last.
///
/// The bare loop for long logs: two compressions an extend, and nothing else.
pub fn replay_sha256<'a>(
    value: [u8; 32],
    digests: impl IntoIterator<Item = &'a [u8; 32]>,
) -> [u8; 32] {
    let mut blocks = [[0; 64], PADDING];
    blocks[0][..32].copy_from_slice(&value);
    for digest in digests {
        blocks[0][32..].copy_from_slice(digest);
        let mut state = IV;
        compress256(&mut state, &blocks);
        for (bytes, word) in blocks[0].chunks_exact_mut(4).zip(state) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
    }
    let mut value = [0; 32];
    value.copy_from_slice(&blocks[0][..32]);
    value
}
