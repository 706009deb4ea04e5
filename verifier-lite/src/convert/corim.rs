//! Concise Reference Integrity Manifests (draft-ietf-rats-corim-10): reference triples of files and of boot
//! PCRs.
//!
//! The draft has no profile for files. Here each file is a measurement whose key (`mkey`) is its path, with
//! its digests; from other writers the path may also be the measurement's `name`. Boot PCRs are
//! `integrity-registers`, by number. The environment's class names the image by `model`; the CoMID's tag
//! version cannot hold a version such as 1.4-rc2, so that is in the tag id.

use std::convert::Infallible;

use bstr::ByteSlice;
use minicbor::data::{Tag, Type};
use minicbor::{Decoder, Encoder};

use super::{ConvertError, Imported, absolute};
use crate::manifest::{FileDigest, FileEntry, Manifest};

/// CBOR tags (draft, 12.2; RFC 9052).
const CORIM: u64 = 501;
const COMID: u64 = 506;
const COSE_SIGN1: u64 = 18;
/// Older drafts put it around everything.
const CORIM_CHOICE: u64 = 500;
const OLD_SIGNED: u64 = 502;

/// Named Information hash algorithms (RFC 6920, 9.4) that are TPM banks too: id, `TPM_ALG_ID`, digest length.
const ALGORITHMS: [(i64, u16, usize); 3] = [(1, 0x000B, 32), (7, 0x000C, 48), (8, 0x000D, 64)];
const SHA256: i64 = 1;
/// Stands for map keys that are text.
const TEXT: i64 = i64::MIN;
/// "Reserved" in that registry.
const UNKNOWN: i64 = 0;

/// Reads an unsigned CoRIM, or the payload of a signed one, whose signature is not checked.
pub fn read(bytes: &[u8]) -> Result<Imported, ConvertError> {
    let mut reader = Reader {
        d: Decoder::new(bytes),
        base: 0,
    };
    let mut imported = Imported::default();
    reader.corim(&mut imported)?;
    if reader.d.position() != bytes.len() {
        return Err(reader.wrong("bytes after the CoRIM"));
    }
    imported.not_empty("reference-triples")
}

/// PCR, `TPM_ALG_ID`, value.
type Register = (u8, u16, Vec<u8>);

/// A decoder that knows where in the file it is.
struct Reader<'b> {
    d: Decoder<'b>,
    /// Offset in the file of its first byte.
    base: usize,
}

impl<'b> Reader<'b> {
    fn wrong(&self, what: &str) -> ConvertError {
        ConvertError::new(format!("offset {}", self.base + self.d.position()), what)
    }

    fn take<T>(
        &mut self,
        what: &str,
        read: impl FnOnce(&mut Decoder<'b>) -> Result<T, minicbor::decode::Error>,
    ) -> Result<T, ConvertError> {
        let wrong = self.wrong(&format!("is not {what}"));
        read(&mut self.d).map_err(|_| wrong)
    }

    fn datatype(&self) -> Result<Type, ConvertError> {
        self.d
            .datatype()
            .map_err(|_| self.wrong("the file ends here"))
    }

    fn tag(&mut self) -> Result<u64, ConvertError> {
        self.take("a CBOR tag", Decoder::tag).map(Tag::as_u64)
    }

    fn array(&mut self, what: &str) -> Result<u64, ConvertError> {
        self.take(what, Decoder::array)?
            .ok_or_else(|| self.wrong("indefinite lengths are not read"))
    }

    fn skip(&mut self) -> Result<(), ConvertError> {
        self.take("CBOR", Decoder::skip)
    }

    /// A byte string, as a reader of what is in it.
    fn bytes(&mut self, what: &str) -> Result<Reader<'b>, ConvertError> {
        let bytes = self.take(what, Decoder::bytes)?;
        Ok(Reader {
            d: Decoder::new(bytes),
            base: self.base + self.d.position() - bytes.len(),
        })
    }

    /// Calls `each` for every member of a map; it must read the value, or say false. A key that is text, which
    /// only extensions have, is [`TEXT`].
    fn map(
        &mut self,
        what: &str,
        mut each: impl FnMut(&mut Self, i64) -> Result<bool, ConvertError>,
    ) -> Result<(), ConvertError> {
        let pairs = self
            .take(what, Decoder::map)?
            .ok_or_else(|| self.wrong("indefinite lengths are not read"))?;
        for _ in 0..pairs {
            let key = match self.datatype()? {
                Type::String => {
                    self.skip()?;
                    TEXT
                }
                _ => self.take("a map key", Decoder::i64)?,
            };
            if !each(self, key)? {
                self.skip()?;
            }
        }
        Ok(())
    }

    fn corim(&mut self, imported: &mut Imported) -> Result<(), ConvertError> {
        let wrong = self.wrong("is not a CoRIM (tag 501) or a signed one (tag 18)");
        if self.datatype()? != Type::Tag {
            return Err(wrong);
        }
        match self.tag()? {
            CORIM => self.corim_map(imported),
            CORIM_CHOICE | OLD_SIGNED => self.corim(imported),
            COSE_SIGN1 => {
                if self.array("a COSE_Sign1")? != 4 {
                    return Err(self.wrong("is not a COSE_Sign1 (4 items)"));
                }
                self.skip()?;
                self.skip()?;
                self.bytes("the payload")?.corim(imported)?;
                imported
                    .left_out
                    .push("1 signature, which was not checked".to_owned());
                self.skip()
            }
            _ => Err(wrong),
        }
    }

    fn corim_map(&mut self, imported: &mut Imported) -> Result<(), ConvertError> {
        let (mut others, mut unsaid) = (0, Vec::new());
        self.map("a corim-map", |reader, key| {
            if key != 1 {
                match key {
                    2 => unsaid.push("dependent RIMs".to_owned()),
                    3 => unsaid.push("the profile, which may give it another meaning".to_owned()),
                    4 => unsaid.push("the validity: expire the manifest in a policy".to_owned()),
                    // Its id, and who made it.
                    0 | 5 => {}
                    _ => unsaid.push("an extension of the CoRIM".to_owned()),
                }
                return Ok(false);
            }
            for _ in 0..reader.array("an array of tags")? {
                if reader.tag()? == COMID {
                    reader.bytes("a CoMID in a byte string")?.comid(imported)?;
                } else {
                    reader.skip()?;
                    others += 1;
                }
            }
            Ok(true)
        })?;
        imported.leave_out(others, "tags that are no CoMID");
        imported.left_out.extend(unsaid);
        Ok(())
    }

    fn comid(&mut self, imported: &mut Imported) -> Result<(), ConvertError> {
        let mut links = 0;
        self.map("a concise-mid-tag", |reader, key| {
            if key == 4 {
                reader.triples(imported)?;
            }
            links += usize::from(key == 3);
            Ok(key == 4)
        })?;
        imported.leave_out(links, "list of linked tags");
        Ok(())
    }

    fn triples(&mut self, imported: &mut Imported) -> Result<(), ConvertError> {
        let mut others = 0;
        self.map("a triples-map", |reader, key| {
            if key != 0 {
                others += 1;
                return Ok(false);
            }
            for _ in 0..reader.array("an array of reference triples")? {
                if reader.array("a reference triple")? != 2 {
                    return Err(reader.wrong("is not a reference triple (2 items)"));
                }
                reader.environment(imported)?;
                for _ in 0..reader.array("an array of measurements")? {
                    reader.measurement(imported)?;
                }
            }
            Ok(true)
        })?;
        imported.leave_out(others, "kinds of triples that are no reference triples");
        Ok(())
    }

    /// What a manifest cannot say of it is which device it is: a policy binds one to devices.
    fn environment(&mut self, imported: &mut Imported) -> Result<(), ConvertError> {
        let at = self.base + self.d.position();
        let mut unsaid = Vec::new();
        self.map("an environment-map", |reader, key| {
            match key {
                0 => {}
                1 => unsaid.push("instance"),
                2 => unsaid.push("group"),
                _ => unsaid.push("member that is not known here"),
            }
            if key == 0 {
                reader.map("a class-map", |reader, key| {
                    match key {
                        0 => unsaid.push("class id"),
                        1 => unsaid.push("vendor"),
                        2 => {
                            let model = reader.take("the model (text)", Decoder::str)?;
                            imported.name.get_or_insert_with(|| model.to_owned());
                            return Ok(true);
                        }
                        3 => unsaid.push("layer"),
                        4 => unsaid.push("index"),
                        _ => unsaid.push("member of the class that is not known here"),
                    }
                    Ok(false)
                })?;
            }
            Ok(key == 0)
        })?;
        if !unsaid.is_empty() {
            let what = unsaid.join(", ");
            let said = format!("{what} of the environment at offset {at}");
            imported.left_out.push(said);
        }
        Ok(())
    }

    fn measurement(&mut self, imported: &mut Imported) -> Result<(), ConvertError> {
        let at = self.base + self.d.position();
        let mut path: Option<&str> = None;
        let (mut digests, mut registers, mut unsaid) = (Vec::new(), Vec::new(), Vec::new());
        self.map("a measurement-map", |reader, key| match key {
            0 if reader.datatype()? == Type::String => {
                path = Some(reader.take("text", Decoder::str)?);
                Ok(true)
            }
            1 => {
                reader.map("a measurement-values-map", |reader, key| {
                    match key {
                        2 => digests = reader.digests()?,
                        11 if path.is_none() => {
                            path = Some(reader.take("a name (text)", Decoder::str)?);
                        }
                        14 => {
                            let unknown;
                            (registers, unknown) = reader.registers()?;
                            if unknown > 0 {
                                unsaid.push(format!("{unknown} registers of other algorithms"));
                            }
                        }
                        // What it is called, where its key is a path.
                        11 => return Ok(false),
                        key => {
                            unsaid.push(value_name(key));
                            return Ok(false);
                        }
                    }
                    Ok(true)
                })?;
                Ok(true)
            }
            // A key that is no path: which element it is about. Alone, it is a measurement of no file.
            0 => Ok(false),
            2 => {
                unsaid.push("authority".to_owned());
                Ok(false)
            }
            _ => {
                unsaid.push("extension".to_owned());
                Ok(false)
            }
        })?;
        for (pcr, bank, value) in &registers {
            let bank = imported.pcrs.entry(*bank).or_default();
            bank.entry(*pcr).or_default().push(value.clone());
        }
        let others = digests.iter().filter(|(alg, _)| *alg != SHA256).count();
        if others > 0 {
            unsaid.push(format!("{others} digests that are not SHA-256"));
        }
        let digests: Vec<FileDigest> = digests
            .into_iter()
            .filter(|(alg, _)| *alg == SHA256)
            .filter_map(|(_, value)| Some(FileDigest(value.try_into().ok()?)))
            .collect();
        match path {
            Some(path) if !digests.is_empty() => {
                let path = absolute(path).ok_or_else(|| {
                    let what = format!("{path:?} is not a path inside a root file system");
                    ConvertError::new(format!("offset {at}"), what)
                })?;
                imported.files.push(FileEntry { path, digests });
            }
            _ if registers.is_empty() => {
                let what = "measurement of no file with a SHA-256 digest";
                imported.leave_out(1, &format!("{what}, at offset {at}"));
            }
            _ => {}
        }
        if !unsaid.is_empty() {
            let what = unsaid.join(", ");
            let said = format!("{what} of the measurement at offset {at}");
            imported.left_out.push(said);
        }
        Ok(())
    }

    /// Digests with the number of their algorithm; 0, which is none's, for one that is not known here.
    fn digests(&mut self) -> Result<Vec<(i64, &'b [u8])>, ConvertError> {
        let mut digests = Vec::new();
        for _ in 0..self.array("an array of digests")? {
            if self.array("a digest")? != 2 {
                return Err(self.wrong("is not a digest (algorithm and value)"));
            }
            let alg = match self.datatype()? {
                Type::String => match self.take("text", Decoder::str)? {
                    "sha-256" => Some(SHA256),
                    _ => None,
                },
                _ => Some(self.take("an algorithm", Decoder::i64)?),
            };
            let at = self.wrong("is not as long as its algorithm says");
            let value = self.take("a digest (bytes)", Decoder::bytes)?;
            let known = ALGORITHMS.iter().find(|(id, ..)| Some(*id) == alg);
            match known {
                Some((_, _, len)) if value.len() != *len => return Err(at),
                known => digests.push((known.map_or(UNKNOWN, |(id, ..)| *id), value)),
            }
        }
        Ok(digests)
    }

    /// Those of banks that are known here, and how many others there are.
    fn registers(&mut self) -> Result<(Vec<Register>, usize), ConvertError> {
        let (mut registers, mut unknown) = (Vec::new(), 0);
        self.map("integrity registers", |reader, pcr| {
            let pcr = u8::try_from(pcr).map_err(|_| reader.wrong("a register that is no PCR"))?;
            for (alg, value) in reader.digests()? {
                let bank = ALGORITHMS.iter().find(|(id, ..)| *id == alg);
                unknown += usize::from(bank.is_none());
                registers.extend(bank.map(|(_, bank, _)| (pcr, *bank, value.to_vec())));
            }
            Ok(true)
        })?;
        Ok((registers, unknown))
    }
}

/// Name of a measured value (`measurement-values-map`), of those that a manifest has no place for.
fn value_name(key: i64) -> String {
    let name = match key {
        0 => "version",
        1 => "svn",
        3 => "flags",
        4 => "raw value",
        5 => "mask of the raw value",
        6 => "MAC address",
        7 => "IP address",
        8 => "serial number",
        9 => "UEID",
        10 => "UUID",
        13 => "cryptographic keys",
        15 => "integer range",
        TEXT => "extension",
        key => return format!("value {key}"),
    };
    name.to_owned()
}

/// The manifest as an unsigned CoRIM, and what that cannot say.
pub fn write(manifest: &Manifest) -> (Vec<u8>, Vec<String>) {
    let mut left_out = Vec::new();
    let files: Vec<(&str, &FileEntry)> = manifest
        .files()
        .iter()
        .filter_map(|file| Some((file.path.to_str().ok()?, file)))
        .collect();
    let unreadable = manifest.files().len() - files.len();
    if unreadable > 0 {
        left_out.push(format!("{unreadable} paths that are not UTF-8"));
    }
    if !manifest.exclusions().is_empty() {
        let count = manifest.exclusions().len();
        left_out.push(format!("{count} exclusions: reference values only"));
    }
    if !manifest.boot().is_empty() {
        left_out.push("what is expected of the boot event log".to_owned());
    }
    if !manifest.firmware().is_empty() {
        left_out.push("components of a firmware".to_owned());
    }
    if !manifest.buffers().is_empty() {
        left_out.push("what is expected of measured buffers".to_owned());
    }
    let sha1 = manifest
        .pcrs()
        .keys()
        .filter(|bank| id_of(**bank).is_none());
    if sha1.count() > 0 {
        left_out.push("values of PCRs in the SHA-1 bank".to_owned());
    }
    let written = comid(manifest, &files).and_then(|comid| {
        let mut e = Encoder::new(Vec::new());
        e.tag(Tag::new(CORIM))?.map(2)?;
        e.u8(0)?.str(&manifest.label())?;
        e.u8(1)?.array(1)?.tag(Tag::new(COMID))?.bytes(&comid)?;
        Ok(e.into_writer())
    });
    match written {
        Ok(bytes) => (bytes, left_out),
        // Writing to a Vec cannot fail, and nothing here reports a custom error.
        Err(error) => unreachable!("{error}"),
    }
}

type Written<T> = Result<T, minicbor::encode::Error<Infallible>>;

fn id_of(bank: u16) -> Option<i64> {
    let known = ALGORITHMS.iter().find(|(_, alg, _)| *alg == bank);
    known.map(|(id, ..)| *id)
}

fn comid(manifest: &Manifest, files: &[(&str, &FileEntry)]) -> Written<Vec<u8>> {
    // A register has one value for each algorithm: alternatives are measurements of their own.
    let mut registers = Vec::new();
    for (bank, pcrs) in manifest.pcrs() {
        let Some(id) = id_of(*bank) else { continue };
        for (pcr, values) in pcrs {
            registers.extend(values.iter().map(|value| (*pcr, id, value)));
        }
    }
    let mut e = Encoder::new(Vec::new());
    e.map(2)?;
    e.u8(1)?.map(1)?.u8(0)?.str(&manifest.label())?;
    e.u8(4)?.map(1)?.u8(0)?.array(1)?.array(2)?;
    e.map(1)?.u8(0)?.map(1)?.u8(2)?.str(manifest.name())?;
    e.array((files.len() + registers.len()) as u64)?;
    for (path, file) in files {
        e.map(2)?.u8(0)?.str(path)?.u8(1)?.map(1)?;
        e.u8(2)?.array(file.digests.len() as u64)?;
        for digest in &file.digests {
            e.array(2)?.i64(SHA256)?.bytes(&digest.0)?;
        }
    }
    for (pcr, id, value) in registers {
        e.map(1)?.u8(1)?.map(1)?.u8(14)?.map(1)?.u8(pcr)?;
        e.array(1)?.array(2)?.i64(id)?.bytes(value)?;
    }
    Ok(e.into_writer())
}
