//! What a PCR selection means, whichever way the TPM is reached: what it may ask for, and where each
//! value belongs.

use heapless::Vec;
use mote_schemas::limits::MAX_PCR_BANKS;
use mote_schemas::tpm::HashAlg;

use super::{PcrSelection, TpmError};

/// Banks of hashes known here, at most: SHA-1, SHA-256, SHA-384 and SHA-512.
pub(super) type Banks = Vec<PcrSelection, 4>;

/// How often a set of PCRs is read anew because some changed meanwhile.
pub(super) const ATTEMPTS: u32 = 8;

/// Refuses what the TPM, which has `banks`, would leave out of a quote without a word.
pub(super) fn check(selection: &[PcrSelection], banks: &[PcrSelection]) -> Result<(), TpmError> {
    for (at, wanted) in selection.iter().enumerate() {
        let twice = selection[..at]
            .iter()
            .any(|other| other.bank == wanted.bank);
        if twice || wanted.mask == 0 {
            return Err(TpmError::BadSelection);
        }
        let present = banks
            .iter()
            .find(|bank| bank.bank == wanted.bank)
            .map_or(0, |bank| bank.mask);
        let missing = wanted.mask & !present;
        if missing != 0 {
            return Err(TpmError::NoSuchPcr {
                bank: wanted.bank,
                missing,
            });
        }
    }
    if selection.is_empty() || selection.len() > MAX_PCR_BANKS {
        return Err(TpmError::BadSelection);
    }
    Ok(())
}

/// Bytes of one PCR of a bank; 0 for a hash that is not known here.
pub(super) fn digest_size(bank: u16) -> usize {
    HashAlg::from_u16(bank).map_or(0, HashAlg::digest_len)
}

/// The part of `out` that the values of the selection fill.
pub(super) fn room<'o>(
    selection: &[PcrSelection],
    out: &'o mut [u8],
) -> Result<&'o mut [u8], TpmError> {
    let size = selection
        .iter()
        .map(|bank| bank.mask.count_ones() as usize * digest_size(bank.bank))
        .sum();
    let limit = out.len();
    out.get_mut(..size).ok_or(TpmError::TooLarge {
        what: "the selected PCRs",
        size,
        limit,
    })
}

/// Where the value of a PCR belongs in `out`; `None` when it was not asked for.
pub(super) fn slot<'o>(
    selection: &[PcrSelection],
    bank: u16,
    pcr: u32,
    out: &'o mut [u8],
) -> Option<&'o mut [u8]> {
    let mut at = 0;
    for wanted in selection {
        let size = digest_size(wanted.bank);
        if wanted.bank == bank {
            if wanted.mask & (1 << pcr) == 0 {
                return None;
            }
            at += (wanted.mask & ((1 << pcr) - 1)).count_ones() as usize * size;
            return out.get_mut(at..at + size);
        }
        at += wanted.mask.count_ones() as usize * size;
    }
    None
}
