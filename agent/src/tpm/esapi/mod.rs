//! [`Tpm`] by tpm2-tss' ESAPI (`tss-esapi` 7, libtss2 3.2 or newer).
//!
//! The attestation key stays loaded while connected; the endorsement key only while it activates a
//! credential. Guards flush every other handle on every path. A connection that is lost, or whose
//! TPM was reset, is made anew once per call: the keys are the same again by construction.

mod fault;
mod guard;
mod keys;
mod nv;
mod pcr;
mod template;

use heapless::Vec;
use tss_esapi::constants::CapabilityType;
use tss_esapi::constants::response_code::Tss2ResponseCodeKind as Kind;
use tss_esapi::handles::{KeyHandle, TpmHandle};
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{CapabilityData, Data, EncryptedSecret, IdObject, SignatureScheme};
use tss_esapi::tcti_ldr::DeviceConfig;
use tss_esapi::traits::Marshall;
use tss_esapi::{Context, TctiNameConf};

use self::fault::{during, tpm_kind};
use self::keys::{create_primary, load_endorsement_key, public_bytes, start_endorsement_session};
use super::certificate::Algorithm;
use super::connection::{
    self, Connected, Fault, bounded, choose_attestation_key, choose_endorsement_key,
};
use super::selection::Banks;
use super::{Identity, PcrSelection, Quote, Secret, TpmAddress, TpmError, TpmOptions};
use mote_schemas::limits::MAX_TPMT_PUBLIC;

/// A TPM reached through tpm2-tss.
pub type EsapiTpm = Connected<Open>;

/// A connection, with what was found out through it.
#[derive(Debug)]
pub struct Open {
    context: Context,
    ek_algorithm: Algorithm,
    ek: Option<Vec<u8, MAX_TPMT_PUBLIC>>,
    ak: Option<AttestationKey>,
}

/// The loaded attestation key. The context flushes it when it is dropped.
#[derive(Clone, Debug)]
struct AttestationKey {
    handle: KeyHandle,
    public: Vec<u8, MAX_TPMT_PUBLIC>,
}

impl connection::Open for Open {
    fn open(options: &TpmOptions) -> Result<Self, TpmError> {
        let mut context = Context::new(transport(&options.address)?)
            .map_err(|error| fault::diagnose(&options.address, error))?;
        let ek_algorithm =
            choose_endorsement_key(&mut context, options.ek).map_err(|fault| fault.error)?;
        Ok(Self {
            context,
            ek_algorithm,
            ek: None,
            ak: None,
        })
    }

    fn identity(&mut self, options: &TpmOptions) -> Result<Identity, Fault> {
        Ok(Identity {
            ek: self.endorsement_public()?,
            ak: self.attestation_key(options)?.public,
        })
    }

    fn ek_certificate(&mut self, out: &mut [u8]) -> Result<Option<usize>, Fault> {
        nv::read_certificate(&mut self.context, self.ek_algorithm, out)
    }

    fn activate(
        &mut self,
        options: &TpmOptions,
        credential_blob: &[u8],
        encrypted_secret: &[u8],
    ) -> Result<Secret, Fault> {
        const COMMAND: &str = "TPM2_ActivateCredential";
        let malformed = |_| TpmError::MalformedCredential;
        let credential = IdObject::try_from(credential_blob).map_err(malformed)?;
        let secret = EncryptedSecret::try_from(encrypted_secret).map_err(malformed)?;
        let ak = self.attestation_key(options)?;
        let (mut context, _) = load_endorsement_key(&mut self.context, self.ek_algorithm)?;
        let ek = context.handle();
        let (mut context, session) = start_endorsement_session(&mut context, ek)?;
        let released = context.execute_with_sessions(
            (
                Some(AuthSession::Password),
                Some(AuthSession::PolicySession(session)),
                None,
            ),
            |context| {
                context.activate_credential(ak.handle, KeyHandle::from(ek), credential, secret)
            },
        );
        match released {
            Ok(released) => Secret::new(released.value()).ok_or_else(|| {
                TpmError::TooLarge {
                    what: "the activated secret",
                    size: released.value().len(),
                    limit: super::MAX_SECRET,
                }
                .into()
            }),
            Err(error) => Err(match tpm_kind(error) {
                // What libtpms says of bad OAEP padding, and any TPM in failure mode of everything.
                Some(Kind::Failure) if context.get_random(1).is_ok() => {
                    TpmError::WrongCredential.into()
                }
                // The HMAC over the AK's Name, or the seed's padding, is not what it should be
                // (part 1, 24): which of the two depends on the key's algorithm.
                Some(Kind::Integrity | Kind::Value) => TpmError::WrongCredential.into(),
                Some(Kind::Size | Kind::Insufficient | Kind::EccPoint) => {
                    TpmError::MalformedCredential.into()
                }
                _ => during(COMMAND)(error),
            }),
        }
    }

    fn quote(
        &mut self,
        options: &TpmOptions,
        selection: &[PcrSelection],
        qualifying_data: &[u8; 32],
    ) -> Result<Quote, Fault> {
        const COMMAND: &str = "TPM2_Quote";
        let list = pcr::to_list(selection)?;
        let ak = self.attestation_key(options)?;
        let data = Data::try_from(qualifying_data.as_slice()).map_err(during(COMMAND))?;
        let (attest, signature) = self
            .context
            .execute_with_session(Some(AuthSession::Password), |context| {
                context.quote(ak.handle, data, SignatureScheme::Null, list)
            })
            .map_err(during(COMMAND))?;
        Ok(Quote {
            attest: bounded("the quote", &attest.marshall().map_err(during(COMMAND))?)?,
            signature: bounded(
                "the quote's signature",
                &signature.marshall().map_err(during(COMMAND))?,
            )?,
        })
    }

    fn read_pcrs(&mut self, selection: &[PcrSelection], out: &mut [u8]) -> Result<usize, Fault> {
        pcr::read(&mut self.context, selection, out)
    }

    fn banks(&mut self) -> Result<Banks, Fault> {
        pcr::banks(&mut self.context)
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), Fault> {
        let mut rest = out;
        while !rest.is_empty() {
            // A TPM gives at most one digest's worth at a time (part 3, 16.1).
            let random = self
                .context
                .get_random(rest.len().min(32))
                .map_err(during("TPM2_GetRandom"))?;
            let size = random.value().len().min(rest.len());
            let (filled, left) = rest.split_at_mut(size);
            filled.copy_from_slice(&random.value()[..size]);
            if size == 0 {
                return Err(TpmError::Busy {
                    command: "TPM2_GetRandom",
                }
                .into());
            }
            rest = left;
        }
        Ok(())
    }

    fn count_handles(&mut self, first: u32) -> Result<usize, Fault> {
        let (data, _) = self
            .context
            .get_capability(CapabilityType::Handles, first, 254)
            .map_err(during("TPM2_GetCapability"))?;
        let CapabilityData::Handles(handles) = data else {
            return Ok(0);
        };
        let same_type = |handle: &&TpmHandle| u32::from(**handle) >> 24 == first >> 24;
        Ok(handles.into_inner().iter().filter(same_type).count())
    }
}

impl Open {
    fn endorsement_public(&mut self) -> Result<Vec<u8, MAX_TPMT_PUBLIC>, Fault> {
        if self.ek.is_none() {
            let (_guard, public) = load_endorsement_key(&mut self.context, self.ek_algorithm)?;
            self.ek = Some(public);
        }
        // Just filled if it was empty.
        Ok(self.ek.clone().unwrap_or_default())
    }

    fn attestation_key(&mut self, options: &TpmOptions) -> Result<AttestationKey, Fault> {
        if let Some(key) = &self.ak {
            return Ok(key.clone());
        }
        let algorithm = choose_attestation_key(&mut self.context, options.ak)?;
        let template =
            template::attestation_key(algorithm).map_err(during("building the AK template"))?;
        let key = create_primary(&mut self.context, template)?;
        let key = AttestationKey {
            handle: key.key_handle,
            public: public_bytes(&key.out_public)?,
        };
        self.ak = Some(key.clone());
        Ok(key)
    }
}

/// The transport, from values: the library's parser for strings would bring regular expressions.
fn transport(address: &TpmAddress) -> Result<TctiNameConf, TpmError> {
    let invalid = |_| TpmError::Unsupported {
        what: "transport of that name",
        instead: "`tpm` to `device:/dev/tpmrm0`",
    };
    match address {
        TpmAddress::Device(path) => path
            .to_string_lossy()
            .parse::<DeviceConfig>()
            .map(TctiNameConf::Device)
            .map_err(invalid),
        #[cfg(feature = "esapi-swtpm")]
        TpmAddress::Swtpm { host, port } => format!("host={host},port={port}")
            .parse()
            .map(TctiNameConf::Swtpm)
            .map_err(invalid),
        #[cfg(not(feature = "esapi-swtpm"))]
        TpmAddress::Swtpm { .. } => Err(TpmError::Unsupported {
            what: "swtpm transport in this build",
            instead: "`tpm` to `device:/dev/tpmrm0`, or build with the feature esapi-swtpm",
        }),
    }
}
