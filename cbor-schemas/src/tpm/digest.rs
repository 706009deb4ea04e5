//! Hash algorithms of PCR banks and names (`TPM_ALG_ID`, part 2, 6.3) and digests tagged with them.

use core::fmt;

use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// Largest digest of any [`HashAlg`], in bytes.
pub const MAX_DIGEST: usize = 64;

/// A hash algorithm, by its `TPM_ALG_ID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum HashAlg {
    /// SHA-1. Broken for collisions; still the first bank of many TPMs.
    Sha1 = 0x0004,
    /// SHA-256.
    Sha256 = 0x000B,
    /// SHA-384.
    Sha384 = 0x000C,
    /// SHA-512.
    Sha512 = 0x000D,
}

impl HashAlg {
    /// Every algorithm known here, in the order of their ids.
    pub const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The algorithm with this `TPM_ALG_ID`.
    pub const fn from_u16(id: u16) -> Option<Self> {
        match id {
            0x0004 => Some(Self::Sha1),
            0x000B => Some(Self::Sha256),
            0x000C => Some(Self::Sha384),
            0x000D => Some(Self::Sha512),
            _ => None,
        }
    }

    /// Its `TPM_ALG_ID`.
    pub const fn to_u16(self) -> u16 {
        self as u16
    }

    /// Digest length, in bytes.
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Its name as the kernel and tpm2-tools spell it: `sha256`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// The algorithm with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|alg| alg.name() == name)
    }
}

impl fmt::Display for HashAlg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A digest and the algorithm it belongs to. Prints as lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    alg: HashAlg,
    // Zero behind `alg.digest_len()`, so that the derived comparisons are right.
    bytes: [u8; MAX_DIGEST],
}

impl Digest {
    /// Tags `bytes` with `alg`; `None` unless the length is that algorithm's.
    pub fn new(alg: HashAlg, bytes: &[u8]) -> Option<Self> {
        if bytes.len() != alg.digest_len() {
            return None;
        }
        let mut digest = Self::zero(alg);
        digest.bytes[..bytes.len()].copy_from_slice(bytes);
        Some(digest)
    }

    /// All bits zero: most PCRs after a reset.
    pub const fn zero(alg: HashAlg) -> Self {
        Self {
            alg,
            bytes: [0; MAX_DIGEST],
        }
    }

    /// All bits one: PCRs of the dynamic root of trust before it ran, and IMA's violations.
    pub const fn ones(alg: HashAlg) -> Self {
        let mut bytes = [0; MAX_DIGEST];
        let mut i = 0;
        while i < alg.digest_len() {
            bytes[i] = 0xFF;
            i += 1;
        }
        Self { alg, bytes }
    }

    /// Its algorithm.
    pub const fn alg(&self) -> HashAlg {
        self.alg
    }

    /// The digest: [`HashAlg::digest_len`] bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.alg.digest_len()]
    }

    /// Whether all bits are zero.
    pub fn is_zero(&self) -> bool {
        self.bytes == [0; MAX_DIGEST]
    }
}

impl AsRef<[u8]> for Digest {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes()
            .iter()
            .try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{self}", self.alg)
    }
}

/// An incremental hash.
#[derive(Clone, Debug)]
pub struct Hasher(State);

#[derive(Clone, Debug)]
enum State {
    Sha1(Sha1),
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Hasher {
    /// Starts a hash.
    pub fn new(alg: HashAlg) -> Self {
        Self(match alg {
            HashAlg::Sha1 => State::Sha1(Sha1::new()),
            HashAlg::Sha256 => State::Sha256(Sha256::new()),
            HashAlg::Sha384 => State::Sha384(Sha384::new()),
            HashAlg::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha1(h) => h.update(bytes),
            State::Sha256(h) => h.update(bytes),
            State::Sha384(h) => h.update(bytes),
            State::Sha512(h) => h.update(bytes),
        }
    }

    /// Ends the hash.
    pub fn finish(self) -> Digest {
        fn tagged(alg: HashAlg, bytes: &[u8]) -> Digest {
            let mut digest = Digest::zero(alg);
            digest.bytes[..bytes.len()].copy_from_slice(bytes);
            digest
        }
        match self.0 {
            State::Sha1(h) => tagged(HashAlg::Sha1, &h.finalize()),
            State::Sha256(h) => tagged(HashAlg::Sha256, &h.finalize()),
            State::Sha384(h) => tagged(HashAlg::Sha384, &h.finalize()),
            State::Sha512(h) => tagged(HashAlg::Sha512, &h.finalize()),
        }
    }
}

/// Hashes the concatenation of `parts`.
pub fn hash(alg: HashAlg, parts: &[&[u8]]) -> Digest {
    let mut hasher = Hasher::new(alg);
    for part in parts {
        hasher.update(part);
    }
    hasher.finish()
}
