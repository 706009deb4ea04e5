//! From what an appraisal found to a verdict under a policy.

use mote_schemas::message::Tier;
use mote_schemas::reason::Reason;
use mote_schemas::tpm::{EccCurve, HashAlg, Key, Public};

use super::EffectivePolicy;
use crate::appraise::{self, Appraisal};
use crate::prefix::IMA_PCR;
use crate::store::{BootState, Content, Deviation, Expected};

/// What an appraisal comes down to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// All certified records so far.
    pub content: Content,
    /// Those that this appraisal added.
    pub deviations: Vec<Deviation>,
    /// The verdict.
    pub tier: Tier,
    /// Why, the weightiest first.
    pub reasons: Vec<Reason>,
}

impl Settled {
    /// No good verdict while a boot log is awaited that something is expected of.
    pub(crate) fn wait_for_log(&mut self) {
        if self.tier < Tier::Contraindicated {
            self.tier = Tier::None;
            self.reasons.insert(0, Reason::LogIncomplete);
        }
    }
}

/// Adds an appraisal of more records to `content`, what the earlier ones came down to under the same
/// policy; `others` are deviations that no log record shows. `boot` and `ak_public` are the device's; `now`: Unix milliseconds.
pub fn settle(
    policy: &EffectivePolicy,
    ak_public: &[u8],
    boot: &BootState,
    content: Content,
    appraisal: Appraisal,
    others: Vec<Deviation>,
    now: u64,
) -> Settled {
    let found = appraisal.deviations.into_iter();
    let mut deviations: Vec<_> = found.map(|deviation| stored(deviation, now)).collect();
    deviations.extend(others);
    weigh(
        policy,
        content,
        deviations,
        of_device(policy, ak_public, boot),
    )
}

/// What deviations come down to, and what a policy finds wrong with a device whatever its evidence says: the
/// last step of every kind of evidence. `content` is what earlier deviations came down to.
pub(crate) fn weigh(
    policy: &EffectivePolicy,
    mut content: Content,
    mut deviations: Vec<Deviation>,
    of_device: Vec<Reason>,
) -> Settled {
    deviations.retain(|deviation| {
        let reason = Reason::from_token(&deviation.reason);
        reason.is_some_and(|reason| policy.weight(reason) != Tier::None)
    });
    for deviation in &deviations {
        if !content.reasons.contains(&deviation.reason) {
            content.reasons.push(deviation.reason.clone());
        }
    }
    let mut reasons: Vec<Reason> = content
        .reasons
        .iter()
        .filter_map(|token| Reason::from_token(token))
        .collect();
    let weights = reasons.iter().map(|reason| policy.weight(*reason));
    content.tier = weights.max().unwrap_or_default().max(Tier::Affirming);
    content.policy = Some(*policy.id());
    let mut tier = content.tier;
    for reason in of_device {
        let weight = policy.weight(reason);
        if weight != Tier::None {
            tier = tier.max(weight);
            reasons.push(reason);
        }
    }
    // The weightiest first: the wire carries eight.
    reasons.sort_by_key(|reason| std::cmp::Reverse((policy.weight(*reason), reason.severity())));
    Settled {
        content,
        deviations,
        tier,
        reasons,
    }
}

/// What a policy finds wrong with a device, whatever its log says.
fn of_device(policy: &EffectivePolicy, ak_public: &[u8], boot: &BootState) -> Vec<Reason> {
    let rules = policy.rules();
    let mut found = Vec::new();
    if policy.manifests().is_empty() {
        found.push(Reason::NoReferenceValues);
    }
    let banks = &boot.pcrs;
    let of_log = banks.iter().filter(|bank| {
        let mut pcrs = bank.values.iter();
        pcrs.any(|pcr| u32::from(pcr.index) == IMA_PCR)
    });
    // A bank that the kernel fills with padded SHA-1 is worth no more than SHA-1.
    let padded = |alg| boot.padded_banks.iter().flatten().any(|bank| *bank == alg);
    let mut vouching = of_log.map(|bank| match bank.alg {
        alg if padded(alg) => HashAlg::Sha1.to_u16(),
        alg => alg,
    });
    if !rules.banks.is_empty() && !vouching.any(|alg| rules.banks.contains(&alg)) {
        found.push(Reason::PcrBankNotAllowed);
    }
    if rules.min_key_strength > 0 && strength(ak_public) < rules.min_key_strength {
        found.push(Reason::KeyTooWeak);
    }
    if !boot.clock_safe {
        found.push(Reason::ClockUnsafe);
    }
    found
}

/// Bits of security of a key (NIST SP 800-57 part 1, table 2); 0 if it is not known.
fn strength(public: &[u8]) -> u16 {
    let Ok(public) = Public::parse(public) else {
        return 0;
    };
    match public.key() {
        Key::Ecc(point) => match point.curve {
            EccCurve::P256 => 128,
            EccCurve::P384 => 192,
        },
        Key::Rsa { modulus, .. } => match modulus.len() * 8 {
            0..2048 => 0,
            2048..3072 => 112,
            _ => 128,
        },
    }
}

fn stored(deviation: appraise::Deviation, now: u64) -> Deviation {
    Deviation {
        reason: deviation.fault.reason().token().to_owned(),
        since: now,
        record: Some(deviation.record),
        pcr: None,
        path: (!deviation.path.is_empty()).then_some(deviation.path),
        measured: deviation.measured.map(|measured| measured.digest),
        expected: deviation
            .expected
            .iter()
            .map(|known| Expected {
                value: known.digest.as_bytes().to_vec(),
                source: known.manifest.clone(),
            })
            .collect(),
        note: deviation.note,
    }
}
