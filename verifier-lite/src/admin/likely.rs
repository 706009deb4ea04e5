//! What a deviation probably comes from: manifests that are stored, but that the device may not use.

use std::sync::Arc;

use mote_schemas::message::DeviceId;
use mote_schemas::reason::Reason;

use super::Office;
use crate::manifest::{FileDigest, ReferenceValues};
use crate::policy::EffectivePolicy;
use crate::store::{Deviation, StoreError};

/// Everything known, and what of it the device may use.
pub(super) struct Sources {
    everything: Option<Arc<ReferenceValues>>,
    policy: Arc<EffectivePolicy>,
}

impl Sources {
    /// For these deviations of a device. The files of all manifests are only looked at if they can tell
    /// something.
    pub(super) fn new(
        office: &Office<'_>,
        device: &DeviceId,
        now: u64,
        deviations: &[Deviation],
    ) -> Result<Self, StoreError> {
        let store = &*office.store;
        let policy = office.policies.for_device(store, device, now)?;
        let telling = deviations
            .iter()
            .any(|deviation| is_of_a_file(deviation) || is_of_a_buffer(deviation));
        let stored = office.policies.catalog(store)?.manifests().len();
        let everything = if telling && stored > policy.manifests().len() {
            Some(office.policies.everything(store)?)
        } else {
            None
        };
        Ok(Sources { everything, policy })
    }

    /// The likely cause, if the manifests tell one.
    pub(super) fn likely(&self, deviation: &Deviation) -> Option<String> {
        let everything = self.everything.as_ref()?;
        if !is_of_a_file(deviation) && !is_of_a_buffer(deviation) {
            return None;
        }
        let path = deviation.path.as_deref()?;
        let digest = FileDigest(deviation.measured.as_deref()?.try_into().ok()?);
        let allowed = self.policy.manifests();
        let elsewhere = |manifest: &str| !allowed.iter().any(|label| label == manifest);
        let same = || {
            everything
                .with_digest(&digest)
                .filter(|r| elsewhere(r.manifest))
        };
        let bound = self.bound();
        if is_of_a_buffer(deviation) {
            let mut others = everything
                .buffers()
                .iter()
                .filter(|b| elsewhere(&b.manifest));
            return others
                .find(|b| b.expectations.digests_of(path).contains(&digest))
                .map(|b| format!("this buffer belongs to manifest {}; {bound}", b.manifest));
        }
        if let Some(found) = same().find(|reference| reference.path == path) {
            return Some(format!(
                "this file belongs to manifest {}; {bound}",
                found.manifest
            ));
        }
        if let Some(found) = same().next() {
            return Some(format!(
                "this content is {} of manifest {}; {bound}",
                String::from_utf8_lossy(found.path),
                found.manifest
            ));
        }
        let mut at_path = everything.with_path(path).filter(|r| elsewhere(r.manifest));
        at_path.next().map(|found| {
            format!(
                "manifest {} has a file here too, but with other contents; {bound}",
                found.manifest
            )
        })
    }

    fn bound(&self) -> String {
        let manifests = match self.policy.manifests() {
            [] => "no manifest".to_owned(),
            some => format!("{} only", some.join(", ")),
        };
        match self.policy.labels() {
            [] => format!("the device is bound to {manifests}"),
            policies => format!(
                "the device is bound to {manifests} (policy {})",
                policies.join(", ")
            ),
        }
    }
}

fn is_of_a_file(deviation: &Deviation) -> bool {
    is_one_of(deviation, [Reason::FileUnknown, Reason::FileModified])
}

fn is_of_a_buffer(deviation: &Deviation) -> bool {
    is_one_of(deviation, [Reason::BufferUnknown, Reason::BufferModified])
}

fn is_one_of(deviation: &Deviation, reasons: [Reason; 2]) -> bool {
    let mut tokens = reasons.iter().map(|reason| reason.token());
    tokens.any(|token| token == deviation.reason)
}
