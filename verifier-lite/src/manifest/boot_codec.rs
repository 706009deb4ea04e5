//! Deterministic CBOR of [`BootExpectations`], both ways (`boot` in `cbor-schemas/cddl/manifest.cddl`).

use std::collections::BTreeMap;
use std::convert::Infallible;

use minicbor::{Decoder, Encoder};
use mote_schemas::tpm::Digest;

use super::boot::{BootExpectations, KeyVariable, event_digest};
use super::codec::Reader;
use super::error::Fault;
use super::{FileDigest, ManifestError};

mod key {
    pub(super) const SECURE_BOOT: u64 = 1;
    /// PK; KEK, db and dbx follow.
    pub(super) const KEYS: u64 = 2;
    pub(super) const KEYS_END: u64 = 5;
    pub(super) const APPLICATIONS: u64 = 6;
    pub(super) const KERNELS: u64 = 7;
    pub(super) const INITRDS: u64 = 8;
    pub(super) const COMMAND_LINES: u64 = 9;
    pub(super) const EVENTS: u64 = 10;
    pub(super) const ALLOWED_SIGNATURES: u64 = 11;
    pub(super) const REQUIRED_SIGNATURES: u64 = 12;
}

type Written = Result<(), minicbor::encode::Error<Infallible>>;

pub(super) fn write(e: &mut Encoder<Vec<u8>>, boot: &BootExpectations) -> Written {
    let digests = [
        (key::APPLICATIONS, &boot.applications),
        (key::KERNELS, &boot.kernels),
        (key::INITRDS, &boot.initrds),
    ];
    let mut count = boot.keys.len();
    count += digests.iter().filter(|(_, list)| !list.is_empty()).count();
    let others = [
        boot.secure_boot,
        !boot.command_lines.is_empty(),
        !boot.events.is_empty(),
        !boot.allowed_signatures.is_empty(),
        !boot.required_signatures.is_empty(),
    ];
    count += others.iter().filter(|present| **present).count();
    e.map(count as u64)?;
    if boot.secure_boot {
        e.u64(key::SECURE_BOOT)?.bool(true)?;
    }
    for (variable, list) in &boot.keys {
        e.u64(key::KEYS + *variable as u64)?;
        write_file_digests(e, list)?;
    }
    for (key, list) in digests {
        if !list.is_empty() {
            e.u64(key)?;
            write_digests(e, list)?;
        }
    }
    if !boot.command_lines.is_empty() {
        e.u64(key::COMMAND_LINES)?;
        e.array(boot.command_lines.len() as u64)?;
        for line in &boot.command_lines {
            e.str(line)?;
        }
    }
    if !boot.events.is_empty() {
        e.u64(key::EVENTS)?.map(boot.events.len() as u64)?;
        for (pcr, list) in &boot.events {
            e.u8(*pcr)?;
            write_digests(e, list)?;
        }
    }
    for (key, variables) in [
        (key::ALLOWED_SIGNATURES, &boot.allowed_signatures),
        (key::REQUIRED_SIGNATURES, &boot.required_signatures),
    ] {
        if !variables.is_empty() {
            e.u64(key)?.map(variables.len() as u64)?;
            for (variable, list) in variables {
                e.u8(*variable as u8)?;
                write_file_digests(e, list)?;
            }
        }
    }
    Ok(())
}

fn write_file_digests(e: &mut Encoder<Vec<u8>>, list: &[FileDigest]) -> Written {
    e.array(list.len() as u64)?;
    for digest in list {
        e.bytes(&digest.0)?;
    }
    Ok(())
}

fn write_digests(e: &mut Encoder<Vec<u8>>, list: &[Digest]) -> Written {
    e.array(list.len() as u64)?;
    for digest in list {
        e.bytes(digest.as_bytes())?;
    }
    Ok(())
}

pub(super) fn read(d: &mut Reader<'_>) -> Result<BootExpectations, ManifestError> {
    let start = d.0.position();
    let mut boot = BootExpectations::default();
    let mut previous = None;
    for _ in 0..d.map("boot expectations (a map)")? {
        let offset = d.0.position();
        let key = d.key(previous)?;
        previous = Some(key);
        match key {
            key::SECURE_BOOT => {
                let offset = d.0.position();
                if !d.item("true", Decoder::bool)? {
                    return Err(ManifestError::at(offset, Fault::NotCanonical));
                }
                boot.secure_boot = true;
            }
            key::KEYS..=key::KEYS_END => {
                let variable = KeyVariable::ALL[(key - key::KEYS) as usize];
                boot.keys.insert(variable, list(d, file_digest)?);
            }
            key::APPLICATIONS => boot.applications = list(d, digest)?,
            key::KERNELS => boot.kernels = list(d, digest)?,
            key::INITRDS => boot.initrds = list(d, digest)?,
            key::COMMAND_LINES => {
                let text = |d: &mut Reader<'_>| Ok(d.text("a command line (text)")?.to_owned());
                boot.command_lines = list(d, text)?;
            }
            key::EVENTS => boot.events = events(d)?,
            key::ALLOWED_SIGNATURES => boot.allowed_signatures = signatures(d, sorted)?,
            key::REQUIRED_SIGNATURES => boot.required_signatures = signatures(d, list)?,
            _ => return Err(ManifestError::at(offset, Fault::UnknownKey(key))),
        }
    }
    if boot.is_empty() {
        return Err(ManifestError::at(start, Fault::NotCanonical));
    }
    Ok(boot)
}

fn events(d: &mut Reader<'_>) -> Result<BTreeMap<u8, Vec<Digest>>, ManifestError> {
    let mut events = BTreeMap::new();
    let mut previous = None;
    for _ in 0..d.map("events by PCR")? {
        let offset = d.0.position();
        let pcr = d.key(previous)?;
        previous = Some(pcr);
        let Ok(pcr) = u8::try_from(pcr) else {
            return Err(ManifestError::at(offset, Fault::BadBoot("no such PCR")));
        };
        events.insert(pcr, list(d, digest)?);
    }
    Ok(events)
}

/// Digests of signatures, by variable.
fn signatures(
    d: &mut Reader<'_>,
    list: impl Fn(&mut Reader<'_>, ReadFileDigest) -> Result<Vec<FileDigest>, ManifestError>,
) -> Result<BTreeMap<KeyVariable, Vec<FileDigest>>, ManifestError> {
    let start = d.0.position();
    let mut signatures = BTreeMap::new();
    let mut previous = None;
    for _ in 0..d.map("signatures by variable")? {
        let offset = d.0.position();
        let key = d.key(previous)?;
        previous = Some(key);
        let variable = usize::try_from(key)
            .ok()
            .and_then(|key| KeyVariable::ALL.get(key))
            .ok_or_else(|| ManifestError::at(offset, Fault::UnknownKey(key)))?;
        signatures.insert(*variable, list(d, file_digest)?);
    }
    if signatures.is_empty() {
        return Err(ManifestError::at(start, Fault::NotCanonical));
    }
    Ok(signatures)
}

type ReadFileDigest = fn(&mut Reader<'_>) -> Result<FileDigest, ManifestError>;

fn file_digest(d: &mut Reader<'_>) -> Result<FileDigest, ManifestError> {
    let offset = d.0.position();
    let bytes = d.bytes("a SHA-256 digest (a byte string)")?;
    let digest = bytes.try_into().map(FileDigest);
    digest.map_err(|_| ManifestError::at(offset, Fault::BadBoot("not a SHA-256 digest")))
}

fn digest(d: &mut Reader<'_>) -> Result<Digest, ManifestError> {
    let offset = d.0.position();
    let bytes = d.bytes("a digest (a byte string)")?;
    event_digest(bytes)
        .ok_or_else(|| ManifestError::at(offset, Fault::BadBoot("a digest of no known length")))
}

/// A list that is not empty, sorted, and has nothing twice.
fn list<T: Ord>(
    d: &mut Reader<'_>,
    item: impl Fn(&mut Reader<'_>) -> Result<T, ManifestError>,
) -> Result<Vec<T>, ManifestError> {
    let start = d.0.position();
    let items = sorted(d, item)?;
    if items.is_empty() {
        return Err(ManifestError::at(start, Fault::NotCanonical));
    }
    Ok(items)
}

/// A list that is sorted and has nothing twice.
fn sorted<T: Ord>(
    d: &mut Reader<'_>,
    item: impl Fn(&mut Reader<'_>) -> Result<T, ManifestError>,
) -> Result<Vec<T>, ManifestError> {
    let count = d.array("a list of boot values")?;
    let mut items: Vec<T> = Vec::new();
    for _ in 0..count {
        let offset = d.0.position();
        let value = item(d)?;
        if items.last().is_some_and(|last| *last >= value) {
            return Err(ManifestError::at(offset, Fault::NotCanonical));
        }
        items.push(value);
    }
    Ok(items)
}
