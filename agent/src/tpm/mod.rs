//! The TPM as the session needs it: seven blocking operations, behind the object-safe trait [`Tpm`].
//!
//! TPM 2.0 Library parts 1 to 3; templates from the TCG EK Credential Profile 2.3. The TPM and the
//! path to it are trusted by the agent only as far as the *device* goes: whatever comes back is
//! passed on, and the verifier checks it. A TPM that lies costs the device its verdict, never the
//! agent's memory: everything returned is bounded by [`mote_schemas::limits`].

mod address;
#[cfg(any(feature = "esapi", feature = "tpm-direct"))]
mod certificate;
#[cfg(any(feature = "esapi", feature = "tpm-direct"))]
mod connection;
#[cfg(feature = "tpm-direct")]
mod direct;
mod error;
#[cfg(feature = "esapi")]
mod esapi;
#[cfg(feature = "esapi")]
pub mod libraries;
#[cfg(any(feature = "esapi", feature = "tpm-direct"))]
mod selection;

use heapless::Vec;
use mote_schemas::limits::{MAX_PCR_BANKS, MAX_TPMS_ATTEST, MAX_TPMT_PUBLIC, MAX_TPMT_SIGNATURE};
use zeroize::Zeroizing;

pub use address::{AddressError, TpmAddress};
#[cfg(feature = "tpm-direct")]
pub use direct::DirectTpm;
pub use error::TpmError;
#[cfg(feature = "esapi")]
pub use esapi::EsapiTpm;

/// Which algorithm a key is to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyKind {
    /// Endorsement key: the one that has a certificate in NV memory; where none has, and for the
    /// attestation key, ECC P-256 if the TPM can do it, else RSA-2048.
    #[default]
    Auto,
    /// ECC NIST P-256.
    Ecc,
    /// RSA-2048.
    Rsa,
}

/// How to reach a TPM and which keys to use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TpmOptions {
    /// Where it is.
    pub address: TpmAddress,
    /// Algorithm of the endorsement key.
    pub ek: KeyKind,
    /// Algorithm of the attestation key.
    pub ak: KeyKind,
}

/// What the TPM has loaded: everyone's on a TPM without resource manager, else only ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldHandles {
    /// Transient objects.
    pub objects: usize,
    /// Sessions.
    pub sessions: usize,
}

/// PCRs of one bank: what one `TPMS_PCR_SELECTION` says (TPM 2.0 Library part 2, 10.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcrSelection {
    /// `TPM_ALG_ID` of the bank, such as 0x000B for SHA-256.
    pub bank: u16,
    /// Bit `n` selects PCR `n`; the low 24 bits count.
    pub mask: u32,
}

/// The two keys by which a verifier knows this device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `TPMT_PUBLIC` of the endorsement key, as the TPM gave it.
    pub ek: Vec<u8, MAX_TPMT_PUBLIC>,
    /// `TPMT_PUBLIC` of the attestation key, as the TPM gave it.
    pub ak: Vec<u8, MAX_TPMT_PUBLIC>,
}

/// What `TPM2_Quote` returned (TPM 2.0 Library part 3, 18.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// `TPMS_ATTEST`.
    pub attest: Vec<u8, MAX_TPMS_ATTEST>,
    /// `TPMT_SIGNATURE` by the attestation key over `attest`.
    pub signature: Vec<u8, MAX_TPMT_SIGNATURE>,
}

/// Most bytes of an activated secret: a `TPM2B_DIGEST` holds no more than the largest hash.
pub const MAX_SECRET: usize = 64;

/// The secret that `TPM2_ActivateCredential` released. Wiped when dropped, never printed.
pub struct Secret {
    bytes: Zeroizing<[u8; MAX_SECRET]>,
    len: usize,
}

impl Secret {
    /// Keeps a copy of `bytes`; `None` when there are more than [`MAX_SECRET`].
    pub fn new(bytes: &[u8]) -> Option<Secret> {
        let mut kept = Zeroizing::new([0; MAX_SECRET]);
        kept.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Secret {
            bytes: kept,
            len: bytes.len(),
        })
    }

    /// The secret itself.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Secret({} bytes)", self.len)
    }
}

/// Connects to the TPM, by the implementation that this build has; by tpm2-tss where it has both.
#[cfg_attr(
    not(any(feature = "esapi", feature = "tpm-direct")),
    expect(unused_variables)
)]
pub fn open(options: &TpmOptions) -> Result<Box<dyn Tpm>, TpmError> {
    #[cfg(feature = "esapi")]
    return Ok(Box::new(EsapiTpm::new(options.clone())?));
    #[cfg(all(feature = "tpm-direct", not(feature = "esapi")))]
    return Ok(Box::new(DirectTpm::new(options.clone())?));
    #[cfg(not(any(feature = "esapi", feature = "tpm-direct")))]
    return Err(TpmError::Unsupported {
        what: "driver in this build",
        instead: "the feature esapi or tpm-direct when building",
    });
}

/// A TPM 2.0. Every call blocks until the chip has answered: some 10 ms for a quote, up to tens of
/// seconds for [`Tpm::identity`] on a chip that must search RSA primes.
///
/// After any call, failed or not, the TPM holds no session and no transient object of ours except
/// the attestation key.
pub trait Tpm {
    /// Creates (or finds) the endorsement key and the attestation key and returns their public
    /// parts. Both are primary keys from fixed templates, so a TPM always gives the same two until
    /// it is cleared by the manufacturer's command. Cheap after the first call.
    fn identity(&mut self) -> Result<Identity, TpmError>;

    /// Copies the endorsement key's X.509 certificate (DER, without the padding that follows it in
    /// NV memory) into `out` and returns its length; `None` where the TPM holds none for the
    /// endorsement key that [`Tpm::identity`] returns.
    ///
    /// [`TpmError::TooLarge`] when it exceeds `out` or
    /// [`MAX_EK_CERTIFICATE`](mote_schemas::limits::MAX_EK_CERTIFICATE).
    fn ek_certificate(&mut self, out: &mut [u8]) -> Result<Option<usize>, TpmError>;

    /// `TPM2_ActivateCredential`: the proof that both keys live in this TPM, and how the session's
    /// secret gets here. The arguments are the contents of `TPM2B_ID_OBJECT` and
    /// `TPM2B_ENCRYPTED_SECRET`, without their outer two-byte sizes.
    ///
    /// [`TpmError::WrongCredential`] when the credential was not made for exactly these two keys.
    fn activate_credential(
        &mut self,
        credential_blob: &[u8],
        encrypted_secret: &[u8],
    ) -> Result<Secret, TpmError>;

    /// `TPM2_Quote` by the attestation key.
    ///
    /// [`TpmError::NoSuchPcr`] when `selection` asks for a bank or PCR that the TPM does not have:
    /// `TPM2_Quote` itself would silently leave it out.
    fn quote(
        &mut self,
        selection: &[PcrSelection],
        qualifying_data: &[u8; 32],
    ) -> Result<Quote, TpmError>;

    /// Copies the values of the selected PCRs into `out`, back to back, and returns the number of
    /// bytes: banks in the order of `selection`, PCRs ascending within a bank, which is the order
    /// in which `TPM2_Quote` hashes them. All values are of one moment.
    ///
    /// [`TpmError::PcrsMoving`] when PCRs change faster than they can be read,
    /// [`TpmError::TooLarge`] when `out` is too small.
    fn read_pcrs(&mut self, selection: &[PcrSelection], out: &mut [u8]) -> Result<usize, TpmError>;

    /// The active PCR banks with the PCRs that each has.
    fn banks(&mut self) -> Result<Vec<PcrSelection, MAX_PCR_BANKS>, TpmError>;

    /// Fills `out` from the TPM's random number generator.
    fn random(&mut self, out: &mut [u8]) -> Result<(), TpmError>;

    /// Counts the transient objects and sessions that are loaded, by `TPM2_GetCapability`.
    fn held_handles(&mut self) -> Result<HeldHandles, TpmError>;
}
