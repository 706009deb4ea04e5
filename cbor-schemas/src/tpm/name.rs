//! Names of TPM objects, and qualified names (TPM 2.0 Library, part 1, 16).
//!
//! A Name is `nameAlg || H(TPMT_PUBLIC)`: it stands for the whole public area. A qualified name
//! also stands for all ancestors: `nameAlg || H(QN of the parent || Name)`.

use core::fmt;

use super::digest::{Digest, HashAlg, MAX_DIGEST, hash};

/// Longest Name, in bytes: algorithm id and digest.
pub const MAX_NAME: usize = 2 + MAX_DIGEST;

/// Why bytes are not the Name of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// Not as long as the algorithm id at its front demands, or too short to have one.
    Length {
        /// The length found, in bytes.
        len: usize,
    },
    /// A hash algorithm that is not known here.
    UnknownHash(u16),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { len } => write!(f, "{len} bytes are not a Name"),
            Self::UnknownHash(id) => write!(f, "Name with unknown hash algorithm {id:#06x}"),
        }
    }
}

impl core::error::Error for NameError {}

/// Permanent handles of the hierarchies that a primary key can live in (part 2, 7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Hierarchy {
    /// `TPM_RH_OWNER`.
    Owner = 0x4000_0001,
    /// `TPM_RH_NULL`: keys that do not survive a reset.
    Null = 0x4000_0007,
    /// `TPM_RH_ENDORSEMENT`.
    Endorsement = 0x4000_000B,
    /// `TPM_RH_PLATFORM`.
    Platform = 0x4000_000C,
}

impl Hierarchy {
    /// The handle. Big-endian, it is also the hierarchy's qualified name.
    pub const fn handle(self) -> u32 {
        self as u32
    }
}

/// The Name, or the qualified name, of an object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    // Zero behind `len()`, so that the derived comparisons are right.
    bytes: [u8; MAX_NAME],
    alg: HashAlg,
}

impl Name {
    /// Reads a Name: algorithm id and digest, nothing else.
    pub fn parse(bytes: &[u8]) -> Result<Self, NameError> {
        let wrong_length = NameError::Length { len: bytes.len() };
        let (id, digest) = bytes.split_first_chunk().ok_or(wrong_length)?;
        let id = u16::from_be_bytes(*id);
        let alg = HashAlg::from_u16(id).ok_or(NameError::UnknownHash(id))?;
        let digest = Digest::new(alg, digest).ok_or(wrong_length)?;
        Ok(Self::from_digest(&digest))
    }

    /// The Name whose digest this is.
    pub fn from_digest(digest: &Digest) -> Self {
        let mut bytes = [0; MAX_NAME];
        bytes[..2].copy_from_slice(&digest.alg().to_u16().to_be_bytes());
        bytes[2..2 + digest.alg().digest_len()].copy_from_slice(digest.as_bytes());
        Self {
            bytes,
            alg: digest.alg(),
        }
    }

    /// Its hash algorithm: the nameAlg of the object.
    pub const fn alg(&self) -> HashAlg {
        self.alg
    }

    /// Algorithm id and digest, as they stand in `TPM2B_NAME`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..2 + self.alg.digest_len()]
    }

    /// Qualified name of the primary key with this Name in `hierarchy`.
    #[must_use]
    pub fn qualified_in(&self, hierarchy: Hierarchy) -> Self {
        self.qualified(&hierarchy.handle().to_be_bytes())
    }

    /// Qualified name of the key with this Name below the parent with qualified name `parent`.
    #[must_use]
    pub fn qualified_under(&self, parent: &Self) -> Self {
        self.qualified(parent.as_bytes())
    }

    fn qualified(&self, parent: &[u8]) -> Self {
        Self::from_digest(&hash(self.alg, &[parent, self.as_bytes()]))
    }
}

impl AsRef<[u8]> for Name {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes()
            .iter()
            .try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}
