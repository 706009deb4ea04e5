//! What every way to a TPM does alike: connecting and connecting again, and choosing keys.
//!
//! TPM 2.0 Library part 1. A TPM may be reset under us and may answer anything; whatever a caller is told
//! then is one of [`TpmError`].

use super::certificate::Algorithm;
use super::{KeyKind, TpmError, TpmOptions};

/// Why a command failed: the error to report, and whether the connection is of further use.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) error: TpmError,
    pub(super) connection: Connection,
}

/// What a failed command says about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
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

/// A connection, with what was found out through it. Flushes what it has loaded when it is dropped.
pub(super) trait Open: Sized {
    /// Connects.
    fn open(options: &TpmOptions) -> Result<Self, TpmError>;
}

/// A connection that is made anew when it is lost.
#[derive(Debug)]
pub(super) struct Connected<O> {
    options: TpmOptions,
    open: Option<O>,
}

impl<O: Open> Connected<O> {
    /// Connects.
    pub(super) fn new(options: TpmOptions) -> Result<Self, TpmError> {
        let open = Some(O::open(&options)?);
        Ok(Self { options, open })
    }

    /// Runs `operation` on a connected TPM. A connection from before this call may have gone stale
    /// since, so it gets a second chance.
    pub(super) fn with<T>(
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
