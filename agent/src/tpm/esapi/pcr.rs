//! PCR selections in the library's form, and reading PCRs (TPM 2.0 Library part 3, 22.4).

use tss_esapi::structures::{CapabilityData, PcrSelectionList};
use tss_esapi::tss2_esys::{TPML_PCR_SELECTION, TPMS_PCR_SELECTION};
use tss_esapi::{Context, constants::CapabilityType};

use super::fault::during;
use crate::tpm::connection::Fault;
use crate::tpm::selection::{ATTEMPTS, Banks, digest_size, room, slot};
use crate::tpm::{PcrSelection, TpmError};

/// `TPM2_GetCapability(TPM_CAP_PCRS)`: the banks of hashes known here that have PCRs.
pub(super) fn banks(context: &mut Context) -> Result<Banks, Fault> {
    let (data, _) = context
        .get_capability(CapabilityType::AssignedPcr, 0, 1)
        .map_err(during("TPM2_GetCapability"))?;
    let CapabilityData::AssignedPcr(list) = data else {
        return Ok(Banks::new());
    };
    let banks = from_list(list).into_iter();
    Ok(banks.take(Banks::new().capacity()).collect())
}

/// The library's builder keeps banks in a hash map and so in random order; the order is part of
/// what is quoted.
pub(super) fn to_list(selection: &[PcrSelection]) -> Result<PcrSelectionList, Fault> {
    let mut list = TPML_PCR_SELECTION::default();
    for (slot, bank) in list.pcrSelections.iter_mut().zip(selection) {
        *slot = TPMS_PCR_SELECTION {
            hash: bank.bank,
            // PC Client Platform TPM Profile: 24 PCRs.
            sizeofSelect: 3,
            pcrSelect: bank.mask.to_le_bytes(),
        };
        list.count += 1;
    }
    PcrSelectionList::try_from(list).map_err(during("selecting PCRs"))
}

fn from_list(list: PcrSelectionList) -> Vec<PcrSelection> {
    let list = TPML_PCR_SELECTION::from(list);
    list.pcrSelections
        .iter()
        .take(list.count as usize)
        .map(|bank| PcrSelection {
            bank: bank.hash,
            mask: u32::from_le_bytes(bank.pcrSelect) & 0xFF_FFFF,
        })
        .filter(|bank| bank.mask != 0 && digest_size(bank.bank) != 0)
        .collect()
}

/// Copies the values of the selected PCRs into `out`, all of one moment; returns their length.
pub(super) fn read(
    context: &mut Context,
    selection: &[PcrSelection],
    out: &mut [u8],
) -> Result<usize, Fault> {
    let out = room(selection, out)?;
    let size = out.len();
    for _ in 0..ATTEMPTS {
        if read_once(context, selection, out)? {
            return Ok(size);
        }
    }
    Err(TpmError::PcrsMoving.into())
}

/// One pass; false when PCRs changed during it. A TPM returns at most 8 values at a time, with a
/// counter of PCR changes, and says which PCRs they are.
fn read_once(
    context: &mut Context,
    selection: &[PcrSelection],
    out: &mut [u8],
) -> Result<bool, Fault> {
    let mut remaining = selection.to_vec();
    let mut started_at = None;
    while remaining.iter().any(|bank| bank.mask != 0) {
        let asked: Vec<_> = remaining.iter().copied().filter(|b| b.mask != 0).collect();
        let (counter, read, values) = context
            .pcr_read(to_list(&asked)?)
            .map_err(during("TPM2_PCR_Read"))?;
        if *started_at.get_or_insert(counter) != counter {
            return Ok(false);
        }
        let mut values = values.value().iter();
        let mut progress = false;
        for bank in from_list(read) {
            let pcrs = (0..24).filter(|pcr| bank.mask & (1 << pcr) != 0);
            // The PCRs come first, so that a bank without any left takes no value.
            for (pcr, value) in pcrs.zip(values.by_ref()) {
                let slot = slot(selection, bank.bank, pcr, out);
                match slot {
                    Some(slot) if slot.len() == value.value().len() => {
                        slot.copy_from_slice(value.value());
                    }
                    _ => return Err(unasked()),
                }
                for left in remaining.iter_mut().filter(|left| left.bank == bank.bank) {
                    left.mask &= !(1 << pcr);
                }
                progress = true;
            }
        }
        if !progress {
            return Err(unasked());
        }
    }
    Ok(true)
}

fn unasked() -> Fault {
    TpmError::Response {
        command: "TPM2_PCR_Read",
        code: 0,
        text: "the TPM returned other PCRs than those asked for".to_owned(),
    }
    .into()
}
