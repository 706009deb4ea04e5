//! A policy and manifests from files, without a store: for evidence in files.

use std::sync::Arc;

use super::catalog::ManifestInfo;
use super::{EffectivePolicy, ManifestRef, Policy, PolicyError};
use crate::ima_signature::Keyring;
use crate::manifest::{ReferenceValues, VerifiedManifest};

impl EffectivePolicy {
    /// What `policy` comes down to at `now` (Unix milliseconds), where these manifests are all that there are. Files
    /// count that one of `ima_keys` signed, as far as the policy allows it.
    pub fn of_files(
        policy: &Policy,
        manifests: &[VerifiedManifest],
        ima_keys: Option<&Keyring>,
        now: u64,
    ) -> Result<Self, PolicyError> {
        let live = |reference: &&ManifestRef| reference.expires.is_none_or(|end| now / 1000 < end);
        let allowed = |manifest: &&VerifiedManifest| {
            let info = ManifestInfo::from(*manifest);
            policy.manifests.is_empty()
                || policy
                    .manifests
                    .iter()
                    .filter(live)
                    .any(|r| info.is_meant_by(r))
        };
        let references = ReferenceValues::new(manifests.iter().filter(allowed))?;
        let mut effective = Self::new(&[policy], Arc::new(references), None);
        effective.allow_ima_keys(ima_keys);
        effective.set_id(&[], &[]);
        Ok(effective)
    }
}
