//! How a device without a TPM comes by a nonce. Neither side proves anything here: the token that answers the
//! nonce does, and the verifier's signature under the reply to that (a COSE_Sign1 whose payload is a
//! [`super::Reply`] and whose external_aad is the SHA-256 of the wrapper that was sent).

use minicbor::{Decode, Encode};

use super::DeviceId;
use crate::cbor::Bytes;

/// Asks for a nonce. No shorter than the reply, so that anybody may have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct NonceRequest {
    /// [`super::VERSION`].
    #[n(0)]
    pub version: u8,
    /// Whose token will answer it.
    #[n(1)]
    pub device: DeviceId,
}

/// A nonce for one token of that device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct NonceReply<'a> {
    /// The value.
    #[b(0)]
    pub nonce: Bytes<'a, 8, 32>,
}
