//! [`Store`] in one file beside the verifier (redb).
//!
//! redb keeps a commit of `Durability::None` in memory until the next `Immediate` one, which makes
//! both durable together: exactly what [`Durability::Batched`] promises. A crash leaves the state of
//! the last immediate commit. What a heartbeat with nothing new changes does not even go that far by
//! itself: see `recent`.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use minicbor::Decode;
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, StorageError,
};

use super::tables::{
    DEVIATIONS, DEVICES, GENERATION_KEY, ID, LOGS, META, OBJECTS, PREFIX, PREFIXES, RECORDS,
    SCHEMA, SCHEMA_KEY, SESSIONS, VERDICTS, from_bytes,
};
use super::{
    Change, Commit, Deviation, DeviceId, DeviceRecord, Durability, Kid, ObjectKind, Record,
    RecordId, SessionRecord, Store, StoreError, VerdictRecord,
};

mod boot_log;
mod recent;
mod write;

use recent::Recent;

/// Page cache, in bytes. redb's default of 1 GiB is not for a light verifier; a device takes about
/// 2 kB here.
const CACHE: usize = 64 * 1024 * 1024;

/// The embedded store: `mote.redb` in the verifier's state directory.
#[derive(Debug)]
pub struct RedbStore {
    database: Database,
    recent: Mutex<Recent>,
    path: PathBuf,
}

impl RedbStore {
    /// Name of the file in the state directory.
    pub const FILE: &'static str = "mote.redb";

    /// Opens the store in `directory`; makes both where they are missing, for their owner alone
    /// (0700, 0600).
    pub fn open_or_create(directory: &Path) -> Result<Self, StoreError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| StoreError::Io(directory.to_owned(), error))?;
        let path = directory.join(Self::FILE);
        // redb starts a new database in an empty file, but would make the file with the umask's mode.
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(StoreError::Io(path, error));
            }
            _ => {}
        }
        Self::open_file(path)
    }

    /// Opens the store in `directory`, which must be there.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(Self::FILE);
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::Missing(path)),
            Err(error) => Err(StoreError::Io(path, error)),
            Ok(_) => Self::open_file(path),
        }
    }

    fn open_file(path: PathBuf) -> Result<Self, StoreError> {
        let metadata = fs::metadata(&path).map_err(|error| StoreError::Io(path.clone(), error))?;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(StoreError::Exposed(path, mode));
        }
        let opened = Database::builder()
            .set_cache_size(CACHE)
            // Without this, redb may panic on a file that something else has damaged.
            .set_check_integrity_on_open(true)
            .create(&path);
        let database = match opened {
            Ok(database) => database,
            Err(DatabaseError::DatabaseAlreadyOpen) => {
                let pid = lock_holder(&metadata);
                return Err(StoreError::Locked(path, pid));
            }
            Err(DatabaseError::Storage(StorageError::Io(error)))
                if error.kind() != io::ErrorKind::InvalidData
                    && error.kind() != io::ErrorKind::UnexpectedEof =>
            {
                return Err(StoreError::Io(path, error));
            }
            Err(error) => return Err(StoreError::Corrupt(path, error.to_string())),
        };
        let mut store = Self {
            database,
            recent: Mutex::default(),
            path,
        };
        store.check_schema()?;
        Ok(store)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self) -> Result<ReadTransaction, StoreError> {
        self.database.begin_read().map_err(failed)
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether all of these changes can wait in memory for the flush.
    fn can_wait(&self, changes: &Commit, durability: Durability) -> Result<bool, StoreError> {
        if durability != Durability::Batched {
            return Ok(false);
        }
        // What is not held yet is read first: only what is in the file can wait.
        for change in changes {
            if let Change::PutSession(kid, _) = change {
                self.has_session(kid)?;
            }
        }
        Ok(self.recent().can_hold(changes))
    }

    /// Commits these changes, and before them, in the same transaction, all that waits.
    fn write_all(&mut self, changes: &Commit, durability: Durability) -> Result<(), StoreError> {
        // Held here and nowhere else while the transaction goes on.
        let mut recent = std::mem::take(&mut *self.recent());
        let written = self.write(durability, |writer| {
            writer.put_devices(recent.waiting_devices())?;
            writer.put_sessions(recent.waiting_sessions())?;
            changes.iter().try_for_each(|change| writer.apply(change))
        });
        if written.is_ok() {
            recent.written(changes);
        }
        *self.recent() = recent;
        written
    }
}

impl Drop for RedbStore {
    /// An orderly end loses nothing. After a failure there is nobody left to tell but the log.
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            log::error!(
                "{}: last changes are not durable: {error}",
                self.path.display()
            );
        }
    }
}

fn failed(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Database(error.into().to_string())
}

/// Who holds a lock on this file, from Linux's `/proc/locks`:
/// `1: FLOCK  ADVISORY  WRITE 708 00:30:13542 0 EOF` (proc(5)).
fn lock_holder(file: &fs::Metadata) -> Option<u32> {
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let inode = file.ino().to_string();
    locks.lines().find_map(|line| {
        let mut fields = line
            .split_whitespace()
            .skip_while(|field| field.parse::<u32>().is_err());
        let pid = fields.next()?.parse().ok()?;
        // The inode alone: the device number of an overlay differs from what stat reports.
        let same = fields.next()?.rsplit(':').next() == Some(&inode);
        same.then_some(pid)
    })
}

fn decode<T: for<'b> Decode<'b, ()>>(
    table: &'static str,
    key: &[u8],
    bytes: &[u8],
) -> Result<T, StoreError> {
    from_bytes(table, || crate::hex::encode(key), bytes)
}

impl Store for RedbStore {
    fn device(&self, id: &DeviceId) -> Result<Option<DeviceRecord>, StoreError> {
        if let Some(record) = self.recent().device(id) {
            return Ok(Some(record.clone()));
        }
        let table = self.read()?.open_table(DEVICES).map_err(failed)?;
        let value = table.get(&id.0).map_err(failed)?;
        let found = value.map(|value| decode("devices", &id.0, value.value()));
        let found: Option<DeviceRecord> = found.transpose()?;
        if let Some(record) = &found {
            self.recent().read_device(*id, record);
        }
        Ok(found)
    }

    fn devices(
        &self,
        after: Option<&DeviceId>,
        max: usize,
    ) -> Result<Vec<(DeviceId, DeviceRecord)>, StoreError> {
        let table = self.read()?.open_table(DEVICES).map_err(failed)?;
        let start = after.map_or(Bound::Unbounded, |id| Bound::Excluded(&id.0));
        let range = table
            .range::<&[u8; 16]>((start, Bound::Unbounded))
            .map_err(failed)?;
        range
            .take(max)
            .map(|entry| {
                let (key, value) = entry.map_err(failed)?;
                let id = DeviceId(*key.value());
                if let Some(record) = self.recent().device(&id) {
                    return Ok((id, record.clone()));
                }
                Ok((id, decode("devices", &id.0, value.value())?))
            })
            .collect()
    }

    fn session(&self, kid: &Kid) -> Result<Option<SessionRecord>, StoreError> {
        if let Some(record) = self.recent().session(kid) {
            return Ok(Some(record.clone()));
        }
        let table = self.read()?.open_table(SESSIONS).map_err(failed)?;
        let value = table.get(kid.as_bytes()).map_err(failed)?;
        let found = value.map(|value| decode("sessions", kid.as_bytes(), value.value()));
        let found: Option<SessionRecord> = found.transpose()?;
        if let Some(record) = &found {
            self.recent().read_session(*kid, record);
        }
        Ok(found)
    }

    fn has_session(&self, kid: &Kid) -> Result<bool, StoreError> {
        let held = self.recent().session(kid).is_some();
        Ok(held || self.session(kid)?.is_some())
    }

    fn sessions(
        &self,
        after: Option<&Kid>,
        max: usize,
    ) -> Result<Vec<(Kid, SessionRecord)>, StoreError> {
        let table = self.read()?.open_table(SESSIONS).map_err(failed)?;
        let start = after.map_or(Bound::Unbounded, |kid| Bound::Excluded(kid.as_bytes()));
        let range = table
            .range::<&[u8]>((start, Bound::Unbounded))
            .map_err(failed)?;
        range
            .take(max)
            .map(|entry| {
                let (key, value) = entry.map_err(failed)?;
                let bytes = key.value();
                let kid = Kid::new(bytes).ok_or_else(|| {
                    let key = crate::hex::encode(bytes);
                    StoreError::BadEntry("sessions", key, "not a kid".to_owned())
                })?;
                if let Some(record) = self.recent().session(&kid) {
                    return Ok((kid, record.clone()));
                }
                Ok((kid, decode("sessions", bytes, value.value())?))
            })
            .collect()
    }

    fn record(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        let table = self.read()?.open_table(RECORDS).map_err(failed)?;
        let value = table.get(&id.0).map_err(failed)?;
        value
            .map(|value| decode("records", &id.0, value.value()))
            .transpose()
    }

    fn records_by_prefix(&self, prefix: &[u8], max: usize) -> Result<Vec<Record>, StoreError> {
        let prefix = &prefix[..prefix.len().min(PREFIX)];
        let (mut low, mut high) = ([0; PREFIX + ID], [0xff; PREFIX + ID]);
        low[..prefix.len()].copy_from_slice(prefix);
        high[..prefix.len()].copy_from_slice(prefix);
        let table = self.read()?.open_table(PREFIXES).map_err(failed)?;
        let range = table.range::<&[u8; PREFIX + ID]>(&low..=&high);
        let ids: Vec<RecordId> = range
            .map_err(failed)?
            .take(max)
            .map(|entry| {
                let mut id = [0; ID];
                id.copy_from_slice(&entry.map_err(failed)?.0.value()[PREFIX..]);
                Ok(RecordId(id))
            })
            .collect::<Result<_, StoreError>>()?;
        let records = ids.iter().map(|id| self.record(id));
        records.filter_map(Result::transpose).collect()
    }

    fn record_count(&self) -> Result<u64, StoreError> {
        let table = self.read()?.open_table(RECORDS).map_err(failed)?;
        table.len().map_err(failed)
    }

    fn boot_log(&self, digest: &[u8; 32]) -> Result<Option<Vec<u8>>, StoreError> {
        boot_log::read(&self.read()?, digest)
    }

    fn has_boot_log(&self, digest: &[u8; 32]) -> Result<bool, StoreError> {
        boot_log::is_kept(&self.read()?, digest)
    }

    fn boot_upload_end(&self, upload: &[u8; 32]) -> Result<u32, StoreError> {
        boot_log::upload_end(&self.read()?, upload)
    }

    fn boot_upload(&self, upload: &[u8; 32]) -> Result<Vec<u8>, StoreError> {
        boot_log::upload(&self.read()?, upload)
    }

    fn log_end(&self, device: &DeviceId, boot: u64) -> Result<u64, StoreError> {
        if let Some(end) = self.recent().log_end(device, boot) {
            return Ok(end);
        }
        let table = self.read()?.open_table(LOGS).map_err(failed)?;
        let end = last_segment(&table, device, boot)?.map_or(0, |last| last.end());
        self.recent().read_log_end(device, boot, end);
        Ok(end)
    }

    fn log(
        &self,
        device: &DeviceId,
        boot: u64,
        from: u64,
        max: usize,
    ) -> Result<Vec<RecordId>, StoreError> {
        let table = self.read()?.open_table(LOGS).map_err(failed)?;
        let mut records = Vec::new();
        // The segment that holds `from` begins at or before it.
        let before = (&device.0, boot, 0)..=(&device.0, boot, from);
        let mut start = from;
        if let Some(entry) = table.range(before).map_err(failed)?.next_back() {
            start = entry.map_err(failed)?.0.value().2;
        }
        let range = (&device.0, boot, start)..=(&device.0, boot, u64::MAX);
        for entry in table.range(range).map_err(failed)? {
            let (key, value) = entry.map_err(failed)?;
            let first = key.value().2;
            let skip = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
            let left = max - records.len();
            let (ids, _) = value.value().as_chunks::<ID>();
            records.extend(ids.iter().skip(skip).take(left).copied().map(RecordId));
            if records.len() == max {
                break;
            }
        }
        Ok(records)
    }

    fn verdicts(
        &self,
        device: &DeviceId,
        max: usize,
    ) -> Result<Vec<(u64, VerdictRecord)>, StoreError> {
        if max == 1
            && let Some(last) = self.recent().verdict(device)
        {
            return Ok(last.to_vec());
        }
        let table = self.read()?.open_table(VERDICTS).map_err(failed)?;
        let range = table.range(of_device(device)).map_err(failed)?;
        let newest = range.rev().take(max).map(|entry| {
            let (key, value) = entry.map_err(failed)?;
            Ok((key.value().1, decode("verdicts", &device.0, value.value())?))
        });
        let newest: Vec<_> = newest.collect::<Result<_, StoreError>>()?;
        if max > 0 {
            self.recent().read_verdict(device, newest.first());
        }
        Ok(newest)
    }

    fn deviations(&self, device: &DeviceId, max: usize) -> Result<Vec<Deviation>, StoreError> {
        let table = self.read()?.open_table(DEVIATIONS).map_err(failed)?;
        let range = table.range(of_device(device)).map_err(failed)?;
        range
            .take(max)
            .map(|entry| {
                let (_, value) = entry.map_err(failed)?;
                decode("deviations", &device.0, value.value())
            })
            .collect()
    }

    fn deviation_count(&self, device: &DeviceId) -> Result<u64, StoreError> {
        let table = self.read()?.open_table(DEVIATIONS).map_err(failed)?;
        count(&table, device)
    }

    fn object_names(&self, kind: ObjectKind) -> Result<Vec<String>, StoreError> {
        let table = self.read()?.open_table(OBJECTS).map_err(failed)?;
        let range = table.range((kind as u8, "")..).map_err(failed)?;
        let mut names = Vec::new();
        for entry in range {
            let (key, _) = entry.map_err(failed)?;
            let (of, name) = key.value();
            if of != kind as u8 {
                break;
            }
            names.push(name.to_owned());
        }
        Ok(names)
    }

    fn object(&self, kind: ObjectKind, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let table = self.read()?.open_table(OBJECTS).map_err(failed)?;
        let value = table.get((kind as u8, name)).map_err(failed)?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    fn generation(&self) -> Result<u64, StoreError> {
        if let Some(generation) = self.recent().generation() {
            return Ok(generation);
        }
        let table = self.read()?.open_table(META).map_err(failed)?;
        let value = table.get(GENERATION_KEY).map_err(failed)?;
        let generation = value.map_or(0, |value| value.value());
        self.recent().read_generation(generation);
        Ok(generation)
    }

    fn commit(&mut self, changes: &Commit, durability: Durability) -> Result<(), StoreError> {
        if self.can_wait(changes, durability)? {
            self.recent().hold(changes.iter().cloned());
            return Ok(());
        }
        self.write_all(changes, durability)
    }

    fn commit_owned(
        &mut self,
        changes: Vec<Change>,
        durability: Durability,
    ) -> Result<(), StoreError> {
        if self.can_wait(&changes, durability)? {
            self.recent().hold(changes);
            return Ok(());
        }
        self.write_all(&changes, durability)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.write_all(&[], Durability::Immediate)
    }
}

/// Every key of a (device, number) table that is this device's.
fn of_device(device: &DeviceId) -> std::ops::RangeInclusive<(&[u8; 16], u64)> {
    (&device.0, 0)..=(&device.0, u64::MAX)
}

/// Number of the last entry of a (device, number) table, which numbers them from 1 without gaps.
fn count(
    table: &impl ReadableTable<(&'static [u8; 16], u64), &'static [u8]>,
    device: &DeviceId,
) -> Result<u64, StoreError> {
    let last = table.range(of_device(device)).map_err(failed)?.next_back();
    last.map_or(Ok(0), |entry| Ok(entry.map_err(failed)?.0.value().1))
}

/// An entry of `LOGS`.
struct Segment {
    first: u64,
    ids: Vec<u8>,
}

impl Segment {
    fn end(&self) -> u64 {
        self.first + (self.ids.len() / ID) as u64
    }
}

fn last_segment(
    table: &impl ReadableTable<(&'static [u8; 16], u64, u64), &'static [u8]>,
    device: &DeviceId,
    boot: u64,
) -> Result<Option<Segment>, StoreError> {
    let range = (&device.0, boot, 0)..=(&device.0, boot, u64::MAX);
    let Some(entry) = table.range(range).map_err(failed)?.next_back() else {
        return Ok(None);
    };
    let (key, value) = entry.map_err(failed)?;
    Ok(Some(Segment {
        first: key.value().2,
        ids: value.value().to_vec(),
    }))
}
