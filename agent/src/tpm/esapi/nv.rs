//! The endorsement key's certificate in NV memory (TCG EK Credential Profile 2.3, 2.2.1.4).

use tss_esapi::Context;
use tss_esapi::constants::response_code::Tss2ResponseCodeKind;
use tss_esapi::constants::{CapabilityType, PropertyTag};
use tss_esapi::handles::{NvIndexHandle, NvIndexTpmHandle, TpmHandle};
use tss_esapi::interface_types::resource_handles::NvAuth;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::CapabilityData;

use super::fault::{during, tpm_kind};
use super::guard::Close;
use crate::tpm::certificate::{self, Algorithm, SMALLEST_PIECE, index};
use crate::tpm::connection::{Fault, nonsense};

/// Whether the certificate's index is defined.
pub(super) fn has_certificate(context: &mut Context, algorithm: Algorithm) -> Result<bool, Fault> {
    let wanted = index(algorithm);
    // Returns the handles from `wanted` on, so a missing index is no error, and makes no noise.
    let (data, _) = context
        .get_capability(CapabilityType::Handles, wanted, 1)
        .map_err(during("TPM2_GetCapability"))?;
    let CapabilityData::Handles(handles) = data else {
        return Ok(false);
    };
    Ok(handles
        .into_inner()
        .first()
        .is_some_and(|handle| u32::from(*handle) == wanted))
}

/// Copies the certificate into `out`, without the padding after its DER.
pub(super) fn read_certificate(
    context: &mut Context,
    algorithm: Algorithm,
    out: &mut [u8],
) -> Result<Option<usize>, Fault> {
    if !has_certificate(context, algorithm)? {
        return Ok(None);
    }
    let handle = NvIndexTpmHandle::new(index(algorithm)).map_err(during("TPM2_NV_ReadPublic"))?;
    let handle = context
        .tr_from_tpm_public(TpmHandle::NvIndex(handle))
        .map_err(during("TPM2_NV_ReadPublic"))?;
    let mut context = Close::new(context, handle);
    read_index(&mut context, NvIndexHandle::from(handle), out)
}

fn read_index(
    context: &mut Context,
    handle: NvIndexHandle,
    out: &mut [u8],
) -> Result<Option<usize>, Fault> {
    let (public, _) = context
        .nv_read_public(handle)
        .map_err(during("TPM2_NV_ReadPublic"))?;
    let piece = context
        .get_tpm_property(PropertyTag::NvBufferMax)
        .map_err(during("TPM2_GetCapability"))?
        .unwrap_or(SMALLEST_PIECE)
        .clamp(1, 1024);
    certificate::copy(public.data_size(), piece as usize, out, |offset, room| {
        let read = context.execute_with_session(Some(AuthSession::Password), |context| {
            // A piece is at most 1,024 and the offset below MAX_EK_CERTIFICATE.
            let (size, offset) = (room.len() as u16, offset as u16);
            context.nv_read(NvAuth::NvIndex(handle), handle, size, offset)
        });
        match read {
            Ok(read) if read.value().len() == room.len() => room.copy_from_slice(read.value()),
            Ok(_) => return Err(nonsense("TPM2_NV_Read", "less than asked for")),
            Err(error) if tpm_kind(error) == Some(Tss2ResponseCodeKind::NvUninitialized) => {
                return Ok(false);
            }
            Err(error) => return Err(during("TPM2_NV_Read")(error)),
        }
        Ok(true)
    })
}
