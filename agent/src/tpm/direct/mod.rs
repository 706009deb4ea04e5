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
use mote_schemas::limits::MAX_TPMT_PUBLIC;

use self::chip::Chip;
use super::certificate::Algorithm;
use super::connection::{
    self, Connected, Fault, Offers, choose_attestation_key, choose_endorsement_key,
};
use super::selection::Banks;
use super::{Identity, PcrSelection, Quote, Secret, TpmError, TpmOptions};

/// A TPM reached directly.
pub type DirectTpm = Connected<Open>;

/// A connection, with what was found out through it.
#[derive(Debug)]
pub struct Open {
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

    fn identity(&mut self, options: &TpmOptions) -> Result<Identity, Fault> {
        Ok(Identity {
            ek: self.endorsement_public()?,
            ak: self.attestation_key(options)?.public.clone(),
        })
    }

    fn ek_certificate(&mut self, out: &mut [u8]) -> Result<Option<usize>, Fault> {
        nv::read_certificate(&mut self.chip, self.ek_algorithm, out)
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

    fn quote(
        &mut self,
        options: &TpmOptions,
        selection: &[PcrSelection],
        qualifying_data: &[u8; 32],
    ) -> Result<Quote, Fault> {
        let ak = self.attestation_key(options)?.handle;
        self.chip.quote(ak, selection, qualifying_data)
    }

    fn read_pcrs(&mut self, selection: &[PcrSelection], out: &mut [u8]) -> Result<usize, Fault> {
        pcr::read(&mut self.chip, selection, out)
    }

    fn banks(&mut self) -> Result<Banks, Fault> {
        pcr::banks(&mut self.chip)
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), Fault> {
        self.chip.random(out)
    }

    fn count_handles(&mut self, first: u32) -> Result<usize, Fault> {
        self.chip.count_handles(first)
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
