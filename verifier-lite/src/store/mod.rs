//! What the verifier must not forget: devices, sessions, logs, verdicts.
//!
//! Everything an attestation changes goes into one [`Commit`], which happens whole or not at all.
//! What must be durable *before* the reply (enrolments, verdict changes, admissions) is committed
//! with [`Durability::Immediate`]; the position of a healthy heartbeat may be [`Durability::Batched`]
//! and is made durable by the next immediate commit or [`Store::flush`]. Losing a batched commit
//! costs a repeated exchange, and no evidence.
//!
//! Trusted: the file, which only its owner can read (it holds session secrets). What a peer sent is
//! stored as it came; nothing is believed because it was stored.

use std::fmt;
use std::path::PathBuf;

mod ids;
mod records;
mod redb;
mod tables;

pub use self::redb::RedbStore;
pub use ids::{ObjectKind, RecordId};
pub use mote_schemas::message::{DeviceId, Kid, Tier};
pub use records::{
    Admission, BootLogState, BootState, Content, Deviation, DeviceRecord, Expected, NonceRecord,
    OutstandingQuote, PcrBank, PcrValue, Quoted, Record, Secret, SessionRecord, TokenEvidence,
    TokenState, VerdictRecord,
};

/// Deviations kept of one device. Far more than anyone reads; a device bound to the wrong manifest
/// would otherwise store its whole log a second time.
pub const MAX_DEVIATIONS: u64 = 10_000;

/// Boot event logs kept: a fleet has one for each model, firmware version and set of boot options.
pub const MAX_BOOT_LOGS: u64 = 1024;

/// Uploads kept: of boot event logs, one for each kind of device, and of long records, one for each
/// device that is at it. Only admitted devices have any; at worst they take 128 MB.
pub const MAX_UPLOADS: u64 = 256;

/// When a commit is safe from a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Before `commit` returns.
    Immediate,
    /// With the next immediate commit or flush.
    Batched,
}

/// One change. Those of a [`Commit`] apply in order.
// A commit has a handful of changes for one datagram; boxing the device would not pay.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Add or replace a device.
    PutDevice(DeviceId, DeviceRecord),
    /// Forget a device: its sessions, logs, verdicts and deviations go with it.
    RemoveDevice(DeviceId),
    /// Add or replace a session.
    PutSession(Kid, SessionRecord),
    /// Forget a session.
    RemoveSession(Kid),
    /// Keep an IMA record for the whole fleet, if it is not kept already.
    PutRecord(Record),
    /// Records that follow those already stored of this boot.
    AppendLog {
        /// Whose log.
        device: DeviceId,
        /// [`BootState::number`].
        boot: u64,
        /// Absolute number of the first; must be where the stored log ends.
        first: u64,
        /// All of them known: stored before, or put earlier in the same commit.
        records: Vec<RecordId>,
    },
    /// Forget the records of this boot from this number on: a tail that no quote certified.
    TruncateLog {
        /// Whose log.
        device: DeviceId,
        /// [`BootState::number`].
        boot: u64,
        /// Absolute number of the first to forget; 0 forgets the whole boot.
        from: u64,
    },
    /// Keep a boot event log for the whole fleet. Beyond [`MAX_BOOT_LOGS`] the oldest goes.
    PutBootLog {
        /// SHA-256 of it.
        digest: [u8; 32],
        /// All of it.
        bytes: Vec<u8>,
        /// When.
        at: u64,
    },
    /// Bytes that follow those already stored of an upload. Beyond [`MAX_UPLOADS`] the one that has
    /// waited longest goes.
    AppendBootUpload {
        /// Which.
        upload: [u8; 32],
        /// Where they begin; must be where the upload ends.
        offset: u32,
        /// The bytes.
        bytes: Vec<u8>,
        /// When.
        at: u64,
    },
    /// Forget an upload, if there is one.
    DropBootUpload([u8; 32]),
    /// Append to the device's history.
    AddVerdict(DeviceId, VerdictRecord),
    /// Add to the deviations of the current boot. Beyond [`MAX_DEVIATIONS`] it is dropped.
    AddDeviation(DeviceId, Deviation),
    /// Forget the deviations: another boot, or appraised anew.
    ClearDeviations(DeviceId),
    /// Add or replace an object of the operator, by name; counts up [`Store::generation`].
    PutObject(ObjectKind, String, Vec<u8>),
    /// Forget an object; counts up [`Store::generation`].
    RemoveObject(ObjectKind, String),
}

/// Changes that happen together or not at all.
pub type Commit = [Change];

/// The verifier's memory. One process has it open at a time.
pub trait Store: Send {
    /// A device.
    fn device(&self, id: &DeviceId) -> Result<Option<DeviceRecord>, StoreError>;

    /// Up to `max` devices in the order of their ids, those after `after`.
    fn devices(
        &self,
        after: Option<&DeviceId>,
        max: usize,
    ) -> Result<Vec<(DeviceId, DeviceRecord)>, StoreError>;

    /// A session.
    fn session(&self, kid: &Kid) -> Result<Option<SessionRecord>, StoreError>;

    /// Whether there is this session.
    fn has_session(&self, kid: &Kid) -> Result<bool, StoreError> {
        Ok(self.session(kid)?.is_some())
    }

    /// Up to `max` sessions in the order of their kids, those after `after`.
    fn sessions(
        &self,
        after: Option<&Kid>,
        max: usize,
    ) -> Result<Vec<(Kid, SessionRecord)>, StoreError>;

    /// An IMA record.
    fn record(&self, id: &RecordId) -> Result<Option<Record>, StoreError>;

    /// Up to `max` IMA records of PCR 10, no violations, whose template hash (SHA-1, as the list shows
    /// it) begins with `prefix`, 4 to 8 bytes.
    fn records_by_prefix(&self, prefix: &[u8], max: usize) -> Result<Vec<Record>, StoreError>;

    /// Number of IMA records kept, of all devices.
    fn record_count(&self) -> Result<u64, StoreError>;

    /// A boot event log, by its SHA-256.
    fn boot_log(&self, digest: &[u8; 32]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Whether this boot event log is kept.
    fn has_boot_log(&self, digest: &[u8; 32]) -> Result<bool, StoreError>;

    /// Bytes stored of an upload; 0 if there is none.
    fn boot_upload_end(&self, upload: &[u8; 32]) -> Result<u32, StoreError>;

    /// All that is stored of an upload.
    fn boot_upload(&self, upload: &[u8; 32]) -> Result<Vec<u8>, StoreError>;

    /// Number of log records stored of this boot: where the next must begin.
    fn log_end(&self, device: &DeviceId, boot: u64) -> Result<u64, StoreError>;

    /// Up to `max` log records of this boot, from number `from` on.
    fn log(
        &self,
        device: &DeviceId,
        boot: u64,
        from: u64,
        max: usize,
    ) -> Result<Vec<RecordId>, StoreError>;

    /// Up to `max` verdicts, newest first, with their sequence numbers (from 1).
    fn verdicts(
        &self,
        device: &DeviceId,
        max: usize,
    ) -> Result<Vec<(u64, VerdictRecord)>, StoreError>;

    /// Up to `max` deviations of the current boot, oldest first.
    fn deviations(&self, device: &DeviceId, max: usize) -> Result<Vec<Deviation>, StoreError>;

    /// Number of deviations of the current boot.
    fn deviation_count(&self, device: &DeviceId) -> Result<u64, StoreError>;

    /// Names of all objects of this kind, sorted.
    fn object_names(&self, kind: ObjectKind) -> Result<Vec<String>, StoreError>;

    /// An object of the operator: the bytes that were put.
    fn object(&self, kind: ObjectKind, name: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Counts the changes of objects: as long as it stays, so do all of them.
    fn generation(&self) -> Result<u64, StoreError>;

    /// Makes all of `changes`, or none of them when it fails.
    fn commit(&mut self, changes: &Commit, durability: Durability) -> Result<(), StoreError>;

    /// The same, of changes that are not needed any more.
    fn commit_owned(
        &mut self,
        changes: Vec<Change>,
        durability: Durability,
    ) -> Result<(), StoreError> {
        self.commit(&changes, durability)
    }

    /// Makes every batched commit durable.
    fn flush(&mut self) -> Result<(), StoreError>;
}

/// Why the store could not be opened, read or written. `Display` says what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// The operating system refused: the file and its word.
    Io(PathBuf, std::io::Error),
    /// Another process has it open; its process id, where the system tells.
    Locked(PathBuf, Option<u32>),
    /// There is no store here.
    Missing(PathBuf),
    /// Other users can read the file, which holds session secrets; its mode.
    Exposed(PathBuf, u32),
    /// The file is no store, or a damaged one.
    Corrupt(PathBuf, String),
    /// One entry cannot be read: its table, key and what is wrong.
    BadEntry(&'static str, String, String),
    /// Written by a newer version: the version found, the newest that is known.
    NewerSchema(u64, u64),
    /// A log would have a hole or overlap: where it ends, where the new records begin.
    NotContiguous {
        /// Number of records stored.
        end: u64,
        /// Number of the first record offered.
        first: u64,
    },
    /// A log would refer to a record that is not stored.
    UnknownRecord(RecordId),
    /// Something would be stored about a device that is not there.
    UnknownDevice(DeviceId),
    /// The database failed; nothing was changed.
    Database(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Locked(path, Some(pid)) => {
                write!(
                    f,
                    "another mote-verifier holds {} (pid {pid})",
                    path.display()
                )
            }
            Self::Locked(path, None) => {
                write!(f, "another mote-verifier holds {}", path.display())
            }
            Self::Missing(path) => write!(
                f,
                "{}: no such store; start mote-verifier once, or give its state directory",
                path.display()
            ),
            Self::Exposed(path, mode) => write!(
                f,
                "{}: holds session secrets, but others may read it (mode {mode:04o}); \
                 run `chmod 600 {}`",
                path.display(),
                path.display()
            ),
            Self::Corrupt(path, why) => write!(
                f,
                "{}: damaged, or not a store ({why}); restore it from a backup, or move it away: \
                 devices then enrol anew",
                path.display()
            ),
            Self::BadEntry(table, key, why) => {
                write!(
                    f,
                    "store: entry {key} of table {table} cannot be read: {why}"
                )
            }
            Self::NewerSchema(found, known) => write!(
                f,
                "the store was written by a newer version (schema {found}, this one knows {known}); \
                 upgrade this mote-verifier"
            ),
            Self::NotContiguous { end, first } => write!(
                f,
                "log records from {first} on do not follow the {end} that are stored"
            ),
            Self::UnknownRecord(id) => write!(f, "log record {id} is not stored"),
            Self::UnknownDevice(id) => write!(f, "device {id} is not stored"),
            Self::Database(why) => write!(f, "store: {why}"),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(_, error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
