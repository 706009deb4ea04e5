//! Appraisal of certified log records against reference values.
//!
//! Takes only [`Certified`] records: content is never judged before integrity. Two things in a certified
//! record are still the peer's word, since no PCR covers them: the name of its template, and everything
//! in a violation. So neither may turn a verdict for the better: a file is one by its path, whatever the
//! template says, and a violation is reported whether or not its path is excluded.

use std::fmt;

use mote_schemas::ima::{Endian, FileDigest, Record, TemplateData};
use mote_schemas::message::Tier;
use mote_schemas::reason::Reason;
use mote_schemas::tpm::{Digest, HashAlg, hash};

use crate::boot_aggregate;
use crate::log_entry::LogEntry;
use crate::prefix::{Certified, CertifiedPrefix};

/// What is allowed on a device: one manifest or several. Paths are in the kernel's spelling, which has an
/// underscore for every space.
pub trait ReferenceValues {
    /// Whether a file with this digest belongs at this path.
    fn allows(&self, path: &[u8], digest: &Digest) -> bool;

    /// The digests that belong at this path; `None` if nothing does.
    fn expected(&self, path: &[u8]) -> Option<Vec<Digest>>;

    /// Where else a file with this digest belongs.
    fn known_as(&self, digest: &Digest) -> Vec<KnownFile>;

    /// Whether what is measured at this path does not matter. Never excuses it from the replay.
    fn is_excluded(&self, path: &[u8]) -> bool;
}

/// A file that reference values know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownFile {
    /// Its path.
    pub path: Vec<u8>,
    /// The manifest that it is in, by name.
    pub manifest: String,
}

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
    /// The file at this path was measured with an algorithm that the manifests do not use for it.
    DigestAlgorithmUnknown,
    /// The kernel could not vouch for what it measured: a file was written to while it was read.
    MeasurementViolation,
    /// A measured buffer (a key, a kernel command line) that no manifest has.
    BufferUnknown,
    /// A template that is not known here: what it measured cannot be judged.
    TemplateUnknown,
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
            Fault::DigestAlgorithmUnknown => Reason::DigestAlgorithmUnknown,
            Fault::MeasurementViolation => Reason::MeasurementViolation,
            Fault::BufferUnknown => Reason::BufferUnknown,
            Fault::TemplateUnknown => Reason::TemplateUnknown,
            Fault::TemplateMalformed => Reason::TemplateMalformed,
        }
    }

    /// How much it weighs unless a policy says otherwise.
    pub fn tier(self) -> Tier {
        match self {
            Fault::BootAggregateUnchecked | Fault::MeasurementViolation | Fault::BufferUnknown => {
                Tier::Warning
            }
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
    pub expected: Vec<Digest>,
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

/// Judges each record on its own. `endian` is the byte order of the log's template data.
pub fn appraise<E: LogEntry, R: ReferenceValues + ?Sized>(
    certified: &Certified<E>,
    reference: &R,
    endian: Endian,
) -> Appraisal {
    let mut appraisal = Appraisal::default();
    for (number, entry) in certified.entries() {
        let record = entry.record();
        let judged = judge(&record, number, certified.prefix(), reference, endian);
        let mut tier = Tier::Affirming;
        if let Err(found) = judged {
            tier = found.fault.tier();
            appraisal.deviations.push(Deviation {
                record: number,
                fault: found.fault,
                path: found.path.to_vec(),
                measured: found.measured.as_ref().map(MeasuredDigest::from),
                expected: found.expected,
                note: found.note,
            });
        }
        appraisal.tier = appraisal.tier.max(tier);
    }
    appraisal
}

/// A fault, still borrowing from its record.
struct Found<'a> {
    fault: Fault,
    path: &'a [u8],
    measured: Option<FileDigest<'a>>,
    expected: Vec<Digest>,
    note: Option<String>,
}

impl<'a> Found<'a> {
    fn new(fault: Fault, path: &'a [u8], measured: Option<FileDigest<'a>>) -> Self {
        Found {
            fault,
            path,
            measured,
            expected: Vec::new(),
            note: None,
        }
    }

    fn with_note(self, note: impl Into<String>) -> Self {
        Found {
            note: Some(note.into()),
            ..self
        }
    }
}

fn judge<'a, R: ReferenceValues + ?Sized>(
    record: &Record<'a>,
    number: u64,
    prefix: &CertifiedPrefix,
    reference: &R,
    endian: Endian,
) -> Result<(), Found<'a>> {
    let data = TemplateData::of(record, endian);
    let (path, measured) = match &data {
        Ok(data) => (data.name().unwrap_or_default(), data.file_digest()),
        Err(_) => (&[][..], None),
    };
    if record.is_violation() {
        return Err(
            Found::new(Fault::MeasurementViolation, path, None).with_note(
                "the file was being written while it was read, or the other way round; \
                 the TPM vouches for the violation but not for its path",
            ),
        );
    }
    // The kernel measures it before anything else (`ima_add_boot_aggregate`).
    if number == 0 && path != boot_aggregate::NAME {
        return Err(Found::new(Fault::BootAggregateMissing, path, measured));
    }
    let data = match data {
        Err(error) => {
            return Err(Found::new(Fault::TemplateMalformed, path, None)
                .with_note(format!("{}: {error}", record.template_name)));
        }
        Ok(data) if !data.is_known() => {
            return Err(Found::new(Fault::TemplateUnknown, path, None)
                .with_note(record.template_name.to_owned()));
        }
        Ok(data) => data,
    };
    let Some(measured) = measured.filter(|_| !path.is_empty()) else {
        return Err(Found::new(Fault::TemplateMalformed, path, measured)
            .with_note(format!("{}: no digest or no name", record.template_name)));
    };
    if path == boot_aggregate::NAME {
        judge_boot_aggregate(path, measured, prefix)
    } else if is_buffer(path, &measured, &data) {
        judge_buffer(path, measured, reference)
    } else {
        judge_file(path, measured, reference)
    }
}

/// A boot aggregate stands first, and once more after each kexec, which leaves the boot PCRs alone.
fn judge_boot_aggregate<'a>(
    path: &'a [u8],
    measured: FileDigest<'a>,
    prefix: &CertifiedPrefix,
) -> Result<(), Found<'a>> {
    let digest = measured.to_digest();
    let expected = digest.map_or_else(Vec::new, |digest| {
        boot_aggregate::expected(prefix, digest.alg())
    });
    match digest {
        Some(digest) if expected.contains(&digest) => Ok(()),
        Some(_) if !expected.is_empty() => Err(Found {
            expected,
            ..Found::new(Fault::BootAggregateMismatch, path, Some(measured))
        }),
        _ => Err(Found::new(
            Fault::BootAggregateUnchecked,
            path,
            Some(measured),
        )),
    }
}

/// Whether this is a measured buffer: the template has one, and it hashes to the digest. The template's
/// name is the peer's word, but buffers have the kernel's names, which are no absolute paths.
fn is_buffer(path: &[u8], measured: &FileDigest<'_>, data: &TemplateData<'_>) -> bool {
    let (Some(buffer), Some(digest)) = (data.buffer(), measured.to_digest()) else {
        return false;
    };
    !path.starts_with(b"/") && hash(digest.alg(), &[buffer]) == digest
}

fn judge_buffer<'a, R: ReferenceValues + ?Sized>(
    name: &'a [u8],
    measured: FileDigest<'a>,
    reference: &R,
) -> Result<(), Found<'a>> {
    let allowed = measured
        .to_digest()
        .is_some_and(|digest| reference.allows(name, &digest));
    if allowed || reference.is_excluded(name) {
        return Ok(());
    }
    Err(Found {
        expected: reference.expected(name).unwrap_or_default(),
        ..Found::new(Fault::BufferUnknown, name, Some(measured))
    })
}

fn judge_file<'a, R: ReferenceValues + ?Sized>(
    path: &'a [u8],
    measured: FileDigest<'a>,
    reference: &R,
) -> Result<(), Found<'a>> {
    // What fs-verity measures is no digest of the file's bytes (`d-ngv2`).
    let of_bytes = matches!(measured.digest_type, "" | "ima");
    let digest = measured.to_digest().filter(|_| of_bytes);
    if digest.is_some_and(|digest| reference.allows(path, &digest)) || reference.is_excluded(path) {
        return Ok(());
    }
    let expected = reference.expected(path);
    let fault = match (&expected, digest) {
        (None, _) => Fault::FileUnknown,
        (Some(expected), Some(digest)) if uses(expected, digest.alg()) => Fault::FileModified,
        (Some(_), _) => Fault::DigestAlgorithmUnknown,
    };
    let found = Found {
        expected: expected.unwrap_or_default(),
        ..Found::new(fault, path, Some(measured))
    };
    let known = digest.map_or_else(Vec::new, |digest| reference.known_as(&digest));
    Err(match known.split_first() {
        None => found,
        Some((known, others)) => {
            let more = match others.len() {
                0 => String::new(),
                count => format!(", and {count} more"),
            };
            found.with_note(format!(
                "this content is known as {} in manifest {}{more}",
                String::from_utf8_lossy(&known.path),
                known.manifest
            ))
        }
    })
}

fn uses(expected: &[Digest], alg: HashAlg) -> bool {
    expected.iter().any(|digest| digest.alg() == alg)
}
