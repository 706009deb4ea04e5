//! The TPM 2.0 structures that evidence is made of (TPM 2.0 Library, part 2; all big-endian).
//!
//! Only what a quote needs: [`Attest`] (`TPMS_ATTEST`), [`Public`] (`TPMT_PUBLIC`), [`Signature`]
//! (`TPMT_SIGNATURE`), [`Name`], [`PcrSelection`] and the digests they carry. Every structure is
//! parsed whole: bytes left over are an error, and `encode(parse(x)) == x` for all that parse.
//!
//! The peer may lie in every byte. A parsed structure says what was claimed in well-formed words;
//! a signature and a proven key make it evidence, and both are the verifier's business.

mod attest;
mod attributes;
mod digest;
mod elide;
mod name;
mod pcr_selection;
mod public;
mod signature;
mod wire;

pub use attest::{Attest, AttestError, ClockInfo, TPM_GENERATED_VALUE, TPM_ST_ATTEST_QUOTE};
pub use attributes::ObjectAttributes;
pub use digest::{Digest, HashAlg, Hasher, MAX_DIGEST, hash};
pub use elide::{Baseline, Elided, LowClock, elide};
pub use name::{Hierarchy, MAX_NAME, Name, NameError};
pub use pcr_selection::{BankSelection, PcrIter, PcrSelection, PcrSelectionError};
pub use public::{
    DEFAULT_RSA_EXPONENT, EccCurve, EccPoint, Key, KeyScheme, MAX_ECC_UNCOMPRESSED, Public,
    PublicError, Symmetric,
};
pub use signature::{MAX_ECDSA_FIXED, Signature, SignatureError};
pub use wire::{EncodeError, Reader, WireError, Writer, tpm2b};

/// `TPM_ALG_NULL`: no algorithm chosen (part 2, 6.3).
pub const TPM_ALG_NULL: u16 = 0x0010;
