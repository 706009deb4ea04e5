//! Boot event logs: what firmware and boot loaders measured before the kernel ran
//! (TCG PC Client Platform Firmware Profile 1.06, 10; TCG EFI Protocol Specification, 5).
//!
//! | firmware | format |
//! |---|---|
//! | UEFI, U-Boot, SeaBIOS, and after them systemd-stub, GRUB, Linux's EFI stub | crypto-agile: a header in the old form, then one digest for each bank |
//! | older firmware | SHA-1 alone |
//!
//! [`BootLog`] cuts the log into [`Event`]s, [`BootPcrs`] replays them, [`EventData`] says what an
//! event's data looks like. All integers are little-endian.
//!
//! **Who may lie**: whoever hands over the log, in every byte, until the replay reaches quoted PCRs.
//! And even then only the *PCR* and the *digest* of an event are covered. Its type never is, and its
//! data only where the digest is that of the data, which [`Event::covers_data`] tells.

mod data;
mod event;
mod event_type;
mod log;
mod replay;
mod signatures;
mod text;

pub use data::{EventData, Gpt, GptPartition, Guid, ImageLoad, TaggedEvent, Variable};
pub use event::{Digests, Event, RawDigest};
pub use event_type::EventType;
pub use log::{BootLog, BootLogError, BootLogFault, Events, LogFormat};
pub use replay::{BootPcrs, ReplayError};
pub use signatures::{NoSignatures, Signature, Signatures};
pub use text::Utf16;
