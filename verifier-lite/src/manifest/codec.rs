//! Deterministic CBOR of a manifest, both ways (`cbor-schemas/cddl/manifest.cddl`).
//!
//! Decoding checks sense item by item, so that an error can name the byte, and then the spelling as
//! a whole: whatever does not encode back to the same bytes had a second spelling (RFC 8949, 4.2.1).

use std::collections::BTreeMap;
use std::convert::Infallible;

use bstr::{BStr, BString};
use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

use super::error::Fault;
use super::{
    BootExpectations, BufferExpectations, FileDigest, FileEntry, Manifest, ManifestError,
    StaticPcrs, boot_codec, buffers, check_path, firmware,
};

const FORMAT: u64 = 1;
/// COSE algorithm id of SHA-256 (RFC 9054, 3.2).
const SHA_256: i64 = -16;

mod key {
    pub(super) const FORMAT: u64 = 1;
    pub(super) const NAME: u64 = 2;
    pub(super) const VERSION: u64 = 3;
    pub(super) const CREATED: u64 = 4;
    pub(super) const HASH: u64 = 5;
    pub(super) const FILES: u64 = 6;
    pub(super) const EXCLUSIONS: u64 = 7;
    pub(super) const PCRS: u64 = 8;
    pub(super) const BOOT: u64 = 9;
    pub(super) const FIRMWARE: u64 = 10;
    pub(super) const BUFFERS: u64 = 11;
}

pub(super) fn encode(manifest: &Manifest) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    match write(&mut encoder, manifest) {
        Ok(()) => encoder.into_writer(),
        // Writing to a Vec cannot fail, and nothing here reports a custom error.
        Err(error) => unreachable!("{error}"),
    }
}

fn write(
    e: &mut Encoder<Vec<u8>>,
    m: &Manifest,
) -> Result<(), minicbor::encode::Error<Infallible>> {
    let optional = [
        m.created.is_some(),
        !m.exclusions.is_empty(),
        !m.pcrs.is_empty(),
        !m.boot.is_empty(),
        !m.firmware.is_empty(),
        !m.buffers.is_empty(),
    ];
    let keys = 5 + optional.iter().filter(|present| **present).count();
    e.map(keys as u64)?;
    e.u64(key::FORMAT)?.u64(FORMAT)?;
    e.u64(key::NAME)?.str(&m.name)?;
    e.u64(key::VERSION)?.str(&m.version)?;
    if let Some(created) = m.created {
        e.u64(key::CREATED)?.u64(created)?;
    }
    e.u64(key::HASH)?.i64(SHA_256)?;
    e.u64(key::FILES)?.array(m.files.len() as u64)?;
    for file in &m.files {
        e.array(1 + file.digests.len() as u64)?.bytes(&file.path)?;
        for digest in &file.digests {
            e.bytes(&digest.0)?;
        }
    }
    if !m.exclusions.is_empty() {
        e.u64(key::EXCLUSIONS)?.array(m.exclusions.len() as u64)?;
        for glob in &m.exclusions {
            e.str(glob)?;
        }
    }
    if !m.pcrs.is_empty() {
        e.u64(key::PCRS)?.map(m.pcrs.len() as u64)?;
        for (alg, values) in &m.pcrs {
            e.u16(*alg)?.map(values.len() as u64)?;
            for (pcr, allowed) in values {
                e.u8(*pcr)?.array(allowed.len() as u64)?;
                for value in allowed {
                    e.bytes(value)?;
                }
            }
        }
    }
    if !m.boot.is_empty() {
        e.u64(key::BOOT)?;
        boot_codec::write(e, &m.boot)?;
    }
    if !m.firmware.is_empty() {
        e.u64(key::FIRMWARE)?;
        firmware::write(e, &m.firmware)?;
    }
    if !m.buffers.is_empty() {
        e.u64(key::BUFFERS)?;
        buffers::write(e, &m.buffers)?;
    }
    Ok(())
}

pub(super) fn decode(bytes: &[u8]) -> Result<Manifest, ManifestError> {
    let mut d = Reader(Decoder::new(bytes));
    let manifest = d.manifest()?;
    d.end()?;
    manifest.check()?;
    check_spelling(bytes, &encode(&manifest))?;
    Ok(manifest)
}

/// Whether `given` is the one deterministic encoding, which is `canonical`.
pub(crate) fn check_spelling(given: &[u8], canonical: &[u8]) -> Result<(), ManifestError> {
    if given == canonical {
        return Ok(());
    }
    let agree = given.iter().zip(canonical).take_while(|(a, b)| a == b);
    Err(ManifestError::at(agree.count(), Fault::NotCanonical))
}

/// A decoder whose every error says at which byte and what was wrong there.
pub(crate) struct Reader<'b>(pub(crate) Decoder<'b>);

impl<'b> Reader<'b> {
    pub(crate) fn item<T>(
        &mut self,
        what: &'static str,
        read: impl FnOnce(&mut Decoder<'b>) -> Result<T, minicbor::decode::Error>,
    ) -> Result<T, ManifestError> {
        let offset = self.0.position();
        read(&mut self.0).map_err(|error| {
            let fault = if error.is_end_of_input() {
                Fault::Truncated
            } else {
                Fault::Expected(what)
            };
            ManifestError::at(offset, fault)
        })
    }

    /// Length of a definite-length array. Each of its items takes a byte at least, so a length
    /// that passes cannot make anyone allocate more than a multiple of the file's size.
    pub(crate) fn array(&mut self, what: &'static str) -> Result<usize, ManifestError> {
        let offset = self.0.position();
        let length = self.item(what, Decoder::array)?;
        self.definite(offset, length, 1)
    }

    pub(crate) fn map(&mut self, what: &'static str) -> Result<usize, ManifestError> {
        let offset = self.0.position();
        let length = self.item(what, Decoder::map)?;
        self.definite(offset, length, 2)
    }

    fn definite(
        &self,
        offset: usize,
        length: Option<u64>,
        least: usize,
    ) -> Result<usize, ManifestError> {
        let left = self.0.input().len() - self.0.position();
        match length.map(usize::try_from) {
            None => Err(ManifestError::at(offset, Fault::NotCanonical)),
            Some(Ok(length)) if length <= left / least => Ok(length),
            Some(_) => Err(ManifestError::at(offset, Fault::Truncated)),
        }
    }

    /// A byte string in one piece. `Decoder::bytes` would also refuse the chunked form.
    pub(crate) fn bytes(&mut self, what: &'static str) -> Result<&'b [u8], ManifestError> {
        if self.0.datatype().is_ok_and(|t| t == Type::BytesIndef) {
            return Err(ManifestError::at(self.0.position(), Fault::NotCanonical));
        }
        self.item(what, Decoder::bytes)
    }

    pub(crate) fn text(&mut self, what: &'static str) -> Result<&'b str, ManifestError> {
        if self.0.datatype().is_ok_and(|t| t == Type::StringIndef) {
            return Err(ManifestError::at(self.0.position(), Fault::NotCanonical));
        }
        self.item(what, Decoder::str)
    }

    /// A map key, which must come after `previous`.
    pub(crate) fn key(&mut self, previous: Option<u64>) -> Result<u64, ManifestError> {
        let offset = self.0.position();
        let key = self.item("an unsigned map key", Decoder::u64)?;
        match previous {
            Some(previous) if key == previous => {
                Err(ManifestError::at(offset, Fault::DuplicateKey(key)))
            }
            Some(previous) if key < previous => Err(ManifestError::at(offset, Fault::NotCanonical)),
            _ => Ok(key),
        }
    }

    pub(crate) fn end(&self) -> Result<(), ManifestError> {
        if self.0.position() == self.0.input().len() {
            return Ok(());
        }
        Err(ManifestError::at(self.0.position(), Fault::TrailingBytes))
    }

    fn manifest(&mut self) -> Result<Manifest, ManifestError> {
        let (mut format, mut name, mut version, mut created) = (None, None, None, None);
        let (mut hash, mut files) = (None, None);
        let (mut exclusions, mut pcrs) = (Vec::new(), StaticPcrs::new());
        let mut boot = BootExpectations::default();
        let mut components = Vec::new();
        let mut buffers = BufferExpectations::default();
        let mut previous = None;
        for _ in 0..self.map("a manifest (a map)")? {
            let offset = self.0.position();
            let key = self.key(previous)?;
            previous = Some(key);
            match key {
                key::FORMAT => format = Some(self.format()?),
                key::NAME => name = Some(self.text("a name (text)")?.to_owned()),
                key::VERSION => version = Some(self.text("a version (text)")?.to_owned()),
                key::CREATED => created = Some(self.item("seconds since 1970", Decoder::u64)?),
                key::HASH => hash = Some(self.hash()?),
                key::FILES => files = Some(self.files()?),
                key::EXCLUSIONS => exclusions = self.exclusions()?,
                key::PCRS => pcrs = self.pcrs()?,
                key::BOOT => boot = boot_codec::read(self)?,
                key::FIRMWARE => components = firmware::read(self)?,
                key::BUFFERS => buffers = buffers::read(self)?,
                _ => return Err(ManifestError::at(offset, Fault::UnknownKey(key))),
            }
        }
        let missing = |what| ManifestError::from(Fault::MissingKey(what));
        format.ok_or_else(|| missing("the format version"))?;
        hash.ok_or_else(|| missing("the hash algorithm"))?;
        Ok(Manifest {
            name: name.ok_or_else(|| missing("the name"))?,
            version: version.ok_or_else(|| missing("the version"))?,
            created,
            files: files.ok_or_else(|| missing("the list of files"))?,
            exclusions,
            pcrs,
            boot,
            firmware: components,
            buffers,
        })
    }

    pub(crate) fn format(&mut self) -> Result<(), ManifestError> {
        let offset = self.0.position();
        match self.item("a format version", Decoder::u64)? {
            FORMAT => Ok(()),
            other => Err(ManifestError::at(offset, Fault::UnsupportedFormat(other))),
        }
    }

    fn hash(&mut self) -> Result<(), ManifestError> {
        let offset = self.0.position();
        match self.item("a hash algorithm", Decoder::i64)? {
            SHA_256 => Ok(()),
            other => Err(ManifestError::at(offset, Fault::UnsupportedHash(other))),
        }
    }

    fn files(&mut self) -> Result<Vec<FileEntry>, ManifestError> {
        let count = self.array("a list of files")?;
        // The smallest entry takes 37 bytes: do not let a count alone allocate more than that.
        let mut files: Vec<FileEntry> = Vec::with_capacity(count.min(self.0.input().len() / 37));
        for _ in 0..count {
            let offset = self.0.position();
            let file = self.entry("a file (an array)", check_path)?;
            if let Some(last) = files.last()
                && last.path >= file.path
            {
                let fault = if last.path == file.path {
                    Fault::DuplicatePath(file.path)
                } else {
                    Fault::UnsortedPath(file.path)
                };
                return Err(ManifestError::at(offset, fault));
            }
            files.push(file);
        }
        Ok(files)
    }

    /// A path, or a name, and digests.
    pub(crate) fn entry(
        &mut self,
        what: &'static str,
        check: impl Fn(&BStr) -> Result<(), Fault>,
    ) -> Result<FileEntry, ManifestError> {
        let offset = self.0.position();
        let at = |fault| ManifestError::at(offset, fault);
        let items = self.array(what)?;
        if items == 0 {
            return Err(at(Fault::Expected("a path")));
        }
        let path = BStr::new(self.bytes("a path (a byte string)")?);
        check(path).map_err(at)?;
        let path = BString::from(path);
        if items == 1 {
            return Err(at(Fault::NoDigest(path)));
        }
        let mut digests: Vec<FileDigest> = Vec::with_capacity(items - 1);
        for _ in 1..items {
            let offset = self.0.position();
            let bytes = self.bytes("a digest (a byte string)")?;
            let Ok(digest) = bytes.try_into().map(FileDigest) else {
                let fault = Fault::BadDigestLength(path, bytes.len());
                return Err(ManifestError::at(offset, fault));
            };
            if digests.last().is_some_and(|last| *last >= digest) {
                return Err(ManifestError::at(offset, Fault::UnsortedDigests(path)));
            }
            digests.push(digest);
        }
        Ok(FileEntry { path, digests })
    }

    pub(crate) fn exclusions(&mut self) -> Result<Vec<String>, ManifestError> {
        let start = self.0.position();
        let count = self.array("a list of exclusions")?;
        if count == 0 {
            return Err(ManifestError::at(start, Fault::NotCanonical));
        }
        let mut globs: Vec<String> = Vec::new();
        for _ in 0..count {
            let offset = self.0.position();
            let glob = self.text("an exclusion (text)")?;
            if globs.last().is_some_and(|last| last.as_str() >= glob) {
                return Err(ManifestError::at(offset, Fault::NotCanonical));
            }
            globs.push(glob.to_owned());
        }
        Ok(globs)
    }

    fn pcrs(&mut self) -> Result<StaticPcrs, ManifestError> {
        let mut banks = StaticPcrs::new();
        let mut previous = None;
        for _ in 0..self.map("PCR values by bank")? {
            let alg = self.key(previous)?;
            previous = Some(alg);
            let bad = ManifestError::at(self.0.position(), Fault::BadPcr);
            let Ok(alg) = u16::try_from(alg) else {
                return Err(bad);
            };
            banks.insert(alg, self.bank()?);
        }
        if banks.is_empty() {
            return Err(Fault::BadPcr.into());
        }
        Ok(banks)
    }

    fn bank(&mut self) -> Result<BTreeMap<u8, Vec<Vec<u8>>>, ManifestError> {
        let mut values = BTreeMap::new();
        let mut previous = None;
        for _ in 0..self.map("PCR values by index")? {
            let pcr = self.key(previous)?;
            previous = Some(pcr);
            let offset = self.0.position();
            let mut allowed: Vec<Vec<u8>> = Vec::new();
            for _ in 0..self.array("values of a PCR")? {
                let offset = self.0.position();
                let value = self.bytes("a PCR value (a byte string)")?.to_vec();
                if allowed.last().is_some_and(|last| *last >= value) {
                    return Err(ManifestError::at(offset, Fault::NotCanonical));
                }
                allowed.push(value);
            }
            let Ok(pcr) = u8::try_from(pcr) else {
                return Err(ManifestError::at(offset, Fault::BadPcr));
            };
            values.insert(pcr, allowed);
        }
        Ok(values)
    }
}
