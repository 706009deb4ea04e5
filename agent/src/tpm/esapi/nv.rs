//! The endorsement key's certificate in NV memory (TCG EK Credential Profile 2.3, 2.2.1.4).

use mote_schemas::limits::MAX_EK_CERTIFICATE;
use tss_esapi::Context;
use tss_esapi::constants::response_code::Tss2ResponseCodeKind;
use tss_esapi::constants::{CapabilityType, PropertyTag};
use tss_esapi::handles::{NvIndexHandle, NvIndexTpmHandle, TpmHandle};
use tss_esapi::interface_types::resource_handles::NvAuth;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::CapabilityData;

use super::fault::{during, tpm_kind};
use super::guard::Close;
use crate::tpm::TpmError;
use crate::tpm::certificate::{Algorithm, SMALLEST_PIECE, der_size, index};
use crate::tpm::connection::Fault;

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
    // The index may be larger than the certificate in it: read its head, then what the head says.
    let limit = out.len().min(MAX_EK_CERTIFICATE);
    let mut have = 0;
    let mut want = public.data_size().min(4);
    while have < want {
        let size = (want - have).min(piece as usize);
        let read = context.execute_with_session(Some(AuthSession::Password), |context| {
            // `size` is at most 1,024 and `have` below MAX_EK_CERTIFICATE.
            context.nv_read(NvAuth::NvIndex(handle), handle, size as u16, have as u16)
        });
        let read = match read {
            Ok(read) => read,
            Err(error) if tpm_kind(error) == Some(Tss2ResponseCodeKind::NvUninitialized) => {
                return Ok(None);
            }
            Err(error) => return Err(during("TPM2_NV_Read")(error)),
        };
        let room = out.get_mut(have..have + read.value().len());
        match room {
            Some(room) if !room.is_empty() => room.copy_from_slice(read.value()),
            _ => return Err(too_large(public.data_size(), limit)),
        }
        have += read.value().len();
        if want <= 4 {
            match der_size(&out[..have]) {
                Some(size) if size <= public.data_size() => want = size,
                _ => {
                    log::warn!("the EK certificate in NV memory is not DER, and ignored");
                    return Ok(None);
                }
            }
            if want > limit {
                return Err(too_large(want, limit));
            }
        }
    }
    Ok((have > 0).then_some(have))
}

fn too_large(size: usize, limit: usize) -> Fault {
    TpmError::TooLarge {
        what: "the EK certificate",
        size,
        limit,
    }
    .into()
}
