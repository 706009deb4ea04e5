//! What the store's tables are keyed by.

use std::fmt;

use aws_lc_rs::digest;
use minicbor::{Decode, Encode};

use super::Record;

/// Which IMA record: SHA-256 of its template name, a zero byte, its PCR, whether it is a violation,
/// and its template data. The same record of two devices has the same id, and is stored once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct RecordId(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

impl RecordId {
    /// The id of a record. A template name has no zero byte in it, so no two records share the input.
    pub fn of(record: &Record) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(record.template.as_bytes());
        context.update(&[0]);
        context.update(&record.pcr.to_be_bytes());
        context.update(&[u8::from(record.violation)]);
        context.update(&record.data);
        let mut id = [0; 32];
        id.copy_from_slice(context.finish().as_ref());
        Self(id)
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::hex::write(f, &self.0)
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What an object of the operator is. Each kind has names of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ObjectKind {
    /// A public key that may sign manifests or policies; by its key id.
    Key = 1,
    /// A signed manifest, as its file; by the SHA-256 of that.
    Manifest = 2,
    /// A signed appraisal policy, as its file; by name and version.
    Policy = 3,
    /// Names of policies; by whom they are bound to.
    Binding = 4,
    /// Labels of a device; by its id.
    Labels = 5,
    /// Keys whose IMA signatures count; one object, named `all`.
    ImaKeys = 6,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(template: &str, data: &[u8]) -> Record {
        Record {
            template: template.into(),
            data: data.into(),
            pcr: 10,
            violation: false,
        }
    }

    #[test]
    fn a_record_id_is_sha_256_of_all_of_it() {
        let id = RecordId::of(&record("ima-ng", b"x"));
        // printf 'ima-ng\0\0\0\0\012\0x' | sha256sum
        assert_eq!(
            id.to_string(),
            "75d0f1edfa0c3c1d6fe47607448e25b5cbadda79601b938a4b3bd405f1cd20b3"
        );
        assert_ne!(
            RecordId::of(&record("ima", b"-ng")),
            RecordId::of(&record("ima-ng", b""))
        );
        let (mut other, mut violation) = (record("ima-ng", b"x"), record("ima-ng", b"x"));
        other.pcr = 11;
        violation.violation = true;
        assert_ne!(RecordId::of(&other), id);
        assert_ne!(RecordId::of(&violation), id);
    }
}
