//! The messages of one conversation: hello, open, log, beat and their replies (`cddl/mote.cddl`).
//!
//! Types borrow from the datagram they were decoded from. Decode with [`crate::cbor::decode`],
//! which refuses every second spelling first; encode with [`crate::cbor::encode`]. Decoded fields
//! are the peer's claims, within bounds, and nothing more.

mod entries;
mod evidence;
mod hello;
mod quote;
mod reply;

pub use entries::{Entries, EntriesWriter, Entry, EntryError, IMA_PCR};
pub use evidence::{Beat, Log, Open, PcrBank, PcrBanks};
pub use hello::{Challenge, DeviceId, DeviceKeys, Hello, Kid};
pub use quote::{Changes, ElidedQuote, FullQuote, Quote};
pub use reply::{ErrorReply, Nonce, Reasons, Reply, Tier, Wants};

/// The version of the conversation that this crate speaks.
pub const VERSION: u8 = 1;

/// Uri-Path of each resource (one byte each: they travel in every request).
pub mod path {
    /// hello, in the clear.
    pub const HELLO: &str = "h";
    /// open, protected.
    pub const OPEN: &str = "o";
    /// log, protected.
    pub const LOG: &str = "l";
    /// beat, protected.
    pub const BEAT: &str = "b";
}
