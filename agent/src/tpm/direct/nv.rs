//! The endorsement key's certificate in NV memory (TCG EK Credential Profile 2.3, 2.2.1.4).

use mote_schemas::tpm::Reader;

use super::chip::{Chip, Command, command};
use super::commands::malformed;
use super::fault::ResponseCode;
use super::frame::Authorization;
use crate::tpm::certificate::{self, Algorithm, SMALLEST_PIECE, index};
use crate::tpm::connection::{Fault, nonsense};

const NV_READ_PUBLIC: Command = command("TPM2_NV_ReadPublic", 0x169);
const NV_READ: Command = command("TPM2_NV_Read", 0x14E);
/// `TPM_PT_NV_BUFFER_MAX`.
const NV_BUFFER_MAX: u32 = 0x100 + 44;
/// Largest `TPMS_NV_PUBLIC`: index, nameAlg, attributes, policy, size.
const MAX_NV_PUBLIC: usize = 4 + 2 + 4 + 2 + 64 + 2;

/// Whether the certificate's index is defined.
pub(super) fn has_certificate(chip: &mut Chip, algorithm: Algorithm) -> Result<bool, Fault> {
    let wanted = index(algorithm);
    // The handles from `wanted` on, so a missing index is no error.
    Ok(chip.next_handle(wanted)? == Some(wanted))
}

/// Copies the certificate into `out`, without the padding after its DER.
pub(super) fn read_certificate(
    chip: &mut Chip,
    algorithm: Algorithm,
    out: &mut [u8],
) -> Result<Option<usize>, Fault> {
    if !has_certificate(chip, algorithm)? {
        return Ok(None);
    }
    let index = index(algorithm);
    let data_size = data_size(chip, index)?;
    let piece = chip
        .property(NV_BUFFER_MAX)?
        .unwrap_or(SMALLEST_PIECE)
        .clamp(1, 1024) as usize;
    certificate::copy(data_size, piece, out, |offset, room| {
        read_piece(chip, index, offset, room)
    })
}

fn data_size(chip: &mut Chip, index: u32) -> Result<usize, Fault> {
    let response = chip.run(&NV_READ_PUBLIC, &[index], Authorization::None, |_| Ok(()))?;
    let public = Reader::new(response.parameters)
        .tpm2b(MAX_NV_PUBLIC)
        .map_err(malformed(&NV_READ_PUBLIC))?;
    // The last field is the size.
    Ok(public
        .last_chunk()
        .map_or(0, |size| usize::from(u16::from_be_bytes(*size))))
}

/// Fills `out` from `offset` on; false when nobody has written the index yet.
fn read_piece(chip: &mut Chip, index: u32, offset: usize, out: &mut [u8]) -> Result<bool, Fault> {
    let size = out.len() as u16;
    chip.write(&NV_READ, &[index, index], Authorization::Password, |out| {
        out.u16(size)?;
        // Below MAX_EK_CERTIFICATE.
        out.u16(offset as u16)
    })?;
    let response = match chip.send(&NV_READ) {
        Err(refusal) if refusal.is(ResponseCode::NV_UNINITIALIZED) => return Ok(false),
        sent => sent.map_err(|refusal| refusal.during(&NV_READ))?,
    };
    let read = Reader::new(response.parameters)
        .tpm2b(out.len())
        .map_err(malformed(&NV_READ))?;
    if read.len() != out.len() {
        return Err(nonsense(NV_READ.name, "less than asked for"));
    }
    out.copy_from_slice(read);
    Ok(true)
}
