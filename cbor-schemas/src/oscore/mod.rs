//! OSCORE (RFC 8613): CoAP messages protected end to end, with AES-CCM-16-64-128 and HKDF-SHA-256.
//!
//! | module | what | RFC 8613 |
//! |---|---|---|
//! | [`context`] | keys, IDs, the sender's sequence number | 3 |
//! | [`window`] | replay window, and its loss at a restart | 3.2.2, 7.4, B.1.2 |
//! | [`compression`] | the OSCORE option | 6.1 |
//! | `class` | which options are encrypted | 4.1 |
//! | `crypto` | key derivation, nonce, AAD, AEAD | 3.2.1, 5.2 to 5.4 |
//! | [`client`], [`server`] | the four operations | 8.1 to 8.4 |
//!
//! Left out: Observe, group communication, and fragments made by proxies (outer Block options);
//! a message that needs one of them is refused.
//!
//! **Nothing outside the ciphertext is protected**: type, message ID, token, outer code and outer
//! options are whatever the network made of them, and therefore stay in the outer
//! [`Message`](crate::coap::Message). An unprotected [`Body`](crate::coap::Body) holds only what
//! the peer with the keys wrote. Echo, Block1/2, Request-Tag and Max-Age are read from there.
//!
//! **No nonce may ever protect two messages.** Sequence numbers only go up; a context that is
//! derived again from stored secrets must be moved past every number it may have used
//! ([`Context::set_sender_sequence`]) before it protects anything.

mod class;
pub mod client;
pub mod compression;
pub mod context;
mod crypto;
pub mod server;
pub mod window;

#[cfg(test)]
mod vectors;

pub use client::{SentRequest, UnprotectResponseError};
pub use compression::{MalformedOption, OscoreOption};
pub use context::{Context, DeriveError, Id, MAX_SEQUENCE, SequenceReused};
pub use server::{
    OpenedRequest, ReceivedRequest, UnprotectRequestError, Unprotected, Unsynchronised,
};
pub use window::ReplayWindow;

use crate::coap::WriteError;

/// Why a message was not protected. No sequence number has been used then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtectError {
    /// A request was expected and this is none, or the same for a response.
    WrongCode,
    /// The message has an option that must not or cannot be protected here: Observe, Proxy-Uri
    /// (to be split into its parts first, RFC 8613, 4.1.3.3), or OSCORE itself.
    UnsupportedOption(u16),
    /// All 2^40 sequence numbers are used up (RFC 8613, 7.2.1): a new context is needed.
    SequenceExhausted,
    /// The protected message does not fit the buffer, or cannot be written.
    Write(WriteError),
}

impl From<WriteError> for ProtectError {
    fn from(error: WriteError) -> Self {
        ProtectError::Write(error)
    }
}
