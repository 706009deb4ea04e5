//! Appraisal modules: what each has looked at, and which reasons are its own.

use mote_schemas::message::Tier;
use mote_schemas::reason::{Reason, Severity};

use super::vector::{Claim, Vector, value};
use crate::appraise::ReferenceLookup;
use crate::evidence::KindId;
use crate::manifest::BootReference;
use crate::policy::{EffectivePolicy, reason_is_of_content};
use crate::store::{DeviceRecord, VerdictRecord};

/// An appraisal module; its label is a key of `submods`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleId {
    /// Quote, attestation key and clock of a TPM.
    Tpm,
    /// Measured boot: the boot PCRs and the firmware's log.
    Boot,
    /// What the kernel measured since: the IMA list.
    Ima,
    /// An entity attestation token, whole.
    Token,
}

impl ModuleId {
    /// The modules that a kind of evidence has, the one that proves who speaks first.
    pub fn of(kind: KindId) -> &'static [ModuleId] {
        match kind {
            KindId::TpmIma => &[ModuleId::Tpm, ModuleId::Boot, ModuleId::Ima],
            KindId::Token => &[ModuleId::Token],
        }
    }

    /// Its label.
    pub fn label(self) -> &'static str {
        match self {
            ModuleId::Tpm => "tpm",
            ModuleId::Boot => "boot",
            ModuleId::Ima => "ima",
            ModuleId::Token => "token",
        }
    }

    /// The claims that it makes whenever it has appraised something, and denies when it has not.
    fn own_claims(self) -> &'static [Claim] {
        match self {
            ModuleId::Tpm => &[Claim::InstanceIdentity],
            ModuleId::Boot => &[Claim::Configuration, Claim::Executables],
            ModuleId::Ima => &[Claim::Executables, Claim::FileSystem],
            // It says nothing about files.
            ModuleId::Token => &[Claim::InstanceIdentity, Claim::Executables],
        }
    }
}

/// Whether the policy gives this module something to compare with, so that nothing speaks for a device of
/// which it says nothing.
pub(super) fn is_expected(id: ModuleId, policy: &EffectivePolicy) -> bool {
    match id {
        ModuleId::Ima => policy.expects_files(),
        ModuleId::Boot => !compared(policy.boot()).is_empty(),
        // These prove who speaks.
        ModuleId::Tpm | ModuleId::Token => true,
    }
}

/// What one module came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Which.
    pub id: ModuleId,
    /// Its claims; one at least.
    pub vector: Vector,
    /// Tokens of the reasons that are its own, or that keep all modules from a claim.
    pub reasons: Vec<String>,
}

impl Module {
    /// One that has appraised nothing.
    pub(super) fn silent(id: ModuleId) -> Self {
        Module {
            id,
            vector: Vector::of(id.own_claims(), value::NONE),
            reasons: Vec::new(),
        }
    }

    /// The tier of its worst claim.
    pub fn status(&self) -> Tier {
        self.vector.worst()
    }

    /// Takes back what it says for the device; what it says against it stays.
    pub(super) fn lapse(&mut self, because: Reason) {
        self.vector.withdraw();
        if self.status() == Tier::None {
            self.reasons = vec![because.token().to_owned()];
        }
    }
}

/// What each module makes of a verdict that there is, i.e. of another tier than [`Tier::None`].
pub(super) fn modules(
    record: &DeviceRecord,
    by: &str,
    verdict: &VerdictRecord,
    policy: &EffectivePolicy,
) -> Vec<Module> {
    let kind = record.kind();
    let mut modules: Vec<Module> = ModuleId::of(kind)
        .iter()
        .map(|id| Module {
            vector: unblemished(*id, record, by, verdict, policy),
            ..Module::silent(*id)
        })
        .collect();
    let mut blame = |id: ModuleId, token: &str, claims: &[(Claim, i8)]| {
        let last = modules.len() - 1;
        let at = modules.iter().position(|module| module.id == id);
        let module = &mut modules[at.unwrap_or(last)];
        module.reasons.push(token.to_owned());
        for (claim, value) in claims {
            module.vector.worsen(*claim, *value);
        }
    };
    // What a module found, rather than who proved it: the last one.
    let found = ModuleId::of(kind).last().copied().unwrap_or(ModuleId::Ima);
    for token in &verdict.reasons {
        match Reason::from_token(token) {
            Some(reason) => {
                let (id, claims) = of_reason(reason, kind, policy.weight(reason));
                blame(id, token, &claims);
            }
            None => blame(found, token, &[]),
        }
    }
    // A verdict that no claim explains is about the evidence as such.
    let worst = modules.iter().map(Module::status).max().unwrap_or_default();
    if worst < verdict.tier
        && let Some(module) = modules.last_mut()
    {
        let failed = match verdict.tier {
            Tier::Contraindicated => value::CRYPTO_FAILED,
            Tier::Warning => value::WARNING,
            // Nothing was compared with anything, and nothing is wrong with that.
            Tier::Affirming | Tier::None => return modules,
        };
        module.vector.worsen(Claim::Executables, failed);
    }
    modules
}

/// What a module says if none of the reasons is its own.
fn unblemished(
    id: ModuleId,
    record: &DeviceRecord,
    by: &str,
    verdict: &VerdictRecord,
    policy: &EffectivePolicy,
) -> Vector {
    let own = |value| Vector::of(id.own_claims(), value);
    match id {
        ModuleId::Tpm => {
            let mut vector = own(value::AFFIRMING);
            // Otherwise nobody vouches for the TPM.
            if by == "ek-certificate" {
                vector.worsen(Claim::Hardware, value::AFFIRMING);
            }
            vector
        }
        ModuleId::Token if policy.firmware().is_empty() => {
            let mut vector = own(value::NONE);
            vector.worsen(Claim::InstanceIdentity, value::AFFIRMING);
            vector
        }
        ModuleId::Token => own(value::AFFIRMING),
        ModuleId::Ima => {
            // The kernel's first record, `boot_aggregate`, is none of a file.
            let measured = record.boot.as_ref().is_some_and(|boot| boot.certified > 1);
            let compared = measured && !policy.manifests().is_empty();
            own(if compared {
                value::AFFIRMING
            } else {
                value::NONE
            })
        }
        ModuleId::Boot => {
            let mut vector = own(value::NONE);
            let boot = record.boot.as_ref();
            let under_this_policy =
                boot.is_some_and(|boot| boot.content.policy == Some(*policy.id()));
            // The boot is appraised after the records have led to the quoted PCR.
            let replayed = verdict.reasons.iter().all(|token| {
                let reason = Reason::from_token(token);
                reason.is_some_and(reason_is_of_content)
            });
            if under_this_policy && replayed {
                for claim in compared(policy.boot()) {
                    vector.worsen(claim, value::AFFIRMING);
                }
            }
            vector
        }
    }
}

/// Claims that each of several manifests about the boot decides, whichever of them it was that fitted.
fn compared(references: &[BootReference]) -> Vec<Claim> {
    let mut claims = ModuleId::Boot.own_claims().to_vec();
    claims.retain(|claim| {
        let decides = |reference: &BootReference| {
            let expected = &reference.expectations;
            let statics = reference.pcrs.values().flat_map(|pcrs| pcrs.keys());
            let mut pcrs = statics.chain(expected.events.keys());
            let by_pcr = pcrs.any(|pcr| measures(*pcr) == *claim);
            by_pcr
                || match claim {
                    Claim::Executables => {
                        let lists = [&expected.applications, &expected.kernels, &expected.initrds];
                        lists.iter().any(|list| !list.is_empty())
                    }
                    _ => {
                        expected.secure_boot
                            || !expected.keys.is_empty()
                            || !expected.command_lines.is_empty()
                    }
                }
        };
        !references.is_empty() && references.iter().all(decides)
    });
    claims
}

/// What goes into a boot PCR: code, or how that is configured (TCG PC Client Platform Firmware Profile, 3.3.4;
/// GRUB and systemd-stub above 7).
fn measures(pcr: u8) -> Claim {
    match pcr {
        0 | 2 | 4 | 9 | 11 | 13 => Claim::Executables,
        _ => Claim::Configuration,
    }
}

/// Whose a reason is, and the claims it worsens where it weighs this much.
fn of_reason(reason: Reason, kind: KindId, weight: Tier) -> (ModuleId, Vec<(Claim, i8)>) {
    use ModuleId::{Boot, Ima, Tpm};

    let claim = |claim: Claim, warning: i8, contraindicated: i8| match weight {
        Tier::Contraindicated => Some((claim, contraindicated)),
        Tier::Warning => Some((claim, warning)),
        Tier::None | Tier::Affirming => None,
    };
    let plain = |which| claim(which, value::WARNING, value::CONTRAINDICATED);
    let executables = || {
        claim(
            Claim::Executables,
            value::UNRECOGNIZED,
            value::CONTRAINDICATED,
        )
    };
    let configuration = || plain(Claim::Configuration);
    // A token has one module.
    let of = |id| match kind {
        KindId::TpmIma => id,
        KindId::Token => ModuleId::Token,
    };
    let (id, claims): (ModuleId, [Option<(Claim, i8)>; 2]) = match reason {
        Reason::KeyTooWeak | Reason::PcrBankNotAllowed => (of(Tpm), [configuration(), None]),
        Reason::ClockUnsafe => (of(Tpm), [plain(Claim::Hardware), None]),
        Reason::BootLogMissing
        | Reason::BootLogMalformed
        | Reason::BootPcrUnexplained
        | Reason::SecureBootOff
        | Reason::SecureBootKeysUnexpected
        | Reason::CmdlineUnexpected => (of(Boot), [configuration(), None]),
        Reason::BootEventUnexpected | Reason::BootEventMissing | Reason::PcrValueUnexpected => {
            (of(Boot), [configuration(), executables()])
        }
        Reason::BootLogDoesNotReplay => {
            let failed = |which| claim(which, value::WARNING, value::CRYPTO_FAILED);
            let claims = [failed(Claim::Configuration), failed(Claim::Executables)];
            (of(Boot), claims)
        }
        // Which boot PCRs the kernel saw is a record of its list.
        Reason::BufferUnknown
        | Reason::BufferModified
        | Reason::BootAggregateMismatch
        | Reason::BootAggregateUnchecked
        | Reason::DebugEnabled
        | Reason::DebugStateUnknown
        | Reason::BootNotAuthorised
        | Reason::ClaimsUnappraised => (of(Ima), [configuration(), None]),
        Reason::LogDoesNotReplay | Reason::ImaWithoutTpm | Reason::BootAggregateMissing => {
            let failed = |which| Some((which, value::CRYPTO_FAILED));
            let claims = [failed(Claim::Executables), failed(Claim::FileSystem)];
            (of(Ima), claims)
        }
        Reason::FileUnknown
        | Reason::FileModified
        | Reason::FileSignatureInvalid
        | Reason::FileSignerUnknown
        | Reason::DigestAlgorithmUnknown
        | Reason::MeasurementViolation
            if kind == KindId::TpmIma =>
        {
            (Ima, [executables(), plain(Claim::FileSystem)])
        }
        // Of a message that was refused: who speaks is not proven.
        reason if reason.severity() == Severity::Refused => {
            let failed = (Claim::InstanceIdentity, value::CRYPTO_FAILED);
            (of(Tpm), [Some(failed), None])
        }
        // What no module knows is about what runs.
        _ => (of(Ima), [executables(), None]),
    };
    (id, claims.into_iter().flatten().collect())
}
