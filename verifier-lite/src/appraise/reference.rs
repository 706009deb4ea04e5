//! Where appraisal looks up what is allowed: one manifest or several.

use mote_schemas::tpm::{Digest, HashAlg};

use crate::ima_signature::ImaKeyring;
use crate::manifest;

/// What is allowed on a device. Paths are in the kernel's spelling, which has an underscore for every
/// space.
pub trait ReferenceLookup {
    /// Whether a file with this digest belongs at this path.
    fn allows(&self, path: &[u8], digest: &Digest) -> bool;

    /// What belongs at this path.
    fn with_path(&self, path: &[u8]) -> Vec<KnownFile>;

    /// Where this content belongs.
    fn with_digest(&self, digest: &Digest) -> Vec<KnownFile>;

    /// Whether what is measured at this path does not matter. Never excuses it from the replay.
    fn is_excluded(&self, path: &[u8]) -> bool;

    /// What is expected of the boot, one entry for each image version that may run. Empty: nothing.
    fn boot(&self) -> &[manifest::BootReference] {
        &[]
    }

    /// What manifests say about measured buffers.
    fn buffers(&self) -> &[manifest::BufferReference] {
        &[]
    }

    /// Whether digests of this algorithm count.
    fn admits(&self, _: HashAlg) -> bool {
        true
    }

    /// The keys whose signature accounts for a file that is not listed. `None`: signatures are not looked
    /// at.
    fn ima_keyring(&self) -> Option<&dyn ImaKeyring> {
        None
    }
}

/// A file that reference values know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownFile {
    /// Its path.
    pub path: Vec<u8>,
    /// Its digest.
    pub digest: Digest,
    /// Who says so: `name-version` of a manifest.
    pub manifest: String,
}

impl From<manifest::Reference<'_>> for KnownFile {
    fn from(reference: manifest::Reference<'_>) -> Self {
        KnownFile::new(reference.path, &reference.digest, reference.manifest)
    }
}

impl KnownFile {
    pub(super) fn new(path: &[u8], digest: &manifest::FileDigest, manifest: &str) -> Self {
        // The manifest's digests are SHA-256, so the length is right.
        let known = Digest::new(HashAlg::Sha256, &digest.0);
        KnownFile {
            path: path.to_vec(),
            digest: known.unwrap_or_else(|| Digest::zero(HashAlg::Sha256)),
            manifest: manifest.to_owned(),
        }
    }
}

/// The digest as manifests have it: SHA-256 alone.
pub(super) fn sha256(digest: &Digest) -> Option<manifest::FileDigest> {
    match digest.alg() {
        HashAlg::Sha256 => digest.as_bytes().try_into().ok().map(manifest::FileDigest),
        _ => None,
    }
}

impl ReferenceLookup for manifest::ReferenceValues {
    fn allows(&self, path: &[u8], digest: &Digest) -> bool {
        sha256(digest)
            .is_some_and(|digest| matches!(self.check(path, &digest), manifest::Match::Known(_)))
    }

    fn with_path(&self, path: &[u8]) -> Vec<KnownFile> {
        self.with_path(path).map(KnownFile::from).collect()
    }

    fn with_digest(&self, digest: &Digest) -> Vec<KnownFile> {
        sha256(digest).map_or_else(Vec::new, |digest| {
            self.with_digest(&digest).map(KnownFile::from).collect()
        })
    }

    fn is_excluded(&self, path: &[u8]) -> bool {
        self.excluded_by(path).is_some()
    }

    fn boot(&self) -> &[manifest::BootReference] {
        self.boot()
    }

    fn buffers(&self) -> &[manifest::BufferReference] {
        self.buffers()
    }

    fn ima_keyring(&self) -> Option<&dyn ImaKeyring> {
        self.ima_keys().map(|keyring| keyring as &dyn ImaKeyring)
    }
}
