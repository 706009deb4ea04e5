//! A real TPM for tests: swtpm, and what it takes to run it beside many others.
//!
//! | module | what |
//! |---|---|
//! | [`swtpm`] | factory, power on, power cut, power off; tpm2-tools on it |
//! | [`process`] | children with logs, waiting, temporary directories |
//! | [`ports`] | free ports |
//! | [`error`] | what can go wrong, with the end of the log of whoever failed; unwrap it in tests |
//!
//! A crate of its own, because agent, verifier and `mote-tests` all stand on it, and because a port
//! that somebody else took must be noticed in one place: swtpm says that it listens by writing its pid
//! file; that something answers on a port says nothing.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod error;
pub mod ports;
pub mod process;
pub mod swtpm;

pub use error::{Error, Result};
pub use process::{Process, TempDir, wait_for};
pub use swtpm::{Manufacture, Swtpm};
