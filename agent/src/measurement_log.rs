//! The IMA measurement list as the session needs it, behind the object-safe trait
//! [`MeasurementLog`].
//!
//! Linux `security/integrity/ima/ima_fs.c`. The list belongs to the kernel, which keeps it until the
//! next boot, unless it is told to delete what the verifier has stored for good ([`deletion`]): it is the
//! agent's queue, and nothing is copied to disk. The content is not trusted
//! (only the verifier's replay against a quoted PCR makes it evidence); a list that cannot be
//! walked is reported, never skipped over.

mod cursor;
pub mod deletion;
mod file;

use core::fmt;
use std::path::PathBuf;

use mote_schemas::ima::ListError;
use mote_schemas::message::Anchor;

pub use file::{DEFAULT_PATH, FileLog, NATIVE_FORMAT};

/// Whole records, as [`MeasurementLog::read`] put them into the caller's buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Number of records.
    pub records: u32,
    /// Number of bytes they take in the buffer, from its start.
    pub bytes: usize,
    /// There was at least one more record that did not fit.
    pub more: bool,
}

/// An append-only list of measurements, addressed by absolute record number (0 is the first since
/// boot).
pub trait MeasurementLog {
    /// How many records the list has now. Cheap: called before each heartbeat.
    fn count(&mut self) -> Result<u64, LogError>;

    /// Copies records `from`, `from + 1`, ... in the kernel's binary format into `out`, as many
    /// whole ones as fit. Zero records with `more` unset means that the list ends before `from`.
    ///
    /// Reading on from where the last call stopped is cheap; going back means walking again from
    /// the start.
    ///
    /// [`LogError::RecordTooLarge`] when `out` cannot hold record `from` alone;
    /// [`LogError::Restarted`] when the list is no longer the one that was read before (after that
    /// the next call begins anew).
    fn read(&mut self, from: u64, out: &mut [u8]) -> Result<Chunk, LogError>;

    /// Where records are deleted: the number of the first one that the list still has, as far as that
    /// is known here, and what the verifier can find it by.
    fn anchor(&mut self) -> Result<Option<(u64, Anchor)>, LogError> {
        Ok(None)
    }

    /// The verifier has found the anchor: that is its number.
    fn begins_with(&mut self, _number: u64) {}

    /// The verifier has stored every record before this one for good.
    fn release(&mut self, _before: u64) {}
}

/// Why the measurement list could not be read. `Display` says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogError {
    /// No such file.
    NotFound {
        /// Configured path.
        path: PathBuf,
    },
    /// We may not read it.
    NoPermission {
        /// Configured path.
        path: PathBuf,
    },
    /// Another I/O error.
    Io {
        /// Configured path.
        path: PathBuf,
        /// The system's words.
        text: String,
    },
    /// The list is shorter than what was read before, or differs: another boot, or another file.
    Restarted {
        /// Records that had been read from the list before.
        had: u64,
    },
    /// A record that has been deleted here is asked for.
    Deleted {
        /// Its number.
        record: u64,
        /// The first one that the list still has.
        first: u64,
    },
    /// A record that cannot be one: wrong byte order, not the binary list, or damaged.
    Malformed(ListError),
    /// The caller's buffer cannot hold even this record.
    RecordTooLarge {
        /// Absolute number of the record.
        record: u64,
        /// Its size in bytes.
        size: usize,
    },
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { path } => write!(
                f,
                "no measurement list at {}: is securityfs mounted (`mount -t securityfs securityfs \
                 /sys/kernel/security`) and the kernel built with CONFIG_IMA and booted with \
                 ima_policy=tcb?",
                path.display()
            ),
            Self::NoPermission { path } => {
                write!(f, "no permission to read {}: run as root", path.display())
            }
            Self::Io { path, text } => write!(f, "reading {}: {text}", path.display()),
            Self::Restarted { had } => write!(
                f,
                "the measurement list is not the one whose first {had} records were read before: \
                 the device was rebooted, or the file replaced; starting over"
            ),
            Self::Deleted { record, first } => write!(
                f,
                "record {record} of the measurement list is wanted, but those before {first} have been \
                 deleted; reboot to start the list over"
            ),
            Self::Malformed(error) => write!(
                f,
                "{error}: is this the *binary* list, in the configured byte order?"
            ),
            Self::RecordTooLarge { record, size } => write!(
                f,
                "record {record} of the measurement list has {size} bytes, more than there is room for"
            ),
        }
    }
}

impl std::error::Error for LogError {}
