//! A store that can lose power: what was committed `Batched` and never flushed is gone after
//! [`Disk::crash`], everything else is there, in the order in which it was committed.
//!
//! Two copies of everything: the one that readers see, and the one that a crash leaves. A list of
//! the changes between them is applied to the second whenever redb would write to the disk. That this
//! is what `RedbStore` does is the property test in `tests/simulated_store.rs`.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mote_schemas::tpm::HashAlg;
use mote_verifier::log_entry::LogEntry;
use mote_verifier::policy::device_target;
use mote_verifier::store::{
    Change, Commit, Deviation, DeviceId, DeviceRecord, Durability, Kid, MAX_BOOT_LOGS,
    MAX_DEVIATIONS, MAX_UPLOADS, ObjectKind, Record, RecordId, SessionRecord, Store, StoreError,
    VerdictRecord,
};

#[derive(Clone, Debug, Default)]
struct State {
    devices: BTreeMap<DeviceId, DeviceRecord>,
    sessions: BTreeMap<Kid, SessionRecord>,
    boot_logs: BTreeMap<[u8; 32], (u64, Vec<u8>)>,
    boot_uploads: BTreeMap<[u8; 32], (u64, Vec<u8>)>,
    records: BTreeMap<RecordId, Arc<Record>>,
    logs: BTreeMap<(DeviceId, u64), Vec<RecordId>>,
    verdicts: BTreeMap<DeviceId, Vec<VerdictRecord>>,
    deviations: BTreeMap<DeviceId, Vec<Deviation>>,
    objects: BTreeMap<(ObjectKind, String), Vec<u8>>,
    generation: u64,
}

impl State {
    fn must_exist(&self, device: &DeviceId) -> Result<(), StoreError> {
        let known = self.devices.contains_key(device);
        known
            .then_some(())
            .ok_or(StoreError::UnknownDevice(*device))
    }

    fn apply(&mut self, change: &Change) -> Result<(), StoreError> {
        match change {
            Change::PutDevice(id, record) => {
                self.devices.insert(*id, record.clone());
            }
            Change::RemoveDevice(id) => {
                self.devices.remove(id);
                self.sessions.retain(|_, session| session.device != *id);
                self.logs.retain(|(device, _), _| device != id);
                self.verdicts.remove(id);
                self.deviations.remove(id);
                self.remove_object(ObjectKind::Labels, id.to_string());
                self.remove_object(ObjectKind::Binding, device_target(id));
            }
            Change::PutSession(kid, record) => {
                self.must_exist(&record.device)?;
                self.sessions.insert(*kid, record.clone());
            }
            Change::RemoveSession(kid) => {
                self.sessions.remove(kid);
            }
            Change::PutRecord(record) => {
                let id = RecordId::of(record);
                self.records
                    .entry(id)
                    .or_insert_with(|| Arc::new(record.clone()));
            }
            Change::AppendLog {
                device,
                boot,
                first,
                records,
            } => {
                self.must_exist(device)?;
                for id in records {
                    if !self.records.contains_key(id) {
                        return Err(StoreError::UnknownRecord(*id));
                    }
                }
                let log = self.logs.entry((*device, *boot)).or_default();
                let end = log.len() as u64;
                if *first != end {
                    return Err(StoreError::NotContiguous { end, first: *first });
                }
                log.extend(records);
            }
            Change::TruncateLog { device, boot, from } => {
                if let Some(log) = self.logs.get_mut(&(*device, *boot)) {
                    log.truncate(usize::try_from(*from).unwrap_or(usize::MAX));
                }
            }
            Change::PutBootLog { digest, bytes, at } => {
                if !self.boot_logs.contains_key(digest) {
                    drop_oldest(&mut self.boot_logs, MAX_BOOT_LOGS);
                    self.boot_logs.insert(*digest, (*at, bytes.clone()));
                }
            }
            Change::AppendBootUpload {
                upload,
                offset,
                bytes,
                at,
            } => {
                let end = self.boot_uploads.get(upload).map_or(0, |(_, b)| b.len());
                if end != *offset as usize {
                    let (end, first) = (end as u64, u64::from(*offset));
                    return Err(StoreError::NotContiguous { end, first });
                }
                if !self.boot_uploads.contains_key(upload) {
                    drop_oldest(&mut self.boot_uploads, MAX_UPLOADS);
                }
                let entry = self.boot_uploads.entry(*upload).or_default();
                entry.0 = *at;
                entry.1.extend_from_slice(bytes);
            }
            Change::DropBootUpload(upload) => {
                self.boot_uploads.remove(upload);
            }
            Change::AddVerdict(device, verdict) => {
                self.must_exist(device)?;
                let verdicts = self.verdicts.entry(*device).or_default();
                verdicts.push(verdict.clone());
            }
            Change::AddDeviation(device, deviation) => {
                self.must_exist(device)?;
                let deviations = self.deviations.entry(*device).or_default();
                if (deviations.len() as u64) < MAX_DEVIATIONS {
                    deviations.push(deviation.clone());
                }
            }
            Change::ClearDeviations(device) => {
                self.deviations.remove(device);
            }
            Change::PutObject(kind, name, bytes) => {
                self.objects.insert((*kind, name.clone()), bytes.clone());
                self.generation += 1;
            }
            Change::RemoveObject(kind, name) => self.remove_object(*kind, name.clone()),
        }
        Ok(())
    }

    fn remove_object(&mut self, kind: ObjectKind, name: String) {
        if self.objects.remove(&(kind, name)).is_some() {
            self.generation += 1;
        }
    }
}

/// Makes room for one more.
fn drop_oldest(table: &mut BTreeMap<[u8; 32], (u64, Vec<u8>)>, max: u64) {
    while table.len() as u64 >= max {
        let oldest = table.iter().min_by_key(|(key, (at, _))| (*at, **key));
        let Some(oldest) = oldest.map(|(key, _)| *key) else {
            return;
        };
        table.remove(&oldest);
    }
}

#[derive(Debug, Default)]
struct Both {
    /// What readers see.
    seen: State,
    /// What a crash leaves.
    durable: State,
    /// Committed, seen, and not durable.
    batched: Vec<Change>,
}

impl Both {
    fn commit(&mut self, changes: &Commit) -> Result<(), StoreError> {
        if let Err(error) = changes
            .iter()
            .try_for_each(|change| self.seen.apply(change))
        {
            // Back to where it was before: rare, so it may be slow.
            self.seen = self.durable.clone();
            for change in &self.batched {
                self.seen.apply(change)?;
            }
            return Err(error);
        }
        self.batched.extend_from_slice(changes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let batched = std::mem::take(&mut self.batched);
        batched
            .iter()
            .try_for_each(|change| self.durable.apply(change))
    }
}

/// The medium. Outlives every [`MemoryStore`] that works on it.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<Both>>);

impl Disk {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// A store on this disk. As with the real one, only one process may have it open at a time;
    /// nobody checks that here.
    pub fn open(&self) -> MemoryStore {
        MemoryStore(self.clone())
    }

    /// The power goes: everything that was only batched is lost.
    pub fn crash(&self) {
        let mut both = self.lock();
        both.batched.clear();
        both.seen = both.durable.clone();
    }

    /// Whether anything would be lost now.
    pub fn has_batched(&self) -> bool {
        !self.lock().batched.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Both> {
        // Nothing here panics while it holds the lock half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// [`Store`] on a [`Disk`]. Dropping it flushes nothing.
#[derive(Debug)]
pub struct MemoryStore(Disk);

impl Store for MemoryStore {
    fn device(&self, id: &DeviceId) -> Result<Option<DeviceRecord>, StoreError> {
        Ok(self.0.lock().seen.devices.get(id).cloned())
    }

    fn devices(
        &self,
        after: Option<&DeviceId>,
        max: usize,
    ) -> Result<Vec<(DeviceId, DeviceRecord)>, StoreError> {
        let both = self.0.lock();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = both.seen.devices.range((start, Bound::Unbounded));
        Ok(range.take(max).map(|(id, r)| (*id, r.clone())).collect())
    }

    fn session(&self, kid: &Kid) -> Result<Option<SessionRecord>, StoreError> {
        Ok(self.0.lock().seen.sessions.get(kid).cloned())
    }

    fn sessions(
        &self,
        after: Option<&Kid>,
        max: usize,
    ) -> Result<Vec<(Kid, SessionRecord)>, StoreError> {
        let both = self.0.lock();
        // By bytes, as a table sorts its keys; a `Kid` sorts by its length first.
        let mut all: Vec<_> = both.seen.sessions.iter().collect();
        all.sort_by_key(|(kid, _)| kid.as_bytes());
        let page = all
            .into_iter()
            .filter(|(kid, _)| after.is_none_or(|after| kid.as_bytes() > after.as_bytes()));
        Ok(page.take(max).map(|(kid, r)| (*kid, r.clone())).collect())
    }

    fn record(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        let both = self.0.lock();
        Ok(both.seen.records.get(id).map(|record| (**record).clone()))
    }

    fn records_by_prefix(&self, prefix: &[u8], max: usize) -> Result<Vec<Record>, StoreError> {
        let both = self.0.lock();
        let named = |record: &&Arc<Record>| {
            let named = record.pcr == 10 && !record.violation;
            named
                && record
                    .extend_digest(HashAlg::Sha1)
                    .as_bytes()
                    .starts_with(prefix)
        };
        let found = both.seen.records.values().filter(named).take(max);
        Ok(found.map(|record| (**record).clone()).collect())
    }

    fn record_count(&self) -> Result<u64, StoreError> {
        Ok(self.0.lock().seen.records.len() as u64)
    }

    fn boot_log(&self, digest: &[u8; 32]) -> Result<Option<Vec<u8>>, StoreError> {
        let both = self.0.lock();
        Ok(both.seen.boot_logs.get(digest).map(|(_, b)| b.clone()))
    }

    fn has_boot_log(&self, digest: &[u8; 32]) -> Result<bool, StoreError> {
        Ok(self.0.lock().seen.boot_logs.contains_key(digest))
    }

    fn boot_upload_end(&self, upload: &[u8; 32]) -> Result<u32, StoreError> {
        Ok(self.boot_upload(upload)?.len() as u32)
    }

    fn boot_upload(&self, upload: &[u8; 32]) -> Result<Vec<u8>, StoreError> {
        let both = self.0.lock();
        let found = both.seen.boot_uploads.get(upload);
        Ok(found.map_or_else(Vec::new, |(_, bytes)| bytes.clone()))
    }

    fn log_end(&self, device: &DeviceId, boot: u64) -> Result<u64, StoreError> {
        let both = self.0.lock();
        Ok(both.seen.logs.get(&(*device, boot)).map_or(0, Vec::len) as u64)
    }

    fn log(
        &self,
        device: &DeviceId,
        boot: u64,
        from: u64,
        max: usize,
    ) -> Result<Vec<RecordId>, StoreError> {
        let both = self.0.lock();
        let log = both.seen.logs.get(&(*device, boot));
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let part = log.into_iter().flatten().skip(from).take(max);
        Ok(part.copied().collect())
    }

    fn verdicts(
        &self,
        device: &DeviceId,
        max: usize,
    ) -> Result<Vec<(u64, VerdictRecord)>, StoreError> {
        let both = self.0.lock();
        let verdicts = both.seen.verdicts.get(device).into_iter().flatten();
        let mut numbered: Vec<_> = (1..).zip(verdicts.cloned()).collect();
        numbered.reverse();
        numbered.truncate(max);
        Ok(numbered)
    }

    fn deviations(&self, device: &DeviceId, max: usize) -> Result<Vec<Deviation>, StoreError> {
        let both = self.0.lock();
        let deviations = both.seen.deviations.get(device).into_iter().flatten();
        Ok(deviations.take(max).cloned().collect())
    }

    fn deviation_count(&self, device: &DeviceId) -> Result<u64, StoreError> {
        let both = self.0.lock();
        Ok(both.seen.deviations.get(device).map_or(0, Vec::len) as u64)
    }

    fn object_names(&self, kind: ObjectKind) -> Result<Vec<String>, StoreError> {
        let both = self.0.lock();
        let names = both.seen.objects.keys().filter(|(of, _)| *of == kind);
        Ok(names.map(|(_, name)| name.clone()).collect())
    }

    fn object(&self, kind: ObjectKind, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let both = self.0.lock();
        Ok(both.seen.objects.get(&(kind, name.to_owned())).cloned())
    }

    fn generation(&self) -> Result<u64, StoreError> {
        Ok(self.0.lock().seen.generation)
    }

    fn commit(&mut self, changes: &Commit, durability: Durability) -> Result<(), StoreError> {
        let mut both = self.0.lock();
        both.commit(changes)?;
        match durability {
            Durability::Immediate => both.flush(),
            Durability::Batched => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.0.lock().flush()
    }
}
