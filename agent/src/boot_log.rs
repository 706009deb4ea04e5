//! The boot event log as the session needs it: its digest, and any part of it.
//!
//! Linux `drivers/char/tpm/eventlog`: a file of securityfs, whose size is 0 for `stat` and which stays
//! the same until the next boot. Never in memory as a whole. Nothing of it is trusted; the verifier
//! replays it against the quoted PCRs. Many small boards have none, and attest without.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use log::{debug, warn};
use mote_schemas::limits::MAX_BOOT_LOG;
use sha2::{Digest, Sha256};

use crate::measurement_log::LogError;

/// The boot event log of the first TPM.
pub const DEFAULT_PATH: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";

/// A boot event log that does not change any more.
pub trait BootLog {
    /// SHA-256 of all of it; `None` when there is none. Cheap but for the first time.
    fn digest(&mut self) -> Option<[u8; 32]>;

    /// Copies bytes from `offset` on into `out`, as many as fit; fewer mean that the log ends there.
    fn read(&mut self, offset: u32, out: &mut [u8]) -> Result<usize, LogError>;
}

/// No boot log.
#[derive(Clone, Copy, Debug)]
pub struct NoBootLog;

impl BootLog for NoBootLog {
    fn digest(&mut self) -> Option<[u8; 32]> {
        None
    }

    fn read(&mut self, _: u32, _: &mut [u8]) -> Result<usize, LogError> {
        Ok(0)
    }
}

/// A boot log in a file.
#[derive(Debug)]
pub struct FileBootLog {
    path: PathBuf,
    /// Stays open, for a process that gives up the right to open it.
    open: Option<(File, [u8; 32])>,
}

impl FileBootLog {
    /// Reads all of the file once. One that is absent, empty, larger than [`MAX_BOOT_LOG`] or cannot be
    /// read counts as none, and but for the first is warned of: the verifier knows whether it matters.
    /// An empty path is none, too.
    pub fn open(path: &Path) -> Self {
        let open = match open(path) {
            Ok(open) => open,
            Err(error) => {
                warn!("boot event log {}: {error}; going without", path.display());
                None
            }
        };
        Self {
            path: path.to_owned(),
            open,
        }
    }
}

impl BootLog for FileBootLog {
    fn digest(&mut self) -> Option<[u8; 32]> {
        self.open.as_ref().map(|(_, digest)| *digest)
    }

    fn read(&mut self, offset: u32, out: &mut [u8]) -> Result<usize, LogError> {
        let Some((file, _)) = &self.open else {
            return Ok(0);
        };
        fill(file, u64::from(offset), out).map_err(|error| LogError::Io {
            path: self.path.clone(),
            text: error.to_string(),
        })
    }
}

fn open(path: &Path) -> io::Result<Option<(File, [u8; 32])>> {
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            debug!("no boot event log at {}", path.display());
            return Ok(None);
        }
        file => file?,
    };
    let (mut hash, mut size) = (Sha256::new(), 0);
    let mut buffer = [0; 4096];
    loop {
        let len = fill(&file, size as u64, &mut buffer)?;
        hash.update(&buffer[..len]);
        size += len;
        if size > MAX_BOOT_LOG {
            let text = format!("larger than {MAX_BOOT_LOG} bytes");
            return Err(io::Error::new(ErrorKind::FileTooLarge, text));
        }
        if len < buffer.len() {
            return Ok((size > 0).then(|| (file, hash.finalize().into())));
        }
    }
}

/// Reads until `out` is full or the file ends.
fn fill(file: &File, offset: u64, out: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < out.len() {
        match file.read_at(&mut out[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(len) => filled += len,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, bytes: &[u8]) -> PathBuf {
        let name = format!("mote-boot-log-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn what_there_is_has_a_digest_and_can_be_read_from_anywhere() {
        let bytes: Vec<u8> = (0..10_000_u32).map(|i| i as u8).collect();
        let path = file("whole", &bytes);
        let mut log = FileBootLog::open(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(log.digest(), Some(Sha256::digest(&bytes).into()));
        let mut out = [0; 700];
        assert_eq!(log.read(9_000, &mut out), Ok(700));
        assert_eq!(out, bytes[9_000..9_700]);
        assert_eq!(log.read(9_700, &mut out), Ok(300));
        assert_eq!(out[..300], bytes[9_700..]);
        assert_eq!(log.read(10_000, &mut out), Ok(0));
        assert_eq!(log.read(u32::MAX, &mut out), Ok(0));
    }

    #[test]
    fn none_empty_and_endless_ones_are_no_log() {
        let empty = file("empty", b"");
        let largest = file("largest", &vec![1; MAX_BOOT_LOG]);
        let larger = file("larger", &vec![1; MAX_BOOT_LOG + 1]);
        let none = ["/does/not/exist", "", "/dev/zero", "/"].map(Path::new);
        for path in none.into_iter().chain([empty.as_path(), larger.as_path()]) {
            let mut log = FileBootLog::open(path);
            assert_eq!(log.digest(), None, "{}", path.display());
            assert_eq!(log.read(0, &mut [0; 8]), Ok(0));
        }
        assert!(FileBootLog::open(&largest).digest().is_some());
        for path in [empty, largest, larger] {
            std::fs::remove_file(path).unwrap();
        }
    }
}
