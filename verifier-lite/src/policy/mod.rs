//! Appraisal policies (RFC 9334, 8.5): what an operator allows on which devices.
//!
//! ```text
//! source (JSON) -> Policy -> sign -> file -> VerifiedPolicy -> store -> EffectivePolicy of a device
//! ```
//!
//! | module | what |
//! |---|---|
//! | `source` | the JSON that people write |
//! | `codec` | deterministic CBOR, `cbor-schemas/cddl/policy.cddl` |
//! | `signed` | the `COSE_Sign1` around it |
//! | `weight` | which reasons a policy may weigh |
//! | `catalog` | keys, manifests, policies, bindings and labels, as they are stored |
//! | `cache` | that, loaded and indexed once for each generation of the store |
//! | `effective` | what all of that comes down to for one device |
//! | `offline` | the same from files, without a store |
//! | `settle` | from an appraisal to a verdict under a policy |
//! | [`reappraise`] | the same for what is stored already |
//! | `sweep` | that, for every device |
//!
//! **Who may lie**: whoever hands over a file, until the signature of a key that the operator trusts has
//! been checked. It is checked again whenever the store is read: nothing is believed because it was
//! stored.

use std::collections::BTreeMap;

use mote_schemas::message::Tier;
use mote_schemas::reason::Reason;

use crate::manifest::{Fault, MAX_EXCLUSIONS, ManifestError, check_label, compile_glob};

mod cache;
mod catalog;
mod codec;
mod effective;
mod offline;
pub mod reappraise;
mod settle;
mod signed;
mod source;
mod sweep;
mod weight;

pub use cache::Policies;
pub use catalog::{
    Catalog, ManifestInfo, Target, TrustedKey, Uses, binding_bytes, device_target, ima_keys_bytes,
    labels_bytes, policy_object_name, trust_and_add,
};
pub use effective::{DEFAULT_STALE_AFTER, EffectivePolicy, Rules};
pub(crate) use settle::weigh;
pub use settle::{Settled, settle};
pub use signed::{SignedPolicy, VerifiedPolicy, sign};
pub use source::{from_json, to_json};
pub use sweep::{Sweep, Swept};
pub use weight::{is_weighable, reason_is_of_content};

/// Why a policy was refused: file, offset and fault, as of a manifest.
pub type PolicyError = ManifestError;

/// Largest policy file, in bytes: [`MAX_EXCLUSIONS`] globs of 100 bytes, and room.
pub const MAX_POLICY: usize = 1024 * 1024;

/// Most manifests, keys or reasons that one policy names.
pub const MAX_NAMED: usize = 1024;

/// Whether a verdict counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// No verdict is worse than a warning: to see what enforcing would do. A log that the TPM does
    /// not vouch for stays contraindicated.
    Monitor,
    /// It does.
    #[default]
    Enforce,
}

/// Which manifests: one, or all versions of a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// By name, and version if one is given.
    Name(String, Option<String>),
    /// By the SHA-256 of the manifest's file.
    Digest([u8; 32]),
}

/// A manifest that a policy allows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ManifestRef {
    /// Which.
    pub which: Which,
    /// Not any more from this time on, Unix seconds: the old image of an update.
    pub expires: Option<u64>,
}

/// A policy. Says nothing about who vouches for it: see [`VerifiedPolicy`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Its version, from 1.
    pub version: u64,
    /// Whether verdicts count.
    pub mode: Mode,
    /// Allowed manifests; empty: every stored one.
    pub manifests: Vec<ManifestRef>,
    /// Globs of paths that are not judged.
    pub exclusions: Vec<String>,
    /// Ids of keys whose IMA signatures vouch for a file.
    pub ima_keys: Vec<Vec<u8>>,
    /// PCR banks (`TPM_ALG_ID`), one of which must vouch for the log; empty: any.
    pub banks: Vec<u16>,
    /// Hash algorithms (`TPM_ALG_ID`) of file digests; empty: any.
    pub digests: Vec<u16>,
    /// Seconds after the last quote until a result is stale.
    pub stale_after: Option<u32>,
    /// Least strength of the attestation key, in bits (NIST SP 800-57 part 1, table 2).
    pub min_key_strength: Option<u16>,
    /// What reasons weigh here, where it is not what they weigh by themselves. [`Tier::None`]: nothing.
    pub weights: BTreeMap<String, Tier>,
}

/// Hash algorithms that a policy can name: TPM's id, and the kernel's name.
pub const HASHES: [(u16, &str); 4] = [
    (0x0004, "sha1"),
    (0x000B, "sha256"),
    (0x000C, "sha384"),
    (0x000D, "sha512"),
];

impl Policy {
    /// Brings it into canonical order, and checks what the encoding cannot say.
    pub fn checked(mut self) -> Result<Self, PolicyError> {
        sorted(&mut self.manifests);
        sorted(&mut self.exclusions);
        sorted(&mut self.ima_keys);
        sorted(&mut self.banks);
        sorted(&mut self.digests);
        self.check()?;
        Ok(self)
    }

    /// `name@version`.
    pub fn label(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    fn check(&self) -> Result<(), PolicyError> {
        check_label("name", &self.name)?;
        if self.name.contains(['@', '/']) {
            return Err(Fault::BadPolicy("a policy's name has no @ and no /").into());
        }
        if self.version == 0 {
            return Err(Fault::BadPolicy("versions begin with 1").into());
        }
        if self.exclusions.len() > MAX_EXCLUSIONS {
            return Err(Fault::TooMany("exclusions").into());
        }
        for glob in &self.exclusions {
            compile_glob(glob)?;
        }
        let most = [
            self.manifests.len(),
            self.ima_keys.len(),
            self.weights.len(),
        ];
        if most.iter().any(|count| *count > MAX_NAMED) {
            return Err(Fault::TooMany("manifests, keys or reasons").into());
        }
        for manifest in &self.manifests {
            if let Which::Name(name, version) = &manifest.which {
                check_label("name of a manifest", name)?;
                version
                    .as_ref()
                    .map_or(Ok(()), |v| check_label("version of a manifest", v))?;
            }
        }
        if self.ima_keys.iter().any(|id| !(4..=32).contains(&id.len())) {
            return Err(Fault::BadPolicy("an IMA key id has 4 to 32 bytes").into());
        }
        let known = |alg: &u16| HASHES.iter().any(|(id, _)| id == alg);
        if let Some(alg) = self.banks.iter().chain(&self.digests).find(|a| !known(a)) {
            return Err(Fault::UnsupportedHash(i64::from(*alg)).into());
        }
        if self.stale_after == Some(0) {
            return Err(
                Fault::BadPolicy("a result is stale after 1 second at the earliest").into(),
            );
        }
        if self
            .min_key_strength
            .is_some_and(|bits| !(1..=256).contains(&bits))
        {
            return Err(Fault::BadPolicy("a key's strength is 1 to 256 bits").into());
        }
        for (token, weight) in &self.weights {
            let bad = |why| PolicyError::from(Fault::BadWeight(token.clone(), why));
            let reason = Reason::from_token(token).ok_or_else(|| bad("no such reason"))?;
            if !is_weighable(reason) {
                return Err(bad("is not for a policy to weigh"));
            }
            if *weight == Tier::Affirming {
                return Err(bad("weighs nothing, a warning, or contraindicates"));
            }
        }
        Ok(())
    }
}

fn sorted<T: Ord>(values: &mut Vec<T>) {
    values.sort_unstable();
    values.dedup();
}

#[cfg(test)]
mod tests;
