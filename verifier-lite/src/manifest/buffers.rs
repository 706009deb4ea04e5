//! What a manifest expects of measured buffers, the kernel's *critical data*: keys that are added to keyrings,
//! kernel command lines at kexec, SELinux's state, device-mapper tables (Linux, `Documentation/ABI/testing/ima_policy`
//! and `admin-guide/device-mapper/dm-ima.rst`). The kernel names each, and no name begins with `/`.

use std::collections::BTreeMap;

use bstr::{BString, ByteSlice};

use super::codec::Reader;
use super::envelope::Encoded;
use super::error::Fault;
use super::{FileDigest, FileEntry, MAX_PATH, ManifestError, merge};

/// Most names of buffers, of keyrings, and of device-mapper tables in one manifest.
const MAX_BUFFERS: usize = 4096;

/// Longest attribute of a device-mapper table, or pattern of one, in bytes.
const MAX_ATTRIBUTE: usize = 1024;

/// Stands for every keyring in [`BufferExpectations::unjudged_keyrings`].
pub const EVERY_KEYRING: &str = "*";

/// Attribute of a device or a target, and the pattern that its value must match: `*` stands for any
/// characters, `?` for one.
pub type Attributes = BTreeMap<String, String>;

/// Expectations on measured buffers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BufferExpectations {
    /// Buffers by name, such as `.ima` or `kexec-cmdline`, and what each may hold: the digest that is logged.
    pub known: Vec<FileEntry>,
    /// Keyrings whose keys are not judged.
    pub unjudged_keyrings: Vec<String>,
    /// Devices that the device mapper may make.
    pub tables: Vec<DeviceTable>,
}

/// What a device of the device mapper must be, and what may be done with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceTable {
    /// Of the device: `name`, `uuid`, `major`, `minor`, `minor_count`.
    pub device: Attributes,
    /// Of each target, in their order; there must be no others. `target_name`, `root_digest` of `verity`, and so on.
    pub targets: Vec<Attributes>,
    /// Whether its inactive table may be cleared.
    pub may_clear: bool,
    /// Whether it may be removed.
    pub may_remove: bool,
    /// Patterns of the name and UUID that it may be given; none: it must not be renamed.
    pub may_become: Option<(String, String)>,
}

impl DeviceTable {
    /// A device of one dm-verity target with this root digest, which may come and go.
    pub fn verity(name: &str, root_digest: &str) -> Self {
        let attributes = |pairs: &[(&str, &str)]| {
            let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            pairs.iter().map(owned).collect()
        };
        Self {
            device: attributes(&[("name", name)]),
            targets: vec![attributes(&[
                ("target_name", "verity"),
                ("hash_failed", "V"),
                ("root_digest", root_digest),
            ])],
            may_clear: true,
            may_remove: true,
            may_become: None,
        }
    }
}

impl BufferExpectations {
    /// Whether nothing is expected.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What either of the two allows.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.known.extend(other.known);
        self.unjudged_keyrings.extend(other.unjudged_keyrings);
        self.tables.extend(other.tables);
        self
    }

    pub(super) fn sorted(self) -> Self {
        let (mut unjudged_keyrings, mut tables) = (self.unjudged_keyrings, self.tables);
        unjudged_keyrings.sort_unstable();
        unjudged_keyrings.dedup();
        tables.sort_unstable();
        tables.dedup();
        Self {
            known: merge(self.known),
            unjudged_keyrings,
            tables,
        }
    }

    pub(super) fn check(&self) -> Result<(), Fault> {
        let counts = [
            self.known.len(),
            self.unjudged_keyrings.len(),
            self.tables.len(),
        ];
        if counts.iter().any(|count| *count > MAX_BUFFERS) {
            return Err(Fault::TooMany("buffers"));
        }
        for buffer in &self.known {
            check_name(&buffer.path)?;
            if buffer.digests.is_empty() {
                return Err(Fault::NoDigest(buffer.path.clone()));
            }
        }
        for keyring in &self.unjudged_keyrings {
            check_name(keyring.as_bytes())?;
        }
        self.tables.iter().try_for_each(DeviceTable::check)
    }

    /// Digests that this buffer may have.
    pub fn digests_of(&self, name: &[u8]) -> &[FileDigest] {
        let at = self
            .known
            .binary_search_by(|known| known.path.as_bytes().cmp(name));
        at.map_or(&[], |at| &self.known[at].digests)
    }

    /// Whether keys that are added to this keyring are not judged.
    pub fn is_unjudged(&self, keyring: &[u8]) -> bool {
        self.unjudged_keyrings
            .iter()
            .any(|name| name == EVERY_KEYRING || name.as_bytes() == keyring)
    }
}

impl DeviceTable {
    fn check(&self) -> Result<(), Fault> {
        let sound = |text: &str| text.len() <= MAX_ATTRIBUTE && !text.contains(char::is_control);
        let attributes = self.targets.iter().chain([&self.device]);
        let becomes = self.may_become.iter().flat_map(|(name, uuid)| [name, uuid]);
        let all_sound = attributes
            .flatten()
            .flat_map(|(key, value)| [key, value])
            .chain(becomes)
            .all(|text| sound(text));
        if !all_sound {
            return Err(Fault::BadBuffer(
                "an attribute must have at most 1024 bytes and no control characters",
            ));
        }
        // Anything would fit.
        if self.targets.is_empty() || self.targets.len() > MAX_BUFFERS {
            return Err(Fault::BadBuffer("a device must have 1 to 4096 targets"));
        }
        if !self.device.contains_key("name") && !self.device.contains_key("uuid") {
            return Err(Fault::BadBuffer("a device must have a name or a UUID"));
        }
        Ok(())
    }
}

fn check_name(name: &[u8]) -> Result<(), Fault> {
    if name.is_empty() || name.len() > MAX_PATH || name.starts_with(b"/") || name.contains(&0) {
        return Err(Fault::BadBuffer(
            "a name must have 1 to 4096 bytes, no NUL among them, and not begin with /",
        ));
    }
    Ok(())
}

mod key {
    pub(super) const KNOWN: u64 = 1;
    pub(super) const UNJUDGED_KEYRINGS: u64 = 2;
    pub(super) const TABLES: u64 = 3;

    pub(super) const DEVICE: u64 = 1;
    pub(super) const TARGETS: u64 = 2;
    pub(super) const MAY_CLEAR: u64 = 3;
    pub(super) const MAY_REMOVE: u64 = 4;
    pub(super) const MAY_BECOME: u64 = 5;
}

pub(super) fn write(e: &mut minicbor::Encoder<Vec<u8>>, buffers: &BufferExpectations) -> Encoded {
    let present = [
        !buffers.known.is_empty(),
        !buffers.unjudged_keyrings.is_empty(),
        !buffers.tables.is_empty(),
    ];
    e.map(present.iter().filter(|present| **present).count() as u64)?;
    if !buffers.known.is_empty() {
        e.u64(key::KNOWN)?.array(buffers.known.len() as u64)?;
        for FileEntry { path, digests } in &buffers.known {
            e.array(1 + digests.len() as u64)?.bytes(path)?;
            for digest in digests {
                e.bytes(&digest.0)?;
            }
        }
    }
    if !buffers.unjudged_keyrings.is_empty() {
        let keyrings = &buffers.unjudged_keyrings;
        e.u64(key::UNJUDGED_KEYRINGS)?
            .array(keyrings.len() as u64)?;
        for keyring in keyrings {
            e.str(keyring)?;
        }
    }
    if !buffers.tables.is_empty() {
        e.u64(key::TABLES)?.array(buffers.tables.len() as u64)?;
        for table in &buffers.tables {
            write_table(e, table)?;
        }
    }
    Ok(())
}

fn write_table(e: &mut minicbor::Encoder<Vec<u8>>, table: &DeviceTable) -> Encoded {
    let flags = [
        (key::MAY_CLEAR, table.may_clear),
        (key::MAY_REMOVE, table.may_remove),
    ];
    let set = flags.iter().filter(|(_, set)| *set).count();
    e.map(2 + set as u64 + u64::from(table.may_become.is_some()))?;
    e.u64(key::DEVICE)?;
    write_attributes(e, &table.device)?;
    e.u64(key::TARGETS)?.array(table.targets.len() as u64)?;
    for target in &table.targets {
        write_attributes(e, target)?;
    }
    for (key, set) in flags {
        if set {
            e.u64(key)?.bool(true)?;
        }
    }
    if let Some((name, uuid)) = &table.may_become {
        e.u64(key::MAY_BECOME)?.array(2)?.str(name)?.str(uuid)?;
    }
    Ok(())
}

/// An array of pairs: text keys of a map would have to be sorted by length first (RFC 8949, 4.2.1).
fn write_attributes(e: &mut minicbor::Encoder<Vec<u8>>, attributes: &Attributes) -> Encoded {
    e.array(attributes.len() as u64)?;
    for (name, pattern) in attributes {
        e.array(2)?.str(name)?.str(pattern)?;
    }
    Ok(())
}

/// What has a second spelling is refused by the caller, which encodes what was read once more.
pub(super) fn read(d: &mut Reader<'_>) -> Result<BufferExpectations, ManifestError> {
    let start = d.0.position();
    let mut buffers = BufferExpectations::default();
    let mut previous = None;
    for _ in 0..d.map("expectations on buffers (a map)")? {
        let offset = d.0.position();
        let key = d.key(previous)?;
        previous = Some(key);
        match key {
            key::KNOWN => {
                for _ in 0..d.array("a list of buffers")? {
                    let offset = d.0.position();
                    let buffer =
                        d.entry("a buffer (an array)", |name| check_name(name.as_bytes()))?;
                    if buffers
                        .known
                        .last()
                        .is_some_and(|last| last.path >= buffer.path)
                    {
                        return Err(ManifestError::at(offset, Fault::NotCanonical));
                    }
                    buffers.known.push(buffer);
                }
            }
            key::UNJUDGED_KEYRINGS => buffers.unjudged_keyrings = d.exclusions()?,
            key::TABLES => {
                for _ in 0..d.array("a list of device-mapper tables")? {
                    let offset = d.0.position();
                    let table = read_table(d)?;
                    if buffers.tables.last().is_some_and(|last| *last >= table) {
                        return Err(ManifestError::at(offset, Fault::NotCanonical));
                    }
                    buffers.tables.push(table);
                }
            }
            _ => return Err(ManifestError::at(offset, Fault::UnknownKey(key))),
        }
    }
    if buffers.is_empty() {
        return Err(ManifestError::at(start, Fault::NotCanonical));
    }
    Ok(buffers)
}

fn read_table(d: &mut Reader<'_>) -> Result<DeviceTable, ManifestError> {
    let mut table = DeviceTable::default();
    let mut previous = None;
    for _ in 0..d.map("a device-mapper table (a map)")? {
        let offset = d.0.position();
        let key = d.key(previous)?;
        previous = Some(key);
        match key {
            key::DEVICE => table.device = attributes(d)?,
            key::TARGETS => {
                for _ in 0..d.array("targets")? {
                    table.targets.push(attributes(d)?);
                }
            }
            key::MAY_CLEAR => table.may_clear = d.item("true", minicbor::Decoder::bool)?,
            key::MAY_REMOVE => table.may_remove = d.item("true", minicbor::Decoder::bool)?,
            key::MAY_BECOME => {
                let offset = d.0.position();
                if d.array("patterns of a name and a UUID")? != 2 {
                    return Err(ManifestError::at(
                        offset,
                        Fault::Expected("patterns of a name and a UUID"),
                    ));
                }
                let name = d.text("a pattern (text)")?.to_owned();
                table.may_become = Some((name, d.text("a pattern (text)")?.to_owned()));
            }
            _ => return Err(ManifestError::at(offset, Fault::UnknownKey(key))),
        }
    }
    Ok(table)
}

fn attributes(d: &mut Reader<'_>) -> Result<Attributes, ManifestError> {
    let mut attributes = Attributes::new();
    for _ in 0..d.array("attributes")? {
        let offset = d.0.position();
        if d.array("an attribute (an array)")? != 2 {
            let fault = Fault::Expected("an attribute and its pattern");
            return Err(ManifestError::at(offset, fault));
        }
        let name = d.text("an attribute (text)")?.to_owned();
        attributes.insert(name, d.text("a pattern (text)")?.to_owned());
    }
    Ok(attributes)
}

/// As the kernel logs it: without spaces (`ima_write_template_field_data`).
pub(super) fn as_logged(buffers: &BufferExpectations) -> BufferExpectations {
    let logged = |name: &BString| BString::from(name.replace(b" ", b"_"));
    BufferExpectations {
        known: buffers
            .known
            .iter()
            .map(|known| FileEntry {
                path: logged(&known.path),
                digests: known.digests.clone(),
            })
            .collect(),
        ..buffers.clone()
    }
    .sorted()
}
