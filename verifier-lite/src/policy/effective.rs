//! What policies and manifests come down to for one device.
//!
//! Several policies bound at the same level add up: what any of them allows is allowed, what any of them
//! demands is demanded, and the heaviest weight counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use mote_schemas::message::Tier;
use mote_schemas::reason::{Reason, Severity};
use mote_schemas::tpm::{Digest, HashAlg};

use super::{Mode, Policy};
use crate::appraise::{KnownFile, ReferenceLookup};
use crate::ima_signature::{FileKey, ImaKeyring, Keyring, SignerId};
use crate::manifest::{
    BootReference, BufferReference, Exclusion, FirmwareReference, ReferenceValues,
};

/// Seconds until a result is stale, where no policy says otherwise: a day. Devices that sleep longer
/// have a policy that says so.
pub const DEFAULT_STALE_AFTER: u32 = 86_400;

/// Everything of a policy but its reference values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Whether verdicts count.
    pub mode: Mode,
    /// Ids of keys whose IMA signatures vouch for a file.
    pub ima_keys: Vec<Vec<u8>>,
    /// PCR banks, one of which must vouch for the log; empty: any.
    pub banks: Vec<u16>,
    /// Hash algorithms of file digests; empty: any.
    pub digests: Vec<u16>,
    /// Seconds after the last quote until a result is stale.
    pub stale_after: u32,
    /// Least strength of the attestation key, in bits.
    pub min_key_strength: u16,
    weights: BTreeMap<Reason, Tier>,
}

impl Rules {
    fn of(policies: &[&Policy]) -> Self {
        let mut rules = Rules {
            mode: Mode::Monitor,
            ..Rules::default()
        };
        let mut stale_after = None;
        let mut weights: BTreeMap<Reason, Vec<Tier>> = BTreeMap::new();
        for policy in policies {
            rules.mode = rules.mode.max(policy.mode);
            rules.ima_keys.extend_from_slice(&policy.ima_keys);
            let strength = policy.min_key_strength.unwrap_or(0);
            rules.min_key_strength = rules.min_key_strength.max(strength);
            stale_after = stale_after.into_iter().chain(policy.stale_after).min();
            for (token, weight) in &policy.weights {
                if let Some(reason) = Reason::from_token(token) {
                    weights.entry(reason).or_default().push(*weight);
                }
            }
        }
        rules.stale_after = stale_after.unwrap_or(DEFAULT_STALE_AFTER);
        rules.ima_keys.sort_unstable();
        rules.ima_keys.dedup();
        // One that names no algorithm allows them all.
        let union = |of: fn(&Policy) -> &Vec<u16>| -> Vec<u16> {
            if policies.iter().any(|policy| of(policy).is_empty()) {
                return Vec::new();
            }
            policies
                .iter()
                .flat_map(|policy| of(policy))
                .copied()
                .collect()
        };
        rules.banks = union(|policy| &policy.banks);
        rules.digests = union(|policy| &policy.digests);
        for (reason, mut given) in weights {
            // A policy that does not weigh it leaves it as it is.
            if given.len() < policies.len() {
                given.push(own_weight(reason));
            }
            if let Some(heaviest) = given.into_iter().max() {
                rules.weights.insert(reason, heaviest);
            }
        }
        rules
    }
}

/// What a reason weighs by itself.
fn own_weight(reason: Reason) -> Tier {
    match reason.severity() {
        Severity::Pending | Severity::Refused => Tier::None,
        Severity::Warning => Tier::Warning,
        Severity::Contraindicated => Tier::Contraindicated,
    }
}

/// The policy of one device: where its appraisal looks things up, and what the findings weigh.
#[derive(Clone, Debug)]
pub struct EffectivePolicy {
    id: [u8; 32],
    labels: Vec<String>,
    references: Arc<ReferenceValues>,
    exclusion: Option<Exclusion>,
    rules: Rules,
    valid_until: Option<u64>,
    nothing: bool,
    signers: Option<Signers>,
}

/// Keys whose signature accounts for a file: those stored, of which a policy may name some.
#[derive(Clone, Debug)]
struct Signers {
    keys: Keyring,
    /// Ids of those allowed; empty: all, and those that are learned.
    allowed: Vec<Vec<u8>>,
}

impl ImaKeyring for Signers {
    fn keys(&self, signer: &SignerId) -> Vec<&FileKey> {
        let mut keys = self.keys.keys(signer);
        keys.retain(|key| self.allowed.is_empty() || self.allowed.iter().any(|id| key.has_id(id)));
        keys
    }

    fn learns_from(&self, kernel_keyring: &[u8]) -> bool {
        self.allowed.is_empty() && self.keys.learns_from(kernel_keyring)
    }
}

impl EffectivePolicy {
    pub(super) fn new(
        policies: &[&Policy],
        references: Arc<ReferenceValues>,
        valid_until: Option<u64>,
    ) -> Self {
        let globs: Vec<String> = policies
            .iter()
            .flat_map(|policy| policy.exclusions.iter().cloned())
            .collect();
        let named = policies.iter().filter(|policy| !policy.name.is_empty());
        Self {
            id: [0; 32],
            labels: named.map(|policy| policy.label()).collect(),
            references,
            // Each glob was compiled when its policy was checked; together they could still be too
            // many for one automaton, and then nothing is excluded.
            exclusion: Exclusion::new(&globs).ok(),
            rules: Rules::of(policies),
            valid_until,
            nothing: false,
            signers: None,
        }
    }

    /// A policy without a name that allows exactly these: for appraisals outside a store.
    pub fn allowing(references: ReferenceValues) -> Self {
        let mut policy = Self::new(&[&Policy::default()], Arc::new(references), None);
        policy.set_id(&[], &[]);
        policy
    }

    /// Lets files count that one of these keys signed, as far as the policies allow it.
    pub(super) fn allow_ima_keys(&mut self, keys: Option<&Keyring>) {
        self.signers = keys.map(|keys| Signers {
            keys: keys.clone(),
            allowed: self.rules.ima_keys.clone(),
        });
    }

    pub(super) fn set_id(&mut self, policies: &[[u8; 32]], manifests: &[[u8; 32]]) {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"mote/1 effective policy");
        for part in [policies, manifests] {
            context.update(&(part.len() as u64).to_be_bytes());
            for digest in part {
                context.update(digest);
            }
        }
        for key in self.signers.iter().flat_map(|signers| signers.keys.all()) {
            context.update(digest::digest(&digest::SHA256, key.der()).as_ref());
        }
        self.id.copy_from_slice(context.finish().as_ref());
    }

    pub(super) fn allow_nothing(&mut self) {
        self.nothing = true;
        self.id = [0; 32];
    }

    pub(super) fn is_valid_at(&self, now: u64) -> bool {
        self.valid_until.is_none_or(|until| now < until)
    }

    /// Which policies and manifests: two with the same id judge alike.
    pub fn id(&self) -> &[u8; 32] {
        &self.id
    }

    /// `name@version` of each policy; empty: the default policy.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// `name-version` of each manifest that it allows.
    pub fn manifests(&self) -> &[String] {
        if self.nothing {
            return &[];
        }
        self.references.manifests()
    }

    /// Whether a manifest says which files may run: then a device has to measure some.
    pub fn expects_files(&self) -> bool {
        !self.nothing && !self.references.is_empty()
    }

    /// The firmware that it allows, one entry for each version.
    pub fn firmware(&self) -> &[FirmwareReference] {
        if self.nothing {
            return &[];
        }
        self.references.firmware()
    }

    /// Whether digests of this algorithm count.
    pub fn admits_digests_of(&self, alg: HashAlg) -> bool {
        let allowed = &self.rules.digests;
        !self.nothing && (allowed.is_empty() || allowed.contains(&alg.to_u16()))
    }

    /// Everything but the reference values.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// When a manifest expires next, Unix milliseconds: then this is another policy.
    pub fn valid_until(&self) -> Option<u64> {
        self.valid_until
    }

    /// What a reason weighs here; [`Tier::None`]: nothing, and it is not reported.
    pub fn weight(&self, reason: Reason) -> Tier {
        let own = own_weight(reason);
        let weight = self.rules.weights.get(&reason).copied().unwrap_or(own);
        match self.rules.mode {
            Mode::Monitor if super::is_weighable(reason) => weight.min(Tier::Warning),
            _ => weight,
        }
    }
}

impl ReferenceLookup for EffectivePolicy {
    fn allows(&self, path: &[u8], digest: &Digest) -> bool {
        self.admits(digest.alg()) && ReferenceLookup::allows(self.references.as_ref(), path, digest)
    }

    fn with_path(&self, path: &[u8]) -> Vec<KnownFile> {
        let mut known = ReferenceLookup::with_path(self.references.as_ref(), path);
        known.retain(|file| self.admits(file.digest.alg()));
        known
    }

    fn with_digest(&self, digest: &Digest) -> Vec<KnownFile> {
        if !self.admits(digest.alg()) {
            return Vec::new();
        }
        ReferenceLookup::with_digest(self.references.as_ref(), digest)
    }

    fn is_excluded(&self, path: &[u8]) -> bool {
        let by_policy = self.exclusion.as_ref().and_then(|e| e.matches(path));
        let by_manifest = !self.nothing && self.references.is_excluded(path);
        by_manifest || by_policy.is_some()
    }

    fn boot(&self) -> &[BootReference] {
        if self.nothing {
            return &[];
        }
        self.references.boot()
    }

    fn buffers(&self) -> &[BufferReference] {
        if self.nothing {
            return &[];
        }
        self.references.buffers()
    }

    fn admits(&self, algorithm: HashAlg) -> bool {
        self.admits_digests_of(algorithm)
    }

    fn ima_keyring(&self) -> Option<&dyn ImaKeyring> {
        let signers = self.signers.as_ref().filter(|_| !self.nothing);
        signers.map(|signers| signers as &dyn ImaKeyring)
    }
}
