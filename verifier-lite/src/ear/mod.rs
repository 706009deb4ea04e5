//! Attestation results for relying parties: EAR (draft-ietf-rats-ear-04), an EAT (RFC 9711) with AR4SI
//! trustworthiness vectors (draft-ietf-rats-ar4si).
//!
//! One appraisal (`submods`) for each module that has looked at the device, by a label that stays:
//!
//! | label | has looked at | claims | rest on |
//! |---|---|---|---|
//! | `tpm` | quote, attestation key, clock | `instance-identity` | the key, proven to be in the TPM that was admitted |
//! | | | `hardware` | the endorsement certificate, where that admitted the device; the clock |
//! | | | `configuration` | the policy's demands of keys and banks, where they are not met |
//! | `boot` | boot PCRs and boot event log | `executables`, `configuration` | what manifests expect of the boot |
//! | `ima` | the IMA list | `executables`, `file-system` | what it measured |
//! | | | `configuration` | measured buffers, `boot_aggregate` |
//! | `token` | an entity attestation token | `instance-identity` | the endorsed key |
//! | | | `executables` | its components |
//! | | | `configuration` | debug state, authorised boot, what could not be appraised |
//!
//! Evidence of a TPM has the first three, a token the last. A missing claim is not made. A module that has compared
//! nothing with anything claims 0 and has status none. The status of the whole is that of the worst module; one
//! of status none does not weigh where its policy gives it nothing to compare (`boot` where no manifest says how
//! to boot), and otherwise keeps the whole from affirming (`ima` where manifests name files and the device has
//! measured none): AR4SI's none is no assertion, and who speaks is not enough where more was asked. What speaks for a device
//! does so until its evidence is older than its policy allows (`exp`); of a result made after that nothing is left but
//! what speaks against it. The device is the subject (`sub`), in 32 hex digits. Reasons stand
//! in `ear_verifier_claims`, as `mote.reasons`, with the module whose they are.

use mote_schemas::message::{DeviceId, Tier};
use mote_schemas::reason::Reason;

use crate::hex;
use crate::policy::EffectivePolicy;
use crate::store::{Admission, DeviceRecord, VerdictRecord};

mod encode;
mod module;
mod token;
mod vector;

use vector::value;

pub use module::{Module, ModuleId};
pub use token::{cwt, jwk, jwt};
pub use vector::{Claim, Vector};

/// `eat_profile` of every result.
pub const PROFILE: &str = "tag:ietf.org,2026:rats/ear#04";

/// Longest and shortest nonce that is echoed, in bytes (RFC 9711, 4.1).
pub const NONCE: std::ops::RangeInclusive<usize> = 8..=64;

/// Who answers for this verifier, and which build it is (`ear_verifier_id`).
pub const DEVELOPER: &str = "Mote";
/// See [`DEVELOPER`].
pub const BUILD: &str = concat!("mote-verifier ", env!("CARGO_PKG_VERSION"));

/// The result of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestationResult {
    /// Which device.
    pub device: DeviceId,
    /// When it was issued, Unix seconds.
    pub issued: u64,
    /// When it stops being one, Unix seconds; one in which nothing speaks for a device does not.
    pub expires: Option<u64>,
    /// What it comes down to: the tier of the worst module; not affirming if one is silent that should not be.
    pub status: Tier,
    /// What each module says; at least one.
    pub modules: Vec<Module>,
    /// `name@version` of each policy, then `sha-256:` and the effective policy's id.
    pub policies: Vec<String>,
    /// Reason tokens, of all modules.
    pub reasons: Vec<String>,
    /// Media type of the evidence that it rests on.
    pub evidence: Option<&'static str>,
    /// When the last evidence was accepted, Unix seconds.
    pub quoted_at: Option<u64>,
    /// What the relying party wants to find in it.
    pub nonce: Option<Vec<u8>>,
}

impl AttestationResult {
    /// How a device stands at `now` (Unix milliseconds): `verdict` is its last, of whatever boot.
    pub fn new(
        device: DeviceId,
        record: &DeviceRecord,
        verdict: Option<&VerdictRecord>,
        policy: &EffectivePolicy,
        now: u64,
        nonce: Option<Vec<u8>>,
    ) -> Self {
        let mut policies = policy.labels().to_vec();
        policies.push(format!("sha-256:{}", hex::encode(policy.id())));
        let kind = record.kind();
        let evidence_at = record.evidence_at();
        let mut result = AttestationResult {
            device,
            issued: now / 1000,
            expires: None,
            status: Tier::None,
            modules: ModuleId::of(kind)
                .iter()
                .map(|id| Module::silent(*id))
                .collect(),
            policies,
            reasons: Vec::new(),
            evidence: evidence_at.map(|_| kind.media_type()),
            quoted_at: evidence_at.map(|at| at / 1000),
            nonce,
        };
        let by = match &record.admission {
            Admission::Pending => {
                result.withhold(Reason::AdmissionPending);
                return result;
            }
            Admission::Refused { .. } => {
                result.withhold(Reason::AdmissionRefused);
                if let Some(who) = result.modules.first_mut() {
                    let refused = value::CONTRAINDICATED;
                    who.vector.worsen(Claim::InstanceIdentity, refused);
                }
                result.status = Tier::Contraindicated;
                return result;
            }
            Admission::Admitted { by, .. } => by,
        };
        let Some(boot) = record.boot_number() else {
            return result;
        };
        let verdict = verdict.filter(|verdict| verdict.boot == boot);
        // A boot log is awaited: what is known so far does not make a verdict.
        let Some(verdict) = verdict.filter(|verdict| verdict.tier != Tier::None) else {
            result.withhold(Reason::LogIncomplete);
            return result;
        };
        result.modules = module::modules(record, by, verdict, policy);
        result.reasons.clone_from(&verdict.reasons);
        let limit = u64::from(policy.rules().stale_after);
        let at = evidence_at.unwrap_or(0);
        if now.saturating_sub(at) > limit * 1000 {
            for module in &mut result.modules {
                module.lapse(Reason::ResultStale);
            }
            result.collect_reasons();
        } else if result
            .modules
            .iter()
            .any(|module| module.vector.speaks_for())
        {
            result.expires = Some(at / 1000 + limit);
        }
        let statuses = result.modules.iter().map(Module::status);
        result.status = statuses.max().unwrap_or_default();
        let silent = |module: &Module| {
            module.status() == Tier::None && module::is_expected(module.id, policy)
        };
        if result.status == Tier::Affirming && result.modules.iter().any(silent) {
            result.status = Tier::None;
        }
        result
    }

    /// Says why no module claims anything.
    fn withhold(&mut self, reason: Reason) {
        let because = vec![reason.token().to_owned()];
        for module in &mut self.modules {
            module.reasons.clone_from(&because);
        }
        self.reasons = because;
    }

    /// Those that modules still have, once each.
    fn collect_reasons(&mut self) {
        self.reasons.clear();
        for reason in self.modules.iter().flat_map(|module| &module.reasons) {
            if !self.reasons.contains(reason) {
                self.reasons.push(reason.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests;
