//! A whole run from a seed: a fleet, its links, and everything that goes wrong for some hours. Then
//! the link is sound again, and within a bounded time everything must have been appraised.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use mote_schemas::message::Tier;
use mote_verifier::engine::Settings;

use super::agent::Setup;
use super::link::{Direction, Link};
use super::machine::{Firmware, Truth};
use super::rng::Rng;
use super::{Action, Sim};
use crate::soft_boot::boot_log;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Devices are settled so long after the link has come back, at the latest: the longest back-off
/// (15 min), two exchanges that began before and end in vain (93 s each), one interval (10 min), and
/// the log.
pub const LIVENESS: Duration = HOUR;

/// Times that a datagram is sent at most (RFC 7252, 4.8: `MAX_RETRANSMIT` is 4).
const SENT: u64 = 5;

/// Most bytes that a session costs before its log: hello twice, with keys, and open.
const SESSION_BYTES: u64 = SENT * (2 * 400 + 1000);

/// Most bytes that a heartbeat costs without new records.
const BEAT_BYTES: u64 = SENT * 700;

/// Most bytes that a record costs, with its share of the messages around it.
const RECORD_BYTES: u64 = SENT * 400;

/// A run in which something happened that must not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Repeats it.
    pub seed: u64,
    /// What happened, and what had happened before.
    pub what: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\nreplay with MOTE_SIM_SEED={} (one run) or `mote-sim seeds --first {} --count 1`",
            self.what, self.seed, self.seed
        )
    }
}

/// What a run that went well came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Fingerprint of the run.
    pub trace: u64,
    /// Appraisals that agents heard of.
    pub appraisals: u64,
    /// Sessions opened.
    pub sessions: u64,
    /// Datagrams sent by agents.
    pub datagrams: u64,
    /// Faults that were played.
    pub faults: u64,
}

/// Runs `seed` from beginning to end.
pub fn run(seed: u64) -> Result<Summary, Failure> {
    let played = catch_unwind(AssertUnwindSafe(|| play(seed)));
    let what = match played {
        Ok(Ok(summary)) => return Ok(summary),
        Ok(Err(what)) => what,
        Err(panic) => {
            let words = panic.downcast_ref::<String>().map(String::as_str);
            let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
            format!("panicked: {}", words.unwrap_or("no words"))
        }
    };
    Err(Failure { seed, what })
}

fn play(seed: u64) -> Result<Summary, String> {
    let mut dice = Rng::new(seed ^ 0x5ce4_a210);
    let settings = settings(&mut dice);
    let interval = Duration::from_secs(u64::from(settings.interval));
    let storm = interval * dice.between(4, 12) as u32;
    let mut sim = Sim::new(seed, settings);
    let agents = dice.between(1, 3) as usize;
    let fleet = Fleet::new(&mut sim, &mut dice);
    for _ in 0..agents {
        let setup = setup(&mut dice, &fleet);
        let agent = sim.add_agent(setup);
        sim.at(dice.time(30 * SECOND), Action::PowerOn(agent));
    }
    let mut faults = 0;
    for agent in 0..agents {
        faults += trouble(&mut sim, &mut dice, agent, storm);
    }
    faults += verifier_trouble(&mut sim, &mut dice, storm);
    sim.run_until(storm);
    verdict(&sim, Ok(()))?;

    // Everything works again.
    sim.at(storm, Action::StartVerifier);
    for agent in 0..agents {
        sim.at(storm, Action::SetLink(agent, Link::PERFECT));
        sim.at(storm, Action::PowerOn(agent));
        sim.at(storm, Action::StartAgent(agent));
        // Something to find, or nothing.
        let known = dice.percent(70);
        sim.at(storm + MINUTE, Action::Measure(agent, known));
    }
    sim.run_until(storm + 2 * MINUTE);
    for agent in 0..agents {
        sim.agent(agent).machine().race = 0;
    }
    while sim.settled().is_err() && sim.now() < storm + LIVENESS && sim.violations().is_empty() {
        sim.run_until(sim.now() + MINUTE);
    }
    let settled = sim.settled();
    verdict(
        &sim,
        settled.map_err(|what| format!("not settled in time: {what}")),
    )?;
    let quiet = steady(&mut sim, interval);
    verdict(&sim, quiet)?;
    let thrifty = budget(&sim, interval);
    verdict(&sim, thrifty)?;
    Ok(summary(&sim, faults))
}

/// The first thing that went wrong, with its story.
fn verdict(sim: &Sim, last: Result<(), String>) -> Result<(), String> {
    let first = sim.violations().first().cloned();
    match first.or(last.err()) {
        None => Ok(()),
        Some(what) => Err(format!("{}{what}", sim.story())),
    }
}

fn settings(dice: &mut Rng) -> Settings {
    let interval = *dice.pick(&[30, 60, 300, 600]);
    Settings {
        interval,
        // Now and then a nonce is dead before the next heartbeat.
        nonce_lifetime: *dice.pick(&[interval / 2, interval + 100, 4 * interval, 86_400]),
        ..Settings::default()
    }
}

/// What the devices of a run have in common.
struct Fleet {
    /// Boot logs of its models; none if it has no firmware that writes one.
    logs: Vec<Vec<u8>>,
    /// Reference values expect something of them.
    expected: bool,
}

impl Fleet {
    fn new(sim: &mut Sim, dice: &mut Rng) -> Self {
        let models = *dice.pick(&[0, 0, 1, 1, 2]);
        let logs: Vec<_> = (1..=models)
            .map(|model| boot_log(model, dice.between(300, 4_000) as usize))
            .collect();
        let expected = models > 0 && dice.percent(40);
        if expected {
            sim.expect_boot_logs(&logs);
        }
        if let Some(log) = logs.first().filter(|_| dice.percent(30)) {
            sim.know_boot_log(log);
        }
        Fleet { logs, expected }
    }

    fn firmware(&self, dice: &mut Rng) -> Firmware {
        if self.logs.is_empty() || (!self.expected && dice.percent(20)) {
            return Firmware::Silent;
        }
        let log = dice.pick(&self.logs).clone();
        if !self.expected && dice.percent(15) {
            // The log of a model that it is not.
            return Firmware::Lies(boot_log(99, 500), log);
        }
        Firmware::Logs(log)
    }
}

fn setup(dice: &mut Rng, fleet: &Fleet) -> Setup {
    // As often the narrowest as the usual ones.
    let datagram = *dice.pick(&[64, 80, 127, 256, 512, 1024, 1024]);
    let link = Link {
        up: direction(dice, datagram),
        down: direction(dice, datagram),
    };
    Setup {
        link,
        datagram,
        // With and without boot PCRs.
        pcrs: if fleet.expected {
            0x7ff
        } else {
            *dice.pick(&[0x7ff, 0x7ff, 0x4ff, 0x400])
        },
        files: dice.between(0, 40) as usize,
        race: *dice.pick(&[0, 20, 60]),
        firmware: fleet.firmware(dice),
        ..Setup::default()
    }
}

fn direction(dice: &mut Rng, datagram: usize) -> Direction {
    let delay = match dice.below(6) {
        0..3 => dice.time(SECOND),
        3 => dice.time(5 * SECOND),
        4 => dice.time(30 * SECOND),
        _ => dice.time(3 * MINUTE),
    };
    Direction {
        loss: *dice.pick(&[0, 5, 20, 30, 50]),
        duplicate: *dice.pick(&[0, 0, 10, 40]),
        delay,
        jitter: *dice.pick(&[Duration::ZERO, SECOND, 10 * SECOND]),
        reorder: *dice.pick(&[0, 0, 10, 30]),
        detour: dice.time(2 * MINUTE),
        // Nothing of either side is ever larger than the agent was told.
        mtu: *dice.pick(&[datagram, datagram, 1280]),
    }
}

/// What befalls one device and its link.
fn trouble(sim: &mut Sim, dice: &mut Rng, agent: usize, storm: Duration) -> u64 {
    let count = dice.between(2, 10);
    let link = sim.agent(agent).setup.link;
    for _ in 0..count {
        let at = dice.time(storm);
        match dice.below(13) {
            12 => {
                // Up to some twenty datagrams, whatever their size.
                let most = 20 * sim.agent(agent).setup.datagram as u64;
                let len = dice.between(1, most.min(20_000)) as usize;
                sim.at(at, Action::MeasureBuffer(agent, len));
            }
            0..3 => sim.at(at, Action::Measure(agent, true)),
            3 => sim.at(at, Action::Measure(agent, false)),
            4 => {
                let lost = *dice.pick(&[0, 5_000, 60_000]);
                sim.at(at, Action::PowerCut(agent, lost));
                sim.at(at + dice.time(storm / 4), Action::PowerOn(agent));
            }
            5 => {
                sim.at(at, Action::StopAgent(agent));
                sim.at(at + dice.time(MINUTE), Action::StartAgent(agent));
            }
            6 | 7 => {
                sim.at(at, Action::SetLink(agent, outage(dice, link)));
                let back = (at + dice.time(storm / 2)).min(storm.saturating_sub(SECOND));
                sim.at(back, Action::SetLink(agent, link));
            }
            8 => sim.at(at, Action::Rebind(agent)),
            9 => sim.at(at, Action::ReplayDown(agent)),
            _ => {
                for _ in 0..dice.between(1, 5) {
                    sim.at(at, Action::ReplayUp(agent));
                }
            }
        }
    }
    count
}

/// A partition: of one direction or of both.
fn outage(dice: &mut Rng, mut link: Link) -> Link {
    match dice.below(3) {
        0 => link.up = Link::CUT.up,
        1 => link.down = Link::CUT.down,
        _ => link = Link::CUT,
    }
    link
}

fn verifier_trouble(sim: &mut Sim, dice: &mut Rng, storm: Duration) -> u64 {
    let count = dice.below(4);
    for _ in 0..count {
        let at = dice.time(storm);
        sim.at(at, Action::CrashVerifier);
        let down = *dice.pick(&[Duration::ZERO, SECOND, MINUTE, storm / 4]);
        sim.at(at + dice.time(down), Action::StartVerifier);
    }
    count
}

/// On a sound link, with nothing new: one datagram each way for each heartbeat, and the truth.
fn steady(sim: &mut Sim, interval: Duration) -> Result<(), String> {
    let before: Vec<_> = sim.agents().iter().map(|a| a.appraisals.len()).collect();
    let begin = sim.now().as_millis() as u64;
    sim.run_until(sim.now() + 3 * interval);
    for (index, (agent, appraisals)) in sim.agents().iter().zip(before).enumerate() {
        let beats = (agent.appraisals.len() - appraisals) as u64;
        // A heartbeat that has begun when time is up, and is not answered yet, is not one of these.
        let end = agent.appraisals.last().map_or(0, |last| last.at);
        let sent = agent.sent.iter().filter(|at| **at > begin && **at <= end);
        let sent = sent.count() as u64;
        let each = match agent.setup.datagram {
            // The quote in blocks of 16 bytes, the answer in blocks of 32.
            0..128 => 12,
            // Perhaps the answer names many reasons.
            128..512 => 2,
            _ => 1,
        };
        // An expired nonce costs a second round trip each time.
        if beats < 3 || sent > 2 * each * beats {
            return Err(format!(
                "agent {index}: {sent} datagrams for {beats} heartbeats in three intervals"
            ));
        }
        let machine = agent.machine();
        let has = |truth: Truth| {
            machine
                .boots()
                .last()
                .is_some_and(|b| b.records.contains(&truth))
        };
        let boot_pcrs = agent.setup.pcrs & 0x3ff == 0x3ff;
        let lies = matches!(agent.setup.firmware, Firmware::Lies(..));
        let lies = lies && agent.setup.pcrs & 0x3ff != 0;
        let tier = if has(Truth::Unknown) || lies {
            Tier::Contraindicated
        } else if has(Truth::Buffer) || !boot_pcrs {
            // Nobody has named the buffer; boot_aggregate cannot be checked.
            Tier::Warning
        } else {
            Tier::Affirming
        };
        let told = agent.appraisals.last().map(|appraisal| appraisal.tier);
        if told != Some(tier) {
            return Err(format!("agent {index}: told {told:?} instead of {tier}"));
        }
    }
    Ok(())
}

/// Bytes that agents sent, against what their work may cost on the worst of links.
fn budget(sim: &Sim, interval: Duration) -> Result<(), String> {
    for (index, agent) in sim.agents().iter().enumerate() {
        let machine = agent.machine();
        let records: usize = machine.boots().iter().map(|b| b.records.len()).sum();
        let buffered: u64 = machine.boots().iter().map(|b| b.buffered).sum();
        let boot_log = agent.setup.firmware.shown().map_or(0, <[u8]>::len) as u64;
        // Of a datagram of 64 bytes, 16 are payload, or even less.
        let frames = match agent.setup.datagram {
            0..128 => 5,
            128..512 => 2,
            _ => 1,
        };
        let heartbeats = sim.now().as_secs() / interval.as_secs() + 1;
        let failures = (agent.unreachable.len() + agent.refused.len()) as u64;
        // A boot log is sent once more when somebody else has spoilt it, or a crash has cost some of it.
        let allowed = frames
            * (SESSION_BYTES * (2 + agent.sessions + failures)
                + BEAT_BYTES * heartbeats
                + RECORD_BYTES * records as u64
                + 2 * SENT * (buffered + boot_log));
        if agent.up.bytes > allowed {
            let sent = agent.up.bytes;
            return Err(format!(
                "agent {index}: {sent} bytes sent, {allowed} allowed"
            ));
        }
    }
    Ok(())
}

fn summary(sim: &Sim, faults: u64) -> Summary {
    let mut summary = Summary {
        trace: sim.trace(),
        faults,
        ..Summary::default()
    };
    for agent in sim.agents() {
        summary.appraisals += agent.appraisals.len() as u64;
        summary.sessions += agent.sessions;
        summary.datagrams += agent.up.datagrams;
    }
    summary
}

/// Runs `count` seeds from `first` on, on `threads` threads; the failures, by seed, and the sum of
/// the rest.
pub fn run_many(first: u64, count: u64, threads: usize) -> (Vec<Failure>, Summary) {
    let next = std::sync::atomic::AtomicU64::new(0);
    let work = || {
        let (mut failures, mut sum) = (Vec::new(), Summary::default());
        loop {
            let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            // After some failures, more say nothing new.
            if number >= count || failures.len() >= 5 {
                return (failures, sum);
            }
            match run(first + number) {
                Ok(summary) => sum = plus(sum, summary),
                Err(failure) => failures.push(failure),
            }
        }
    };
    let mut failures = Vec::new();
    let mut sum = Summary::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            // `run` catches what a run panics with.
            if let Ok((failed, summary)) = worker.join() {
                failures.extend(failed);
                sum = plus(sum, summary);
            }
        }
    });
    failures.sort_by_key(|failure| failure.seed);
    (failures, sum)
}

fn plus(a: Summary, b: Summary) -> Summary {
    Summary {
        trace: a.trace ^ b.trace,
        appraisals: a.appraisals + b.appraisals,
        sessions: a.sessions + b.sessions,
        datagrams: a.datagrams + b.datagrams,
        faults: a.faults + b.faults,
    }
}
