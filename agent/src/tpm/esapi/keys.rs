//! The two primary keys: which, how they come into being, and the session that lets the endorsement
//! key be used.

use heapless::Vec;
use mote_schemas::limits::MAX_TPMT_PUBLIC;
use tss_esapi::Context;
use tss_esapi::attributes::SessionAttributesBuilder;
use tss_esapi::constants::response_code::Tss2ResponseCodeKind as Kind;
use tss_esapi::constants::{CapabilityType, SessionType};
use tss_esapi::handles::{AuthHandle, KeyHandle, ObjectHandle, SessionHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{
    CapabilityData, CreatePrimaryKeyResult, Digest, Nonce, Public, SymmetricDefinition,
};
use tss_esapi::traits::Marshall;

use super::fault::{during, tpm_kind};
use super::guard::Flush;
use super::nv;
use super::template;
use crate::tpm::TpmError;
use crate::tpm::certificate::Algorithm;
use crate::tpm::connection::{Fault, Offers, bounded};

impl Offers for Context {
    fn has_p256(&mut self) -> Result<bool, Fault> {
        has_p256(self)
    }

    fn has_certificate(&mut self, algorithm: Algorithm) -> Result<bool, Fault> {
        nv::has_certificate(self, algorithm)
    }
}

fn has_p256(context: &mut Context) -> Result<bool, Fault> {
    /// `TPM_ECC_NIST_P256` (TCG Algorithm Registry, 6.4).
    const NIST_P256: u32 = 0x0003;
    // One curve from P-256 on: it is the one, or there is none.
    match context.get_capability(CapabilityType::EccCurves, NIST_P256, 1) {
        Ok((CapabilityData::EccCurves(curves), _)) => Ok(curves
            .into_inner()
            .first()
            .is_some_and(|curve| u16::from(*curve) == NIST_P256 as u16)),
        Ok(_) => Ok(false),
        // A TPM without any ECC does not know the capability.
        Err(error) if tpm_kind(error) == Some(Kind::Value) => Ok(false),
        Err(error) => Err(during("TPM2_GetCapability")(error)),
    }
}

pub(super) fn create_primary(
    context: &mut Context,
    template: Public,
) -> Result<CreatePrimaryKeyResult, Fault> {
    context
        .execute_with_session(Some(AuthSession::Password), |context| {
            context.create_primary(Hierarchy::Endorsement, template, None, None, None, None)
        })
        .map_err(during("TPM2_CreatePrimary"))
}

pub(super) fn load_endorsement_key(
    context: &mut Context,
    algorithm: Algorithm,
) -> Result<(Flush<'_>, Vec<u8, MAX_TPMT_PUBLIC>), Fault> {
    let template =
        template::endorsement_key(algorithm).map_err(during("building the EK template"))?;
    let key = create_primary(context, template)?;
    let guard = Flush::new(context, ObjectHandle::from(key.key_handle));
    Ok((guard, public_bytes(&key.out_public)?))
}

/// A session that satisfies the EK's policy A, PolicySecret(endorsement) (EK Credential Profile
/// 2.3, B.6.2).
///
/// It is salted with the EK and encrypts the first response parameter, so that the activated
/// secret does not cross the bus between TPM and CPU in the clear.
pub(super) fn start_endorsement_session(
    context: &mut Context,
    ek: ObjectHandle,
) -> Result<(Flush<'_>, PolicySession), Fault> {
    const START: &str = "TPM2_StartAuthSession";
    let session = context
        .start_auth_session(
            Some(KeyHandle::from(ek)),
            None,
            None,
            SessionType::Policy,
            SymmetricDefinition::AES_128_CFB,
            HashingAlgorithm::Sha256,
        )
        .map_err(during(START))?;
    let Some(session @ AuthSession::PolicySession(policy)) = session else {
        return Err(TpmError::Response {
            command: START,
            code: 0,
            text: "the TPM gave no policy session".to_owned(),
        }
        .into());
    };
    let mut context = Flush::new(context, ObjectHandle::from(SessionHandle::from(session)));
    let (attributes, mask) = SessionAttributesBuilder::new()
        .with_continue_session(true)
        .with_encrypt(true)
        .build();
    context
        .tr_sess_set_attributes(session, attributes, mask)
        .map_err(during(START))?;
    context
        .execute_with_session(Some(AuthSession::Password), |context| {
            context.policy_secret(
                policy,
                AuthHandle::Endorsement,
                Nonce::default(),
                Digest::default(),
                Nonce::default(),
                None,
            )
        })
        .map_err(during("TPM2_PolicySecret"))?;
    Ok((context, policy))
}

pub(super) fn public_bytes(public: &Public) -> Result<Vec<u8, MAX_TPMT_PUBLIC>, Fault> {
    bounded(
        "the key",
        &public.marshall().map_err(during("TPM2_CreatePrimary"))?,
    )
}
