//! Records that a device may name by the first bytes of their template hash.
//!
//! Candidates come from the manifests (what the kernel would log for each file, in the templates
//! ima-ng and ima-sig without a signature) and from the records that the fleet has sent before: of a
//! buffer from those alone, since its record holds the buffer, and a manifest only its digest. What
//! is found is a guess, for a lying device as for an honest one: replay decides. All but the name of
//! the template, which replay does not cover: a record that some device has sent under a label that its
//! form does not bear out is no candidate for others. An index entry takes 12 bytes, so a manifest of
//! 50,000 files takes 1.2 MB.

use std::sync::Arc;

use mote_schemas::ima::{Endian, TemplateWriter, template_of};
use mote_schemas::limits::MAX_IMA_TEMPLATE_DATA;
use mote_schemas::tpm::{HashAlg, hash};

use crate::manifest::{Reference, ReferenceValues};
use crate::prefix::IMA_PCR;
use crate::store::{Record, Store, StoreError};

const TEMPLATES: [&str; 2] = ["ima-ng", "ima-sig"];

/// Index over the records that manifests imply.
#[derive(Clone, Debug)]
pub struct KnownRecords {
    references: Arc<ReferenceValues>,
    /// First 8 bytes of the template hash (SHA-1), sorted.
    keys: Vec<u64>,
    /// Twice the place of the reference value, plus the place of the template.
    values: Vec<u32>,
}

impl KnownRecords {
    /// Indexes all of `references`.
    pub fn new(references: Arc<ReferenceValues>) -> Self {
        let mut entries: Vec<(u64, u32)> = (0u32..)
            .zip(references.iter())
            .flat_map(|(index, reference)| {
                [0, 1].map(|template| {
                    let record = record_of(&reference, template);
                    let digest = hash(HashAlg::Sha1, &[&record.data]);
                    (key(digest.as_bytes()), 2 * index + template as u32)
                })
            })
            .collect();
        entries.sort_unstable();
        let (keys, values) = entries.into_iter().unzip();
        KnownRecords {
            references,
            keys,
            values,
        }
    }

    /// Whether it indexes just these.
    pub fn is_of(&self, references: &Arc<ReferenceValues>) -> bool {
        Arc::ptr_eq(&self.references, references)
    }

    /// How many records it knows.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The record whose template hash begins with `prefix` (1 to 8 bytes): that of the manifests or,
    /// where they have none, of the fleet; nothing when there are several that differ.
    pub fn resolve(&self, store: &dyn Store, prefix: &[u8]) -> Result<Option<Record>, StoreError> {
        let low = key(prefix);
        let bits = 64 - 8 * prefix.len().min(8) as u32;
        let high = low | (1u64 << bits).wrapping_sub(1);
        let first = self.keys.partition_point(|known| *known < low);
        let count = self.keys[first..].partition_point(|known| *known <= high);
        let mut found: Option<Record> = None;
        for value in &self.values[first..first + count] {
            let Some(reference) = self.references.nth(*value as usize / 2) else {
                continue;
            };
            let record = record_of(&reference, *value as usize % 2);
            match &found {
                Some(other) if *other != record => return Ok(None),
                _ => found = Some(record),
            }
        }
        if found.is_some() {
            return Ok(found);
        }
        let mut stored = store.records_by_prefix(prefix, 2)?;
        Ok(match stored.len() {
            1 => stored.pop().filter(is_labelled_truly),
            _ => None,
        })
    }
}

fn is_labelled_truly(record: &Record) -> bool {
    [Endian::Little, Endian::Big]
        .into_iter()
        .any(|endian| template_of(&record.data, endian) == Some(&*record.template))
}

/// Length of prefixes, in bytes, for a reference set of `known` records.
///
/// A record that is not in the set meets one that is with probability `known` / 2^(8 n). Such a false
/// guess costs the whole uncertified log once more in full; so a log of 4,096 records that nobody
/// knows shall have one with a probability below 2^-10: 8 n >= log2(known) + 12 + 10.
pub fn prefix_length(known: u64) -> u8 {
    let bits = known.max(1).next_power_of_two().trailing_zeros() + 22;
    bits.div_ceil(8).clamp(4, 8) as u8
}

/// The first 8 bytes as a number that sorts like them.
fn key(hash: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let len = hash.len().min(8);
    bytes[..len].copy_from_slice(&hash[..len]);
    u64::from_be_bytes(bytes)
}

/// What the kernel logs for a file (`ima_store_template`, `ima_eventdigest_ng_init`).
fn record_of(reference: &Reference<'_>, template: usize) -> Record {
    let mut room = vec![0; (reference.path.len() + 64).min(MAX_IMA_TEMPLATE_DATA)];
    let mut writer = TemplateWriter::new(Endian::Little, &mut room);
    let written = writer
        .digest("sha256", &reference.digest.0)
        .and_then(|()| writer.text(reference.path))
        .and_then(|()| match template {
            1 => writer.bytes(&[]),
            _ => Ok(()),
        });
    // Paths have at most 4,096 bytes, and there is room for 64 more.
    debug_assert!(written.is_ok());
    Record {
        template: TEMPLATES[template].into(),
        data: writer.finish().to_vec(),
        pcr: IMA_PCR,
        violation: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_grow_with_the_reference_set() {
        for (known, bytes) in [
            (0, 4),
            (1024, 4),
            (1025, 5),
            (100_000, 5),
            (1_000_000, 6),
            (100_000_000, 7),
            (u64::from(u32::MAX), 7),
            (1 << 50, 8),
        ] {
            assert_eq!(prefix_length(known), bytes, "{known}");
        }
    }
}
