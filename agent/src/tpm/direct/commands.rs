//! The commands, one function each (TPM 2.0 Library part 3).

use core::iter;

use heapless::Vec;
use mote_schemas::limits::{MAX_TPMS_ATTEST, MAX_TPMT_PUBLIC, MAX_TPMT_SIGNATURE};
use mote_schemas::tpm::{EncodeError, Reader, WireError, Writer};
use sha2::{Digest as _, Sha256};

use super::chip::{Chip, Command, Refusal, command};
use super::fault::ResponseCode;
use super::frame::Authorization;
use super::salt::{MAX_ENCRYPTED, Salt};
use super::session::{NONCE, Session};
use super::{pcr, template};
use crate::tpm::certificate::Algorithm;
use crate::tpm::connection::{Fault, bounded, nonsense};
use crate::tpm::{MAX_SECRET, PcrSelection, Quote, Secret, TpmError};

const TPM_RH_NULL: u32 = 0x4000_0007;
const TPM_RH_ENDORSEMENT: u32 = 0x4000_000B;
/// `TPM_ALG_NULL`.
const ALG_NULL: u16 = mote_schemas::tpm::TPM_ALG_NULL;
const TPM_ALG_AES: u16 = 0x0006;
const TPM_ALG_SHA256: u16 = 0x000B;
const TPM_ALG_CFB: u16 = 0x0043;
/// `TPM_SE_POLICY`.
const POLICY_SESSION: u8 = 0x01;
const TPM_CAP_HANDLES: u32 = 0x0000_0001;
const TPM_CAP_TPM_PROPERTIES: u32 = 0x0000_0006;
const TPM_CAP_ECC_CURVES: u32 = 0x0000_0008;

const CREATE_PRIMARY: Command = Command {
    name: "TPM2_CreatePrimary",
    code: 0x131,
    makes_handle: true,
};
const START_AUTH_SESSION: Command = Command {
    name: "TPM2_StartAuthSession",
    code: 0x176,
    makes_handle: true,
};
const ACTIVATE_CREDENTIAL: Command = command("TPM2_ActivateCredential", 0x147);
const POLICY_SECRET: Command = command("TPM2_PolicySecret", 0x151);
const QUOTE: Command = command("TPM2_Quote", 0x158);
const GET_CAPABILITY: Command = command("TPM2_GetCapability", 0x17A);
const GET_RANDOM: Command = command("TPM2_GetRandom", 0x17B);

/// Longest contents of a `TPM2B_ID_OBJECT` that a TPM takes: HMAC and encrypted digest, each with its
/// size (part 2, 12.4.3).
const MAX_ID_OBJECT: usize = 2 + 64 + 2 + 64;
/// Longest contents of a `TPM2B_ENCRYPTED_SECRET`: RSA-4096.
const MAX_ENCRYPTED_SECRET: usize = 512;

/// Name of an object whose nameAlg is SHA-256, as all of ours (part 1, 16).
pub(super) fn name(public: &[u8]) -> [u8; 34] {
    let mut name = [0; 34];
    name[..2].copy_from_slice(&TPM_ALG_SHA256.to_be_bytes());
    name[2..].copy_from_slice(&Sha256::digest(public));
    name
}

/// From the system's generator, not from the TPM's: what protects a secret on the way from the TPM must
/// not have come that way itself.
fn fill(bytes: &mut [u8]) {
    // Fails only on kernels older than Linux 3.17, which have no TPM resource manager either.
    getrandom::fill(bytes).expect("getrandom(2)");
}

impl Chip {
    pub(super) fn create_endorsement_key(
        &mut self,
        algorithm: Algorithm,
    ) -> Result<(u32, Vec<u8, MAX_TPMT_PUBLIC>), Fault> {
        self.create_primary(|out| template::endorsement_key(algorithm, out))
    }

    pub(super) fn create_attestation_key(
        &mut self,
        algorithm: Algorithm,
    ) -> Result<(u32, Vec<u8, MAX_TPMT_PUBLIC>), Fault> {
        self.create_primary(|out| template::attestation_key(algorithm, out))
    }

    /// Part 3, 24.1, in the endorsement hierarchy. The handle must be flushed.
    fn create_primary(
        &mut self,
        template: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
    ) -> Result<(u32, Vec<u8, MAX_TPMT_PUBLIC>), Fault> {
        let response = self.run(
            &CREATE_PRIMARY,
            &[TPM_RH_ENDORSEMENT],
            Authorization::Password,
            |out| {
                out.u16(4)?; // inSensitive: neither authValue nor data
                out.u32(0)?;
                template(out)?;
                out.u16(0)?; // outsideInfo
                out.u32(0) // creationPCR
            },
        )?;
        let handle = response.handle;
        let public = Reader::new(response.parameters)
            .tpm2b(MAX_TPMT_PUBLIC)
            .map_err(malformed(&CREATE_PRIMARY))
            .and_then(|public| bounded("the key", public));
        if public.is_err() {
            self.flush(handle);
        }
        Ok((handle, public?))
    }

    /// Part 3, 11.1: a session salted with the endorsement key, for the EK's policy A,
    /// PolicySecret(endorsement) (EK Credential Profile 2.3, B.6.2). Its handle must be flushed.
    pub(super) fn start_endorsement_session(
        &mut self,
        ek: u32,
        ek_public: &[u8],
    ) -> Result<Session, Fault> {
        let salt = Salt::new(ek_public, &mut fill)
            .map_err(|_| nonsense(CREATE_PRIMARY.name, "not a key of its template"))?;
        let mut nonce = [0; NONCE];
        fill(&mut nonce);
        let response = self.run(
            &START_AUTH_SESSION,
            &[ek, TPM_RH_NULL],
            Authorization::None,
            |out| {
                out.tpm2b(&nonce, NONCE)?;
                out.tpm2b(salt.encrypted(), MAX_ENCRYPTED)?;
                out.u8(POLICY_SESSION)?;
                out.u16(TPM_ALG_AES)?;
                out.u16(128)?;
                out.u16(TPM_ALG_CFB)?;
                out.u16(TPM_ALG_SHA256)
            },
        )?;
        let handle = response.handle;
        let session = Reader::new(response.parameters)
            .tpm2b(NONCE)
            .ok()
            .and_then(|tpms| Session::new(handle, &salt.value, nonce, tpms));
        session.ok_or_else(|| {
            self.flush(handle);
            nonsense(START_AUTH_SESSION.name, "malformed response")
        })
    }

    /// Part 3, 23.4: that we may use the endorsement hierarchy, whose password is empty.
    pub(super) fn policy_secret(&mut self, session: u32) -> Result<(), Fault> {
        self.run(
            &POLICY_SECRET,
            &[TPM_RH_ENDORSEMENT, session],
            Authorization::Password,
            |out| {
                out.u16(0)?; // nonceTPM
                out.u16(0)?; // cpHashA
                out.u16(0)?; // policyRef
                out.u32(0) // expiration
            },
        )?;
        Ok(())
    }

    /// Part 3, 12.5. `keys`: attestation key and endorsement key, and their Names.
    pub(super) fn activate_credential(
        &mut self,
        keys: [u32; 2],
        names: [&[u8]; 2],
        session: &mut Session,
        credential_blob: &[u8],
        encrypted_secret: &[u8],
    ) -> Result<Secret, Fault> {
        const COMMAND: &Command = &ACTIVATE_CREDENTIAL;
        if credential_blob.len() > MAX_ID_OBJECT || encrypted_secret.len() > MAX_ENCRYPTED_SECRET {
            return Err(TpmError::MalformedCredential.into());
        }
        self.write(COMMAND, &keys, Authorization::PasswordAndSession, |out| {
            out.tpm2b(credential_blob, MAX_ID_OBJECT)?;
            out.tpm2b(encrypted_secret, MAX_ENCRYPTED_SECRET)
        })?;
        let mut nonce = [0; NONCE];
        fill(&mut nonce);
        session
            .authorize(&mut self.frame, COMMAND.code, names, nonce)
            .map_err(|error| nonsense(COMMAND.name, &error.to_string()))?;
        let refusal = match self.send(COMMAND) {
            Ok(response) => {
                let mut secret = zeroize::Zeroizing::new([0; MAX_SECRET]);
                return session
                    .open(&response, COMMAND.code, &mut *secret)
                    .ok()
                    .and_then(|len| Secret::new(&secret[..len]))
                    .ok_or_else(|| nonsense(COMMAND.name, "the response is not the TPM's"));
            }
            Err(refusal) => refusal,
        };
        // What libtpms says of bad OAEP padding, and any TPM in failure mode of everything.
        if refusal.is(ResponseCode::FAILURE) && self.random(&mut [0]).is_ok() {
            return Err(TpmError::WrongCredential.into());
        }
        // The HMAC over the AK's Name, or the seed's padding, is not what it should be (part 1, 24):
        // which of the two depends on the key's algorithm.
        if refusal.is(ResponseCode::INTEGRITY) || refusal.is(ResponseCode::VALUE) {
            return Err(TpmError::WrongCredential.into());
        }
        let malformed = [
            ResponseCode::SIZE,
            ResponseCode::INSUFFICIENT,
            ResponseCode::ECC_POINT,
        ];
        if malformed.into_iter().any(|code| refusal.is(code)) {
            return Err(TpmError::MalformedCredential.into());
        }
        Err(refusal.during(COMMAND))
    }

    /// Part 3, 18.4.
    pub(super) fn quote(
        &mut self,
        ak: u32,
        selection: &[PcrSelection],
        qualifying_data: &[u8; 32],
    ) -> Result<Quote, Fault> {
        let response = self.run(&QUOTE, &[ak], Authorization::Password, |out| {
            out.tpm2b(qualifying_data, 32)?;
            out.u16(ALG_NULL)?; // the key's own scheme
            pcr::write_selection(selection, out)
        })?;
        let mut parameters = Reader::new(response.parameters);
        let attest = parameters
            .tpm2b(usize::from(u16::MAX))
            .map_err(malformed(&QUOTE))?;
        // The signature is the last parameter, and has no size of its own.
        let signature = &response.parameters[parameters.offset()..];
        Ok(Quote {
            attest: bounded::<MAX_TPMS_ATTEST>("the quote", attest)?,
            signature: bounded::<MAX_TPMT_SIGNATURE>("the quote's signature", signature)?,
        })
    }

    /// Part 3, 16.1. A TPM gives at most one digest's worth at a time.
    pub(super) fn random(&mut self, out: &mut [u8]) -> Result<(), Fault> {
        for piece in out.chunks_mut(32) {
            let mut have = 0;
            while have < piece.len() {
                let wanted = (piece.len() - have) as u16;
                let response =
                    self.run(&GET_RANDOM, &[], Authorization::None, |out| out.u16(wanted))?;
                let random = Reader::new(response.parameters)
                    .tpm2b(usize::from(wanted))
                    .map_err(malformed(&GET_RANDOM))?;
                if random.is_empty() {
                    return Err(TpmError::Busy {
                        command: GET_RANDOM.name,
                    }
                    .into());
                }
                piece[have..have + random.len()].copy_from_slice(random);
                have += random.len();
            }
        }
        Ok(())
    }

    /// Part 3, 30.2: the list of a capability, from `first` on, at most `count` of it.
    pub(super) fn capability(
        &mut self,
        capability: u32,
        first: u32,
        count: u32,
    ) -> Result<Reader<'_>, Refusal> {
        self.write(&GET_CAPABILITY, &[], Authorization::None, |out| {
            out.u32(capability)?;
            out.u32(first)?;
            out.u32(count)
        })
        .map_err(Refusal::Fault)?;
        let response = self.send(&GET_CAPABILITY)?;
        let mut data = Reader::new(response.parameters);
        // moreData, and the capability once more.
        match (data.u8(), data.u32()) {
            (Ok(_), Ok(same)) if same == capability => Ok(data),
            _ => Err(Refusal::Fault(nonsense(
                GET_CAPABILITY.name,
                "another capability than asked for",
            ))),
        }
    }

    /// [`Self::capability`], for those that every TPM has.
    pub(super) fn known_capability(
        &mut self,
        capability: u32,
        first: u32,
        count: u32,
    ) -> Result<Reader<'_>, Fault> {
        self.capability(capability, first, count)
            .map_err(|refusal| refusal.during(&GET_CAPABILITY))
    }

    pub(super) fn has_p256(&mut self) -> Result<bool, Fault> {
        /// `TPM_ECC_NIST_P256` (TCG Algorithm Registry, 6.4).
        const NIST_P256: u16 = 0x0003;
        // One curve from P-256 on: it is the one, or there is none.
        match self.capability(TPM_CAP_ECC_CURVES, u32::from(NIST_P256), 1) {
            Ok(mut data) => Ok(matches!((data.u32(), data.u16()), (Ok(1..), Ok(NIST_P256)))),
            // A TPM without any ECC does not know the capability.
            Err(refusal) if refusal.is(ResponseCode::VALUE) => Ok(false),
            Err(refusal) => Err(refusal.during(&GET_CAPABILITY)),
        }
    }

    /// The first handle from `first` on.
    pub(super) fn next_handle(&mut self, first: u32) -> Result<Option<u32>, Fault> {
        let mut data = self.known_capability(TPM_CAP_HANDLES, first, 1)?;
        Ok(match (data.u32(), data.u32()) {
            (Ok(1..), Ok(handle)) => Some(handle),
            _ => None,
        })
    }

    /// Handles of the type of `first`.
    pub(super) fn count_handles(&mut self, first: u32) -> Result<usize, Fault> {
        let mut data = self.known_capability(TPM_CAP_HANDLES, first, 254)?;
        let count = data.u32().map_err(malformed(&GET_CAPABILITY))?;
        let handles = iter::repeat_with(|| data.u32().ok()).map_while(|handle| handle);
        Ok(handles
            .take(count as usize)
            .filter(|handle| handle >> 24 == first >> 24)
            .count())
    }

    /// A fixed property (part 2, 6.13).
    pub(super) fn property(&mut self, property: u32) -> Result<Option<u32>, Fault> {
        let mut data = self.known_capability(TPM_CAP_TPM_PROPERTIES, property, 1)?;
        Ok(match (data.u32(), data.u32(), data.u32()) {
            (Ok(1..), Ok(same), Ok(value)) if same == property => Some(value),
            _ => None,
        })
    }
}

/// For `map_err`: the response to `command` is cut short.
pub(super) fn malformed(command: &Command) -> impl Fn(WireError) -> Fault + use<> {
    let name = command.name;
    move |error| nonsense(name, &error.to_string())
}
