//! Appraisal of certified log records against reference values.
//!
//! Takes only [`Certified`] records: content is never judged before integrity. Two things in a certified
//! record are still the peer's word, since no PCR covers them: the name of its template, and everything
//! in a violation. So neither may turn a verdict for the better. Digest and path are the first two fields or
//! none (`mote_schemas::ima`, `template`, argues each way of relabelling); a file is one by its path, whatever
//! the template says; and a violation is reported whether or not its path is excluded. A signature is a
//! measured field like any other, and means the same wherever the template's name says it stands: over
//! these contents, by a key that is allowed.

mod deviation;
mod device_mapper;
mod reference;

pub use deviation::{Appraisal, Deviation, Fault, MeasuredDigest};
pub use reference::{KnownFile, ReferenceLookup};

use mote_schemas::ima::{Endian, FileDigest, TemplateData, is_signature};
use mote_schemas::message::Tier;
use mote_schemas::tpm::{HashAlg, hash};

use crate::boot_aggregate;
use crate::ima_signature::{self, FileKey, ImaKeyring, LearnedKeys, SignatureError};
use crate::log_entry::LogEntry;
use crate::manifest::BufferReference;
use crate::prefix::{Certified, CertifiedPrefix};

/// Judges each record on its own. `endian` is the byte order of the log's template data, to be
/// tried first.
///
/// For a log that comes whole. Of one that comes in parts, [`appraise_next`] takes each.
pub fn appraise<E: LogEntry, R: ReferenceLookup + ?Sized>(
    certified: &Certified<E>,
    reference: &R,
    endian: Endian,
) -> Appraisal {
    appraise_next(certified, reference, &mut LearnedKeys::default(), endian)
}

/// Judges each record by itself and by the keys that records before it have brought: `learned` holds
/// those of the boot so far, and is the only state between one part of a log and the next.
pub fn appraise_next<E: LogEntry, R: ReferenceLookup + ?Sized>(
    certified: &Certified<E>,
    reference: &R,
    learned: &mut LearnedKeys,
    endian: Endian,
) -> Appraisal {
    let mut appraisal = Appraisal::default();
    for (number, entry) in certified.entries() {
        let judged = judge(
            entry,
            number,
            certified.prefix(),
            reference,
            learned,
            endian,
        );
        appraisal.take(number, judged);
    }
    appraisal
}

/// Judges the first record of a log once more, by boot PCRs that have changed since it was certified: what they
/// are now is what an appraisal of the whole log would compare it with.
pub fn appraise_first_again<E: LogEntry, R: ReferenceLookup + ?Sized>(
    first: &E,
    prefix: &CertifiedPrefix,
    reference: &R,
    endian: Endian,
) -> Appraisal {
    let mut appraisal = Appraisal::default();
    let judged = judge(
        first,
        0,
        prefix,
        reference,
        &mut LearnedKeys::default(),
        endian,
    );
    appraisal.take(0, judged);
    appraisal
}

impl Appraisal {
    fn take(&mut self, record: u64, judged: Result<(), Found<'_>>) {
        let Err(found) = judged else {
            self.tier = self.tier.max(Tier::Affirming);
            return;
        };
        self.tier = self.tier.max(found.fault.tier());
        self.deviations.push(Deviation {
            record,
            fault: found.fault,
            path: found.path.to_vec(),
            measured: found.measured.as_ref().map(MeasuredDigest::from),
            expected: found.expected,
            note: found.note,
        });
    }
}

/// A fault, still borrowing from its record.
struct Found<'a> {
    fault: Fault,
    path: &'a [u8],
    measured: Option<FileDigest<'a>>,
    expected: Vec<KnownFile>,
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

fn judge<'a, E: LogEntry, R: ReferenceLookup + ?Sized>(
    entry: &'a E,
    number: u64,
    prefix: &CertifiedPrefix,
    reference: &R,
    learned: &mut LearnedKeys,
    endian: Endian,
) -> Result<(), Found<'a>> {
    // A kernel of the other byte order. What it wrote reads in one order only: the length in front of
    // the first field is out of all bounds in the other.
    let in_order =
        |endian| TemplateData::parse(entry.template_name(), entry.template_data(), endian);
    let other = match endian {
        Endian::Little => Endian::Big,
        Endian::Big => Endian::Little,
    };
    let (data, endian) = match in_order(endian) {
        Err(error) => match in_order(other) {
            Ok(data) => (Ok(data), other),
            Err(_) => (Err(error), endian),
        },
        data => (data, endian),
    };
    let (path, measured) = match &data {
        Ok(data) => (data.name().unwrap_or_default(), data.file_digest()),
        Err(_) => (&[][..], None),
    };
    // The kernel measures it before anything else (`ima_add_boot_aggregate`). The name in a violation
    // proves nothing.
    if number == 0 && (entry.is_violation() || path != boot_aggregate::NAME) {
        return Err(Found::new(Fault::BootAggregateMissing, path, measured));
    }
    if entry.is_violation() {
        return Err(
            Found::new(Fault::MeasurementViolation, path, None).with_note(
                "the file was being written while it was read, or the other way round; \
                 the TPM vouches for the violation but not for its path",
            ),
        );
    }
    let data = match data {
        Err(error) => {
            return Err(Found::new(Fault::TemplateMalformed, path, None)
                .with_note(format!("{}: {error}", entry.template_name())));
        }
        Ok(data) if !data.is_known() => {
            return Err(
                Found::new(Fault::TemplateUnknown, path, None).with_note(entry.template_name())
            );
        }
        // Not even the path, which a policy might exclude.
        Ok(data) if !data.is_anchored() => {
            return Err(
                Found::new(Fault::TemplateOrder, &[], None).with_note(entry.template_name())
            );
        }
        Ok(data) => data,
    };
    let Some(measured) = measured.filter(|_| !path.is_empty()) else {
        return Err(Found::new(Fault::TemplateMalformed, path, measured)
            .with_note(format!("{}: no digest or no name", entry.template_name())));
    };
    if path == boot_aggregate::NAME {
        judge_boot_aggregate(path, measured, prefix)
    } else if let Some(buffer) =
        buffer_of(path, &measured, &data).filter(|buffer| passes_for_one(path, buffer, reference))
    {
        judge_buffer(path, measured, buffer, reference, learned)
    } else {
        judge_file(path, measured, reference, |keyring| {
            ima_signature::verify(&data, endian, |signer| {
                let mut keys = keyring.keys(signer);
                keys.extend(learned.keys(signer));
                keys
            })
            .map(|_| ())
        })
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
        // Without PCR 8 and 9 it may still be the other one.
        Some(_) if expected.len() == boot_aggregate::FORMS => Err(Found {
            expected: expected
                .into_iter()
                .map(|digest| KnownFile {
                    path: path.to_vec(),
                    digest,
                    manifest: "the quoted boot PCRs".to_owned(),
                })
                .collect(),
            ..Found::new(Fault::BootAggregateMismatch, path, Some(measured))
        }),
        _ => Err(Found::new(
            Fault::BootAggregateUnchecked,
            path,
            Some(measured),
        )),
    }
}

/// The measured buffer, if this is one: the template has one, and it hashes to the digest. The template's
/// name is the peer's word, but buffers have the kernel's names, which are no absolute paths.
fn buffer_of<'a>(
    path: &[u8],
    measured: &FileDigest<'_>,
    data: &TemplateData<'a>,
) -> Option<&'a [u8]> {
    let (buffer, digest) = (data.buffer()?, measured.to_digest()?);
    let of_bytes = matches!(measured.digest_type, "" | "ima");
    let is_one = of_bytes && !path.starts_with(b"/") && hash(digest.alg(), &[buffer]) == digest;
    is_one.then_some(buffer)
}

/// Not every file's name is a path: of one in a detached mount the kernel knows the last part alone
/// (`ima_d_path`). So what could be a signature is taken for one, or a file whose content is its own
/// `security.ima` would pass for a buffer, which weighs less. What a manifest lists does no harm as either.
fn passes_for_one<R: ReferenceLookup + ?Sized>(name: &[u8], buffer: &[u8], reference: &R) -> bool {
    !is_signature(buffer) || listed(name, reference).any(|known| is_of(&known, buffer))
}

/// What manifests list under this name.
fn listed<R: ReferenceLookup + ?Sized>(
    name: &[u8],
    reference: &R,
) -> impl Iterator<Item = KnownFile> {
    reference.buffers().iter().flat_map(move |known| {
        let digests = known.expectations.digests_of(name).iter();
        digests.map(|digest| KnownFile::new(name, digest, &known.manifest))
    })
}

/// Whether these are the contents: they are at hand, so it does not matter what the kernel hashes with.
fn is_of(known: &KnownFile, buffer: &[u8]) -> bool {
    hash(known.digest.alg(), &[buffer]) == known.digest
}

/// What a manifest lists comes first: a name with other contents is neither excluded nor learned from. What the
/// device mapper did is also known by its table.
fn judge_buffer<'a, R: ReferenceLookup + ?Sized>(
    name: &'a [u8],
    measured: FileDigest<'a>,
    buffer: &[u8],
    reference: &R,
    learned: &mut LearnedKeys,
) -> Result<(), Found<'a>> {
    let admitted = measured
        .to_digest()
        .is_some_and(|digest| reference.admits(digest.alg()));
    let expected: Vec<KnownFile> = listed(name, reference).collect();
    let is_known = admitted && expected.iter().any(|known| is_of(known, buffer));
    let manifests = reference.buffers();
    let unjudged = |known: &BufferReference| known.expectations.is_unjudged(name);
    if !is_known && manifests.iter().any(unjudged) && FileKey::from_der(buffer).is_ok() {
        return Ok(());
    }
    let mut found = Found::new(Fault::BufferUnknown, name, Some(measured));
    if !is_known && device_mapper::is_event(name) {
        let tables = manifests
            .iter()
            .flat_map(|known| &known.expectations.tables);
        match device_mapper::judge(name, buffer, tables) {
            Ok(()) if admitted => return Ok(()),
            Ok(()) => {}
            Err(misfit) => {
                if misfit.device_is_known {
                    found.fault = Fault::BufferModified;
                }
                found.note = Some(misfit.why);
            }
        }
    }
    if !is_known && !expected.is_empty() {
        found.fault = Fault::BufferModified;
    }
    if found.fault == Fault::BufferModified {
        return Err(Found { expected, ..found });
    }
    let learns = reference
        .ima_keyring()
        .is_some_and(|keyring| keyring.learns_from(name));
    let is_new_key = learns && learned.learn(buffer);
    if is_known || is_new_key || reference.is_excluded(name) {
        return Ok(());
    }
    Err(found)
}

fn judge_file<'a, R: ReferenceLookup + ?Sized>(
    path: &'a [u8],
    measured: FileDigest<'a>,
    reference: &R,
    verify: impl Fn(&dyn ImaKeyring) -> Result<(), SignatureError>,
) -> Result<(), Found<'a>> {
    // What fs-verity measures is no digest of the file's bytes (`d-ngv2`).
    let of_bytes = matches!(measured.digest_type, "" | "ima");
    let digest = measured.to_digest().filter(|_| of_bytes);
    if digest.is_some_and(|digest| reference.allows(path, &digest)) || reference.is_excluded(path) {
        return Ok(());
    }
    let expected = reference.with_path(path);
    let mut fault = match digest {
        _ if expected.is_empty() => Fault::FileUnknown,
        Some(digest) if uses(&expected, digest.alg()) => Fault::FileModified,
        _ => Fault::DigestAlgorithmUnknown,
    };
    // A signature covers contents and not the path: it never outweighs a manifest that says what belongs
    // here.
    if let Some(keyring) = reference.ima_keyring()
        && fault != Fault::FileModified
    {
        match verify(keyring) {
            Ok(()) => return Ok(()),
            Err(SignatureError::Absent) => {}
            Err(error) => {
                if fault == Fault::FileUnknown {
                    fault = fault_of(&error);
                }
                return Err(Found {
                    expected,
                    ..Found::new(fault, path, Some(measured))
                }
                .with_note(error.to_string()));
            }
        }
    }
    let found = Found {
        expected,
        ..Found::new(fault, path, Some(measured))
    };
    let known = digest.map_or_else(Vec::new, |digest| reference.with_digest(&digest));
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

/// What a signature that does not hold makes of an unknown file.
fn fault_of(error: &SignatureError) -> Fault {
    match error {
        SignatureError::Header(_) | SignatureError::Invalid(_) | SignatureError::Appended(_) => {
            Fault::FileSignatureInvalid
        }
        SignatureError::UnknownSigner(_) => Fault::FileSignerUnknown,
        // It says nothing about these contents.
        SignatureError::Absent
        | SignatureError::OtherDigest { .. }
        | SignatureError::Attributes => Fault::FileUnknown,
    }
}

fn uses(expected: &[KnownFile], alg: HashAlg) -> bool {
    expected.iter().any(|known| known.digest.alg() == alg)
}
