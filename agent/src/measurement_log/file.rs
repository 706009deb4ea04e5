//! [`MeasurementLog`] on the kernel's file, or on a copy of one that grows.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use log::{debug, info, warn};
use mote_schemas::ima::{Endian, ListFormat, ListParser, Step};
use mote_schemas::message::Anchor;
use mote_schemas::tpm::HashAlg;

use super::cursor::{Cursor, Fault, read_at};
use super::deletion::Delete;
use super::{Chunk, LogError, MeasurementLog};

/// `CONFIG_SECURITYFS` at its usual place; the list with SHA-1 template hashes, which every kernel
/// has.
pub const DEFAULT_PATH: &str = "/sys/kernel/security/ima/binary_runtime_measurements";

/// What this machine's kernel writes there, unless it is a big-endian one booted with
/// `ima_canonical_fmt`.
pub const NATIVE_FORMAT: ListFormat = ListFormat {
    endian: if cfg!(target_endian = "big") {
        Endian::Big
    } else {
        Endian::Little
    },
    template_hash: HashAlg::Sha1,
};

/// The kernel's own count of the list's records, in decimal, beside the list.
const COUNT: &str = "runtime_measurements_count";

/// Bytes of a record by which it is known again: its PCR and template hash.
const MARK: usize = 24;

/// Fewer records are not worth the trouble of deleting them.
const FEWEST: u64 = 64;

/// Records looked at for one that the list may begin with.
const CANDIDATES: u64 = 16;

/// Room for a record that is looked at; larger ones are not begun with.
const LOOK: usize = 2048;

/// The IMA list in a file, read-only but for deletion. Holds a few kilobytes of it, whatever its length.
#[derive(Debug)]
pub struct FileLog {
    path: PathBuf,
    format: ListFormat,
    open: Option<Open>,
    /// Records that have been seen in this list.
    seen: u64,
    /// The last one that was read.
    mark: Option<Mark>,
    /// How to delete records, where that is wanted.
    delete: Option<Delete>,
    /// Number of the first record that the list still has.
    first: u64,
    /// That is so, and not just a guess after a restart.
    is_numbered: bool,
    /// Its digest.
    begins: Option<[u8; 8]>,
}

/// What matters of a record with which a list may begin.
pub(super) struct Look {
    pub(super) digest: [u8; 8],
    /// The first record of a boot, or of a kernel that kexec has started.
    is_boot_aggregate: bool,
    is_violation: bool,
}

#[derive(Debug)]
struct Open {
    file: File,
    metadata: Metadata,
    cursor: Cursor,
    counter: Counter,
}

/// How to count records.
#[derive(Debug)]
enum Counter {
    /// The kernel does. Its file stays open: after giving up root it could not be opened again.
    Kernel(File),
    /// By walking on from where the last count ended.
    Walk(Cursor),
}

/// A record that was read before, to tell whether the list is still the same.
#[derive(Debug)]
struct Mark {
    offset: u64,
    bytes: [u8; MARK],
}

impl FileLog {
    /// A list at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>, format: ListFormat) -> Self {
        Self {
            path: path.into(),
            format,
            open: None,
            seen: 0,
            mark: None,
            delete: None,
            first: 0,
            is_numbered: false,
            begins: None,
        }
    }

    /// The same, of which records are deleted by `delete` when they need not be kept.
    #[must_use]
    pub fn deleting(self, delete: Delete) -> Self {
        Self {
            delete: Some(delete),
            ..self
        }
    }

    /// Where the list is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the open list, made sure to be the one that was read before. To be put back.
    fn take(&mut self) -> Result<Open, LogError> {
        let io = |error: io::Error| fault(&self.path, error.into());
        let open = match self.open.take() {
            Some(open) if open.is_at(&self.path).map_err(io)? => open,
            _ => Open::new(&self.path, self.format).map_err(io)?,
        };
        let seen = self.seen.saturating_sub(self.first);
        if open.continues(seen, self.mark.as_ref()).map_err(io)? {
            return Ok(open);
        }
        self.mark = None;
        (self.first, self.is_numbered, self.begins) = (0, false, None);
        let had = core::mem::take(&mut self.seen);
        Err(LogError::Restarted { had })
    }

    /// Looks at one record; `None` if there is none, or it is too large.
    fn look_at(&mut self, record: u64) -> Result<Option<Look>, LogError> {
        let mut bytes = [0; LOOK];
        match self.read(record, &mut bytes) {
            Ok(chunk) if chunk.records > 0 => Ok(look(self.format, &bytes[..chunk.bytes])),
            Ok(_) | Err(LogError::RecordTooLarge { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes what comes before one of the last records that need not be kept. That one stays: it shows
    /// the verifier, after a restart of ours, where the list begins.
    fn delete_before(&mut self, released: u64, delete: Delete) -> Result<(), LogError> {
        let Some(begins) = self.begins else {
            return Ok(());
        };
        let least = self.first + FEWEST;
        let candidates = released.saturating_sub(CANDIDATES).max(least)..released;
        for number in candidates.rev() {
            // There may be several violations with the same data.
            let fit = |look: &Look| !look.is_violation && !look.is_boot_aggregate;
            let Some(look) = self.look_at(number)?.filter(fit) else {
                continue;
            };
            let count = number - self.first;
            // The kernel lets nobody write while anybody reads.
            self.open = None;
            self.mark = None;
            match delete(&self.path, self.format, count, begins) {
                Ok(()) => {
                    debug!("{count} records deleted; the list begins with record {number}");
                    (self.first, self.begins) = (number, Some(look.digest));
                }
                // Another time.
                Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                    debug!("not deleted: {} is in use", self.path.display());
                }
                Err(error) => warn!(
                    "no records deleted from {}: {error}; this takes Linux 7.2 and CAP_SYS_ADMIN",
                    self.path.display()
                ),
            }
            return Ok(());
        }
        Ok(())
    }
}

/// What matters of the record with which `bytes` begin.
pub(super) fn look(format: ListFormat, bytes: &[u8]) -> Option<Look> {
    let Ok(Step::Record(record, _)) = ListParser::new(format).next(bytes) else {
        return None;
    };
    let is = |name: &[u8]| {
        record
            .template_data
            .windows(name.len())
            .any(|at| at == name)
    };
    Some(Look {
        digest: Anchor::digest(&record.extend_digest(HashAlg::Sha256)),
        is_boot_aggregate: is(b"boot_aggregate"),
        is_violation: record.is_violation(),
    })
}

impl MeasurementLog for FileLog {
    fn count(&mut self) -> Result<u64, LogError> {
        let mut open = self.take()?;
        let count = open.count();
        self.open = Some(open);
        let count = self.first + count.map_err(|error| fault(&self.path, error))?;
        self.seen = self.seen.max(count);
        Ok(count)
    }

    fn read(&mut self, from: u64, out: &mut [u8]) -> Result<Chunk, LogError> {
        let mut open = self.take()?;
        let Some(place) = from.checked_sub(self.first) else {
            self.open = Some(open);
            let (record, first) = (from, self.first);
            return Err(LogError::Deleted { record, first });
        };
        let chunk = open.read(place, out, self.format, &mut self.mark);
        self.open = Some(open);
        let chunk = chunk.map_err(|error| fault(&self.path, error))?;
        if chunk.records > 0 {
            self.seen = self.seen.max(from + u64::from(chunk.records));
        }
        Ok(chunk)
    }

    fn anchor(&mut self) -> Result<Option<(u64, Anchor)>, LogError> {
        if self.delete.is_none() {
            return Ok(None);
        }
        let Some(look) = self.look_at(self.first)? else {
            return Ok(None);
        };
        self.begins = Some(look.digest);
        if self.first == 0 && look.is_boot_aggregate {
            self.is_numbered = true;
            return Ok(Some((0, Anchor::Whole)));
        }
        Ok(Some((self.first, Anchor::Record(look.digest))))
    }

    fn begins_with(&mut self, number: u64) {
        if self.first != number {
            info!("the list begins with record {number}");
        }
        self.seen = self.seen.saturating_sub(self.first) + number;
        (self.first, self.is_numbered) = (number, true);
    }

    fn release(&mut self, before: u64) {
        if let Some(delete) = self.delete.filter(|_| self.is_numbered)
            && let Err(error) = self.delete_before(before.min(self.seen), delete)
        {
            debug!("no records deleted: {error}");
        }
    }
}

fn fault(path: &Path, fault: Fault) -> LogError {
    let path = path.to_owned();
    match fault {
        Fault::Io(error) => match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => LogError::NotFound { path },
            ErrorKind::PermissionDenied => LogError::NoPermission { path },
            _ => LogError::Io {
                path,
                text: error.to_string(),
            },
        },
        Fault::List(error) => LogError::Malformed(error),
        Fault::TooLarge { record, size } => LogError::RecordTooLarge { record, size },
    }
}

impl Open {
    fn new(path: &Path, format: ListFormat) -> io::Result<Self> {
        // `File::open` is O_RDONLY | O_CLOEXEC.
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        let count = path.with_file_name(COUNT);
        // Only the kernel's own file has this neighbour; a copy of a list may lie anywhere.
        let counter = match File::open(&count) {
            Ok(count) if kernel_count(&count).is_ok() => Counter::Kernel(count),
            _ => Counter::Walk(Cursor::new(format)),
        };
        Ok(Self {
            file,
            metadata,
            cursor: Cursor::new(format),
            counter,
        })
    }

    /// Whether `path` leads to the file that is open here.
    fn is_at(&self, path: &Path) -> io::Result<bool> {
        match path.metadata() {
            Ok(now) => Ok((now.dev(), now.ino()) == (self.metadata.dev(), self.metadata.ino())),
            // Who we have become may not look there; nor could it open another.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Whether this is a list of which `seen` records were seen, `mark` among them. A kernel's list
    /// lasts as long as its boot and only grows; a file may be cut, rewritten or replaced.
    fn continues(&self, seen: u64, mark: Option<&Mark>) -> io::Result<bool> {
        let counted = match &self.counter {
            Counter::Kernel(count) => return Ok(kernel_count(count)? >= seen),
            Counter::Walk(cursor) => cursor.offset(),
        };
        if self.file.metadata()?.len() < self.cursor.offset().max(counted) {
            return Ok(false);
        }
        let Some(mark) = mark else {
            return Ok(true);
        };
        let mut bytes = [0; MARK];
        let read = read_at(&self.file, &mut bytes, mark.offset)?;
        Ok(read == MARK && bytes == mark.bytes)
    }

    fn count(&mut self) -> Result<u64, Fault> {
        match &mut self.counter {
            Counter::Kernel(count) => Ok(kernel_count(count)?),
            Counter::Walk(cursor) => {
                while cursor.pass(&self.file)? {}
                Ok(cursor.record())
            }
        }
    }

    fn read(
        &mut self,
        from: u64,
        out: &mut [u8],
        format: ListFormat,
        mark: &mut Option<Mark>,
    ) -> Result<Chunk, Fault> {
        if from < self.cursor.record() {
            self.cursor = Cursor::new(format);
        }
        while self.cursor.record() < from {
            if !self.cursor.pass(&self.file)? {
                return Ok(Chunk::default());
            }
        }
        let mut chunk = Chunk::default();
        let (mut ahead, mut unpassed) = (0, 0);
        loop {
            let length = match self.cursor.length(&self.file, unpassed, ahead) {
                Ok(Some(length)) => length,
                Ok(None) => break,
                // What precedes the damage is evidence all the same; the next call says the rest.
                Err(Fault::List(_)) if chunk.records > 0 => {
                    chunk.more = true;
                    break;
                }
                Err(fault) => return Err(fault),
            };
            let Some(room) = out[chunk.bytes..].get_mut(..length) else {
                if chunk.records == 0 {
                    return Err(Fault::TooLarge {
                        record: from,
                        size: length,
                    });
                }
                chunk.more = true;
                break;
            };
            let offset = self.cursor.offset() + ahead as u64;
            let Some(record) = self.cursor.bytes(&self.file, ahead, length)? else {
                break;
            };
            room.copy_from_slice(record);
            if let Some(&bytes) = record.first_chunk() {
                *mark = Some(Mark { offset, bytes });
            }
            chunk.records += 1;
            chunk.bytes += length;
            ahead += length;
            unpassed += 1;
            if ahead >= Cursor::window() {
                self.cursor.advance(unpassed, ahead);
                (ahead, unpassed) = (0, 0);
            }
        }
        Ok(chunk)
    }
}

fn kernel_count(file: &File) -> io::Result<u64> {
    // securityfs has no size to go by; the number has at most 20 digits. Read from its beginning, it is
    // the number of now.
    let mut text = [0; 32];
    let size = file.read_at(&mut text, 0)?;
    core::str::from_utf8(&text[..size])
        .ok()
        .and_then(|text| text.trim_end().parse().ok())
        .ok_or_else(|| ErrorKind::InvalidData.into())
}
