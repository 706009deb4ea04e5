//! hello and the challenge that answers it. The request is unauthenticated: anyone may claim any
//! keys. The challenge counts only inside a COSE_Sign1 that verifies with the pinned key.

use core::fmt;

use minicbor::{Decode, Encode};
use sha2::{Digest, Sha256};

use crate::cbor::Bytes;
use crate::limits::{MAX_EK_CERTIFICATE, MAX_KID, MAX_TPMT_PUBLIC};

/// Names a device: the first 16 bytes of SHA-256 over its EK's TPMT_PUBLIC; without a TPM, over the key of
/// its tokens ([`crate::eat::device_id`]). Not secret, not a proof: the challenge is, or the signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct DeviceId(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 16]);

impl DeviceId {
    /// The id of the device that owns this EK.
    pub fn of_ek(ek_public: &[u8]) -> Self {
        Self::of_parts(&[ek_public])
    }

    pub(crate) fn of_parts(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part);
        }
        let digest = hash.finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self(id)
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The agent's first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Hello<'a> {
    /// [`super::VERSION`].
    #[n(0)]
    pub version: u8,
    /// Makes the transcript fresh for the agent.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub random: [u8; 16],
    /// Who the agent says it is.
    #[n(2)]
    pub device: DeviceId,
    /// Needed once, until the verifier knows the device.
    #[b(3)]
    pub keys: Option<DeviceKeys<'a>>,
}

/// The keys that enrol a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DeviceKeys<'a> {
    /// TPMT_PUBLIC of the endorsement key.
    #[b(0)]
    pub ek_public: Bytes<'a, 1, MAX_TPMT_PUBLIC>,
    /// TPMT_PUBLIC of the attestation key.
    #[b(1)]
    pub ak_public: Bytes<'a, 1, MAX_TPMT_PUBLIC>,
    /// The EK's certificate, DER.
    #[b(2)]
    pub ek_certificate: Option<Bytes<'a, 1, MAX_EK_CERTIFICATE>>,
}

/// What the verifier signs in answer to hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Challenge<'a> {
    /// [`super::VERSION`].
    #[n(0)]
    pub version: u8,
    /// Makes the transcript fresh for the verifier, and is the nonce of open's quote.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub random: [u8; 16],
    /// Contents of TPM2B_ID_OBJECT (TPM 2.0 Library part 3, 12.6, TPM2_MakeCredential).
    #[b(2)]
    pub credential_blob: Bytes<'a, 1, 200>,
    /// Contents of TPM2B_ENCRYPTED_SECRET.
    #[b(3)]
    pub encrypted_secret: Bytes<'a, 1, 520>,
    /// The agent's OSCORE Sender ID.
    #[n(4)]
    pub kid: Kid,
}

/// OSCORE Sender ID of one session: 1 to 7 bytes (RFC 8613, 3.3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kid {
    len: u8,
    bytes: [u8; MAX_KID],
}

impl Kid {
    /// `None` when empty or longer than 7 bytes.
    pub fn new(kid: &[u8]) -> Option<Self> {
        if kid.is_empty() || kid.len() > MAX_KID {
            return None;
        }
        let mut bytes = [0; MAX_KID];
        bytes[..kid.len()].copy_from_slice(kid);
        Some(Self {
            len: kid.len() as u8,
            bytes,
        })
    }

    /// The bytes on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes()
            .iter()
            .try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl<C> Encode<C> for Kid {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(self.as_bytes())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Kid {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let at = d.position();
        Kid::new(d.bytes()?)
            .ok_or_else(|| minicbor::decode::Error::message("kid length out of bounds").at(at))
    }
}
