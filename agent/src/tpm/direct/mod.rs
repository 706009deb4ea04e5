//! [`Tpm`] without tpm2-tss: a dozen commands (TPM 2.0 Library part 3), marshalled here, straight to
//! `/dev/tpmrm0` or swtpm's socket. For the smallest build: no C library, one buffer for commands and
//! responses, nothing allocated per call.
//!
//! Same keys, same rules and same errors as the implementation beside it, which one suite of tests
//! holds both to. The attestation key stays loaded while connected; the endorsement key and the session
//! that uses it only while a credential is activated, and are flushed on every path. A connection that
//! is lost, or whose TPM was reset, is made anew once per call.

mod chip;
mod commands;
mod fault;
mod frame;
mod nv;
mod pcr;
mod salt;
mod session;
mod template;
mod transport;

use heapless::Vec;
use mote_schemas::limits::{MAX_PCR_BANKS, MAX_TPMT_PUBLIC};

use self::chip::Chip;
use super::certificate::Algorithm;
use super::connection::{
    self, Connected, Fault, Offers, choose_attestation_key, choose_endorsement_key,
};
use super::selection;
use super::{HeldHandles, Identity, PcrSelection, Quote, Secret, Tpm, TpmError, TpmOptions};

/// A TPM reached directly.
#[derive(Debug)]
pub struct DirectTpm(Connected<Open>);

/// A connection, with what was found out through it.
#[derive(Debug)]
struct Open {
    chip: Chip,
    ek_algorithm: Algorithm,
    ek: Option<Vec<u8, MAX_TPMT_PUBLIC>>,
    ak: Option<AttestationKey>,
}

/// The loaded attestation key.
#[derive(Debug)]
struct AttestationKey {
    handle: u32,
    public: Vec<u8, MAX_TPMT_PUBLIC>,
}

impl DirectTpm {
    /// Connects.
    ///
    /// # Errors
    /// [`TpmError::NoDevice`], [`TpmError::NoPermission`], [`TpmError::InUse`] or
    /// [`TpmError::NoSimulator`] when there is no way to a TPM.
    pub fn new(options: TpmOptions) -> Result<Self, TpmError> {
        Connected::new(options).map(Self)
    }
}

impl Tpm for DirectTpm {
    fn identity(&mut self) -> Result<Identity, TpmError> {
        self.0.with(|open, options| {
            Ok(Identity {
                ek: open.endorsement_public()?,
                ak: open.attestation_key(options)?.public.clone(),
            })
        })
    }

    fn ek_certificate(&mut self, out: &mut [u8]) -> Result<Option<usize>, TpmError> {
        self.0
            .with(|open, _| nv::read_certificate(&mut open.chip, open.ek_algorithm, out))
    }

    fn activate_credential(
        &mut self,
        credential_blob: &[u8],
        encrypted_secret: &[u8],
    ) -> Result<Secret, TpmError> {
        self.0
            .with(|open, options| open.activate(options, credential_blob, encrypted_secret))
    }

    fn quote(
        &mut self,
        selection: &[PcrSelection],
        qualifying_data: &[u8; 32],
    ) -> Result<Quote, TpmError> {
        self.0.with(|open, options| {
            selection::check(selection, &pcr::banks(&mut open.chip)?)?;
            let ak = open.attestation_key(options)?.handle;
            open.chip.quote(ak, selection, qualifying_data)
        })
    }

    fn read_pcrs(&mut self, selection: &[PcrSelection], out: &mut [u8]) -> Result<usize, TpmError> {
        self.0.with(|open, _| {
            selection::check(selection, &pcr::banks(&mut open.chip)?)?;
            pcr::read(&mut open.chip, selection, out)
        })
    }

    fn banks(&mut self) -> Result<Vec<PcrSelection, MAX_PCR_BANKS>, TpmError> {
        self.0.with(|open, _| {
            let banks = pcr::banks(&mut open.chip)?;
            Ok(banks.into_iter().take(MAX_PCR_BANKS).collect())
        })
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), TpmError> {
        self.0.with(|open, _| open.chip.random(out))
    }

    fn held_handles(&mut self) -> Result<HeldHandles, TpmError> {
        /// First handles of part 2, 7.2: loaded sessions have two types.
        const HMAC_SESSION: u32 = 0x0200_0000;
        const POLICY_SESSION: u32 = 0x0300_0000;
        const TRANSIENT: u32 = 0x8000_0000;
        self.0.with(|open, _| {
            Ok(HeldHandles {
                objects: open.chip.count_handles(TRANSIENT)?,
                sessions: open.chip.count_handles(HMAC_SESSION)?
                    + open.chip.count_handles(POLICY_SESSION)?,
            })
        })
    }
}

impl connection::Open for Open {
    fn open(options: &TpmOptions) -> Result<Self, TpmError> {
        let mut chip = Chip::open(&options.address)?;
        let ek_algorithm =
            choose_endorsement_key(&mut chip, options.ek).map_err(|fault| fault.error)?;
        Ok(Self {
            chip,
            ek_algorithm,
            ek: None,
            ak: None,
        })
    }
}

impl Open {
    fn endorsement_public(&mut self) -> Result<Vec<u8, MAX_TPMT_PUBLIC>, Fault> {
        if self.ek.is_none() {
            let (handle, public) = self.chip.create_endorsement_key(self.ek_algorithm)?;
            self.chip.flush(handle);
            self.ek = Some(public);
        }
        // Just filled if it was empty.
        Ok(self.ek.clone().unwrap_or_default())
    }

    fn attestation_key(&mut self, options: &TpmOptions) -> Result<&AttestationKey, Fault> {
        if self.ak.is_none() {
            let algorithm = choose_attestation_key(&mut self.chip, options.ak)?;
            let (handle, public) = self.chip.create_attestation_key(algorithm)?;
            self.ak = Some(AttestationKey { handle, public });
        }
        // Just filled if it was empty.
        self.ak.as_ref().ok_or(
            TpmError::OutOfMemory {
                command: "TPM2_CreatePrimary",
            }
            .into(),
        )
    }

    fn activate(
        &mut self,
        options: &TpmOptions,
        credential_blob: &[u8],
        encrypted_secret: &[u8],
    ) -> Result<Secret, Fault> {
        let ak = self.attestation_key(options)?;
        let (ak, ak_name) = (ak.handle, commands::name(&ak.public));
        let (ek, public) = self.chip.create_endorsement_key(self.ek_algorithm)?;
        let released = self
            .chip
            .start_endorsement_session(ek, &public)
            .and_then(|mut session| {
                let released = self.chip.policy_secret(session.handle).and_then(|()| {
                    self.chip.activate_credential(
                        [ak, ek],
                        [&ak_name, &commands::name(&public)],
                        &mut session,
                        credential_blob,
                        encrypted_secret,
                    )
                });
                self.chip.flush(session.handle);
                released
            });
        self.chip.flush(ek);
        released
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // Without a resource manager nobody else does it. Fails only when the TPM is gone.
        if let Some(ak) = self.ak.take() {
            self.chip.flush(ak.handle);
        }
    }
}

impl Offers for Chip {
    fn has_p256(&mut self) -> Result<bool, Fault> {
        Chip::has_p256(self)
    }

    fn has_certificate(&mut self, algorithm: Algorithm) -> Result<bool, Fault> {
        nv::has_certificate(self, algorithm)
    }
}
