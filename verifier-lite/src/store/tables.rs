//! The tables, and how a value becomes bytes and back.

use minicbor::{Decode, Encode};
use redb::TableDefinition;

use super::StoreError;

/// Raised whenever an older program could misread what a newer one writes.
pub(super) const SCHEMA: u64 = 1;

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const SCHEMA_KEY: &str = "schema";
pub(super) const GENERATION_KEY: &str = "generation";

/// Device id -> `DeviceRecord`.
pub(super) const DEVICES: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("devices");
/// Kid -> `SessionRecord`.
pub(super) const SESSIONS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("sessions");
/// Record id -> `Record`.
pub(super) const RECORDS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("records");
/// First 8 bytes of the template hash (SHA-1), then the record's id: PCR 10, no violations.
pub(super) const PREFIXES: TableDefinition<'_, &[u8; PREFIX + ID], ()> =
    TableDefinition::new("prefixes");
/// Device, boot, first record -> concatenated record ids.
pub(super) const LOGS: TableDefinition<'_, (&[u8; 16], u64, u64), &[u8]> =
    TableDefinition::new("logs");
/// Device, sequence number -> `VerdictRecord`.
pub(super) const VERDICTS: TableDefinition<'_, (&[u8; 16], u64), &[u8]> =
    TableDefinition::new("verdicts");
/// Device, ordinal -> `Deviation`.
pub(super) const DEVIATIONS: TableDefinition<'_, (&[u8; 16], u64), &[u8]> =
    TableDefinition::new("deviations");
/// Kind, name -> an object of the operator, as it was put.
pub(super) const OBJECTS: TableDefinition<'_, (u8, &str), &[u8]> = TableDefinition::new("objects");

/// SHA-256 -> time, boot event log.
pub(super) const BOOT_LOGS: TableDefinition<'_, &[u8; 32], (u64, &[u8])> =
    TableDefinition::new("boot-logs");
/// Upload -> time of its last part, where it ends.
pub(super) const BOOT_UPLOADS: TableDefinition<'_, &[u8; 32], (u64, u32)> =
    TableDefinition::new("boot-uploads");
/// Upload, offset -> bytes from there on.
pub(super) const BOOT_PARTS: TableDefinition<'_, (&[u8; 32], u32), &[u8]> =
    TableDefinition::new("boot-parts");

/// Record ids in one entry of `LOGS`. A heartbeat with one new record rewrites 1 kB on average, and
/// a log of 2,400 records takes 38 entries.
pub(super) const SEGMENT: usize = 64;

pub(super) const ID: usize = 32;

pub(super) const PREFIX: usize = 8;

pub(super) fn to_bytes<T: Encode<()>>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(value, &mut bytes);
    bytes
}

/// Instead of what is in `bytes`.
pub(super) fn encode<T: Encode<()>>(value: &T, bytes: &mut Vec<u8>) {
    bytes.clear();
    match minicbor::encode(value, bytes) {
        Ok(()) => {}
        // Writing to a Vec cannot fail, and no record reports a custom error.
        Err(error) => unreachable!("{error}"),
    }
}

pub(super) fn from_bytes<T: for<'b> Decode<'b, ()>>(
    table: &'static str,
    key: impl FnOnce() -> String,
    bytes: &[u8],
) -> Result<T, StoreError> {
    minicbor::decode(bytes).map_err(|error| StoreError::BadEntry(table, key(), error.to_string()))
}
