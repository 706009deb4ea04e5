//! The store's catalog, loaded once for each [`Store::generation`], and what it comes down to for
//! devices: a manifest's files are indexed once for each set of manifests that a policy allows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use log::warn;
use mote_schemas::message::DeviceId;

use super::catalog::{Catalog, ManifestInfo};
use super::effective::EffectivePolicy;
use super::{Policy, VerifiedPolicy};
use crate::hex;
use crate::known::KnownRecords;
use crate::manifest::{ManifestError, ReferenceValues};
use crate::store::{Store, StoreError};

/// Devices whose policy is found without their bindings.
const MAX_DEVICES: usize = 8192;

/// The catalog of the store's current generation, and what it comes down to for devices.
#[derive(Debug, Default)]
pub struct Policies(Mutex<Cache>);

#[derive(Debug, Default)]
struct Cache {
    catalog: Arc<Catalog>,
    loaded: bool,
    /// Of devices asked for since the last change, at most [`MAX_DEVICES`].
    by_device: HashMap<DeviceId, Arc<EffectivePolicy>>,
    /// By the names of the policies.
    effective: HashMap<Vec<String>, Arc<EffectivePolicy>>,
    /// By the digests of the manifests, in order.
    references: HashMap<Vec<[u8; 32]>, Arc<ReferenceValues>>,
    /// Of every manifest, since it was last asked for.
    known: Option<Arc<KnownRecords>>,
    known_is_current: bool,
}

impl Policies {
    /// What is stored now.
    pub fn catalog(&self, store: &dyn Store) -> Result<Arc<Catalog>, StoreError> {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cache.refresh(store)?;
        Ok(Arc::clone(&cache.catalog))
    }

    /// The policy of a device at `now`, Unix milliseconds.
    pub fn for_device(
        &self,
        store: &dyn Store,
        device: &DeviceId,
        now: u64,
    ) -> Result<Arc<EffectivePolicy>, StoreError> {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cache.refresh(store)?;
        let known = cache.by_device.get(device);
        if let Some(policy) = known.filter(|policy| policy.is_valid_at(now)) {
            return Ok(Arc::clone(policy));
        }
        let policy = cache.bound(store, device, now)?;
        if cache.by_device.len() >= MAX_DEVICES {
            cache.by_device.clear();
        }
        cache.by_device.insert(*device, Arc::clone(&policy));
        Ok(policy)
    }

    /// What these policies come down to at `now`, bound or not.
    pub fn of(
        &self,
        store: &dyn Store,
        policies: &[&VerifiedPolicy],
        now: u64,
    ) -> Result<EffectivePolicy, StoreError> {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cache.refresh(store)?;
        cache.effective(store, policies, now)
    }

    /// What an unsigned policy would come down to at `now`. Only for trying out.
    pub fn if_it_were(
        &self,
        store: &dyn Store,
        policy: &Policy,
        now: u64,
    ) -> Result<EffectivePolicy, StoreError> {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cache.refresh(store)?;
        cache.build(store, &[policy], &[], now)
    }

    /// The files of every stored manifest, whoever may use them.
    pub fn everything(&self, store: &dyn Store) -> Result<Arc<ReferenceValues>, StoreError> {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cache.refresh(store)?;
        let all = cache.everything();
        cache.references(store, all)
    }

    /// The records that the stored manifests imply, whoever may use them: what a device may name
    /// instead of sending it. Only saves bytes; a device's own policy judges what it turns out to be.
    pub fn known_records(&self, store: &dyn Store) -> Result<Arc<KnownRecords>, StoreError> {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cache.refresh(store)?;
        cache.known_records(store)
    }
}

impl Cache {
    fn refresh(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        if self.loaded && self.catalog.generation() == store.generation()? {
            return Ok(());
        }
        self.catalog = Arc::new(Catalog::load(store, &self.catalog)?);
        for problem in self.catalog.problems() {
            warn!("not believed: {problem}");
        }
        // Not used since the last change: not needed.
        self.references
            .retain(|_, values| Arc::strong_count(values) > 1);
        self.effective.clear();
        self.by_device.clear();
        self.known_is_current = false;
        self.loaded = true;
        Ok(())
    }

    /// What the policies that this device is bound to come down to at `now`.
    fn bound(
        &mut self,
        store: &dyn Store,
        device: &DeviceId,
        now: u64,
    ) -> Result<Arc<EffectivePolicy>, StoreError> {
        let names = self.catalog.bound_to(device);
        let known = self.effective.get(&names);
        if let Some(policy) = known.filter(|policy| policy.is_valid_at(now)) {
            return Ok(Arc::clone(policy));
        }
        let catalog = Arc::clone(&self.catalog);
        let found: Vec<_> = names.iter().map(|name| catalog.policy(name)).collect();
        let all_there = found.iter().all(Option::is_some);
        let policies: Vec<_> = found.into_iter().flatten().map(Arc::as_ref).collect();
        let mut effective = self.effective(store, &policies, now)?;
        if !all_there {
            // Bound to something that is not believed any more: then nothing is.
            effective.allow_nothing();
        }
        let effective = Arc::new(effective);
        self.effective.insert(names, Arc::clone(&effective));
        Ok(effective)
    }

    fn everything(&self) -> Vec<[u8; 32]> {
        let all = self.catalog.manifests().iter();
        all.map(|info| info.digest).collect()
    }

    fn known_records(&mut self, store: &dyn Store) -> Result<Arc<KnownRecords>, StoreError> {
        if let Some(known) = self.known.as_ref().filter(|_| self.known_is_current) {
            return Ok(Arc::clone(known));
        }
        let references = match self.index(store, self.everything())? {
            Ok(references) => references,
            Err(error) => {
                warn!("devices send every record in full: all stored manifests together: {error}");
                self.references(store, Vec::new())?
            }
        };
        let known = match self.known.take() {
            // A binding or a label has changed, no manifest.
            Some(known) if known.is_of(&references) => known,
            _ => Arc::new(KnownRecords::new(references)),
        };
        // Those of the manifests before may have had no other use.
        self.references
            .retain(|_, values| Arc::strong_count(values) > 1);
        self.known_is_current = true;
        Ok(Arc::clone(self.known.insert(known)))
    }

    fn effective(
        &mut self,
        store: &dyn Store,
        policies: &[&VerifiedPolicy],
        now: u64,
    ) -> Result<EffectivePolicy, StoreError> {
        let digests: Vec<_> = policies.iter().map(|policy| policy.digest()).collect();
        let policies: Vec<_> = policies.iter().map(|policy| policy.policy()).collect();
        self.build(store, &policies, &digests, now)
    }

    fn build(
        &mut self,
        store: &dyn Store,
        policies: &[&Policy],
        digests: &[[u8; 32]],
        now: u64,
    ) -> Result<EffectivePolicy, StoreError> {
        let catalog = Arc::clone(&self.catalog);
        let default = Policy::default();
        let policies = if policies.is_empty() {
            &[&default][..]
        } else {
            policies
        };
        let mut manifests: Vec<&ManifestInfo> = Vec::new();
        let mut valid_until: Option<u64> = None;
        for policy in policies {
            let (allowed, change) = catalog.allowed(policy, now / 1000);
            manifests.extend(allowed);
            valid_until = valid_until.into_iter().chain(change).min();
        }
        manifests
            .sort_by(|a, b| (&a.name, &a.version, a.digest).cmp(&(&b.name, &b.version, b.digest)));
        manifests.dedup();
        let of_manifests: Vec<_> = manifests.iter().map(|info| info.digest).collect();
        let references = self.references(store, of_manifests.clone())?;
        let until = valid_until.map(|seconds| seconds.saturating_mul(1000));
        let mut effective = EffectivePolicy::new(policies, references, until);
        effective.allow_ima_keys(catalog.ima_keys());
        effective.set_id(digests, &of_manifests);
        Ok(effective)
    }

    fn references(
        &mut self,
        store: &dyn Store,
        digests: Vec<[u8; 32]>,
    ) -> Result<Arc<ReferenceValues>, StoreError> {
        let values = self.index(store, digests)?;
        values.map_err(|error| StoreError::Database(format!("stored manifests: {error}")))
    }

    fn index(
        &mut self,
        store: &dyn Store,
        digests: Vec<[u8; 32]>,
    ) -> Result<Result<Arc<ReferenceValues>, ManifestError>, StoreError> {
        if let Some(known) = self.references.get(&digests) {
            return Ok(Ok(Arc::clone(known)));
        }
        let mut manifests = Vec::new();
        for digest in &digests {
            match self.catalog.manifest(store, &hex::encode(digest))? {
                Ok(manifest) => manifests.push(manifest),
                Err(error) => warn!("not believed: manifest {}: {error}", hex::encode(digest)),
            }
        }
        Ok(ReferenceValues::new(&manifests).map(|values| {
            let values = Arc::new(values);
            self.references.insert(digests, Arc::clone(&values));
            values
        }))
    }
}
