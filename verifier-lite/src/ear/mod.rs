//! Attestation results for relying parties: EAR (draft-ietf-rats-ear-04), an EAT (RFC 9711) with AR4SI
//! trustworthiness vectors (draft-ietf-rats-ar4si).
//!
//! One appraisal for each device, labelled with the device's id in 32 hex digits. What the vector says:
//!
//! | claim | rests on |
//! |---|---|
//! | `instance-identity` | the attestation key, proven to be in the TPM that was admitted; a token's endorsed key |
//! | `hardware` | the endorsement certificate, where that admitted the device; the TPM's clock |
//! | `executables`, `file-system` | what IMA measured; a token's components (`executables` alone) |
//! | `configuration` | measured buffers, debug state and authorised boot of a token, boot PCRs, the policy's demands of keys and banks |
//!
//! A missing claim is not made. A result that is older than its policy allows makes none at all, and one
//! that speaks for a device expires (`exp`) when it would be. Reasons stand in `ear_verifier_claims`,
//! as `mote.reasons`.

use mote_schemas::message::{DeviceId, Tier};
use mote_schemas::reason::Reason;

use crate::evidence::KindId;
use crate::hex;
use crate::policy::EffectivePolicy;
use crate::store::{Admission, DeviceRecord, VerdictRecord};

mod encode;
mod token;

pub use token::{cwt, jwk, jwt};

/// `eat_profile` of every result.
pub const PROFILE: &str = "tag:ietf.org,2026:rats/ear#04";

/// Longest and shortest nonce that is echoed, in bytes (RFC 9711, 4.1).
pub const NONCE: std::ops::RangeInclusive<usize> = 8..=64;

/// Who answers for this verifier, and which build it is (`ear_verifier_id`).
pub const DEVELOPER: &str = "Mote";
/// See [`DEVELOPER`].
pub const BUILD: &str = concat!("mote-verifier ", env!("CARGO_PKG_VERSION"));

/// AR4SI claim values (draft-ietf-rats-ar4si, 2.3.4).
mod value {
    /// Nothing is claimed.
    pub(super) const NONE: i8 = 0;
    /// Recognized, genuine, approved.
    pub(super) const AFFIRMING: i8 = 2;
    /// Worth a look.
    pub(super) const WARNING: i8 = 32;
    /// Executables that are not recognized have been loaded.
    pub(super) const UNRECOGNIZED: i8 = 33;
    /// Contraindicated.
    pub(super) const CONTRAINDICATED: i8 = 96;
    /// Cryptographic validation of the evidence failed.
    pub(super) const CRYPTO_FAILED: i8 = 99;
}

/// The trustworthiness vector: a claim is 0, or -128 to 127 by AR4SI's tiers; `None` is not made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vector {
    /// Which device it is.
    pub instance_identity: Option<i8>,
    /// How it is configured.
    pub configuration: Option<i8>,
    /// What it runs.
    pub executables: Option<i8>,
    /// What its files contain.
    pub file_system: Option<i8>,
    /// Its TPM.
    pub hardware: Option<i8>,
}

impl Vector {
    /// Every claim, with AR4SI's number and name of it.
    fn claims(&self) -> impl Iterator<Item = (u8, &'static str, i8)> {
        [
            (0, "instance-identity", self.instance_identity),
            (1, "configuration", self.configuration),
            (2, "executables", self.executables),
            (3, "file-system", self.file_system),
            (4, "hardware", self.hardware),
        ]
        .into_iter()
        .filter_map(|(key, name, value)| Some((key, name, value?)))
    }

    /// The tier of the worst claim.
    fn worst(&self) -> Tier {
        let tiers = self.claims().map(|(_, _, value)| match value {
            2..=31 => Tier::Affirming,
            32..=95 => Tier::Warning,
            96.. => Tier::Contraindicated,
            _ => Tier::None,
        });
        tiers.max().unwrap_or_default()
    }
}

/// The result of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestationResult {
    /// Which device.
    pub device: DeviceId,
    /// When it was issued, Unix seconds.
    pub issued: u64,
    /// When it stops being one, Unix seconds; one that speaks against a device does not.
    pub expires: Option<u64>,
    /// What it comes down to: never better than the worst claim.
    pub status: Tier,
    /// The claims.
    pub vector: Vector,
    /// `name@version` of each policy, then `sha-256:` and the effective policy's id.
    pub policies: Vec<String>,
    /// Reason tokens.
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
        let mut result = AttestationResult {
            device,
            issued: now / 1000,
            expires: None,
            status: Tier::None,
            vector: Vector {
                instance_identity: Some(value::NONE),
                ..Vector::default()
            },
            policies,
            reasons: Vec::new(),
            evidence: None,
            quoted_at: record.evidence_at().map(|at| at / 1000),
            nonce,
        };
        let by = match &record.admission {
            Admission::Pending => {
                result.add(Reason::AdmissionPending);
                return result;
            }
            Admission::Refused { .. } => {
                result.add(Reason::AdmissionRefused);
                result.vector.instance_identity = Some(value::CONTRAINDICATED);
                result.status = Tier::Contraindicated;
                return result;
            }
            Admission::Admitted { by, .. } => by,
        };
        let Some(boot) = record.boot_number() else {
            return result;
        };
        let Some(verdict) = verdict.filter(|verdict| verdict.boot == boot) else {
            result.add(Reason::LogIncomplete);
            return result;
        };
        let good = matches!(verdict.tier, Tier::Affirming | Tier::Warning);
        let limit = u64::from(policy.rules().stale_after);
        let at = record.evidence_at().unwrap_or(0);
        if good && now.saturating_sub(at) > limit * 1000 {
            result.add(Reason::ResultStale);
            return result;
        }
        if good {
            result.expires = Some(at / 1000 + limit);
        }
        result.reasons.clone_from(&verdict.reasons);
        let kind = record.kind();
        result.evidence = Some(kind.media_type());
        result.vector = vector(kind, verdict, policy);
        if by == "ek-certificate" && result.vector.hardware.is_none() {
            result.vector.hardware = Some(value::AFFIRMING);
        }
        result.status = verdict.tier.max(result.vector.worst());
        result
    }

    fn add(&mut self, reason: Reason) {
        self.reasons.push(reason.token().to_owned());
    }
}

/// The claims that a verdict's reasons come down to.
fn vector(kind: KindId, verdict: &VerdictRecord, policy: &EffectivePolicy) -> Vector {
    let mut vector = Vector {
        instance_identity: Some(value::AFFIRMING),
        executables: Some(value::AFFIRMING),
        // A token says nothing about files.
        file_system: (kind == KindId::TpmIma).then_some(value::AFFIRMING),
        ..Vector::default()
    };
    let reasons = verdict.reasons.iter();
    for reason in reasons.filter_map(|token| Reason::from_token(token)) {
        let (warning, contraindicated) = (value::WARNING, value::CONTRAINDICATED);
        let claim = |warning: i8, contraindicated: i8| match policy.weight(reason) {
            Tier::Contraindicated => Some(contraindicated),
            Tier::Warning => Some(warning),
            Tier::None | Tier::Affirming => None,
        };
        let plain = claim(warning, contraindicated);
        match reason {
            Reason::FileUnknown | Reason::FileModified | Reason::MeasurementViolation => {
                worsen(
                    &mut vector.executables,
                    claim(value::UNRECOGNIZED, contraindicated),
                );
                worsen(&mut vector.file_system, plain);
            }
            Reason::BufferUnknown
            | Reason::PcrBankNotAllowed
            | Reason::KeyTooWeak
            | Reason::BootAggregateMismatch
            | Reason::BootAggregateUnchecked
            | Reason::BootLogMissing
            | Reason::BootPcrUnexplained
            | Reason::SecureBootOff
            | Reason::SecureBootKeysUnexpected
            | Reason::BootEventUnexpected
            | Reason::BootEventMissing
            | Reason::CmdlineUnexpected
            | Reason::DebugEnabled
            | Reason::DebugStateUnknown
            | Reason::BootNotAuthorised
            | Reason::ClaimsUnappraised => worsen(&mut vector.configuration, plain),
            Reason::ClockUnsafe => worsen(&mut vector.hardware, plain),
            Reason::LogDoesNotReplay | Reason::ImaWithoutTpm | Reason::BootAggregateMissing => {
                worsen(&mut vector.executables, Some(value::CRYPTO_FAILED));
                worsen(&mut vector.file_system, Some(value::CRYPTO_FAILED));
            }
            _ => worsen(
                &mut vector.executables,
                claim(value::UNRECOGNIZED, contraindicated),
            ),
        }
    }
    // A verdict that no claim explains is about the evidence as such.
    if vector.worst() < verdict.tier {
        let failed = match verdict.tier {
            Tier::Contraindicated => value::CRYPTO_FAILED,
            _ => value::WARNING,
        };
        worsen(&mut vector.executables, Some(failed));
    }
    vector
}

fn worsen(claim: &mut Option<i8>, to: Option<i8>) {
    *claim = (*claim).max(to);
}

#[cfg(test)]
mod tests;
