//! An agent's session in conversation with a verifier, over whatever lies between them, and what becomes of it.
//!
//! Both run in process, in the time that a test gives them; the TPM is [`mote_tests::soft_tpm`].
#![allow(clippy::unwrap_used, missing_docs)]

mod attester;
mod bad_links;
mod boot_log;
mod deletion;
mod few_bytes;
mod long_records;
mod power;
mod properties;
mod restarts;

use mote_tests::lab::Lab;
use mote_tests::wire::{Wire, admitting};
use mote_verifier::engine::Settings;

/// A verifier that admits these devices.
fn lab(wires: &[&Wire]) -> Lab {
    Lab::with(admitting(wires), Settings::default())
}
