//! PCR selections on the wire, and reading PCRs (TPM 2.0 Library part 3, 22.4).

use heapless::Vec;
use mote_schemas::tpm::{EncodeError, Reader, WireError, Writer};

use super::chip::{Chip, Command, command};
use super::commands::malformed;
use super::frame::Authorization;
use crate::tpm::connection::{Fault, nonsense};
use crate::tpm::selection::{ATTEMPTS, Banks, digest_size, room, slot};
use crate::tpm::{PcrSelection, TpmError};

const PCR_READ: Command = command("TPM2_PCR_Read", 0x17E);
const TPM_CAP_PCRS: u32 = 0x0000_0005;

/// Most digests of one `TPML_DIGEST` (part 2, 10.9.7).
const MAX_DIGESTS: u32 = 8;

/// `TPM2_GetCapability(TPM_CAP_PCRS)`: the banks of hashes known here that have PCRs.
pub(super) fn banks(chip: &mut Chip) -> Result<Banks, Fault> {
    let mut data = chip.known_capability(TPM_CAP_PCRS, 0, 1)?;
    read_selection(&mut data).map_err(malformed(&PCR_READ))
}

/// `TPML_PCR_SELECTION`, three octets each: a PC Client TPM has 24 PCRs.
pub(super) fn write_selection(
    selection: &[PcrSelection],
    out: &mut Writer<'_>,
) -> Result<(), EncodeError> {
    out.u32(selection.len() as u32)?;
    for bank in selection {
        out.u16(bank.bank)?;
        out.u8(3)?;
        out.bytes(&bank.mask.to_le_bytes()[..3])?;
    }
    Ok(())
}

/// The same, without banks that have no PCR or a hash unknown here.
fn read_selection(data: &mut Reader<'_>) -> Result<Banks, WireError> {
    let mut banks = Vec::new();
    for _ in 0..data.u32()? {
        let bank = data.u16()?;
        let octets = usize::from(data.u8()?);
        let mask = data.bytes(octets)?.iter().take(3).rev();
        let mask = mask.fold(0, |mask, octet| mask << 8 | u32::from(*octet));
        if mask != 0 && digest_size(bank) != 0 {
            // A TPM lists each bank once.
            let _ = banks.push(PcrSelection { bank, mask });
        }
    }
    Ok(banks)
}

/// Copies the values of the selected PCRs into `out`, all of one moment; returns their length.
pub(super) fn read(
    chip: &mut Chip,
    selection: &[PcrSelection],
    out: &mut [u8],
) -> Result<usize, Fault> {
    let out = room(selection, out)?;
    for _ in 0..ATTEMPTS {
        if read_once(chip, selection, out)? {
            return Ok(out.len());
        }
    }
    Err(TpmError::PcrsMoving.into())
}

/// A TPM returns eight values at most: reads on until all are there. False when a PCR changed
/// meanwhile, as the update counter tells.
fn read_once(chip: &mut Chip, selection: &[PcrSelection], out: &mut [u8]) -> Result<bool, Fault> {
    let unasked = || nonsense(PCR_READ.name, "other PCRs than those asked for");
    let mut remaining: Banks = Vec::from_slice(selection).map_err(|_| TpmError::BadSelection)?;
    let mut started_at = None;
    while remaining.iter().any(|bank| bank.mask != 0) {
        let asked: Banks = remaining
            .iter()
            .filter(|bank| bank.mask != 0)
            .copied()
            .collect();
        let response = chip.run(&PCR_READ, &[], Authorization::None, |out| {
            write_selection(&asked, out)
        })?;
        let mut data = Reader::new(response.parameters);
        let counter = data.u32().map_err(malformed(&PCR_READ))?;
        if *started_at.get_or_insert(counter) != counter {
            return Ok(false);
        }
        let read = read_selection(&mut data).map_err(malformed(&PCR_READ))?;
        let mut values = data.u32().map_err(malformed(&PCR_READ))?.min(MAX_DIGESTS);
        let mut progress = false;
        for bank in &read {
            for pcr in (0..24).filter(|pcr| bank.mask & (1 << pcr) != 0) {
                if values == 0 {
                    break;
                }
                values -= 1;
                let size = digest_size(bank.bank);
                let value = data.tpm2b(size).map_err(malformed(&PCR_READ))?;
                match slot(selection, bank.bank, pcr, out) {
                    Some(slot) if slot.len() == value.len() => slot.copy_from_slice(value),
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
