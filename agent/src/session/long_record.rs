//! Records that do not fit a datagram, in parts: each acknowledged by the offset wanted next, kept by the
//! verifier across sessions, so that a cut costs the part in flight.
//!
//! The record's encoding is held in memory from its first part to its acknowledgement, 64 kB at most: the
//! kernel's list is sequential, and would be walked again for every part.

use mote_schemas::cbor::{self, Bytes};
use mote_schemas::ima::{ListParser, Step as Parsed};
use mote_schemas::limits::{MAX_MESSAGE, MAX_RECORD, MAX_RECORD_PART};
use mote_schemas::message::{EntriesWriter, Entry, RecordPart, Reply, path};
use mote_schemas::time::Instant;

use super::evidence::{KERNEL_LIST, Progress};
use super::{Device, Session, StepError};
use crate::measurement_log::{LogError, MeasurementLog};

/// Bytes of a part that are not the record, at most: a map of its number, an offset, the head of the
/// bytes, the end.
const OVERHEAD: usize = 1 + 10 + 6 + 4 + 2;

/// A record on its way.
#[derive(Debug)]
pub(super) struct LongRecord {
    number: u64,
    /// As a message's only entry.
    encoded: Box<[u8]>,
    /// What is before has been acknowledged.
    offset: usize,
}

impl LongRecord {
    fn read(log: &mut dyn MeasurementLog, number: u64) -> Result<Self, StepError> {
        let size = match log.read(number, &mut []) {
            Err(LogError::RecordTooLarge { size, .. }) => size,
            other => {
                other?;
                // It was there a moment ago.
                return Err(StepError::Stale);
            }
        };
        let too_large = || LogError::RecordTooLarge {
            record: number,
            size,
        };
        if size > MAX_RECORD {
            return Err(too_large().into());
        }
        let mut raw = vec![0; size];
        let chunk = log.read(number, &mut raw)?;
        let parsed = ListParser::new(KERNEL_LIST).next(&raw[..chunk.bytes]);
        let Ok(Parsed::Record(record, _)) = parsed else {
            return Err(StepError::Stale);
        };
        let mut room = vec![0; MAX_RECORD.min(size + MAX_MESSAGE)];
        let mut writer = EntriesWriter::new(&mut room);
        let entry = Entry {
            template: record.template_name,
            data: record.template_data,
            pcr: record.pcr,
            violation: record.is_violation(),
        };
        writer.push(&entry).map_err(|_| too_large())?;
        Ok(LongRecord {
            number,
            encoded: writer.finish().as_bytes().into(),
            offset: 0,
        })
    }
}

impl Progress {
    /// Takes what a reply says of a record in parts; whether that has moved on.
    pub(super) fn part_answered(&mut self, reply: &Reply<'_>) -> bool {
        let wanted = self.long.as_mut();
        let Some(long) = wanted.filter(|long| long.number == reply.next_record) else {
            self.long = None;
            return false;
        };
        let before = long.offset;
        if let Some(offset) = reply.record_offset {
            long.offset = offset as usize;
        }
        long.offset > before
    }
}

impl Session {
    /// Whether parts of this record have been sent.
    pub(super) fn is_in_parts(&self, record: u64) -> bool {
        let long = self.progress.long.as_ref();
        long.is_some_and(|long| long.number == record)
    }

    /// The part that is due of the record that is wanted.
    pub(super) fn request_record_part(
        &mut self,
        now: Instant,
        device: &mut Device<'_>,
    ) -> Result<(), StepError> {
        let wanted = self.progress.wanted;
        if !self.is_in_parts(wanted) {
            self.progress.long = Some(LongRecord::read(device.log, wanted)?);
        }
        let budget = self.room()?.single.saturating_sub(OVERHEAD);
        let budget = budget.clamp(1, MAX_RECORD_PART);
        let long = self.progress.long.as_ref().ok_or(StepError::Stale)?;
        // The verifier has more of it than there is: not this record.
        let rest = long.encoded.get(long.offset..).unwrap_or_default();
        let bytes = &rest[..rest.len().min(budget)];
        let last = bytes.len() == rest.len();
        let part = RecordPart {
            record: wanted,
            offset: u32::try_from(long.offset).map_err(|_| StepError::Stale)?,
            bytes: Bytes::new(bytes).ok_or(StepError::Stale)?,
            last: last.then_some(true),
        };
        let mut payload = [0; MAX_MESSAGE];
        let len = cbor::encode(&part, &mut payload)?;
        self.progress.sent = wanted + u64::from(last);
        self.progress.behind = !last || device.log.count()? > wanted + 1;
        self.send_protected(now, path::RECORD, &payload[..len], device)
    }
}
