//! Entries of a measurement log as the verifier holds them.

use mote_schemas::ima::Record;
use mote_schemas::tpm::{Digest, HashAlg};

/// One measurement, from wherever it came: sent in full, or looked up among reference values.
///
/// What it says is the peer's word until [`crate::prefix::PendingLog`] has certified it, and even then
/// the name of its template is: only the template data is in the PCR, and not even that of a violation.
pub trait LogEntry {
    /// The record as the kernel would list it.
    fn record(&self) -> Record<'_>;

    /// The PCR it was extended into.
    fn pcr(&self) -> u32 {
        self.record().pcr
    }

    /// What the kernel extended into `bank` for it.
    fn extend_digest(&self, bank: HashAlg) -> Digest {
        self.record().extend_digest(bank)
    }
}

impl LogEntry for Record<'_> {
    fn record(&self) -> Record<'_> {
        *self
    }
}

/// A [`Record`] that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    /// The PCR it was extended into.
    pub pcr: u32,
    /// The template hash as the list shows it; all zero: a violation.
    pub template_hash: Digest,
    /// Name of the template, or its format string.
    pub template_name: Box<str>,
    /// The measured fields.
    pub template_data: Box<[u8]>,
}

impl From<Record<'_>> for OwnedRecord {
    fn from(record: Record<'_>) -> Self {
        OwnedRecord {
            pcr: record.pcr,
            template_hash: record.template_hash,
            template_name: record.template_name.into(),
            template_data: record.template_data.into(),
        }
    }
}

impl LogEntry for OwnedRecord {
    fn record(&self) -> Record<'_> {
        Record {
            pcr: self.pcr,
            template_hash: self.template_hash,
            template_name: &self.template_name,
            template_data: &self.template_data,
        }
    }
}
