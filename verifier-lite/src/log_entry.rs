//! Entries of a measurement log as the verifier holds them.

use mote_schemas::ima;
use mote_schemas::message;
use mote_schemas::tpm::{Digest, HashAlg, MAX_DIGEST};

use crate::store;

/// One measurement, from wherever it came: sent in full, or looked up among reference values.
///
/// What it says is the peer's word until [`crate::prefix::PendingLog`] has certified it, and even then
/// the name of its template is: only the template data is in the PCR, and not even that of a violation.
pub trait LogEntry {
    /// The PCR it was extended into.
    fn pcr(&self) -> u32;

    /// Name of its template, or the format string.
    fn template_name(&self) -> &str;

    /// The measured fields.
    fn template_data(&self) -> &[u8];

    /// Whether the kernel could not vouch for what it measured.
    fn is_violation(&self) -> bool;

    /// What the kernel extended into `bank` for it.
    fn extend_digest(&self, bank: HashAlg) -> Digest {
        if self.is_violation() {
            return Digest::ones(bank);
        }
        let record = ima::Record {
            pcr: self.pcr(),
            // Not looked at: what the list shows of a measurement is in no PCR.
            template_hash: Digest::ones(HashAlg::Sha1),
            template_name: self.template_name(),
            template_data: self.template_data(),
        };
        record.template_digest(bank)
    }

    /// What the kernel extended into `bank` for it if it had no hash of its own for that bank: SHA-1,
    /// padded with zeros. `ones`: of a violation all bytes are ones, as since Linux 5.8; else only as
    /// many as SHA-1 has.
    fn extend_digest_padded(&self, bank: HashAlg, ones: bool) -> Digest {
        if self.is_violation() && ones {
            return Digest::ones(bank);
        }
        padded(&self.extend_digest(HashAlg::Sha1), bank)
    }
}

/// A SHA-1 digest, padded with zeros to the length of `bank`'s.
pub(crate) fn padded(sha1: &Digest, bank: HashAlg) -> Digest {
    let mut bytes = [0; MAX_DIGEST];
    bytes[..sha1.as_bytes().len()].copy_from_slice(sha1.as_bytes());
    // As long as the bank's.
    Digest::new(bank, &bytes[..bank.digest_len()]).unwrap_or(*sha1)
}

impl LogEntry for store::Record {
    fn pcr(&self) -> u32 {
        self.pcr
    }

    fn template_name(&self) -> &str {
        &self.template
    }

    fn template_data(&self) -> &[u8] {
        &self.data
    }

    fn is_violation(&self) -> bool {
        self.violation
    }
}

impl From<&message::Entry<'_>> for store::Record {
    fn from(entry: &message::Entry<'_>) -> Self {
        store::Record {
            template: entry.template.into(),
            data: entry.data.to_vec(),
            pcr: entry.pcr,
            violation: entry.violation,
        }
    }
}

impl From<&ima::Record<'_>> for store::Record {
    fn from(record: &ima::Record<'_>) -> Self {
        store::Record {
            template: record.template_name.into(),
            data: record.template_data.to_vec(),
            pcr: record.pcr,
            violation: record.is_violation(),
        }
    }
}
