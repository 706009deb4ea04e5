//! The Linux kernel of a device, played in front of a real TPM (swtpm).
//!
//! It does what a kernel does with a TPM and nothing else: it owns the connection to the chip and
//! lends it out command by command ([`front`], like `/dev/tpm0`), it is preceded by firmware that
//! measures the boot ([`bootlog`]), and it keeps IMA's list ([`Kernel`]). What it measures are the
//! records of a real kernel's list; only unknown files and violations are made up ([`ima`]).
//!
//! All parsing and marshalling here is deliberately its own and not that of `mote-schemas`: the
//! tests compare the two sides, and a mistake both shared would go unseen.
//!
//! Source: Linux 6.1, `security/integrity/ima/`; TCG PC Client Platform Firmware Profile 1.05, 10.

pub mod bank;
pub mod bootlog;
pub mod control;
pub mod front;
pub mod ima;
mod kernel;
pub mod tpm;

pub use kernel::{Kernel, Status};

use std::fmt;
use std::io;

/// Why the simulated kernel stopped or refused a command. The text says what to do.
#[derive(Debug)]
pub enum Error {
    /// A file or socket: what was being done, and the system's word.
    Io(String, io::Error),
    /// The TPM answered a command with this response code.
    Tpm {
        /// The command, by its name in TPM 2.0 part 3.
        command: &'static str,
        /// The response code, TPM 2.0 part 2, 6.6.
        code: u32,
    },
    /// Bytes that are not what they should be: a log, a record, a TPM response.
    Malformed(String),
    /// The TPM, the boot log and the IMA list do not belong together.
    Inconsistent(String),
    /// A command that cannot be carried out; nothing was changed.
    Refused(String),
}

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(what, error) => write!(f, "{what}: {error}"),
            Self::Tpm { command, code } => write!(f, "{command} failed with TPM code {code:#x}"),
            Self::Malformed(what) => write!(f, "malformed: {what}"),
            Self::Inconsistent(what) => write!(f, "inconsistent: {what}"),
            Self::Refused(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for crate::Error {
    fn from(error: Error) -> Self {
        Self::Other(format!("simulated kernel: {error}").into())
    }
}

/// Names the action in front of the system's error.
pub(crate) fn during<T>(what: impl Into<String>, result: io::Result<T>) -> Result<T> {
    result.map_err(|error| Error::Io(what.into(), error))
}
