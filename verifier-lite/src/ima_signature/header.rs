//! `signature_v2_hdr`: what stands in front of a signature in `security.ima` and `security.evm`.
//!
//! ```text
//! u8 type | u8 version | u8 hash_algo | be32 keyid | be16 sig_size | sig
//! ```
//! Type and version are not signed themselves; what each makes of the digest is. `hash_algo` is the kernel's
//! `enum hash_algo` (`include/uapi/linux/hash_info.h`).

use std::fmt;

use mote_schemas::tpm::HashAlg;

use super::KeyId;

/// Bytes in front of the signature.
const HEADER: usize = 9;

/// Longest signature, in bytes: RSA-8192.
const MAX_SIGNATURE: usize = 1024;

/// What is signed (`enum evm_ima_xattr_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignatureType {
    /// `EVM_IMA_XATTR_DIGSIG`: the digest of the file's contents.
    File,
    /// `EVM_XATTR_PORTABLE_DIGSIG`: the file's attributes, its `security.ima` among them.
    EvmPortable,
    /// `IMA_VERITY_DIGSIG`: the digest that fs-verity makes of the file.
    Verity,
}

impl SignatureType {
    /// As in the header and in `ima_file_id`.
    pub(super) fn to_u8(self) -> u8 {
        match self {
            SignatureType::File => 3,
            SignatureType::EvmPortable => 5,
            SignatureType::Verity => 6,
        }
    }
}

/// How the digest that is signed comes from the one in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// It is that one.
    V2,
    /// It is the hash of an `ima_file_id` with that one in it.
    V3,
}

/// Why these bytes are no signature header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Fewer bytes than a header has.
    Truncated(usize),
    /// A type other than those of signatures.
    Type(u8),
    /// A version other than 2 and 3, or one that does not go with the type. Version 1 (RSA by SHA-1 of
    /// everything, Linux before 3.9) is not accepted.
    Version(u8),
    /// A hash algorithm that is not accepted in signatures: not SHA-256, SHA-384 or SHA-512.
    Hash(u8),
    /// `sig_size` is not the number of bytes that follow, or no signature is so long.
    Length(usize),
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderError::Truncated(len) => write!(f, "{len} bytes are no signature"),
            HeaderError::Type(value) => write!(f, "type {value} at offset 0 is not a signature's"),
            HeaderError::Version(value) => {
                write!(f, "version {value} at offset 1 is not accepted")
            }
            HeaderError::Hash(value) => write!(
                f,
                "hash algorithm {value} at offset 2 is not accepted in signatures"
            ),
            HeaderError::Length(len) => {
                write!(f, "length {len} at offset 7 is not the signature's")
            }
        }
    }
}

impl std::error::Error for HeaderError {}

/// A signature with its header, in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignatureHeader<'a> {
    kind: SignatureType,
    version: Version,
    hash: HashAlg,
    key_id: KeyId,
    signature: &'a [u8],
}

impl<'a> SignatureHeader<'a> {
    /// Reads a whole attribute value.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        let Some((&[kind, version, hash, k0, k1, k2, k3, high, low], signature)) =
            bytes.split_first_chunk::<HEADER>()
        else {
            return Err(HeaderError::Truncated(bytes.len()));
        };
        let kind = match kind {
            3 => SignatureType::File,
            5 => SignatureType::EvmPortable,
            6 => SignatureType::Verity,
            other => return Err(HeaderError::Type(other)),
        };
        let version = match version {
            2 if kind != SignatureType::Verity => Version::V2,
            3 => Version::V3,
            other => return Err(HeaderError::Version(other)),
        };
        let hash = hash_from_u8(hash).ok_or(HeaderError::Hash(hash))?;
        let len = usize::from(u16::from_be_bytes([high, low]));
        if len != signature.len() || len == 0 || len > MAX_SIGNATURE {
            return Err(HeaderError::Length(len));
        }
        Ok(SignatureHeader {
            kind,
            version,
            hash,
            key_id: KeyId([k0, k1, k2, k3]),
            signature,
        })
    }

    /// What is signed.
    pub fn kind(&self) -> SignatureType {
        self.kind
    }

    /// The hash that it was signed with, which is also that of the file.
    pub fn hash(&self) -> HashAlg {
        self.hash
    }

    /// Whose it claims to be.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// RSA: PKCS#1 v1.5. ECDSA: `ECDSA-Sig-Value` in DER.
    pub fn signature(&self) -> &'a [u8] {
        self.signature
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }
}

/// `enum hash_algo`, as far as it is accepted in signatures.
fn hash_from_u8(value: u8) -> Option<HashAlg> {
    [HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512]
        .into_iter()
        .find(|alg| hash_to_u8(*alg) == value)
}

/// Number in `enum hash_algo`.
pub(super) fn hash_to_u8(alg: HashAlg) -> u8 {
    match alg {
        HashAlg::Sha1 => 2,
        HashAlg::Sha256 => 4,
        HashAlg::Sha384 => 5,
        HashAlg::Sha512 => 6,
    }
}
