//! Keys, manifests, policies, bindings and labels, as they are stored, and which policy a device has.
//!
//! Everything signed is verified with the stored keys whenever it is loaded.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use minicbor::{Decode, Encode};
use mote_schemas::message::DeviceId;

use super::{ManifestRef, Policy, PolicyError, SignedPolicy, VerifiedPolicy, Which};
use crate::hex;
use crate::ima_signature::{FileKey, Keyring};
use crate::manifest::{SignedManifest, VerifiedManifest};
use crate::signing_key::PublicKey;
use crate::store::{Change, ObjectKind, Store, StoreError};

/// What a trusted key may sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Uses {
    /// Manifests: reference values.
    #[n(0)]
    pub manifests: bool,
    /// Policies: what is allowed.
    #[n(1)]
    pub policies: bool,
}

/// A key whose signatures the operator trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedKey {
    /// The key.
    pub key: PublicKey,
    /// For what.
    pub uses: Uses,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct StoredKey {
    #[cbor(n(0), with = "minicbor::bytes")]
    point: Vec<u8>,
    #[n(1)]
    uses: Uses,
}

impl TrustedKey {
    /// As it is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(&StoredKey {
            point: self.key.point().to_vec(),
            uses: self.uses,
        })
    }
}

/// Whom a policy is bound to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Every device that nothing closer is bound to.
    All,
    /// Devices with this label.
    Group(String),
    /// One device.
    Device(DeviceId),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::All => f.write_str("all"),
            Target::Group(label) => write!(f, "group:{label}"),
            Target::Device(id) => f.write_str(&device_target(id)),
        }
    }
}

impl Target {
    /// From what [`fmt::Display`] makes of it.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "all" {
            return Some(Target::All);
        }
        if let Some(label) = text.strip_prefix("group:") {
            return (!label.is_empty()).then(|| Target::Group(label.to_owned()));
        }
        let id = hex::decode(text.strip_prefix("device:")?)?;
        Some(Target::Device(DeviceId(id.try_into().ok()?)))
    }
}

/// Name of the binding of one device.
pub fn device_target(id: &DeviceId) -> String {
    format!("device:{id}")
}

/// Names of policies, as a binding is stored.
pub fn binding_bytes(policies: &[String]) -> Vec<u8> {
    to_bytes(&policies.to_vec())
}

/// Labels, as they are stored.
pub fn labels_bytes(labels: &[String]) -> Vec<u8> {
    to_bytes(&labels.to_vec())
}

fn to_bytes<T: Encode<()>>(value: &T) -> Vec<u8> {
    match minicbor::to_vec(value) {
        Ok(bytes) => bytes,
        // Writing to a Vec cannot fail, and nothing here reports a custom error.
        Err(error) => unreachable!("{error}"),
    }
}

/// Stores a manifest, and trust in the key that signed it for manifests.
pub fn trust_and_add(key: &PublicKey, manifest: Vec<u8>) -> Result<[Change; 2], PolicyError> {
    let signed = SignedManifest::parse(&manifest)?;
    let verified = signed.verify(std::slice::from_ref(key))?;
    let uses = Uses {
        manifests: true,
        policies: false,
    };
    let id = hex::encode(&key.key_id());
    let key = key.clone();
    let name = hex::encode(&verified.digest());
    Ok([
        Change::PutObject(ObjectKind::Key, id, TrustedKey { key, uses }.to_bytes()),
        Change::PutObject(ObjectKind::Manifest, name, manifest),
    ])
}

/// Name of the stored object of a policy. Versions sort by number.
pub fn policy_object_name(policy: &Policy) -> String {
    format!("{}@{:020}", policy.name, policy.version)
}

/// A stored manifest, less its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestInfo {
    /// Name of the image.
    pub name: String,
    /// Version of the image.
    pub version: String,
    /// SHA-256 of its file.
    pub digest: [u8; 32],
    /// Who signed it.
    pub key_id: [u8; 8],
    /// Number of files.
    pub files: usize,
}

impl From<&VerifiedManifest> for ManifestInfo {
    fn from(verified: &VerifiedManifest) -> Self {
        ManifestInfo {
            name: verified.manifest().name().to_owned(),
            version: verified.manifest().version().to_owned(),
            digest: verified.digest(),
            key_id: verified.key_id(),
            files: verified.manifest().files().len(),
        }
    }
}

impl ManifestInfo {
    /// `name-version`.
    pub fn label(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }

    pub(super) fn is_meant_by(&self, reference: &ManifestRef) -> bool {
        match &reference.which {
            Which::Digest(digest) => self.digest == *digest,
            Which::Name(name, version) => {
                self.name == *name && version.as_ref().is_none_or(|v| self.version == *v)
            }
        }
    }
}

/// Everything the operator has stored, of one generation.
#[derive(Debug, Default)]
pub struct Catalog {
    generation: u64,
    keys: Vec<TrustedKey>,
    manifests: Vec<ManifestInfo>,
    policies: BTreeMap<String, BTreeMap<u64, Arc<VerifiedPolicy>>>,
    bindings: BTreeMap<String, Vec<String>>,
    labels: BTreeMap<String, Vec<String>>,
    ima_keys: Option<Keyring>,
    problems: Vec<String>,
}

/// Keys whose IMA signatures count, as they are stored.
#[derive(Encode, Decode)]
#[cbor(map)]
struct StoredImaKeys {
    #[n(0)]
    ders: Vec<minicbor::bytes::ByteVec>,
    #[n(1)]
    learn_from: Vec<String>,
}

/// The keys of a keyring and the kernel keyrings that it learns from, as they are stored.
pub fn ima_keys_bytes(keys: &Keyring, learn_from: &[String]) -> Vec<u8> {
    let ders = keys.all().iter().map(|key| key.der().to_vec().into());
    to_bytes(&StoredImaKeys {
        ders: ders.collect(),
        learn_from: learn_from.to_vec(),
    })
}

impl Catalog {
    /// Everything that is stored. What does not verify is left out, and named in
    /// [`Catalog::problems`]. `before` saves verifying the same manifests again.
    pub fn load(store: &dyn Store, before: &Catalog) -> Result<Self, StoreError> {
        let mut catalog = Catalog {
            generation: store.generation()?,
            ..Catalog::default()
        };
        for name in store.object_names(ObjectKind::Key)? {
            let stored: StoredKey = decode(store, ObjectKind::Key, "keys", &name)?;
            match PublicKey::from_point(&stored.point) {
                Ok(key) => catalog.keys.push(TrustedKey {
                    key,
                    uses: stored.uses,
                }),
                Err(error) => catalog.problems.push(format!("key {name}: {error}")),
            }
        }
        for name in store.object_names(ObjectKind::Manifest)? {
            catalog.load_manifest(store, before, &name)?;
        }
        catalog
            .manifests
            .sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        for name in store.object_names(ObjectKind::Policy)? {
            let bytes = store.object(ObjectKind::Policy, &name)?.unwrap_or_default();
            match SignedPolicy::parse(&bytes).and_then(|p| p.verify(catalog.policy_keys())) {
                Ok(verified) => {
                    let policy = verified.policy();
                    let (name, version) = (policy.name.clone(), policy.version);
                    let versions = catalog.policies.entry(name).or_default();
                    versions.insert(version, Arc::new(verified));
                }
                Err(error) => catalog.problems.push(format!("policy {name}: {error}")),
            }
        }
        for name in store.object_names(ObjectKind::ImaKeys)? {
            let stored: StoredImaKeys = decode(store, ObjectKind::ImaKeys, "IMA keys", &name)?;
            let mut keyring = Keyring::default();
            for der in &stored.ders {
                match FileKey::from_der(der) {
                    Ok(key) => keyring.add(key),
                    Err(error) => catalog.problems.push(format!("IMA key: {error}")),
                }
            }
            for kernel_keyring in &stored.learn_from {
                keyring.learn_from(kernel_keyring);
            }
            catalog.ima_keys = Some(keyring);
        }
        for name in store.object_names(ObjectKind::Binding)? {
            let policies = decode(store, ObjectKind::Binding, "bindings", &name)?;
            catalog.bindings.insert(name, policies);
        }
        for name in store.object_names(ObjectKind::Labels)? {
            let labels = decode(store, ObjectKind::Labels, "labels", &name)?;
            catalog.labels.insert(name, labels);
        }
        Ok(catalog)
    }

    fn load_manifest(
        &mut self,
        store: &dyn Store,
        before: &Catalog,
        name: &str,
    ) -> Result<(), StoreError> {
        let known = before
            .manifests
            .iter()
            .find(|info| before.keys == self.keys && hex::encode(&info.digest) == name);
        if let Some(info) = known {
            self.manifests.push(info.clone());
            return Ok(());
        }
        match self.manifest(store, name)? {
            Ok(verified) => self.manifests.push(ManifestInfo::from(&verified)),
            Err(error) => self.problems.push(format!("manifest {name}: {error}")),
        }
        Ok(())
    }

    /// A stored manifest with its files, by the digest of its file in hex.
    pub fn manifest(
        &self,
        store: &dyn Store,
        digest: &str,
    ) -> Result<Result<VerifiedManifest, PolicyError>, StoreError> {
        let bytes = store
            .object(ObjectKind::Manifest, digest)?
            .unwrap_or_default();
        let keys: Vec<_> = self.manifest_keys().cloned().collect();
        Ok(SignedManifest::parse(&bytes).and_then(|signed| signed.verify(&keys)))
    }

    /// The generation of the store that this is.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Every trusted key.
    pub fn keys(&self) -> &[TrustedKey] {
        &self.keys
    }

    /// The keys that may sign manifests.
    pub fn manifest_keys(&self) -> impl Iterator<Item = &PublicKey> {
        let keys = self.keys.iter().filter(|key| key.uses.manifests);
        keys.map(|key| &key.key)
    }

    /// The keys that may sign policies.
    pub fn policy_keys(&self) -> impl Iterator<Item = &PublicKey> {
        let keys = self.keys.iter().filter(|key| key.uses.policies);
        keys.map(|key| &key.key)
    }

    /// Every manifest, by name and version.
    pub fn manifests(&self) -> &[ManifestInfo] {
        &self.manifests
    }

    /// Every policy and version of it, in order.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<VerifiedPolicy>> {
        self.policies.values().flat_map(BTreeMap::values)
    }

    /// The policy in force under this name: the highest version.
    pub fn policy(&self, name: &str) -> Option<&Arc<VerifiedPolicy>> {
        self.policies.get(name)?.values().next_back()
    }

    /// This version of a policy.
    pub fn policy_version(&self, name: &str, version: u64) -> Option<&Arc<VerifiedPolicy>> {
        self.policies.get(name)?.get(&version)
    }

    /// Every binding: whom, as [`Target`] displays, and which policies.
    pub fn bindings(&self) -> &BTreeMap<String, Vec<String>> {
        &self.bindings
    }

    /// The labels of a device.
    pub fn labels(&self, device: &DeviceId) -> &[String] {
        self.labels
            .get(&device.to_string())
            .map_or(&[], Vec::as_slice)
    }

    /// The keys whose IMA signatures count, if any are stored.
    pub(super) fn ima_keys(&self) -> Option<&Keyring> {
        self.ima_keys.as_ref()
    }

    /// What is stored and not believed, in words.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Names of the policies that a device has: those bound to it, or else to any of its labels, or else
    /// to all. None: the default policy, which allows every manifest.
    pub fn bound_to(&self, device: &DeviceId) -> Vec<String> {
        let of = |target: &Target| self.bindings.get(&target.to_string()).into_iter().flatten();
        let mut names: Vec<String> = of(&Target::Device(*device)).cloned().collect();
        if names.is_empty() {
            let labels = self.labels(device).iter();
            names = labels
                .flat_map(|label| of(&Target::Group(label.clone())))
                .cloned()
                .collect();
        }
        if names.is_empty() {
            names = of(&Target::All).cloned().collect();
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The manifests that a policy allows at `now` (Unix seconds), and when that changes next.
    pub(super) fn allowed(&self, policy: &Policy, now: u64) -> (Vec<&ManifestInfo>, Option<u64>) {
        if policy.manifests.is_empty() {
            return (self.manifests.iter().collect(), None);
        }
        let live = |reference: &&ManifestRef| reference.expires.is_none_or(|end| now < end);
        let live = policy.manifests.iter().filter(live);
        let change = live.clone().filter_map(|reference| reference.expires).min();
        let live: Vec<_> = live.collect();
        let means = |info: &&ManifestInfo| live.iter().any(|r| info.is_meant_by(r));
        (self.manifests.iter().filter(means).collect(), change)
    }
}

fn decode<T: for<'b> Decode<'b, ()>>(
    store: &dyn Store,
    kind: ObjectKind,
    table: &'static str,
    name: &str,
) -> Result<T, StoreError> {
    let bytes = store.object(kind, name)?.unwrap_or_default();
    minicbor::decode(&bytes)
        .map_err(|error| StoreError::BadEntry(table, name.to_owned(), error.to_string()))
}
