//! What every way to a TPM does alike: connecting and connecting again, choosing keys, and what comes before
//! and after a command.
//!
//! TPM 2.0 Library part 1. A TPM may be reset under us and may answer anything; whatever a caller is told
//! then is one of [`TpmError`].

use heapless::Vec;
use mote_schemas::limits::MAX_PCR_BANKS;

use super::certificate::Algorithm;
use super::selection::{self, Banks};
use super::{
    HeldHandles, Identity, KeyKind, PcrSelection, Quote, Secret, Tpm, TpmError, TpmOptions,
};

/// Why a command failed: the error to report, and whether the connection is of further use.
#[derive(Debug)]
pub struct Fault {
    /// What to tell the caller.
    pub error: TpmError,
    /// What is left.
    pub connection: Connection,
}

/// What a failed command says about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// The TPM answered, and what it holds is known.
    Sound,
    /// The TPM may have been reset under us, or we lost track of what it holds: connect anew.
    Lost,
}

impl Fault {
    /// After which the connection is of no further use.
    pub(super) fn lost(error: TpmError) -> Self {
        Self {
            error,
            connection: Connection::Lost,
        }
    }
}

impl From<TpmError> for Fault {
    fn from(error: TpmError) -> Self {
        Self {
            error,
            connection: Connection::Sound,
        }
    }
}

/// A connection, with what was found out through it: [`Tpm`]'s operations, each tried once. Flushes what it
/// has loaded when it is dropped.
pub trait Open: Sized {
    /// Connects.
    fn open(options: &TpmOptions) -> Result<Self, TpmError>;
    /// As [`Tpm::identity`].
    fn identity(&mut self, options: &TpmOptions) -> Result<Identity, Fault>;
    /// As [`Tpm::ek_certificate`].
    fn ek_certificate(&mut self, out: &mut [u8]) -> Result<Option<usize>, Fault>;
    /// As [`Tpm::activate_credential`].
    fn activate(
        &mut self,
        options: &TpmOptions,
        credential_blob: &[u8],
        encrypted_secret: &[u8],
    ) -> Result<Secret, Fault>;
    /// As [`Tpm::quote`], of PCRs that are there.
    fn quote(
        &mut self,
        options: &TpmOptions,
        selection: &[PcrSelection],
        qualifying_data: &[u8; 32],
    ) -> Result<Quote, Fault>;
    /// As [`Tpm::read_pcrs`], of PCRs that are there.
    fn read_pcrs(&mut self, selection: &[PcrSelection], out: &mut [u8]) -> Result<usize, Fault>;
    /// The banks of hashes known here that have PCRs.
    fn banks(&mut self) -> Result<Banks, Fault>;
    /// As [`Tpm::random`].
    fn random(&mut self, out: &mut [u8]) -> Result<(), Fault>;
    /// How many handles are loaded of the type whose first one this is.
    fn count_handles(&mut self, first: u32) -> Result<usize, Fault>;
}

/// A TPM whose connection is made anew when it is lost.
#[derive(Debug)]
pub struct Connected<O> {
    options: TpmOptions,
    open: Option<O>,
}

impl<O: Open> Connected<O> {
    /// Connects.
    ///
    /// # Errors
    /// [`TpmError::NoDevice`], [`TpmError::NoPermission`], [`TpmError::InUse`],
    /// [`TpmError::NoSimulator`] or, with tpm2-tss, [`TpmError::NoTransport`] when there is no way to a
    /// TPM.
    pub fn new(options: TpmOptions) -> Result<Self, TpmError> {
        let open = Some(O::open(&options)?);
        Ok(Self { options, open })
    }

    /// Runs `operation` on a connected TPM. A connection from before this call may have gone stale
    /// since, so it gets a second chance.
    fn with<T>(
        &mut self,
        mut operation: impl FnMut(&mut O, &TpmOptions) -> Result<T, Fault>,
    ) -> Result<T, TpmError> {
        loop {
            let reused = self.open.is_some();
            let open = match &mut self.open {
                Some(open) => open,
                none => none.insert(O::open(&self.options)?),
            };
            match operation(open, &self.options) {
                Ok(value) => return Ok(value),
                Err(fault) => {
                    if fault.connection == Connection::Lost {
                        self.open = None;
                        if reused {
                            log::info!("{}; connecting again", fault.error);
                            continue;
                        }
                    }
                    return Err(fault.error);
                }
            }
        }
    }
}

impl<O: Open> Tpm for Connected<O> {
    fn identity(&mut self) -> Result<Identity, TpmError> {
        self.with(O::identity)
    }

    fn ek_certificate(&mut self, out: &mut [u8]) -> Result<Option<usize>, TpmError> {
        self.with(|open, _| open.ek_certificate(out))
    }

    fn activate_credential(
        &mut self,
        credential_blob: &[u8],
        encrypted_secret: &[u8],
    ) -> Result<Secret, TpmError> {
        self.with(|open, options| open.activate(options, credential_blob, encrypted_secret))
    }

    fn quote(
        &mut self,
        selection: &[PcrSelection],
        qualifying_data: &[u8; 32],
    ) -> Result<Quote, TpmError> {
        self.with(|open, options| {
            selection::check(selection, &open.banks()?)?;
            open.quote(options, selection, qualifying_data)
        })
    }

    fn read_pcrs(&mut self, selection: &[PcrSelection], out: &mut [u8]) -> Result<usize, TpmError> {
        self.with(|open, _| {
            selection::check(selection, &open.banks()?)?;
            open.read_pcrs(selection, out)
        })
    }

    fn banks(&mut self) -> Result<Vec<PcrSelection, MAX_PCR_BANKS>, TpmError> {
        self.with(|open, _| Ok(open.banks()?.into_iter().take(MAX_PCR_BANKS).collect()))
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), TpmError> {
        self.with(|open, _| open.random(out))
    }

    fn held_handles(&mut self) -> Result<HeldHandles, TpmError> {
        /// First handles of part 2, 7.2: loaded sessions have two types.
        const HMAC_SESSION: u32 = 0x0200_0000;
        const POLICY_SESSION: u32 = 0x0300_0000;
        const TRANSIENT: u32 = 0x8000_0000;
        self.with(|open, _| {
            Ok(HeldHandles {
                objects: open.count_handles(TRANSIENT)?,
                sessions: open.count_handles(HMAC_SESSION)? + open.count_handles(POLICY_SESSION)?,
            })
        })
    }
}

/// The TPM's answer to `command` is not what the specification says, for the reason in `text`.
pub(super) fn nonsense(command: &'static str, text: &str) -> Fault {
    Fault::lost(TpmError::Response {
        command,
        code: 0,
        text: text.to_owned(),
    })
}

/// A copy of what a TPM returned, if there is room for it.
pub(super) fn bounded<const N: usize>(
    what: &'static str,
    bytes: &[u8],
) -> Result<Vec<u8, N>, Fault> {
    Vec::from_slice(bytes).map_err(|_| {
        TpmError::TooLarge {
            what,
            size: bytes.len(),
            limit: N,
        }
        .into()
    })
}

/// What the choice of keys depends on.
pub(super) trait Offers {
    /// Whether the TPM can do ECC NIST P-256.
    fn has_p256(&mut self) -> Result<bool, Fault>;
    /// Whether the endorsement key of this algorithm has a certificate in NV memory.
    fn has_certificate(&mut self, algorithm: Algorithm) -> Result<bool, Fault>;
}

/// `auto`: the key that has a certificate, since that is the one the manufacturer vouches for.
pub(super) fn choose_endorsement_key(
    tpm: &mut impl Offers,
    kind: KeyKind,
) -> Result<Algorithm, Fault> {
    match kind {
        KeyKind::Rsa => Ok(Algorithm::Rsa),
        KeyKind::Ecc if tpm.has_p256()? => Ok(Algorithm::Ecc),
        KeyKind::Ecc => Err(no_ecc("`ek = \"rsa\"`")),
        KeyKind::Auto => {
            let ecc = tpm.has_p256()?;
            if ecc && tpm.has_certificate(Algorithm::Ecc)? {
                Ok(Algorithm::Ecc)
            } else if !ecc || tpm.has_certificate(Algorithm::Rsa)? {
                Ok(Algorithm::Rsa)
            } else {
                Ok(Algorithm::Ecc)
            }
        }
    }
}

/// `auto`: ECC where the TPM can do it.
pub(super) fn choose_attestation_key(
    tpm: &mut impl Offers,
    kind: KeyKind,
) -> Result<Algorithm, Fault> {
    match kind {
        KeyKind::Ecc | KeyKind::Auto if tpm.has_p256()? => Ok(Algorithm::Ecc),
        KeyKind::Ecc => Err(no_ecc("`ak = \"rsa\"`")),
        KeyKind::Rsa | KeyKind::Auto => Ok(Algorithm::Rsa),
    }
}

fn no_ecc(instead: &'static str) -> Fault {
    TpmError::Unsupported {
        what: "ECC P-256",
        instead,
    }
    .into()
}
