//! Components of a firmware: the reference values of devices that send tokens (`crate::evidence::token`).

use super::codec::Reader;
use super::envelope::Encoded;
use super::error::Fault;
use super::{FileDigest, ManifestError, check_label};

/// Most components of one firmware, and most digests of one. A bootloader measures two to ten.
pub const MAX_COMPONENTS: usize = 256;

/// A measured component: what it is called and what it may contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentEntry {
    /// Its name, as the device measures it, such as `bootloader`.
    pub name: String,
    /// What it may contain; sorted, unique, never empty.
    pub digests: Vec<FileDigest>,
}

/// Into canonical order: by name, the same name once, digests sorted.
pub(super) fn sorted(mut components: Vec<ComponentEntry>) -> Vec<ComponentEntry> {
    components.sort_by(|a, b| a.name.cmp(&b.name));
    components.dedup_by(|later, kept| {
        let same = later.name == kept.name;
        if same {
            kept.digests.append(&mut later.digests);
        }
        same
    });
    for component in &mut components {
        component.digests.sort_unstable();
        component.digests.dedup();
    }
    components
}

pub(super) fn check(components: &[ComponentEntry]) -> Result<(), Fault> {
    if components.len() > MAX_COMPONENTS {
        return Err(Fault::TooMany("components"));
    }
    for component in components {
        check_label("name of a component", &component.name)?;
        if component.digests.is_empty() {
            return Err(Fault::NoDigest(component.name.as_str().into()));
        }
        if component.digests.len() > MAX_COMPONENTS {
            return Err(Fault::TooMany("digests of a component"));
        }
    }
    Ok(())
}

pub(super) fn write(e: &mut minicbor::Encoder<Vec<u8>>, components: &[ComponentEntry]) -> Encoded {
    e.array(components.len() as u64)?;
    for component in components {
        e.array(1 + component.digests.len() as u64)?;
        e.str(&component.name)?;
        for digest in &component.digests {
            e.bytes(&digest.0)?;
        }
    }
    Ok(())
}

pub(super) fn read(d: &mut Reader<'_>) -> Result<Vec<ComponentEntry>, ManifestError> {
    let start = d.0.position();
    let count = d.array("a list of components")?;
    if count == 0 {
        return Err(ManifestError::at(start, Fault::NotCanonical));
    }
    let mut components: Vec<ComponentEntry> = Vec::new();
    for _ in 0..count {
        let offset = d.0.position();
        let items = d.array("a component (an array)")?;
        if items < 2 {
            return Err(ManifestError::at(
                offset,
                Fault::Expected("a name and digests"),
            ));
        }
        let name = d.text("a component's name (text)")?.to_owned();
        if components.last().is_some_and(|last| last.name >= name) {
            return Err(ManifestError::at(offset, Fault::NotCanonical));
        }
        let mut digests: Vec<FileDigest> = Vec::new();
        for _ in 1..items {
            let offset = d.0.position();
            let digest = d.bytes("a digest (a byte string)")?.try_into();
            let digest = digest
                .map(FileDigest)
                .map_err(|_| ManifestError::at(offset, Fault::Expected("a digest of 32 bytes")))?;
            if digests.last().is_some_and(|last| *last >= digest) {
                return Err(ManifestError::at(offset, Fault::NotCanonical));
            }
            digests.push(digest);
        }
        components.push(ComponentEntry { name, digests });
    }
    Ok(components)
}
