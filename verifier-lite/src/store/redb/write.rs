//! The writing half: one redb transaction for each commit.

use mote_schemas::tpm::HashAlg;
use redb::{ReadableTable, WriteTransaction};

use super::super::tables::{PREFIX, PREFIXES, SEGMENT, encode, to_bytes};
use super::super::{Change, MAX_DEVIATIONS, ObjectKind, Record};
use super::{
    DEVIATIONS, DEVICES, DeviceId, DeviceRecord, Durability, GENERATION_KEY, ID, Kid, LOGS, META,
    OBJECTS, RECORDS, RecordId, RedbStore, SCHEMA, SCHEMA_KEY, SESSIONS, Segment, SessionRecord,
    StoreError, VERDICTS, count, decode, failed, last_segment, of_device,
};
use crate::log_entry::LogEntry;
use crate::prefix::IMA_PCR;

impl RedbStore {
    /// Makes every table, so that reading one never fails for its absence, and refuses what a newer
    /// version wrote.
    pub(super) fn check_schema(&mut self) -> Result<(), StoreError> {
        self.write(Durability::Immediate, |writer| {
            let transaction = &writer.0;
            let mut meta = transaction.open_table(META).map_err(failed)?;
            let found = meta
                .get(SCHEMA_KEY)
                .map_err(failed)?
                .map(|value| value.value());
            match found {
                Some(found) if found > SCHEMA => {
                    return Err(StoreError::NewerSchema(found, SCHEMA));
                }
                Some(_) => {}
                None => {
                    meta.insert(SCHEMA_KEY, SCHEMA).map_err(failed)?;
                }
            }
            super::boot_log::make_tables(transaction)?;
            transaction.open_table(DEVICES).map_err(failed)?;
            transaction.open_table(SESSIONS).map_err(failed)?;
            transaction.open_table(RECORDS).map_err(failed)?;
            transaction.open_table(PREFIXES).map_err(failed)?;
            transaction.open_table(LOGS).map_err(failed)?;
            transaction.open_table(VERDICTS).map_err(failed)?;
            transaction.open_table(DEVIATIONS).map_err(failed)?;
            transaction.open_table(OBJECTS).map_err(failed)?;
            Ok(())
        })
    }

    /// Runs `work` in a transaction that is dropped, and with it every change, when it fails.
    pub(super) fn write(
        &mut self,
        durability: Durability,
        work: impl FnOnce(&Writer) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.database.begin_write().map_err(failed)?;
        transaction
            .set_durability(match durability {
                Durability::Immediate => redb::Durability::Immediate,
                Durability::Batched => redb::Durability::None,
            })
            .map_err(failed)?;
        let writer = Writer(transaction);
        work(&writer)?;
        writer.0.commit().map_err(failed)
    }
}

pub(super) struct Writer(WriteTransaction);

impl Writer {
    pub(super) fn apply(&self, change: &Change) -> Result<(), StoreError> {
        match change {
            Change::PutDevice(id, record) => self.put_devices([(id, record)])?,
            Change::RemoveDevice(id) => self.remove_device(id)?,
            Change::PutSession(kid, record) => {
                self.must_exist(&record.device)?;
                self.put_sessions([(kid, record)])?;
            }
            Change::RemoveSession(kid) => {
                let mut table = self.0.open_table(SESSIONS).map_err(failed)?;
                table.remove(kid.as_bytes()).map_err(failed)?;
            }
            Change::PutRecord(record) => {
                let mut table = self.0.open_table(RECORDS).map_err(failed)?;
                let id = RecordId::of(record);
                // The id is a hash of the contents: what is there is the same.
                if table.get(&id.0).map_err(failed)?.is_none() {
                    table
                        .insert(&id.0, to_bytes(record).as_slice())
                        .map_err(failed)?;
                    self.index_record(&id, record)?;
                }
            }
            Change::AppendLog {
                device,
                boot,
                first,
                records,
            } => {
                self.append_log(device, *boot, *first, records)?;
            }
            Change::TruncateLog { device, boot, from } => {
                self.truncate_log(device, *boot, *from)?;
            }
            Change::PutBootLog { digest, bytes, at } => {
                super::boot_log::put(&self.0, digest, bytes, *at)?;
            }
            Change::AppendBootUpload {
                upload,
                offset,
                bytes,
                at,
            } => super::boot_log::append(&self.0, upload, *offset, bytes, *at)?,
            Change::DropBootUpload(upload) => super::boot_log::drop_upload(&self.0, upload)?,
            Change::AddVerdict(device, verdict) => {
                self.must_exist(device)?;
                let mut table = self.0.open_table(VERDICTS).map_err(failed)?;
                let key = (&device.0, count(&table, device)? + 1);
                table
                    .insert(key, to_bytes(verdict).as_slice())
                    .map_err(failed)?;
            }
            Change::AddDeviation(device, deviation) => {
                self.must_exist(device)?;
                let mut table = self.0.open_table(DEVIATIONS).map_err(failed)?;
                let stored = count(&table, device)?;
                if stored < MAX_DEVIATIONS {
                    let key = (&device.0, stored + 1);
                    table
                        .insert(key, to_bytes(deviation).as_slice())
                        .map_err(failed)?;
                }
            }
            Change::ClearDeviations(device) => {
                let mut table = self.0.open_table(DEVIATIONS).map_err(failed)?;
                table
                    .retain_in(of_device(device), |_, _| false)
                    .map_err(failed)?;
            }
            Change::PutObject(kind, name, bytes) => {
                let mut table = self.0.open_table(OBJECTS).map_err(failed)?;
                table
                    .insert((*kind as u8, name.as_str()), bytes.as_slice())
                    .map_err(failed)?;
                self.count_up()?;
            }
            Change::RemoveObject(kind, name) => self.remove_object(*kind, name)?,
        }
        Ok(())
    }

    pub(super) fn put_devices<'r>(
        &self,
        records: impl IntoIterator<Item = (&'r DeviceId, &'r DeviceRecord)>,
    ) -> Result<(), StoreError> {
        let mut table = self.0.open_table(DEVICES).map_err(failed)?;
        let mut bytes = Vec::new();
        for (id, record) in records {
            encode(record, &mut bytes);
            table.insert(&id.0, bytes.as_slice()).map_err(failed)?;
        }
        Ok(())
    }

    /// Of devices that are stored.
    pub(super) fn put_sessions<'r>(
        &self,
        records: impl IntoIterator<Item = (&'r Kid, &'r SessionRecord)>,
    ) -> Result<(), StoreError> {
        let mut table = self.0.open_table(SESSIONS).map_err(failed)?;
        let mut bytes = Vec::new();
        for (kid, record) in records {
            encode(record, &mut bytes);
            table
                .insert(kid.as_bytes(), bytes.as_slice())
                .map_err(failed)?;
        }
        Ok(())
    }

    fn remove_object(&self, kind: ObjectKind, name: &str) -> Result<(), StoreError> {
        let mut table = self.0.open_table(OBJECTS).map_err(failed)?;
        let removed = table.remove((kind as u8, name)).map_err(failed)?;
        if removed.is_some() {
            self.count_up()?;
        }
        Ok(())
    }

    fn count_up(&self) -> Result<(), StoreError> {
        let mut meta = self.0.open_table(META).map_err(failed)?;
        let value = meta.get(GENERATION_KEY).map_err(failed)?;
        let next = value.map_or(0, |value| value.value()) + 1;
        meta.insert(GENERATION_KEY, next).map_err(failed)?;
        Ok(())
    }

    /// Makes the record findable by its template hash.
    fn index_record(&self, id: &RecordId, record: &Record) -> Result<(), StoreError> {
        if record.violation || record.pcr != IMA_PCR {
            return Ok(());
        }
        let mut key = [0; PREFIX + ID];
        key[..PREFIX].copy_from_slice(&record.extend_digest(HashAlg::Sha1).as_bytes()[..PREFIX]);
        key[PREFIX..].copy_from_slice(&id.0);
        let mut table = self.0.open_table(PREFIXES).map_err(failed)?;
        table.insert(&key, ()).map_err(failed)?;
        Ok(())
    }

    fn must_exist(&self, device: &DeviceId) -> Result<(), StoreError> {
        let table = self.0.open_table(DEVICES).map_err(failed)?;
        match table.get(&device.0).map_err(failed)? {
            Some(_) => Ok(()),
            None => Err(StoreError::UnknownDevice(*device)),
        }
    }

    fn remove_device(&self, id: &DeviceId) -> Result<(), StoreError> {
        let mut table = self.0.open_table(DEVICES).map_err(failed)?;
        table.remove(&id.0).map_err(failed)?;
        let mut table = self.0.open_table(SESSIONS).map_err(failed)?;
        let mut theirs = Vec::new();
        for entry in table.iter().map_err(failed)? {
            let (key, value) = entry.map_err(failed)?;
            let session: SessionRecord = decode("sessions", key.value(), value.value())?;
            if session.device == *id {
                theirs.extend(Kid::new(key.value()));
            }
        }
        for kid in theirs {
            table.remove(kid.as_bytes()).map_err(failed)?;
        }
        self.remove_object(ObjectKind::Labels, &id.to_string())?;
        self.remove_object(ObjectKind::Binding, &crate::policy::device_target(id))?;
        let mut table = self.0.open_table(LOGS).map_err(failed)?;
        let logs = (&id.0, 0, 0)..=(&id.0, u64::MAX, u64::MAX);
        table.retain_in(logs, |_, _| false).map_err(failed)?;
        for definition in [VERDICTS, DEVIATIONS] {
            let mut table = self.0.open_table(definition).map_err(failed)?;
            table
                .retain_in(of_device(id), |_, _| false)
                .map_err(failed)?;
        }
        Ok(())
    }

    fn append_log(
        &self,
        device: &DeviceId,
        boot: u64,
        first: u64,
        records: &[RecordId],
    ) -> Result<(), StoreError> {
        self.must_exist(device)?;
        let known = self.0.open_table(RECORDS).map_err(failed)?;
        for id in records {
            if known.get(&id.0).map_err(failed)?.is_none() {
                return Err(StoreError::UnknownRecord(*id));
            }
        }
        let mut table = self.0.open_table(LOGS).map_err(failed)?;
        let last = last_segment(&table, device, boot)?;
        let end = last.as_ref().map_or(0, Segment::end);
        if first != end {
            return Err(StoreError::NotContiguous { end, first });
        }
        // Fill up the last segment, then begin new ones.
        let mut segment = last
            .filter(|last| last.ids.len() < SEGMENT * ID)
            .unwrap_or(Segment {
                first,
                ids: Vec::new(),
            });
        for id in records {
            segment.ids.extend_from_slice(&id.0);
            if segment.ids.len() == SEGMENT * ID {
                let key = (&device.0, boot, segment.first);
                table.insert(key, segment.ids.as_slice()).map_err(failed)?;
                segment = Segment {
                    first: segment.end(),
                    ids: Vec::new(),
                };
            }
        }
        if !segment.ids.is_empty() {
            let key = (&device.0, boot, segment.first);
            table.insert(key, segment.ids.as_slice()).map_err(failed)?;
        }
        Ok(())
    }

    fn truncate_log(&self, device: &DeviceId, boot: u64, from: u64) -> Result<(), StoreError> {
        let mut table = self.0.open_table(LOGS).map_err(failed)?;
        let gone = (&device.0, boot, from)..=(&device.0, boot, u64::MAX);
        table.retain_in(gone, |_, _| false).map_err(failed)?;
        // The segment that begins before `from` may reach beyond it.
        if let Some(mut last) = last_segment(&table, device, boot)?
            && last.end() > from
        {
            // At most SEGMENT, as the segment begins before and ends after `from`.
            last.ids.truncate((from - last.first) as usize * ID);
            let key = (&device.0, boot, last.first);
            table.insert(key, last.ids.as_slice()).map_err(failed)?;
        }
        Ok(())
    }
}
