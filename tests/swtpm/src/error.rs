//! What can go wrong in the harness itself. `Debug` is the readable text, because that is what a
//! test that unwraps prints.

use std::fmt;
use std::io;
use std::time::Duration;

/// A failure of the harness or of a process that it runs, with the end of that process's log.
pub enum Error {
    /// A file, socket or process: what was being done, and the system's word.
    Io(String, io::Error),
    /// A condition did not come true in time.
    Timeout {
        /// What was waited for, and the log's end where there is one.
        what: String,
        /// For how long.
        after: Duration,
    },
    /// A process ended or failed.
    Process(String),
    /// Test data or output that is not what it should be.
    Malformed(String),
    /// The word of something else that a harness drives.
    Other(Box<dyn std::error::Error + Send + Sync>),
}

/// The result of everything in the harness.
pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(what, error) => write!(f, "{what}: {error}"),
            Self::Timeout { what, after } => write!(f, "not within {after:?}: {what}"),
            Self::Process(what) | Self::Malformed(what) => f.write_str(what),
            Self::Other(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

/// Names the action in front of the system's error.
pub fn during<T>(what: impl Into<String>, result: io::Result<T>) -> Result<T> {
    result.map_err(|error| Error::Io(what.into(), error))
}
