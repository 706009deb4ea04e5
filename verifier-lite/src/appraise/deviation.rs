//! What an appraisal finds.

use std::fmt;

use mote_schemas::ima::FileDigest;
use mote_schemas::message::Tier;
use mote_schemas::reason::{Reason, Severity};

use super::KnownFile;

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The log does not begin with `boot_aggregate`.
    BootAggregateMissing,
    /// `boot_aggregate` is not the hash of the certified boot PCRs.
    BootAggregateMismatch,
    /// `boot_aggregate` cannot be checked: the quote does not cover PCR 0 to 7 of its bank.
    BootAggregateUnchecked,
    /// No manifest has a file at this path.
    FileUnknown,
    /// The file at this path has another digest.
    FileModified,
    /// No manifest has a file at this path, and its signature is not over what was measured.
    FileSignatureInvalid,
    /// No manifest has a file at this path, and the key that signed it is not an allowed one.
    FileSignerUnknown,
    /// The file at this path was measured with an algorithm that the manifests do not use for it.
    DigestAlgorithmUnknown,
    /// The kernel could not vouch for what it measured: a file was written to while it was read.
    MeasurementViolation,
    /// A measured buffer (a key, a kernel command line) that no manifest has.
    BufferUnknown,
    /// A measured buffer that is none of those that a manifest lists under its name.
    BufferModified,
    /// A template that is not known here: what it measured cannot be judged.
    TemplateUnknown,
    /// A template that does not begin with digest and name: neither is believed.
    TemplateOrder,
    /// The record is not what its template says it is, or has no digest or no name.
    TemplateMalformed,
}

impl Fault {
    /// The reason to give.
    pub fn reason(self) -> Reason {
        match self {
            Fault::BootAggregateMissing => Reason::BootAggregateMissing,
            Fault::BootAggregateMismatch => Reason::BootAggregateMismatch,
            Fault::BootAggregateUnchecked => Reason::BootAggregateUnchecked,
            Fault::FileUnknown => Reason::FileUnknown,
            Fault::FileModified => Reason::FileModified,
            Fault::FileSignatureInvalid => Reason::FileSignatureInvalid,
            Fault::FileSignerUnknown => Reason::FileSignerUnknown,
            Fault::DigestAlgorithmUnknown => Reason::DigestAlgorithmUnknown,
            Fault::MeasurementViolation => Reason::MeasurementViolation,
            Fault::BufferUnknown => Reason::BufferUnknown,
            Fault::BufferModified => Reason::BufferModified,
            Fault::TemplateUnknown => Reason::TemplateUnknown,
            Fault::TemplateOrder => Reason::TemplateOrder,
            Fault::TemplateMalformed => Reason::TemplateMalformed,
        }
    }

    /// How much it weighs unless a policy says otherwise.
    pub fn tier(self) -> Tier {
        match self.reason().severity() {
            Severity::Warning => Tier::Warning,
            _ => Tier::Contraindicated,
        }
    }
}

/// The digest in a record, of whatever algorithm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeasuredDigest {
    /// The kernel's name of the algorithm, such as `sha256`.
    pub algorithm: String,
    /// The digest.
    pub digest: Vec<u8>,
}

impl From<&FileDigest<'_>> for MeasuredDigest {
    fn from(digest: &FileDigest<'_>) -> Self {
        let algorithm = match digest.algorithm {
            "" => "sha1",
            name => name,
        };
        MeasuredDigest {
            algorithm: algorithm.to_owned(),
            digest: digest.digest.to_vec(),
        }
    }
}

impl fmt::Display for MeasuredDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.algorithm)?;
        self.digest
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A record that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deviation {
    /// Number of the record in the boot's log, from 0.
    pub record: u64,
    /// What is wrong.
    pub fault: Fault,
    /// Path or name that was measured; empty if the record has none. Any bytes but NUL.
    pub path: Vec<u8>,
    /// What was measured there, if the record says.
    pub measured: Option<MeasuredDigest>,
    /// What belongs there.
    pub expected: Vec<KnownFile>,
    /// What else is known, in words.
    pub note: Option<String>,
}

/// Outcome of one appraisal: of the records that one quote certified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Appraisal {
    /// The worst tier of all records; [`Tier::None`] if there were none.
    pub tier: Tier,
    /// In the order of the log.
    pub deviations: Vec<Deviation>,
}
