//! What records are appraised with: reference values, records, and a device that quotes them.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::Command;

use crate::common::{run, unhex};
use crate::device::{Device, Pcrs, recorded_pcrs, recorded_selection};
use mote_schemas::ima::{Endian, Record, TemplateWriter};
use mote_schemas::tpm::{Digest, HashAlg, PcrSelection, hash};
use mote_verifier::appraise::{Appraisal, Deviation, KnownFile, ReferenceLookup, appraise};
use mote_verifier::manifest::{BufferExpectations, BufferReference, FileDigest, FileEntry};
use mote_verifier::prefix::{Certified, LogState, Outcome, PendingLog};
use mote_verifier::store::Record as StoredRecord;

/// Reference values as `sha256sum` prints them.
#[derive(Default)]
pub(crate) struct Files {
    by_path: HashMap<Vec<u8>, Vec<Digest>>,
    by_digest: HashMap<Digest, Vec<Vec<u8>>>,
    pub(crate) excluded: HashSet<Vec<u8>>,
    pub(crate) buffers: Vec<BufferReference>,
}

impl Files {
    /// Every file of the recorded device's root file system before it booted.
    pub(crate) fn recorded() -> Self {
        let list = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../tests/data/debian12-amd64-6.1/rootfs.sha256.gz");
        let text = String::from_utf8(run(Command::new("zcat").arg(list))).unwrap();
        let mut files = Files::default();
        for line in text.lines() {
            let (digest, path) = line.split_once("  ").unwrap();
            // A backslash in front says that those in the name are doubled.
            let (digest, path) = match digest.strip_prefix('\\') {
                Some(digest) => (digest, path.replace("\\\\", "\\")),
                None => (digest, path.to_owned()),
            };
            files.add(&path, Digest::new(HashAlg::Sha256, &unhex(digest)).unwrap());
        }
        files
    }

    pub(crate) fn add(&mut self, path: &str, digest: Digest) {
        let path = path.replace(' ', "_").into_bytes();
        self.by_path.entry(path.clone()).or_default().push(digest);
        self.by_digest.entry(digest).or_default().push(path);
    }

    pub(crate) fn add_buffer(&mut self, name: &str, content: &[u8]) {
        let digest = hash(HashAlg::Sha256, &[content]);
        let known = FileEntry {
            path: name.into(),
            digests: vec![FileDigest(digest.as_bytes().try_into().unwrap())],
        };
        self.buffers.push(BufferReference {
            manifest: "edge-1.3".to_owned(),
            expectations: BufferExpectations {
                known: vec![known],
                ..BufferExpectations::default()
            },
        });
    }
}

impl ReferenceLookup for Files {
    fn allows(&self, path: &[u8], digest: &Digest) -> bool {
        self.by_path
            .get(path)
            .is_some_and(|digests| digests.contains(digest))
    }

    fn with_path(&self, path: &[u8]) -> Vec<KnownFile> {
        let digests = self.by_path.get(path).into_iter().flatten();
        digests.map(|digest| known(path, digest)).collect()
    }

    fn with_digest(&self, digest: &Digest) -> Vec<KnownFile> {
        let paths = self.by_digest.get(digest).into_iter().flatten();
        paths.map(|path| known(path, digest)).collect()
    }

    fn is_excluded(&self, path: &[u8]) -> bool {
        self.excluded.contains(path)
    }

    fn buffers(&self) -> &[BufferReference] {
        &self.buffers
    }
}

pub(crate) fn known(path: &[u8], digest: &Digest) -> KnownFile {
    KnownFile {
        path: path.to_vec(),
        digest: *digest,
        manifest: "edge-1.3".to_owned(),
    }
}

pub(crate) fn certified(
    pending: &mut PendingLog<StoredRecord>,
    quote: &mote_verifier::quote::VerifiedQuote,
    claims: &Pcrs,
) -> Certified<StoredRecord> {
    match pending.certify(quote, claims, true) {
        Ok(Outcome::Certified(certified)) => certified,
        other => panic!("not certified: {other:?}"),
    }
}

pub(crate) fn summary(appraisal: &Appraisal) -> Vec<(u64, &'static str, String)> {
    let line = |deviation: &Deviation| {
        (
            deviation.record,
            deviation.fault.reason().token(),
            String::from_utf8_lossy(&deviation.path).into_owned(),
        )
    };
    appraisal.deviations.iter().map(line).collect()
}

pub(crate) fn digest(byte: u8) -> Digest {
    Digest::new(HashAlg::Sha256, &[byte; 32]).unwrap()
}

pub(crate) fn record(template: &str, build: impl FnOnce(&mut TemplateWriter<'_>)) -> StoredRecord {
    let mut buffer = [0; 2048];
    let mut writer = TemplateWriter::new(Endian::Little, &mut buffer);
    build(&mut writer);
    (&Record::measured(10, HashAlg::Sha1, template, writer.finish())).into()
}

pub(crate) fn file(path: &str, digest: &Digest) -> StoredRecord {
    record("ima-ng", |writer| {
        writer
            .digest(digest.alg().name(), digest.as_bytes())
            .unwrap();
        writer.text(path.as_bytes()).unwrap();
    })
}

pub(crate) fn boot_aggregate(pcrs: &Pcrs, bank: HashAlg, last: u32) -> StoredRecord {
    let values: Vec<&[u8]> = (0..=last)
        .map(|pcr| pcrs[&(bank, pcr)].as_bytes())
        .collect();
    file("boot_aggregate", &hash(bank, &values))
}

/// Appraises this whole log of a device that quotes `selection`.
pub(crate) fn judge(
    selection: PcrSelection,
    boot: &Pcrs,
    log: &[StoredRecord],
    files: &impl ReferenceLookup,
) -> Appraisal {
    let mut device = Device::new(selection, boot);
    for record in log {
        device.extend(record);
    }
    let claims = device.pcrs.clone();
    let mut pending = PendingLog::new(LogState::at_boot());
    pending.append(0, log.to_vec()).unwrap();
    appraise(
        &certified(&mut pending, &device.quote(), &claims),
        files,
        Endian::Little,
    )
}

/// Appraises one record behind a boot aggregate that is right.
pub(crate) fn judge_one(record: StoredRecord, files: &impl ReferenceLookup) -> Appraisal {
    let boot = recorded_pcrs(1);
    let log = [boot_aggregate(&boot, HashAlg::Sha256, 9), record];
    judge(recorded_selection(), &boot, &log, files)
}

pub(crate) fn only(appraisal: Appraisal) -> Deviation {
    let [deviation] = <[Deviation; 1]>::try_from(appraisal.deviations).unwrap();
    assert_eq!(appraisal.tier, deviation.fault.tier());
    assert_eq!(deviation.record, 1);
    deviation
}
