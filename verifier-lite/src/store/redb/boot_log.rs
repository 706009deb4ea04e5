//! Boot event logs, and those that are on their way here.

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, WriteTransaction};

use super::super::tables::{BOOT_LOGS, BOOT_PARTS, BOOT_UPLOADS};
use super::super::{MAX_BOOT_LOGS, MAX_UPLOADS};
use super::{StoreError, failed};

pub(super) fn make_tables(transaction: &WriteTransaction) -> Result<(), StoreError> {
    transaction.open_table(BOOT_LOGS).map_err(failed)?;
    transaction.open_table(BOOT_UPLOADS).map_err(failed)?;
    transaction.open_table(BOOT_PARTS).map_err(failed)?;
    Ok(())
}

pub(super) fn read(
    transaction: &ReadTransaction,
    digest: &[u8; 32],
) -> Result<Option<Vec<u8>>, StoreError> {
    let table = transaction.open_table(BOOT_LOGS).map_err(failed)?;
    let value = table.get(digest).map_err(failed)?;
    Ok(value.map(|value| value.value().1.to_vec()))
}

pub(super) fn is_kept(
    transaction: &ReadTransaction,
    digest: &[u8; 32],
) -> Result<bool, StoreError> {
    let table = transaction.open_table(BOOT_LOGS).map_err(failed)?;
    Ok(table.get(digest).map_err(failed)?.is_some())
}

pub(super) fn upload_end(
    transaction: &ReadTransaction,
    upload: &[u8; 32],
) -> Result<u32, StoreError> {
    let table = transaction.open_table(BOOT_UPLOADS).map_err(failed)?;
    let value = table.get(upload).map_err(failed)?;
    Ok(value.map_or(0, |value| value.value().1))
}

pub(super) fn upload(
    transaction: &ReadTransaction,
    upload: &[u8; 32],
) -> Result<Vec<u8>, StoreError> {
    let table = transaction.open_table(BOOT_PARTS).map_err(failed)?;
    let mut whole = Vec::new();
    for entry in table
        .range((upload, 0)..=(upload, u32::MAX))
        .map_err(failed)?
    {
        whole.extend_from_slice(entry.map_err(failed)?.1.value());
    }
    Ok(whole)
}

pub(super) fn put(
    transaction: &WriteTransaction,
    digest: &[u8; 32],
    bytes: &[u8],
    at: u64,
) -> Result<(), StoreError> {
    let mut table = transaction.open_table(BOOT_LOGS).map_err(failed)?;
    // The key is a hash of the contents: what is there is the same.
    if table.get(digest).map_err(failed)?.is_some() {
        return Ok(());
    }
    while table.len().map_err(failed)? >= MAX_BOOT_LOGS {
        let mut oldest = None;
        for entry in table.iter().map_err(failed)? {
            let (key, value) = entry.map_err(failed)?;
            let age = (value.value().0, *key.value());
            oldest = Some(oldest.map_or(age, |oldest| age.min(oldest)));
        }
        let Some((_, oldest)) = oldest else {
            break;
        };
        table.remove(&oldest).map_err(failed)?;
    }
    table.insert(digest, (at, bytes)).map_err(failed)?;
    Ok(())
}

pub(super) fn append(
    transaction: &WriteTransaction,
    upload: &[u8; 32],
    offset: u32,
    bytes: &[u8],
    at: u64,
) -> Result<(), StoreError> {
    let mut surplus = None;
    {
        let mut table = transaction.open_table(BOOT_UPLOADS).map_err(failed)?;
        let known = table.get(upload).map_err(failed)?.map(|v| v.value().1);
        let end = known.unwrap_or(0);
        if offset != end {
            let (end, first) = (u64::from(end), u64::from(offset));
            return Err(StoreError::NotContiguous { end, first });
        }
        if known.is_none() && table.len().map_err(failed)? >= MAX_UPLOADS {
            for entry in table.iter().map_err(failed)? {
                let (key, value) = entry.map_err(failed)?;
                let age = (value.value().0, *key.value());
                surplus = Some(surplus.map_or(age, |oldest| age.min(oldest)));
            }
        }
        // A part is at most one message.
        let end = end.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        table.insert(upload, (at, end)).map_err(failed)?;
        let mut parts = transaction.open_table(BOOT_PARTS).map_err(failed)?;
        parts.insert((upload, offset), bytes).map_err(failed)?;
    }
    match surplus {
        Some((_, oldest)) => drop_upload(transaction, &oldest),
        None => Ok(()),
    }
}

pub(super) fn drop_upload(
    transaction: &WriteTransaction,
    upload: &[u8; 32],
) -> Result<(), StoreError> {
    let mut table = transaction.open_table(BOOT_UPLOADS).map_err(failed)?;
    table.remove(upload).map_err(failed)?;
    let mut parts = transaction.open_table(BOOT_PARTS).map_err(failed)?;
    parts
        .retain_in((upload, 0)..=(upload, u32::MAX), |_, _| false)
        .map_err(failed)?;
    Ok(())
}
