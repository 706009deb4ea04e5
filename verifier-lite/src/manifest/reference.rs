//! What appraisal looks things up in: the files of several manifests, by path and by digest.
//!
//! One flat table: 44 bytes for each file and manifest plus its path once. 50,000 files take about
//! 5 MB.

use std::fmt;

use bstr::{BStr, ByteSlice};
use globset::{Candidate, GlobSet};

use super::buffers::as_logged;
use super::error::Fault;
use super::{
    BootExpectations, BufferExpectations, ComponentEntry, FileDigest, ManifestError, StaticPcrs,
    VerifiedManifest, compile_glob,
};
use crate::ima_signature::Keyring;

/// Globs of paths that are not judged.
#[derive(Clone, Debug)]
pub struct Exclusion {
    globs: Vec<String>,
    set: GlobSet,
}

impl Exclusion {
    /// Compiles the globs: `*` and `?` stop at `/`, `**` does not.
    pub fn new(globs: &[String]) -> Result<Self, ManifestError> {
        let mut set = GlobSet::builder();
        for glob in globs {
            set.add(compile_glob(glob)?);
        }
        let set = set
            .build()
            .map_err(|error| Fault::BadGlob(globs.join(" "), error.kind().to_string()))?;
        let globs = globs.to_vec();
        Ok(Self { globs, set })
    }

    /// The first glob that matches the whole of `path`.
    pub fn matches(&self, path: &[u8]) -> Option<&str> {
        if self.globs.is_empty() {
            return None;
        }
        let hits = self.set.matches_candidate(&Candidate::from_bytes(path));
        hits.iter().min().map(|&index| self.globs[index].as_str())
    }
}

#[derive(Clone, Copy)]
struct Entry {
    path: u32,
    length: u16,
    manifest: u16,
    digest: FileDigest,
}

/// A reference value: this file of this manifest may have this digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reference<'r> {
    /// Absolute path.
    pub path: &'r BStr,
    /// What it may contain.
    pub digest: FileDigest,
    /// `name-version` of the manifest that says so.
    pub manifest: &'r str,
}

/// What the reference values say about one measured file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Match<'r> {
    /// A manifest lists exactly this.
    Known(Reference<'r>),
    /// Not to be judged: the glob says so.
    Excluded(&'r str),
    /// The path is listed, with other contents.
    Modified(Vec<Reference<'r>>),
    /// The path is not listed. The same contents may be, elsewhere.
    Unknown(Vec<Reference<'r>>),
}

/// The files of any number of verified manifests.
#[derive(Clone)]
pub struct ReferenceValues {
    paths: Vec<u8>,
    /// Sorted by path, then digest, then manifest.
    by_path: Vec<Entry>,
    /// Indices into `by_path`, sorted by digest.
    by_digest: Vec<u32>,
    labels: Vec<String>,
    exclusion: Exclusion,
    boot: Vec<BootReference>,
    firmware: Vec<FirmwareReference>,
    buffers: Vec<BufferReference>,
    ima_keys: Option<Keyring>,
}

/// What one manifest says about the boot of the image version that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootReference {
    /// `name-version` of the manifest.
    pub manifest: String,
    /// Values that boot PCRs may have.
    pub pcrs: StaticPcrs,
    /// What the boot event log must show.
    pub expectations: BootExpectations,
}

/// What one manifest says about measured buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferReference {
    /// `name-version` of the manifest.
    pub manifest: String,
    /// What it expects; names as the kernel logs them.
    pub expectations: BufferExpectations,
}

/// What one manifest says about a firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirmwareReference {
    /// `name-version` of the manifest.
    pub manifest: String,
    /// Name of the software.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its components, sorted by name.
    pub components: Vec<ComponentEntry>,
}

impl fmt::Debug for ReferenceValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReferenceValues")
            .field("manifests", &self.labels)
            .field("entries", &self.by_path.len())
            .finish_non_exhaustive()
    }
}

impl ReferenceValues {
    /// Indexes the files of all of `manifests`. An exclusion of one counts for all.
    ///
    /// Fails when they hold more than fits 32-bit indices (4 GiB of paths, 65,535 manifests).
    pub fn new<'m>(
        manifests: impl IntoIterator<Item = &'m VerifiedManifest>,
    ) -> Result<Self, ManifestError> {
        let mut paths: Vec<u8> = Vec::new();
        let mut entries: Vec<Entry> = Vec::new();
        let mut labels: Vec<String> = Vec::new();
        let mut globs: Vec<String> = Vec::new();
        let mut boot = Vec::new();
        let mut firmware = Vec::new();
        let mut buffers = Vec::new();
        for verified in manifests {
            let manifest = verified.manifest();
            let full = |_| ManifestError::from(Fault::TooMany("reference values"));
            let index = u16::try_from(labels.len()).map_err(full)?;
            for file in manifest.files() {
                let path = u32::try_from(paths.len()).map_err(full)?;
                let length = u16::try_from(file.path.len()).map_err(full)?;
                // As it will stand in a log: no spaces (`ima_write_template_field_data`).
                paths.extend(file.path.iter().map(|&b| if b == b' ' { b'_' } else { b }));
                entries.extend(file.digests.iter().map(|&digest| Entry {
                    path,
                    length,
                    manifest: index,
                    digest,
                }));
            }
            u32::try_from(entries.len()).map_err(full)?;
            globs.extend_from_slice(manifest.exclusions());
            if !manifest.pcrs().is_empty() || !manifest.boot().is_empty() {
                boot.push(BootReference {
                    manifest: manifest.label(),
                    pcrs: manifest.pcrs().clone(),
                    expectations: manifest.boot().clone(),
                });
            }
            if !manifest.firmware().is_empty() {
                firmware.push(FirmwareReference {
                    manifest: manifest.label(),
                    name: manifest.name().to_owned(),
                    version: manifest.version().to_owned(),
                    components: manifest.firmware().to_vec(),
                });
            }
            if !manifest.buffers().is_empty() {
                buffers.push(BufferReference {
                    manifest: manifest.label(),
                    expectations: as_logged(manifest.buffers()),
                });
            }
            labels.push(manifest.label());
        }
        globs.sort_unstable();
        globs.dedup();
        let path_of = |e: &Entry| &paths[e.path as usize..][..usize::from(e.length)];
        entries.sort_unstable_by(|a, b| {
            let left = (path_of(a), a.digest, a.manifest);
            left.cmp(&(path_of(b), b.digest, b.manifest))
        });
        let mut by_digest: Vec<u32> = (0..entries.len() as u32).collect();
        by_digest.sort_by_key(|&index| entries[index as usize].digest);
        paths.shrink_to_fit();
        Ok(Self {
            exclusion: Exclusion::new(&globs)?,
            paths,
            by_path: entries,
            by_digest,
            labels,
            boot,
            firmware,
            buffers,
            ima_keys: None,
        })
    }

    /// The same, and files that no manifest lists are looked at for a signature by one of these keys.
    #[must_use]
    pub fn with_ima_keys(self, keys: Keyring) -> Self {
        Self {
            ima_keys: Some(keys),
            ..self
        }
    }

    /// The keys that may sign files, if signatures count.
    pub fn ima_keys(&self) -> Option<&Keyring> {
        self.ima_keys.as_ref()
    }

    /// What is known about a file measured with this digest under this path.
    pub fn check(&self, path: &[u8], digest: &FileDigest) -> Match<'_> {
        let listed = self.of_path(path);
        // Of several manifests that list it, the one given first.
        let at = listed.partition_point(|e| e.digest < *digest);
        if let Some(entry) = listed.get(at).filter(|e| e.digest == *digest) {
            return Match::Known(self.reference(entry));
        }
        if let Some(glob) = self.excluded_by(path) {
            return Match::Excluded(glob);
        }
        if listed.is_empty() {
            return Match::Unknown(self.with_digest(digest).collect());
        }
        Match::Modified(listed.iter().map(|e| self.reference(e)).collect())
    }

    /// The glob that says that this path is not to be judged, if one does.
    pub fn excluded_by(&self, path: &[u8]) -> Option<&str> {
        self.exclusion.matches(path)
    }

    /// Everything listed under this path.
    pub fn with_path(&self, path: &[u8]) -> impl Iterator<Item = Reference<'_>> {
        self.of_path(path).iter().map(|e| self.reference(e))
    }

    /// Everything listed with these contents.
    pub fn with_digest(&self, digest: &FileDigest) -> impl Iterator<Item = Reference<'_>> {
        let of = |index: &u32| self.by_path[*index as usize].digest;
        let start = self.by_digest.partition_point(|index| of(index) < *digest);
        let same = self.by_digest[start..].partition_point(|index| of(index) == *digest);
        self.by_digest[start..start + same]
            .iter()
            .map(|&index| self.reference(&self.by_path[index as usize]))
    }

    /// Every reference value, sorted by path. A file that several manifests list comes several times.
    pub fn iter(&self) -> impl Iterator<Item = Reference<'_>> {
        self.by_path.iter().map(|e| self.reference(e))
    }

    /// One of them, by its place in [`Self::iter`].
    pub fn nth(&self, index: usize) -> Option<Reference<'_>> {
        self.by_path.get(index).map(|e| self.reference(e))
    }

    /// Number of reference values.
    pub fn len(&self) -> usize {
        self.by_path.len()
    }

    /// Whether there are none: then nothing measured can be known.
    pub fn is_empty(&self) -> bool {
        self.by_path.is_empty()
    }

    /// What manifests say about the boot; those that say nothing are left out.
    pub fn boot(&self) -> &[BootReference] {
        &self.boot
    }

    /// What manifests say about firmware; those that say nothing are left out.
    pub fn firmware(&self) -> &[FirmwareReference] {
        &self.firmware
    }

    /// What manifests say about measured buffers; those that say nothing are left out.
    pub fn buffers(&self) -> &[BufferReference] {
        &self.buffers
    }

    /// `name-version` of each manifest, in the order they were given.
    pub fn manifests(&self) -> &[String] {
        &self.labels
    }

    fn of_path(&self, path: &[u8]) -> &[Entry] {
        let start = self.by_path.partition_point(|e| self.path(e) < path);
        let same = self.by_path[start..].partition_point(|e| self.path(e) == path);
        &self.by_path[start..start + same]
    }

    fn path(&self, entry: &Entry) -> &[u8] {
        &self.paths[entry.path as usize..][..usize::from(entry.length)]
    }

    fn reference(&self, entry: &Entry) -> Reference<'_> {
        Reference {
            path: self.path(entry).as_bstr(),
            digest: entry.digest,
            manifest: &self.labels[usize::from(entry.manifest)],
        }
    }
}
