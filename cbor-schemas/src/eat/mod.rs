//! Entity Attestation Tokens (RFC 9711): evidence of a device without a TPM, in one signed CWT.
//!
//! | module | what | source |
//! |---|---|---|
//! | `claims` | what a token claims | RFC 9711, 4; RFC 8392, 3 |
//! | `coswid` | the measured components, as CoSWID evidence | RFC 9393 |
//! | `token` | the `COSE_Sign1` around the claims | RFC 9052, 4.2 |
//!
//! The writing half is for the device: no allocation, no clock, no signature algorithm; the caller signs
//! what [`signed_bytes`] gives with ES256 and the key that the verifier's operator has endorsed. The reading
//! half is the verifier's, and takes what other implementations write: any order of keys, either tag or
//! none. Claims that it does not know it passes over (RFC 9711, 4).
//!
//! **Who may lie**: whoever sends a token, until its signature has been verified with an endorsed key; and
//! after that the device, as far as its root of trust lets its software choose what is signed.

mod claims;
mod coswid;
mod token;

pub use claims::{Claims, DebugState, MAX_NONCE, MIN_NONCE};
pub use coswid::{Component, Firmware, Measured, Measurements};
pub use token::{CONTENT_FORMAT, MEDIA_TYPE, Token, signed_bytes, write};

use crate::message::DeviceId;

/// Why bytes are no token that can be read, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EatError {
    /// Offset of the offending item in what was read.
    pub offset: usize,
    /// What should be there.
    pub wanted: &'static str,
}

impl core::fmt::Display for EatError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "EAT: not {} at offset {}", self.wanted, self.offset)
    }
}

impl core::error::Error for EatError {}

/// What everything reads with: says what was wanted where it is not.
trait Wanted<T> {
    fn wanted(self, wanted: &'static str, offset: usize) -> Result<T, EatError>;
}

impl<T> Wanted<T> for Result<T, minicbor::decode::Error> {
    fn wanted(self, wanted: &'static str, offset: usize) -> Result<T, EatError> {
        self.map_err(|error| EatError {
            offset: error.position().unwrap_or(offset),
            wanted,
        })
    }
}

/// Everything of a P-256 SubjectPublicKeyInfo before its point (RFC 5480, 2).
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The id of a device whose tokens this key signs (uncompressed point, `04 || x || y`): the first 16 bytes of
/// SHA-256 over the key's SubjectPublicKeyInfo. It is also the `kid` of its tokens.
pub fn device_id(point: &[u8; 65]) -> DeviceId {
    DeviceId::of_parts(&[&P256_SPKI, point])
}

#[cfg(test)]
mod tests;
