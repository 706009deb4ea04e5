//! One bank of PCRs.

use super::PcrError;
use crate::limits::PCR_COUNT;
use crate::tpm::{Digest, HashAlg, hash};

/// Value of a PCR after a TPM reset: all ones for the PCRs of a dynamic root of trust, 17 to 22,
/// else zero (PC Client Platform TPM Profile, 4.6). PCR 0 starts with the locality number if the
/// firmware started at locality 3 or 4; its event log says so.
pub const fn initial(alg: HashAlg, pcr: u32) -> Digest {
    match pcr {
        17..=22 => Digest::ones(alg),
        _ => Digest::zero(alg),
    }
}

/// Value of a PCR with `value` after `digest` was extended: `H(value || digest)`.
pub fn extend(value: &Digest, digest: &Digest) -> Result<Digest, PcrError> {
    let bank = value.alg();
    if digest.alg() != bank {
        return Err(PcrError::WrongBank {
            bank,
            digest: digest.alg(),
        });
    }
    Ok(hash(bank, &[value.as_bytes(), digest.as_bytes()]))
}

/// The values of all PCRs in one algorithm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrBank {
    alg: HashAlg,
    values: [Digest; PCR_COUNT],
}

impl PcrBank {
    /// The bank after a TPM reset.
    pub fn new(alg: HashAlg) -> Self {
        Self {
            alg,
            values: core::array::from_fn(|pcr| initial(alg, pcr as u32)),
        }
    }

    /// Its algorithm.
    pub const fn alg(&self) -> HashAlg {
        self.alg
    }

    /// Value of a PCR.
    pub fn get(&self, pcr: u32) -> Option<&Digest> {
        self.values.get(pcr as usize)
    }

    /// Sets a PCR, to its starting value or to one that a quote vouches for.
    pub fn set(&mut self, pcr: u32, value: Digest) -> Result<(), PcrError> {
        if value.alg() != self.alg {
            return Err(PcrError::WrongBank {
                bank: self.alg,
                digest: value.alg(),
            });
        }
        *self.slot(pcr)? = value;
        Ok(())
    }

    /// Extends a PCR.
    pub fn extend(&mut self, pcr: u32, digest: &Digest) -> Result<(), PcrError> {
        let slot = self.slot(pcr)?;
        *slot = extend(slot, digest)?;
        Ok(())
    }

    fn slot(&mut self, pcr: u32) -> Result<&mut Digest, PcrError> {
        self.values
            .get_mut(pcr as usize)
            .ok_or(PcrError::NoSuchPcr(pcr))
    }
}
