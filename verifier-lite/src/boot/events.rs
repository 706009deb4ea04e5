//! A manifest's expectations on a certified log, one by one.

use std::collections::BTreeSet;

use mote_schemas::bootlog::{Event, EventData, Guid, Variable};
use mote_schemas::reason::Reason;
use mote_schemas::tpm::{Digest, HashAlg};

use super::appraisal::Deviation;
use super::{CertifiedBootLog, command_line, keys};
use crate::hex;
use crate::manifest::BootExpectations;

/// PCRs in which a boot loader's kernel and initrd may be: U-Boot 8 and 9, GRUB and Linux's EFI stub 9,
/// systemd-stub 11.
const LOADER_PCRS: [u32; 3] = [8, 9, 11];

/// PCRs that become closed as soon as a kernel, an initrd or a command line is expected: what else went
/// in could be another of them. PCR 11 also holds the other sections of a unified kernel image, and
/// PCR 1 the firmware's settings.
const CLOSED_PCRS: [u32; 3] = [8, 9, 12];

/// PCR of Secure Boot (PC Client Platform Firmware Profile 1.06, 3.3.4.8).
pub(super) const SECURE_BOOT_PCR: u32 = 7;

/// PCR of what the firmware starts.
const APPLICATION_PCR: u32 = 4;

/// A log, what is expected of it, and what was found so far.
pub(super) struct Check<'c, 'a> {
    log: &'c CertifiedBootLog<'a>,
    pub(super) expected: &'c BootExpectations,
    pub(super) found: Vec<Deviation>,
    /// Numbers of events that are reported already.
    reported: BTreeSet<u32>,
}

/// Everything in `log` that is not as `expected`.
pub(super) fn check(log: &CertifiedBootLog<'_>, expected: &BootExpectations) -> Vec<Deviation> {
    let mut check = Check {
        log,
        expected,
        found: Vec::new(),
        reported: BTreeSet::new(),
    };
    check.secure_boot();
    keys::check(&mut check);
    check.applications();
    check.loaded(&expected.kernels, "kernel");
    check.loaded(&expected.initrds, "initrd");
    check.command_line();
    check.closed();
    check.found
}

impl<'a> Check<'_, 'a> {
    fn bank(&self) -> HashAlg {
        self.log.bank()
    }

    fn in_pcr(&self, pcr: u32) -> impl Iterator<Item = Event<'a>> {
        self.log.events().filter(move |event| event.pcr == pcr)
    }

    /// Whether the events of `pcr` can be judged; if not, says so.
    pub(super) fn can_judge(&mut self, pcr: u32, reason: Reason) -> bool {
        if self.log.certifies(pcr) {
            return true;
        }
        let note = format!("the quote does not certify the events of PCR {pcr}");
        self.found
            .push(Deviation::of_pcr(reason, pcr).with_note(note));
        false
    }

    /// UEFI variables that the firmware measured before it handed over: in PCR 7, before its separator,
    /// after which anyone may extend.
    pub(super) fn variables(&self) -> Vec<(Event<'a>, Variable<'a>)> {
        let bank = self.bank();
        self.in_pcr(SECURE_BOOT_PCR)
            .take_while(|event| !is_separator(event, bank))
            .filter(|event| event.covers_data(bank))
            .filter_map(|event| Some((event, Variable::parse(event.data)?)))
            .collect()
    }

    fn secure_boot(&mut self) {
        if !self.expected.secure_boot || !self.can_judge(SECURE_BOOT_PCR, Reason::SecureBootOff) {
            return;
        }
        let variables = self.variables();
        let mut states = variables.iter().filter(|(_, variable)| {
            variable.guid == Guid::GLOBAL_VARIABLE && variable.name == *"SecureBoot"
        });
        let off = states.clone().find(|(_, variable)| variable.value != [1]);
        let deviation = match (off, states.next()) {
            (Some((event, variable)), _) => self
                .of_event(Reason::SecureBootOff, event)
                .with_note(format!("SecureBoot is {}", hex::encode(variable.value))),
            (None, None) => Deviation::of_pcr(Reason::SecureBootOff, SECURE_BOOT_PCR)
                .with_note("the firmware did not measure the variable SecureBoot"),
            (None, Some(_)) => return,
        };
        self.found.push(deviation);
    }

    /// PCR 4 holds what the firmware started, and its own strings. A digest of printable text is no
    /// image's, whatever type the event claims.
    fn applications(&mut self) {
        let allowed = &self.expected.applications;
        if allowed.is_empty() || !self.can_judge(APPLICATION_PCR, Reason::BootEventUnexpected) {
            return;
        }
        let bank = self.bank();
        let mut started = false;
        for event in self.in_pcr(APPLICATION_PCR).collect::<Vec<_>>() {
            if self.is_digest_in(&event, allowed) {
                started = true;
            } else if !self.is_listed(&event)
                && !is_separator(&event, bank)
                && command_line::covered_text(&event, bank).is_none()
            {
                self.unexpected(&event, allowed);
            }
        }
        if !started {
            self.missing(
                APPLICATION_PCR,
                allowed,
                "none of the boot applications was started",
            );
        }
    }

    fn loaded(&mut self, allowed: &[Digest], what: &str) {
        if allowed.is_empty() {
            return;
        }
        let loaded = self
            .log
            .events()
            .any(|event| LOADER_PCRS.contains(&event.pcr) && self.is_digest_in(&event, allowed));
        if !loaded {
            let note = format!("no {what} of the manifest was measured in PCR 8, 9 or 11");
            self.missing(LOADER_PCRS[1], allowed, &note);
        }
    }

    fn command_line(&mut self) {
        let (patterns, bank) = (&self.expected.command_lines, self.bank());
        if patterns.is_empty() {
            return;
        }
        let given = self.log.events().any(|event| {
            command_line::PCRS.contains(&event.pcr) && command_line::allows(patterns, &event, bank)
        });
        if !given {
            let measured = self
                .log
                .events()
                .filter(|event| command_line::PCRS[1..].contains(&event.pcr))
                .find_map(|event| command_line::covered_text(&event, bank));
            let note = match measured {
                Some(text) => format!("measured: {text}"),
                None => {
                    "no command line that can be read was measured, and no hash of an expected one"
                        .to_owned()
                }
            };
            let deviation = Deviation::of_pcr(Reason::CmdlineUnexpected, LOADER_PCRS[1])
                .with_note(note)
                .with_expected(patterns.iter().map(|line| line.clone().into_bytes()));
            self.found.push(deviation);
        }
    }

    /// Every event of a closed PCR must be one that the manifest explains.
    fn closed(&mut self) {
        let expected = self.expected;
        let mut closed: BTreeSet<u32> = expected.events.keys().map(|pcr| u32::from(*pcr)).collect();
        for pcr in &closed.clone() {
            if !self.can_judge(*pcr, Reason::BootEventUnexpected) {
                closed.remove(pcr);
            }
        }
        let loads = !expected.kernels.is_empty()
            || !expected.initrds.is_empty()
            || !expected.command_lines.is_empty();
        if loads {
            for pcr in CLOSED_PCRS {
                // systemd-stub's PCR 12 need not be quoted: what it changes is in PCR 9 once more.
                let judged = pcr > 10 && !self.log.mismatches(pcr);
                if judged || self.can_judge(pcr, Reason::BootEventUnexpected) {
                    closed.insert(pcr);
                }
            }
        }
        let bank = self.bank();
        for event in self.log.events() {
            if !closed.contains(&event.pcr) || self.is_listed(&event) || is_separator(&event, bank)
            {
                continue;
            }
            let explained = match event.pcr {
                APPLICATION_PCR => self.is_digest_in(&event, &expected.applications),
                pcr if loads && (CLOSED_PCRS.contains(&pcr) || LOADER_PCRS.contains(&pcr)) => {
                    self.is_digest_in(&event, &expected.kernels)
                        || self.is_digest_in(&event, &expected.initrds)
                        || command_line::allows(&expected.command_lines, &event, bank)
                }
                _ => false,
            };
            if explained {
                continue;
            }
            match command_line::covered_text(&event, bank) {
                Some(text)
                    if !expected.command_lines.is_empty()
                        && command_line::PCRS.contains(&event.pcr) =>
                {
                    if self.reported.insert(event.number) {
                        let deviation = self
                            .of_event(Reason::CmdlineUnexpected, &event)
                            .with_note(format!("measured: {text}"))
                            .with_expected(
                                expected
                                    .command_lines
                                    .iter()
                                    .map(|l| l.clone().into_bytes()),
                            );
                        self.found.push(deviation);
                    }
                }
                _ => {
                    let listed = expected.events.get(&(event.pcr as u8));
                    self.unexpected(&event, listed.map_or(&[], Vec::as_slice));
                }
            }
        }
    }

    fn is_digest_in(&self, event: &Event<'_>, list: &[Digest]) -> bool {
        event
            .digest(self.bank())
            .is_some_and(|digest| list.contains(&digest))
    }

    fn is_listed(&self, event: &Event<'_>) -> bool {
        let listed = self.expected.events.get(&(event.pcr as u8));
        listed.is_some_and(|list| self.is_digest_in(event, list))
    }

    fn unexpected(&mut self, event: &Event<'_>, expected: &[Digest]) {
        if !self.reported.insert(event.number) {
            return;
        }
        let in_bank = expected.iter().filter(|digest| digest.alg() == self.bank());
        let deviation = self
            .of_event(Reason::BootEventUnexpected, event)
            .with_expected(in_bank.map(|digest| digest.as_bytes().to_vec()));
        self.found.push(deviation);
    }

    fn missing(&mut self, pcr: u32, expected: &[Digest], note: &str) {
        let deviation = Deviation::of_pcr(Reason::BootEventMissing, pcr)
            .with_expected(expected.iter().map(|digest| digest.as_bytes().to_vec()))
            .with_note(note);
        self.found.push(deviation);
    }

    pub(super) fn of_event(&self, reason: Reason, event: &Event<'_>) -> Deviation {
        let deviation = Deviation::of_pcr(reason, event.pcr);
        let measured = event.digest(self.bank());
        Deviation {
            event: Some(event.number),
            what: describe(event),
            measured: measured.map(|digest| digest.as_bytes().to_vec()),
            ..deviation
        }
    }
}

/// Whether the event is the separator of firmware without an error, by its digest.
fn is_separator(event: &Event<'_>, bank: HashAlg) -> bool {
    event.covers(bank, &[0; 4])
}

/// Type and data, for people: no PCR covers the type.
pub(super) fn describe(event: &Event<'_>) -> String {
    let what = match event.view() {
        EventData::Variable(variable) => variable.name.to_string(),
        EventData::ImageLoad(image) => image.file().map_or_else(String::new, |f| f.to_string()),
        EventData::Tagged(tag) => String::from_utf8_lossy(tag.data)
            .trim_end_matches('\0')
            .to_owned(),
        EventData::Text(text) => text.to_owned(),
        EventData::Text16(text) => text.to_string(),
        _ => String::new(),
    };
    if what.is_empty() {
        return event.event_type.to_string();
    }
    format!("{} {what}", event.event_type)
}
