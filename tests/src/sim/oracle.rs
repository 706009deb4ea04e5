//! What must hold at every moment of every run, judged from outside: the oracle knows what each kernel
//! measured and which of it was meant to be unknown, and looks at what the verifier made of it.
//!
//! | property | where |
//! |---|---|
//! | no verdict without cause, none missing for what is certified | `Witness::after_message` |
//! | every deviation named, each once, no other | `Witness::after_message` |
//! | a verdict that was told is not forgotten | `Witness::after_crash` |
//! | no fresh verdict on a quote that was not appraised | `Witness::told` |
//! | a boot log that lies is held against its device, no other is | `content` |
//! | no good verdict before the boot log that a manifest wants to see | `content` |
//! | in the end, everything measured is appraised, and every boot log there | `settled` |

use mote_schemas::message::{DeviceId, Tier};
use mote_verifier::store::{BootState, Deviation, Store, VerdictRecord};

use super::agent::Agent;
use super::machine::{Boot, Firmware, Truth};
use super::verifier::Verifier;

/// Reason token for boot_aggregate where the quote does not cover PCR 0 to 9.
const UNCHECKED: &str = "boot-aggregate-unchecked";

/// Reason token for a boot log that shows something else than was measured.
const LIES: &str = "boot-log-does-not-replay";

/// Reason token for a buffer that no reference values name.
const BUFFER: &str = "buffer-unknown";

/// Reason token while records or a boot log are awaited.
const INCOMPLETE: &str = "log-incomplete";

/// What was seen of one device so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Witness {
    verdicts: u64,
    /// Highest (resetCount, records certified).
    certified: (u32, u64),
    /// When quotes came that were appraised, in virtual time.
    pub(super) appraised: Vec<u64>,
}

/// What the store says about a device in the boot that it last heard of.
struct Known {
    boot: BootState,
    verdict: Option<VerdictRecord>,
    verdicts: u64,
    deviations: Vec<Deviation>,
}

fn known(verifier: &Verifier, id: &DeviceId) -> Result<Option<Known>, String> {
    let store = verifier.store();
    let device = store.device(id).map_err(|error| error.to_string())?;
    let Some(boot) = device.and_then(|device| device.boot) else {
        return Ok(None);
    };
    let last = store
        .verdicts(id, 1)
        .map_err(|error| error.to_string())?
        .pop();
    let deviations = store.deviations(id, usize::MAX);
    Ok(Some(Known {
        verdicts: last.as_ref().map_or(0, |(number, _)| *number),
        verdict: last
            .map(|(_, verdict)| verdict)
            .filter(|verdict| verdict.boot == boot.number),
        deviations: deviations.map_err(|error| error.to_string())?,
        boot,
    }))
}

impl Witness {
    /// After the verifier has handled a message of this agent.
    pub(super) fn after_message(
        &mut self,
        verifier: &Verifier,
        agent: &Agent,
    ) -> Result<(), String> {
        let Some(known) = known(verifier, &agent.id())? else {
            return Ok(());
        };
        let boot = &known.boot;
        let machine = agent.machine();
        let truth = machine
            .boots()
            .get(boot.reset_count as usize)
            .ok_or_else(|| format!("a boot that never was: resetCount {}", boot.reset_count))?;
        content(&known, truth, &firmware(verifier, agent)?)?;
        self.verdicts = self.verdicts.max(known.verdicts);
        self.certified = self.certified.max((boot.reset_count, boot.certified));
        let quoted_at = Verifier::virtual_time(boot.quoted_at);
        if quoted_at > self.appraised.last().copied().unwrap_or(0) {
            self.appraised.push(quoted_at);
        }
        Ok(())
    }

    /// After the verifier has lost power.
    pub(super) fn after_crash(&self, verifier: &Verifier, agent: &Agent) -> Result<(), String> {
        let verdicts = known(verifier, &agent.id())?.map_or(0, |known| known.verdicts);
        if verdicts < self.verdicts {
            return Err(format!(
                "verdicts lost in a crash: {verdicts} of {}",
                self.verdicts
            ));
        }
        Ok(())
    }

    /// When the agent takes an answer to be final for now.
    pub(super) fn told(&self, agent: &Agent, tier: Tier) -> Result<(), String> {
        if tier == Tier::None {
            return Ok(());
        }
        let machine = agent.machine();
        let current = (machine.boots().len() - 1) as u32;
        let (reset_count, certified) = self.certified;
        if reset_count != current || certified < machine.quoted() {
            return Err(format!(
                "told {tier} with {} records quoted in boot {current}, but {certified} certified in \
                 boot {reset_count}",
                machine.quoted()
            ));
        }
        let appraised = self.appraised.last().copied().unwrap_or(0);
        if appraised < agent.quoted_at() {
            return Err(format!(
                "told {tier} after a quote at {} ms, but the last one appraised is of {appraised} ms",
                agent.quoted_at(),
            ));
        }
        Ok(())
    }
}

/// What is known of the firmware of a device.
#[expect(
    clippy::struct_excessive_bools,
    reason = "four answers, each independent of the others"
)]
struct OfFirmware {
    /// The quotes cover what boot_aggregate is made of.
    boot_pcrs: bool,
    /// The quotes cover some of what a boot log shows.
    judged: bool,
    /// It shows another log than it measures.
    lies: bool,
    /// The log that it shows is with the verifier, or it shows none.
    here: bool,
    /// Reference values expect something of the log.
    expected: bool,
}

fn firmware(verifier: &Verifier, agent: &Agent) -> Result<OfFirmware, String> {
    let here = match agent.boot_log() {
        Some(digest) => verifier.store().has_boot_log(&digest),
        None => Ok(true),
    };
    Ok(OfFirmware {
        boot_pcrs: agent.setup.pcrs & 0x3ff == 0x3ff,
        judged: agent.setup.pcrs & 0x3ff != 0,
        lies: matches!(agent.setup.firmware, Firmware::Lies(..)),
        here: here.map_err(|error| error.to_string())?,
        expected: verifier.expects_boot_logs(),
    })
}

/// Whether verdict and deviations are those that the certified records deserve.
fn content(known: &Known, truth: &Boot, firmware: &OfFirmware) -> Result<(), String> {
    let boot_pcrs = firmware.boot_pcrs;
    let boot = &known.boot;
    let certified = usize::try_from(boot.certified).unwrap_or(usize::MAX);
    let covered = truth.records.get(..certified).ok_or_else(|| {
        format!(
            "{certified} records certified, {} measured",
            truth.records.len()
        )
    })?;
    let unknown: Vec<u64> = (0..)
        .zip(covered)
        .filter(|(_, truth)| **truth != Truth::Known)
        .map(|(number, _)| number)
        .collect();
    let (mut named, mut caught) = (Vec::new(), false);
    for deviation in &known.deviations {
        if firmware.lies && firmware.here && deviation.reason == LIES {
            caught = true;
            continue;
        }
        if !boot_pcrs && deviation.reason == UNCHECKED && deviation.record == Some(0) {
            continue;
        }
        named.push(deviation.record.ok_or_else(|| {
            let note = deviation.note.as_deref().unwrap_or_default();
            format!(
                "a fault that the device does not have: {} {note}",
                deviation.reason
            )
        })?);
    }
    if named != unknown {
        let faults: Vec<_> = known.deviations.iter().map(|d| &d.reason).collect();
        return Err(format!(
            "deviations at records {named:?} {faults:?} instead of {unknown:?}"
        ));
    }
    let Some(verdict) = &known.verdict else {
        return match certified {
            0 => Ok(()),
            _ => Err(format!("{certified} records certified, and no verdict")),
        };
    };
    let bad = caught || covered.contains(&Truth::Unknown);
    let buffer = covered.contains(&Truth::Buffer);
    // A clock that has not caught up after a power cut; and what cannot be checked without boot PCRs.
    let may_warn = |reason: &str| match reason {
        "clock-unsafe" => true,
        UNCHECKED => !boot_pcrs,
        BUFFER => buffer,
        _ => false,
    };
    // The log counts with the next quote after it.
    let awaited = firmware.expected && boot.boot_log.as_ref().is_some_and(|log| log.due);
    let complete = !firmware.expected || firmware.here;
    let right = match verdict.tier {
        Tier::Contraindicated => bad,
        Tier::Affirming => !bad && !buffer && certified > 0 && boot_pcrs && complete,
        Tier::Warning => !bad && complete && verdict.reasons.iter().all(|reason| may_warn(reason)),
        Tier::None => {
            let (first, rest) = verdict.reasons.split_first().ok_or("a verdict of none")?;
            let rest = rest.iter().all(|reason| may_warn(reason));
            !bad && awaited && first == INCOMPLETE && rest
        }
    };
    if !right {
        return Err(format!(
            "verdict {} {:?} with unknown records {unknown:?} among {certified} certified",
            verdict.tier, verdict.reasons
        ));
    }
    Ok(())
}

/// Whether everything that the kernel has measured in this boot is appraised.
pub(super) fn settled(verifier: &Verifier, agent: &Agent) -> Result<(), String> {
    let known = known(verifier, &agent.id())?.ok_or("never attested")?;
    let machine = agent.machine();
    let current = machine.boots().len() - 1;
    let boot = &known.boot;
    if boot.reset_count as usize != current || boot.certified != machine.extended() {
        return Err(format!(
            "{} records certified in boot {}, of {} in boot {current}",
            boot.certified,
            boot.reset_count,
            machine.extended(),
        ));
    }
    let firmware = firmware(verifier, agent)?;
    content(&known, &machine.boots()[current], &firmware)?;
    if !firmware.judged {
        // Nothing to compare a boot log with: it is not asked for.
        return Ok(());
    }
    if !firmware.here {
        return Err("the boot log has not arrived".to_owned());
    }
    if boot.boot_log.as_ref().is_some_and(|log| log.due) {
        return Err("the boot log is not judged".to_owned());
    }
    let told = known.deviations.iter().any(|d| d.reason == LIES);
    if told != firmware.lies {
        return Err(format!(
            "a boot log that lies: {}, named: {told}",
            firmware.lies
        ));
    }
    Ok(())
}
