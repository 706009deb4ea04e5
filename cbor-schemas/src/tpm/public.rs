//! `TPMT_PUBLIC` of RSA and ECC keys (TPM 2.0 Library, part 2, 12.2.4).
//!
//! The Name of a key is the hash of these bytes. A verifier believes the attributes only once
//! `TPM2_ActivateCredential` has shown that a TPM holds an object of that Name.

use core::fmt;

use super::TPM_ALG_NULL;
use super::attributes::ObjectAttributes;
use super::digest::{HashAlg, MAX_DIGEST, hash};
use super::name::Name;
use super::wire::{Reader, WireError};
use crate::limits::MAX_TPMT_PUBLIC;

/// What an RSA exponent of 0 stands for (part 2, 12.2.3.5).
pub const DEFAULT_RSA_EXPONENT: u32 = 65537;

const TPM_ALG_RSA: u16 = 0x0001;
const TPM_ALG_AES: u16 = 0x0006;
const TPM_ALG_MGF1: u16 = 0x0007;
const TPM_ALG_RSASSA: u16 = 0x0014;
const TPM_ALG_RSAES: u16 = 0x0015;
const TPM_ALG_RSAPSS: u16 = 0x0016;
const TPM_ALG_OAEP: u16 = 0x0017;
const TPM_ALG_ECDSA: u16 = 0x0018;
const TPM_ALG_ECDH: u16 = 0x0019;
const TPM_ALG_KDF1_SP800_56A: u16 = 0x0020;
const TPM_ALG_KDF2: u16 = 0x0021;
const TPM_ALG_KDF1_SP800_108: u16 = 0x0022;
const TPM_ALG_ECC: u16 = 0x0023;
const TPM_ALG_CFB: u16 = 0x0043;

/// Largest RSA modulus, in bytes: 4,096 bits.
const MAX_RSA: usize = 512;

/// Why bytes are not a public area that can be handled here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicError {
    /// Truncated, too long or with bytes left over.
    Wire(WireError),
    /// Neither an RSA nor an ECC key.
    UnsupportedType(u16),
    /// `nameAlg`, or a scheme's hash, is unknown here; without a nameAlg there is no Name.
    UnsupportedHash(u16),
    /// A reserved bit of `objectAttributes` is set.
    ReservedAttributes(u32),
    /// `authPolicy` is neither empty nor a digest of `nameAlg`.
    PolicyLength(usize),
    /// A symmetric algorithm or mode other than AES-CFB with 128, 192 or 256 bits.
    UnsupportedSymmetric(u16),
    /// A signing, key exchange or key derivation scheme that is unknown here or not of this type.
    UnsupportedScheme(u16),
    /// `keyBits` other than 2048, 3072 or 4096.
    UnsupportedRsaBits(u16),
    /// An RSA exponent that is even or below 3.
    RsaExponent(u32),
    /// The RSA modulus does not have `keyBits` bits.
    RsaModulus,
    /// A curve other than NIST P-256 and P-384.
    UnsupportedCurve(u16),
    /// A coordinate is empty or longer than the curve's field.
    EccCoordinate(usize),
}

impl fmt::Display for PublicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wire(e) => write!(f, "TPMT_PUBLIC: {e}"),
            Self::UnsupportedType(v) => write!(f, "key type {v:#06x} is neither RSA nor ECC"),
            Self::UnsupportedHash(v) => write!(f, "unsupported hash algorithm {v:#06x}"),
            Self::ReservedAttributes(v) => {
                write!(f, "reserved bits set in objectAttributes {v:#010x}")
            }
            Self::PolicyLength(n) => write!(f, "authPolicy of {n} bytes is no digest of nameAlg"),
            Self::UnsupportedSymmetric(v) => write!(f, "unsupported symmetric cipher {v:#06x}"),
            Self::UnsupportedScheme(v) => write!(f, "unsupported scheme {v:#06x}"),
            Self::UnsupportedRsaBits(n) => write!(f, "unsupported RSA key size {n}"),
            Self::RsaExponent(v) => write!(f, "RSA exponent {v} is unsafe"),
            Self::RsaModulus => f.write_str("RSA modulus does not fit keyBits"),
            Self::UnsupportedCurve(v) => write!(f, "unsupported curve {v:#06x}"),
            Self::EccCoordinate(n) => write!(f, "ECC coordinate of {n} bytes"),
        }
    }
}

impl core::error::Error for PublicError {}

impl From<WireError> for PublicError {
    fn from(e: WireError) -> Self {
        Self::Wire(e)
    }
}

/// NIST curves (`TPM_ECC_CURVE`, part 2, 6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum EccCurve {
    /// `TPM_ECC_NIST_P256`.
    P256 = 0x0003,
    /// `TPM_ECC_NIST_P384`.
    P384 = 0x0004,
}

impl EccCurve {
    /// The curve with this `TPM_ECC_CURVE`.
    pub const fn from_u16(id: u16) -> Option<Self> {
        match id {
            0x0003 => Some(Self::P256),
            0x0004 => Some(Self::P384),
            _ => None,
        }
    }

    /// Length of a coordinate, and of `r` and `s` of a signature, in bytes.
    pub const fn field_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }
}

/// Longest uncompressed form of a point, in bytes.
pub const MAX_ECC_UNCOMPRESSED: usize = 1 + 2 * EccCurve::P384.field_len();

/// A point's coordinates, big-endian; leading zeros may be missing. Not checked to be on the curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EccPoint<'a> {
    /// Its curve.
    pub curve: EccCurve,
    /// The x coordinate, 1 to [`EccCurve::field_len`] bytes.
    pub x: &'a [u8],
    /// The y coordinate, 1 to [`EccCurve::field_len`] bytes.
    pub y: &'a [u8],
}

impl EccPoint<'_> {
    /// Writes the uncompressed form `04 || X || Y` (SEC 1, 2.3.3); returns the part of `out`
    /// written.
    pub fn uncompressed<'b>(&self, out: &'b mut [u8; MAX_ECC_UNCOMPRESSED]) -> &'b [u8] {
        let len = self.curve.field_len();
        out.fill(0);
        out[0] = 0x04;
        out[1 + len - self.x.len()..=len].copy_from_slice(self.x);
        out[1 + 2 * len - self.y.len()..=2 * len].copy_from_slice(self.y);
        &out[..=2 * len]
    }
}

/// The key itself (`parameters` and `unique`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    /// An RSA key.
    Rsa {
        /// The modulus, big-endian: 256, 384 or 512 bytes, highest bit set.
        modulus: &'a [u8],
        /// The exponent, with 0 already replaced by [`DEFAULT_RSA_EXPONENT`].
        exponent: u32,
    },
    /// An ECC key.
    Ecc(EccPoint<'a>),
}

/// The signing, encryption or key exchange scheme that the key is tied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyScheme {
    /// `TPM_ALG_NULL`: chosen at each use.
    Null,
    /// RSASSA-PKCS1-v1_5 with this hash.
    RsaSsa(HashAlg),
    /// RSASSA-PSS with this hash.
    RsaPss(HashAlg),
    /// RSAES-PKCS1-v1_5.
    RsaEs,
    /// RSAES-OAEP with this hash.
    Oaep(HashAlg),
    /// ECDSA with this hash.
    Ecdsa(HashAlg),
    /// ECDH with this hash.
    Ecdh(HashAlg),
}

/// The cipher that protects a storage key's children (`TPMT_SYM_DEF_OBJECT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Symmetric {
    /// AES key size, in bits: 128, 192 or 256. The mode is CFB.
    pub aes_bits: u16,
}

/// A parsed public area; keeps the bytes it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Public<'a> {
    raw: &'a [u8],
    name_alg: HashAlg,
    attributes: ObjectAttributes,
    auth_policy: &'a [u8],
    symmetric: Option<Symmetric>,
    scheme: KeyScheme,
    key: Key<'a>,
}

impl<'a> Public<'a> {
    /// Reads a public area that fills the whole input.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PublicError> {
        if bytes.len() > MAX_TPMT_PUBLIC {
            return Err(PublicError::Wire(WireError::TooLong {
                at: 0,
                len: bytes.len(),
                max: MAX_TPMT_PUBLIC,
            }));
        }
        let mut r = Reader::new(bytes);
        let kind = r.u16()?;
        if kind != TPM_ALG_RSA && kind != TPM_ALG_ECC {
            return Err(PublicError::UnsupportedType(kind));
        }
        let name_alg = read_hash(&mut r)?;
        let bits = r.u32()?;
        let attributes =
            ObjectAttributes::from_bits(bits).ok_or(PublicError::ReservedAttributes(bits))?;
        let auth_policy = r.tpm2b(MAX_DIGEST)?;
        if !auth_policy.is_empty() && auth_policy.len() != name_alg.digest_len() {
            return Err(PublicError::PolicyLength(auth_policy.len()));
        }
        let symmetric = read_symmetric(&mut r)?;
        let (scheme, key) = if kind == TPM_ALG_RSA {
            (read_rsa_scheme(&mut r)?, read_rsa(&mut r)?)
        } else {
            (read_ecc_scheme(&mut r)?, read_ecc(&mut r)?)
        };
        r.finish()?;
        Ok(Self {
            raw: bytes,
            name_alg,
            attributes,
            auth_policy,
            symmetric,
            scheme,
            key,
        })
    }

    /// The bytes this was parsed from.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.raw
    }

    /// The hash of the key's Name, and of what is wrapped for it.
    pub const fn name_alg(&self) -> HashAlg {
        self.name_alg
    }

    /// `objectAttributes`.
    pub const fn attributes(&self) -> ObjectAttributes {
        self.attributes
    }

    /// `authPolicy`: empty, or a digest of [`Self::name_alg`].
    pub const fn auth_policy(&self) -> &'a [u8] {
        self.auth_policy
    }

    /// The cipher for children; `None` for keys that have none.
    pub const fn symmetric(&self) -> Option<Symmetric> {
        self.symmetric
    }

    /// The scheme that the key is tied to.
    pub const fn scheme(&self) -> KeyScheme {
        self.scheme
    }

    /// The key.
    pub const fn key(&self) -> Key<'a> {
        self.key
    }

    /// The Name: `nameAlg || H(TPMT_PUBLIC)` (part 1, 16).
    pub fn name(&self) -> Name {
        Name::from_digest(&hash(self.name_alg, &[self.raw]))
    }

    /// Whether this can be an attestation key: made by its TPM, bound to it, and signs nothing
    /// but what that TPM vouches for, so that `TPM_GENERATED_VALUE` in what it signed is proof.
    pub fn is_restricted_signing_key(&self) -> bool {
        let a = self.attributes;
        a.bound_to_tpm()
            && a.restricted()
            && a.sign()
            && !a.decrypt()
            // An x509sign key signs certificates only (part 2, 8.3.3).
            && !a.x509_sign()
            && matches!(
                self.scheme,
                KeyScheme::Ecdsa(_) | KeyScheme::RsaSsa(_) | KeyScheme::RsaPss(_)
            )
    }

    /// Whether this is a storage key bound to its TPM: what credentials can be made for.
    pub fn is_storage_key(&self) -> bool {
        let a = self.attributes;
        a.bound_to_tpm()
            && a.restricted()
            && a.decrypt()
            && !a.sign()
            && self.symmetric.is_some()
            && self.scheme == KeyScheme::Null
    }

    /// Whether this has the form of an endorsement key: a storage key with `adminWithPolicy` and a
    /// policy, as all templates of the TCG EK Credential Profile (2.5, annex B.3 and B.4) have.
    /// Whether it *is* one, only its certificate or an operator can say.
    pub fn is_endorsement_key(&self) -> bool {
        self.is_storage_key() && self.attributes.admin_with_policy() && !self.auth_policy.is_empty()
    }
}

fn read_hash(r: &mut Reader<'_>) -> Result<HashAlg, PublicError> {
    let id = r.u16()?;
    HashAlg::from_u16(id).ok_or(PublicError::UnsupportedHash(id))
}

/// `TPMT_SYM_DEF_OBJECT` (part 2, 11.1.7).
fn read_symmetric(r: &mut Reader<'_>) -> Result<Option<Symmetric>, PublicError> {
    match r.u16()? {
        TPM_ALG_NULL => Ok(None),
        TPM_ALG_AES => {
            let aes_bits = r.u16()?;
            let mode = r.u16()?;
            if !matches!(aes_bits, 128 | 192 | 256) {
                return Err(PublicError::UnsupportedSymmetric(TPM_ALG_AES));
            }
            // The only mode that a storage key may have (part 2, 11.1.7).
            if mode != TPM_ALG_CFB {
                return Err(PublicError::UnsupportedSymmetric(mode));
            }
            Ok(Some(Symmetric { aes_bits }))
        }
        other => Err(PublicError::UnsupportedSymmetric(other)),
    }
}

/// `TPMT_RSA_SCHEME` (part 2, 11.2.4.2).
fn read_rsa_scheme(r: &mut Reader<'_>) -> Result<KeyScheme, PublicError> {
    Ok(match r.u16()? {
        TPM_ALG_NULL => KeyScheme::Null,
        TPM_ALG_RSAES => KeyScheme::RsaEs,
        TPM_ALG_RSASSA => KeyScheme::RsaSsa(read_hash(r)?),
        TPM_ALG_RSAPSS => KeyScheme::RsaPss(read_hash(r)?),
        TPM_ALG_OAEP => KeyScheme::Oaep(read_hash(r)?),
        other => return Err(PublicError::UnsupportedScheme(other)),
    })
}

/// `TPMT_ECC_SCHEME` (part 2, 11.2.5.6).
fn read_ecc_scheme(r: &mut Reader<'_>) -> Result<KeyScheme, PublicError> {
    Ok(match r.u16()? {
        TPM_ALG_NULL => KeyScheme::Null,
        TPM_ALG_ECDSA => KeyScheme::Ecdsa(read_hash(r)?),
        TPM_ALG_ECDH => KeyScheme::Ecdh(read_hash(r)?),
        other => return Err(PublicError::UnsupportedScheme(other)),
    })
}

/// `keyBits`, `exponent` and `unique` (part 2, 12.2.3.5 and 11.2.4.5).
fn read_rsa<'a>(r: &mut Reader<'a>) -> Result<Key<'a>, PublicError> {
    let bits = r.u16()?;
    if !matches!(bits, 2048 | 3072 | 4096) {
        return Err(PublicError::UnsupportedRsaBits(bits));
    }
    let exponent = match r.u32()? {
        0 => DEFAULT_RSA_EXPONENT,
        e if e < 3 || e % 2 == 0 => return Err(PublicError::RsaExponent(e)),
        e => e,
    };
    let modulus = r.tpm2b(MAX_RSA)?;
    let full = modulus.first().is_some_and(|first| first & 0x80 != 0);
    if modulus.len() != usize::from(bits) / 8 || !full {
        return Err(PublicError::RsaModulus);
    }
    Ok(Key::Rsa { modulus, exponent })
}

/// `curveID`, `kdf` and `unique` (part 2, 12.2.3.6 and 11.2.5.2).
fn read_ecc<'a>(r: &mut Reader<'a>) -> Result<Key<'a>, PublicError> {
    let id = r.u16()?;
    let curve = EccCurve::from_u16(id).ok_or(PublicError::UnsupportedCurve(id))?;
    match r.u16()? {
        TPM_ALG_NULL => {}
        TPM_ALG_MGF1 | TPM_ALG_KDF1_SP800_56A | TPM_ALG_KDF2 | TPM_ALG_KDF1_SP800_108 => {
            read_hash(r)?;
        }
        other => return Err(PublicError::UnsupportedScheme(other)),
    }
    let mut coordinate = || match r.tpm2b(MAX_RSA)? {
        c if c.is_empty() || c.len() > curve.field_len() => {
            Err(PublicError::EccCoordinate(c.len()))
        }
        c => Ok(c),
    };
    let (x, y) = (coordinate()?, coordinate()?);
    Ok(Key::Ecc(EccPoint { curve, x, y }))
}
