//! `TPMT_SIGNATURE` of ECDSA, RSASSA and RSAPSS (TPM 2.0 Library, part 2, 11.3.4).

use core::fmt;

use super::digest::HashAlg;
use super::public::EccCurve;
use super::wire::{EncodeError, Reader, WireError, Writer};
use crate::limits::MAX_TPMT_SIGNATURE;

const TPM_ALG_RSASSA: u16 = 0x0014;
const TPM_ALG_RSAPSS: u16 = 0x0016;
const TPM_ALG_ECDSA: u16 = 0x0018;

/// Largest RSA signature, in bytes: 4,096 bits.
const MAX_RSA: usize = 512;
/// Largest `r` or `s`, in bytes: P-384.
const MAX_ECC: usize = EccCurve::P384.field_len();

/// Largest fixed form of an ECDSA signature, in bytes.
pub const MAX_ECDSA_FIXED: usize = 2 * MAX_ECC;

/// Why bytes are not a signature that can be handled here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureError {
    /// Truncated, too long or with bytes left over.
    Wire(WireError),
    /// A signature scheme other than ECDSA, RSASSA and RSAPSS.
    UnsupportedScheme(u16),
    /// A hash that is not known here.
    UnsupportedHash(u16),
    /// Not an ECDSA signature, and no other has a fixed form.
    NotEcdsa,
    /// `r` or `s` is longer than the curve's field, or empty.
    EccLength(usize),
}

impl fmt::Display for SignatureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wire(e) => write!(f, "TPMT_SIGNATURE: {e}"),
            Self::UnsupportedScheme(v) => write!(f, "unsupported signature scheme {v:#06x}"),
            Self::UnsupportedHash(v) => write!(f, "unsupported hash algorithm {v:#06x}"),
            Self::NotEcdsa => f.write_str("not an ECDSA signature"),
            Self::EccLength(n) => write!(f, "ECDSA r or s of {n} bytes does not fit the curve"),
        }
    }
}

impl core::error::Error for SignatureError {}

impl From<WireError> for SignatureError {
    fn from(e: WireError) -> Self {
        Self::Wire(e)
    }
}

/// A signature, as the TPM returned it. Nothing says that it verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature<'a> {
    /// ECDSA.
    Ecdsa {
        /// The hash that was signed.
        hash: HashAlg,
        /// `r`, big-endian, 1 to 48 bytes; leading zeros may be missing.
        r: &'a [u8],
        /// `s`, likewise.
        s: &'a [u8],
    },
    /// RSASSA-PKCS1-v1_5.
    RsaSsa {
        /// The hash that was signed.
        hash: HashAlg,
        /// The signature, at most 512 bytes.
        sig: &'a [u8],
    },
    /// RSASSA-PSS. The salt is as long as the hash, or as long as fits (part 1, B.7).
    RsaPss {
        /// The hash that was signed.
        hash: HashAlg,
        /// The signature, at most 512 bytes.
        sig: &'a [u8],
    },
}

impl<'a> Signature<'a> {
    /// Reads a signature that fills the whole input.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SignatureError> {
        if bytes.len() > MAX_TPMT_SIGNATURE {
            return Err(SignatureError::Wire(WireError::TooLong {
                at: 0,
                len: bytes.len(),
                max: MAX_TPMT_SIGNATURE,
            }));
        }
        let mut reader = Reader::new(bytes);
        let scheme = reader.u16()?;
        if !matches!(scheme, TPM_ALG_ECDSA | TPM_ALG_RSASSA | TPM_ALG_RSAPSS) {
            return Err(SignatureError::UnsupportedScheme(scheme));
        }
        let id = reader.u16()?;
        let hash = HashAlg::from_u16(id).ok_or(SignatureError::UnsupportedHash(id))?;
        let signature = if scheme == TPM_ALG_ECDSA {
            let r = reader.tpm2b(MAX_ECC)?;
            let s = reader.tpm2b(MAX_ECC)?;
            if r.is_empty() || s.is_empty() {
                return Err(SignatureError::EccLength(0));
            }
            Self::Ecdsa { hash, r, s }
        } else {
            let sig = reader.tpm2b(MAX_RSA)?;
            if scheme == TPM_ALG_RSASSA {
                Self::RsaSsa { hash, sig }
            } else {
                Self::RsaPss { hash, sig }
            }
        };
        reader.finish()?;
        Ok(signature)
    }

    /// The ECDSA signature whose fixed form (`r || s`, equally long) is `rs`.
    pub fn from_ecdsa_fixed(hash: HashAlg, rs: &'a [u8]) -> Result<Self, SignatureError> {
        let half = rs.len() / 2;
        if rs.is_empty() || !rs.len().is_multiple_of(2) || half > MAX_ECC {
            return Err(SignatureError::EccLength(rs.len()));
        }
        let (r, s) = rs.split_at(half);
        Ok(Self::Ecdsa { hash, r, s })
    }

    /// The hash that was signed.
    pub const fn hash(&self) -> HashAlg {
        match *self {
            Self::Ecdsa { hash, .. } | Self::RsaSsa { hash, .. } | Self::RsaPss { hash, .. } => {
                hash
            }
        }
    }

    /// Writes the signature; returns the part of `out` written. [`MAX_TPMT_SIGNATURE`] bytes are
    /// always enough.
    pub fn encode<'b>(&self, out: &'b mut [u8]) -> Result<&'b [u8], EncodeError> {
        let mut w = Writer::new(out);
        match *self {
            Self::Ecdsa { hash, r, s } => {
                w.u16(TPM_ALG_ECDSA)?;
                w.u16(hash.to_u16())?;
                w.tpm2b(r, MAX_ECC)?;
                w.tpm2b(s, MAX_ECC)?;
            }
            Self::RsaSsa { hash, sig } => {
                w.u16(TPM_ALG_RSASSA)?;
                w.u16(hash.to_u16())?;
                w.tpm2b(sig, MAX_RSA)?;
            }
            Self::RsaPss { hash, sig } => {
                w.u16(TPM_ALG_RSAPSS)?;
                w.u16(hash.to_u16())?;
                w.tpm2b(sig, MAX_RSA)?;
            }
        }
        Ok(w.finish())
    }

    /// Writes `r || s`, each left-padded to the field of `curve` (RFC 9053, 2.1; IEEE P1363);
    /// returns the part of `out` written.
    pub fn ecdsa_fixed<'b>(
        &self,
        curve: EccCurve,
        out: &'b mut [u8; MAX_ECDSA_FIXED],
    ) -> Result<&'b [u8], SignatureError> {
        let Self::Ecdsa { r, s, .. } = *self else {
            return Err(SignatureError::NotEcdsa);
        };
        let len = curve.field_len();
        for n in [r, s] {
            if n.is_empty() || n.len() > len {
                return Err(SignatureError::EccLength(n.len()));
            }
        }
        out.fill(0);
        out[len - r.len()..len].copy_from_slice(r);
        out[2 * len - s.len()..2 * len].copy_from_slice(s);
        Ok(&out[..2 * len])
    }
}
