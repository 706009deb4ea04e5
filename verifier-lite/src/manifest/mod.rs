//! Manifests: the reference values (RFC 9334, 2.3) of one image version, made by the image build.
//!
//! ```text
//! build / sums -> Manifest -> sign -> file -> SignedManifest -> VerifiedManifest -> ReferenceValues
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`build`] | walk a root file system and hash it |
//! | [`sums`] | read `sha256sum` output instead |
//! | `boot` | what is expected of the boot event log |
//! | `buffers` | what is expected of measured buffers: keys, device-mapper tables |
//! | `firmware` | components that devices without a TPM measure |
//! | `codec`, `boot_codec` | deterministic CBOR, `cbor-schemas/cddl/manifest.cddl` |
//! | `envelope` | the `COSE_Sign1` around it |
//! | `reference` | the index that appraisal looks things up in |
//!
//! **Who may lie**: whoever hands over the file, until the signature of a key the operator trusts
//! has been checked. Only [`SignedManifest::verify`] makes a [`VerifiedManifest`], and only that
//! can become part of [`ReferenceValues`].

use std::collections::BTreeMap;
use std::fmt;

use bstr::{BStr, BString, ByteSlice};

mod boot;
mod boot_codec;
mod buffers;
pub mod build;
pub(crate) mod codec;
pub(crate) mod envelope;
mod error;
mod firmware;
mod reference;
pub mod sums;

pub use boot::{BootExpectations, KeyVariable, MAX_BOOT_VALUES, MAX_COMMAND_LINE};
pub use buffers::{Attributes, BufferExpectations, DeviceTable, EVERY_KEYRING};
pub use envelope::{SignedManifest, VerifiedManifest, sign};
pub use error::{Fault, ManifestError};
pub use firmware::{ComponentEntry, MAX_COMPONENTS};
pub use reference::{
    BootReference, BufferReference, Exclusion, FirmwareReference, Match, Reference, ReferenceValues,
};

/// Largest manifest file, in bytes. 50,000 files take about 5 MB; a full desktop distribution with
/// 500,000 about 50 MB.
pub const MAX_MANIFEST: usize = 64 * 1024 * 1024;

/// Longest path, in bytes: Linux `PATH_MAX`.
pub const MAX_PATH: usize = 4096;

/// Longest name or version, in bytes. They are printed, logged and typed.
pub const MAX_LABEL: usize = 128;

/// Most exclusions of one manifest: all of them are tried for a path that nothing else explains.
pub const MAX_EXCLUSIONS: usize = 4096;

/// SHA-256 of a file's contents, as the kernel measures it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileDigest(pub [u8; 32]);

impl fmt::Display for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::hex::write(f, &self.0)
    }
}

impl fmt::Debug for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A measured file: where it is and what it may contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Absolute path, as the kernel logs it. Not necessarily UTF-8.
    pub path: BString,
    /// What the file may contain; sorted, unique, never empty.
    pub digests: Vec<FileDigest>,
}

/// Values that boot PCRs may have: TPM hash algorithm -> PCR index -> allowed values.
pub type StaticPcrs = BTreeMap<u16, BTreeMap<u8, Vec<Vec<u8>>>>;

/// The reference values of one image version. Says nothing about who vouches for them: see
/// [`VerifiedManifest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    name: String,
    version: String,
    created: Option<u64>,
    files: Vec<FileEntry>,
    exclusions: Vec<String>,
    pcrs: StaticPcrs,
    boot: BootExpectations,
    firmware: Vec<ComponentEntry>,
    buffers: BufferExpectations,
}

impl Manifest {
    /// A manifest of these parts, brought into canonical order: files by path, files of the same
    /// path merged, digests and exclusions sorted and unique.
    pub fn new(
        name: &str,
        version: &str,
        created: Option<u64>,
        files: Vec<FileEntry>,
        exclusions: Vec<String>,
        pcrs: StaticPcrs,
    ) -> Result<Self, ManifestError> {
        let mut manifest = Self {
            name: name.to_owned(),
            version: version.to_owned(),
            created,
            files: merge(files),
            exclusions,
            pcrs,
            boot: BootExpectations::default(),
            firmware: Vec::new(),
            buffers: BufferExpectations::default(),
        };
        manifest.exclusions.sort_unstable();
        manifest.exclusions.dedup();
        for values in manifest.pcrs.values_mut().flat_map(BTreeMap::values_mut) {
            values.sort_unstable();
            values.dedup();
        }
        manifest.check()?;
        Ok(manifest)
    }

    /// The same manifest with these expectations on the boot event log.
    pub fn with_boot(mut self, mut boot: BootExpectations) -> Result<Self, ManifestError> {
        boot.sort();
        self.boot = boot;
        self.check()?;
        Ok(self)
    }

    /// The same manifest with these components of a firmware, in any order.
    pub fn with_firmware(mut self, components: Vec<ComponentEntry>) -> Result<Self, ManifestError> {
        self.firmware = firmware::sorted(components);
        self.check()?;
        Ok(self)
    }

    /// The same manifest with these expectations on measured buffers.
    pub fn with_buffers(mut self, buffers: BufferExpectations) -> Result<Self, ManifestError> {
        self.buffers = buffers.sorted();
        self.check()?;
        Ok(self)
    }

    /// Name of the image, such as `edge`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Version of the image, such as `1.4`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// `name-version`, as reasons and tables show it.
    pub fn label(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }

    /// Seconds since 1970, when the build was given `SOURCE_DATE_EPOCH`.
    pub fn created(&self) -> Option<u64> {
        self.created
    }

    /// Every measured file, sorted by path.
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// Globs of paths that are not judged, sorted.
    pub fn exclusions(&self) -> &[String] {
        &self.exclusions
    }

    /// Values that boot PCRs may have. Empty: the manifest says nothing about boot.
    pub fn pcrs(&self) -> &StaticPcrs {
        &self.pcrs
    }

    /// What the boot event log must show. Empty: the manifest says nothing about it.
    pub fn boot(&self) -> &BootExpectations {
        &self.boot
    }

    /// The components of a firmware, sorted by name. Empty: the manifest is of no firmware.
    pub fn firmware(&self) -> &[ComponentEntry] {
        &self.firmware
    }

    /// What is expected of measured buffers. Empty: none is known.
    pub fn buffers(&self) -> &BufferExpectations {
        &self.buffers
    }

    /// The rules that the CDDL cannot say or that a constructor could break.
    fn check(&self) -> Result<(), ManifestError> {
        check_label("name", &self.name)?;
        check_label("version", &self.version)?;
        for file in &self.files {
            check_path(file.path.as_bstr())?;
            if file.digests.is_empty() {
                return Err(Fault::NoDigest(file.path.clone()).into());
            }
        }
        if self.exclusions.len() > MAX_EXCLUSIONS {
            return Err(Fault::TooMany("exclusions").into());
        }
        for glob in &self.exclusions {
            compile_glob(glob)?;
        }
        self.boot.check()?;
        firmware::check(&self.firmware)?;
        self.buffers.check()?;
        for (&alg, values) in &self.pcrs {
            let Some(size) = digest_size(alg) else {
                return Err(Fault::UnsupportedHash(i64::from(alg)).into());
            };
            let sound = !values.is_empty()
                && values.iter().all(|(&pcr, allowed)| {
                    usize::from(pcr) < mote_schemas::limits::PCR_COUNT
                        && !allowed.is_empty()
                        && allowed.iter().all(|value| value.len() == size)
                });
            if !sound {
                return Err(Fault::BadPcr.into());
            }
        }
        Ok(())
    }
}

fn merge(mut files: Vec<FileEntry>) -> Vec<FileEntry> {
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files.dedup_by(|later, kept| {
        let same = later.path == kept.path;
        if same {
            kept.digests.append(&mut later.digests);
        }
        same
    });
    for file in &mut files {
        file.digests.sort_unstable();
        file.digests.dedup();
    }
    files
}

pub(crate) fn check_label(field: &'static str, label: &str) -> Result<(), Fault> {
    if label.is_empty() || label.len() > MAX_LABEL || label.chars().any(char::is_control) {
        return Err(Fault::BadLabel(field));
    }
    Ok(())
}

fn check_path(path: &BStr) -> Result<(), Fault> {
    let why = if path.len() > MAX_PATH {
        "is longer than 4096 bytes"
    } else if path.first() != Some(&b'/') {
        "is not absolute"
    } else if path.contains(&0) {
        "contains a NUL byte"
    } else {
        return Ok(());
    };
    Err(Fault::BadPath(path.to_owned(), why))
}

/// `*` and `?` stop at `/`, `**` does not; the glob must match the whole path.
pub(crate) fn compile_glob(glob: &str) -> Result<globset::Glob, Fault> {
    let bad = |why: String| Fault::BadGlob(glob.to_owned(), why);
    if glob.is_empty() || glob.len() > MAX_PATH {
        return Err(bad("must have 1 to 4096 bytes".to_owned()));
    }
    globset::GlobBuilder::new(glob)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .map_err(|error| bad(error.kind().to_string()))
}

/// Size of a TPM hash algorithm's digest, in bytes (TCG Algorithm Registry).
fn digest_size(alg: u16) -> Option<usize> {
    match alg {
        0x0004 => Some(20),
        0x000B => Some(32),
        0x000C => Some(48),
        0x000D => Some(64),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
