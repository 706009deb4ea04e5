//! The messages of one conversation: hello, open, log, beat and their replies (`cddl/mote.cddl`).
//!
//! Types borrow from the datagram they were decoded from. Decode with [`crate::cbor::decode`],
//! which refuses every second spelling first; encode with [`crate::cbor::encode`]. Decoded fields
//! are the peer's claims, within bounds, and nothing more.

mod entries;
mod evidence;
mod file_entry;
mod hello;
mod nonce;
mod path_code;
mod quote;
mod reply;

pub use entries::{Entries, EntriesWriter, Entry, EntryError, IMA_PCR, Item, PREFIX_LENGTHS, Run};
pub use evidence::{Anchor, Beat, BootPart, Log, Open, PcrBank, PcrBanks, RecordPart};
pub use file_entry::FileEntry;
pub use hello::{Challenge, DeviceId, DeviceKeys, Hello, Kid};
pub use nonce::{NonceReply, NonceRequest};
pub use path_code::PreviousPath;
pub use quote::{Changes, ElidedQuote, FullQuote, Quote};
pub use reply::{ErrorReply, Nonce, Ranges, Reasons, Reply, Tier, Wants};

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
    /// A part of the boot event log, protected.
    pub const BOOT: &str = "e";
    /// A part of a long record of the measurement list, protected.
    pub const RECORD: &str = "r";
    /// A nonce for a token, in the clear.
    pub const NONCE: &str = "n";
    /// Evidence in a Conceptual Message Wrapper, in the clear.
    pub const EVIDENCE: &str = "c";
}
