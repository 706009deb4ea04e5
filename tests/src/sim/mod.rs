//! A deterministic simulator of bad links: virtual time, N agents with soft TPMs, one verifier whose
//! store can lose power, and links that lose, repeat, delay and reorder.
//!
//! | module | what |
//! |---|---|
//! | [`rng`] | the one source of chance |
//! | [`link`] | what happens to a datagram |
//! | [`machine`] | the device: soft TPM and kernel |
//! | [`agent`] | a session on a machine |
//! | [`store`] | a store that can lose power |
//! | [`verifier`] | an engine on that store |
//! | [`oracle`] | what must hold at every moment |
//! | [`scenario`] | a whole run from a seed |
//! | [`lossy`] | days on a link that loses a third of everything |
//!
//! Nothing here waits for real time and nothing is concurrent: a run is a loop over a queue of events.
//! The keys that the verifier draws come from the system, so two runs of one seed differ in the bytes
//! of their datagrams; sizes, times and order are the same ([`Sim::trace`]).

pub mod agent;
pub mod link;
pub mod lossy;
pub mod machine;
pub mod oracle;
mod replay;
pub mod rng;
pub mod scenario;
pub mod store;
pub mod verifier;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use mote_agent::session::Event as Said;
use mote_schemas::coap::{Message, option};
use mote_verifier::engine::Settings;

use agent::{Agent, Appraisal, Setup, Step};
use link::Link;
use oracle::Witness;
use replay::{Captured, remember};
use rng::Rng;
use verifier::Verifier;

/// Lines of a run that a failure shows.
const SHOWN: usize = 80;

/// Something that happens to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The device gets power and its agent starts.
    PowerOn(usize),
    /// The device loses power, and the TPM up to so many milliseconds of its clock.
    PowerCut(usize, u64),
    /// The agent's process starts, on a device that is on.
    StartAgent(usize),
    /// The agent's process ends; the device stays on.
    StopAgent(usize),
    /// The kernel measures a file that reference values know, or one that they do not.
    Measure(usize, bool),
    /// The kernel measures a buffer of so many bytes.
    MeasureBuffer(usize, usize),
    /// The agent's source address changes.
    Rebind(usize),
    /// The link becomes another.
    SetLink(usize, Link),
    /// The verifier loses power.
    CrashVerifier,
    /// The verifier starts again.
    StartVerifier,
    /// Somebody sends the verifier a datagram of this agent again, from elsewhere, perhaps altered.
    ReplayUp(usize),
    /// Somebody sends the agent a datagram of the verifier again, perhaps altered.
    ReplayDown(usize),
}

enum Event {
    Up(usize, SocketAddr, Rc<[u8]>),
    Down(usize, SocketAddr, Rc<[u8]>),
    Wake(usize, u64),
    Flush,
    Act(Action),
}

/// One line of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    at: u64,
    what: &'static str,
    agent: usize,
    number: u64,
}

/// A world in which time passes only when somebody says so.
pub struct Sim {
    now: u64,
    order: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: HashMap<u64, Event>,
    rng: Rng,
    agents: Vec<Agent>,
    witnesses: Vec<Witness>,
    captured: Vec<Captured>,
    verifier: Verifier,
    flush_due: bool,
    lines: VecDeque<Line>,
    trace: u64,
    violations: Vec<String>,
    /// Bytes to and from addresses that nobody answers at.
    spoofed: HashMap<SocketAddr, (u64, u64)>,
}

impl Sim {
    /// An empty world with a verifier.
    pub fn new(seed: u64, settings: Settings) -> Self {
        Sim {
            now: 0,
            order: 0,
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            rng: Rng::new(seed),
            agents: Vec::new(),
            witnesses: Vec::new(),
            captured: Vec::new(),
            verifier: Verifier::new(settings),
            flush_due: false,
            lines: VecDeque::new(),
            trace: 0xcbf2_9ce4_8422_2325,
            violations: Vec::new(),
            spoofed: HashMap::new(),
        }
    }

    /// Adds a device that is off, and admits it. Returns its number.
    pub fn add_agent(&mut self, setup: Setup) -> usize {
        let index = self.agents.len();
        let point = *self.verifier.point();
        let agent = Agent::new(index as u16 + 1, setup, &point, &mut self.rng);
        self.verifier.admit(agent.machine().ek_public());
        self.agents.push(agent);
        self.witnesses.push(Witness::default());
        self.captured.push(Captured::default());
        // Its rules are the engine's from the start on.
        self.verifier.start(self.now);
        index
    }

    /// Lets `action` happen at a time, or now if that has passed.
    pub fn at(&mut self, time: Duration, action: Action) {
        let time = (time.as_millis() as u64).max(self.now);
        self.push(time, Event::Act(action));
    }

    /// Virtual time.
    pub fn now(&self) -> Duration {
        Duration::from_millis(self.now)
    }

    /// An agent.
    ///
    /// # Panics
    /// When there is no such agent.
    pub fn agent(&self, index: usize) -> &Agent {
        &self.agents[index]
    }

    /// All agents.
    pub fn agents(&self) -> &[Agent] {
        &self.agents
    }

    /// When the verifier got the quotes of this agent that it has appraised, in milliseconds.
    ///
    /// # Panics
    /// When there is no such agent.
    pub fn appraised(&self, agent: usize) -> &[u64] {
        &self.witnesses[agent].appraised
    }

    /// Lets reference values expect of every boot log that it shows nothing in PCR 1 but what these do.
    /// Before any agent is added.
    ///
    /// # Panics
    /// When the logs are none.
    pub fn expect_boot_logs(&mut self, logs: &[Vec<u8>]) {
        self.verifier.expect_boot_logs(logs);
    }

    /// Lets the verifier know a boot log already. Before any agent is added.
    pub fn know_boot_log(&mut self, log: &[u8]) {
        self.verifier.know_boot_log(log);
    }

    /// The verifier.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// The run's dice, for whoever drives it.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// A fingerprint of everything that has happened: times, sizes, order.
    pub fn trace(&self) -> u64 {
        self.trace
    }

    /// What should not have happened.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// The end of the run so far, a line for each event.
    pub fn story(&self) -> String {
        let line = |line: &Line| {
            format!(
                "{:>10}.{:03} s  {:<14} agent {}  {}\n",
                line.at / 1000,
                line.at % 1000,
                line.what,
                line.agent,
                line.number
            )
        };
        self.lines.iter().map(line).collect()
    }

    /// Whether every device that is on is appraised completely.
    pub fn settled(&self) -> Result<(), String> {
        for (index, agent) in self.agents.iter().enumerate() {
            if agent.is_on() {
                oracle::settled(&self.verifier, agent)
                    .map_err(|error| format!("agent {index}: {error}"))?;
            }
        }
        Ok(())
    }

    /// Lets time pass until `until`, or until something should not have happened.
    pub fn run_until(&mut self, until: Duration) {
        let until = until.as_millis() as u64;
        while self.violations.is_empty() {
            match self.queue.peek() {
                Some(Reverse((time, _))) if *time <= until => {}
                _ => break,
            }
            if let Some(Reverse((time, order))) = self.queue.pop()
                && let Some(event) = self.events.remove(&order)
            {
                self.now = time;
                self.happen(event);
            }
        }
        self.now = self.now.max(until);
    }

    /// Notes that something should not have happened.
    pub fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    fn push(&mut self, time: u64, event: Event) {
        self.order += 1;
        self.queue.push(Reverse((time, self.order)));
        self.events.insert(self.order, event);
    }

    fn note(&mut self, what: &'static str, agent: usize, number: u64) {
        let at = self.now;
        let line = Line {
            at,
            what,
            agent,
            number,
        };
        if self.lines.len() == SHOWN {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
        // FNV-1a.
        let numbers = [at, agent as u64, number];
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
        for byte in what.bytes().chain(bytes) {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn check(&mut self, agent: usize, outcome: Result<(), String>) {
        if let Err(what) = outcome {
            self.violations.push(format!("agent {agent}: {what}"));
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Up(agent, from, bytes) => self.arrive_up(agent, from, &bytes),
            Event::Down(agent, to, bytes) => self.arrive_down(agent, to, &bytes),
            Event::Wake(agent, generation) if self.agents[agent].generation == generation => {
                self.poll(agent);
            }
            Event::Wake(..) => {}
            Event::Flush => {
                self.flush_due = false;
                if let Err(error) = self.verifier.flush() {
                    self.violations.push(error);
                }
            }
            Event::Act(action) => self.act(action),
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::PowerOn(agent) if !self.is_powered(agent) => {
                self.note("power on", agent, 0);
                self.agents[agent].power_on(self.now);
                self.poll(agent);
            }
            Action::PowerCut(agent, lost) if self.is_powered(agent) => {
                self.note("power cut", agent, lost);
                self.agents[agent].power_off(lost);
            }
            Action::StartAgent(agent) if self.is_powered(agent) && !self.agents[agent].is_on() => {
                self.note("agent starts", agent, 0);
                self.agents[agent].start(self.now);
                self.poll(agent);
            }
            Action::StopAgent(agent) if self.agents[agent].is_on() => {
                self.note("agent stops", agent, 0);
                self.agents[agent].stop();
            }
            Action::Measure(agent, known) if self.is_powered(agent) => {
                self.note("measured", agent, u64::from(known));
                self.agents[agent].machine().measure(known);
            }
            Action::MeasureBuffer(agent, len) if self.is_powered(agent) => {
                self.note("buffer", agent, len as u64);
                self.agents[agent].machine().measure_buffer(len);
            }
            Action::Rebind(agent) => {
                self.agents[agent].rebind();
                let port = self.agents[agent].address.port();
                self.note("rebound", agent, u64::from(port));
            }
            Action::SetLink(agent, link) => {
                self.note("other link", agent, u64::from(link.up.loss));
                self.agents[agent].setup.link = link;
            }
            Action::CrashVerifier if self.verifier.is_up() => {
                self.note("verifier dies", 0, u64::from(self.verifier.has_batched()));
                self.verifier.crash();
                for agent in 0..self.agents.len() {
                    let seen = &self.witnesses[agent];
                    let outcome = seen.after_crash(&self.verifier, &self.agents[agent]);
                    self.check(agent, outcome);
                }
            }
            Action::StartVerifier if !self.verifier.is_up() => {
                self.note("verifier back", 0, 0);
                self.verifier.start(self.now);
            }
            Action::ReplayUp(agent) => self.replay_up(agent),
            Action::ReplayDown(agent) => self.replay_down(agent),
            _ => {}
        }
    }

    fn is_powered(&self, agent: usize) -> bool {
        self.agents[agent].machine().is_powered()
    }

    fn poll(&mut self, index: usize) {
        // Everything that is due now, and then to sleep.
        for _ in 0..100 {
            let (said, step) = self.agents[index].poll(self.now);
            for event in said {
                self.heard(index, event);
            }
            match step {
                Step::Send(bytes) => self.send_up(index, &bytes),
                Step::Sleep(until) => {
                    self.agents[index].generation += 1;
                    let generation = self.agents[index].generation;
                    self.push(until, Event::Wake(index, generation));
                    return;
                }
                Step::Spins => break,
            }
        }
        self.check(index, Err("the session goes round in circles".to_owned()));
    }

    fn heard(&mut self, index: usize, event: Said) {
        let now = self.now;
        let agent = &mut self.agents[index];
        match event {
            Said::SessionOpened { .. } => {
                agent.sessions += 1;
                agent.opened.push(now);
                self.note("session", index, 0);
            }
            Said::Appraised {
                tier,
                reasons,
                records,
                ..
            } => {
                let outcome = self.witnesses[index].told(agent, tier);
                agent.appraisals.push(Appraisal {
                    at: now,
                    tier,
                    reasons: reasons.iter().map(|r| r.as_str().to_owned()).collect(),
                });
                self.note("appraised", index, records);
                self.check(index, outcome);
            }
            Said::Unreachable { retry } => {
                agent.unreachable.push((now, retry));
                self.note("unreachable", index, retry.as_millis() as u64);
            }
            Said::Refused { reason, retry, .. } => {
                agent.refused.push((now, reason.as_str().to_owned(), retry));
                self.note("refused", index, retry.as_millis() as u64);
            }
            Said::NotTheVerifier(_) => self.note("not verifier", index, 0),
            Said::Device { error, .. } => {
                self.check(index, Err(format!("the device failed: {error}")));
            }
        }
    }

    fn send_up(&mut self, index: usize, bytes: &[u8]) {
        self.note("sent", index, bytes.len() as u64);
        let agent = &mut self.agents[index];
        agent.up.add(bytes.len());
        agent.sent.push(self.now);
        let (link, from) = (agent.setup.link, agent.address);
        let bytes: Rc<[u8]> = bytes.into();
        remember(&mut self.captured[index].up, &bytes);
        for under_way in link.up.deliveries(bytes.len(), &mut self.rng) {
            let at = self.now + under_way.as_millis() as u64;
            self.push(at, Event::Up(index, from, Rc::clone(&bytes)));
        }
    }

    fn arrive_up(&mut self, index: usize, from: SocketAddr, bytes: &[u8]) {
        if !self.verifier.is_up() {
            return;
        }
        self.note("verifier got", index, bytes.len() as u64);
        let reply = self.handle(index, from, bytes);
        let Some(reply) = reply else { return };
        self.note("verifier sent", index, reply.len() as u64);
        if !may_be_longer(bytes) && reply.len() > bytes.len() {
            let (reply, bytes) = (reply.len(), bytes.len());
            let what = format!("{reply} bytes for {bytes} to an unverified address");
            self.check(index, Err(what));
        }
        let link = self.agents[index].setup.link;
        let reply: Rc<[u8]> = reply.into();
        remember(&mut self.captured[index].down, &reply);
        for under_way in link.down.deliveries(reply.len(), &mut self.rng) {
            let at = self.now + under_way.as_millis() as u64;
            self.push(at, Event::Down(index, from, Rc::clone(&reply)));
        }
    }

    /// Hands a datagram to the verifier, and looks at what that made of the device.
    fn handle(&mut self, index: usize, from: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
        let reply = self.verifier.handle(self.now, from, bytes);
        if self.verifier.has_batched() && !self.flush_due {
            self.flush_due = true;
            // The daemon's beat, which does not wait for anybody's message.
            self.push((self.now / 1000 + 1) * 1000, Event::Flush);
        }
        let agent = &self.agents[index];
        let outcome = self.witnesses[index].after_message(&self.verifier, agent);
        self.check(index, outcome);
        reply
    }

    fn arrive_down(&mut self, index: usize, to: SocketAddr, bytes: &[u8]) {
        let agent = &mut self.agents[index];
        // A NAT that has forgotten the address lets nothing through to it.
        if agent.address != to || !agent.is_on() {
            return;
        }
        agent.down.add(bytes.len());
        agent.receive(self.now, bytes);
        self.note("got", index, bytes.len() as u64);
        self.poll(index);
    }
}

/// Whether the sender of this has shown where it is: it returns an Echo, or is under OSCORE.
fn may_be_longer(datagram: &[u8]) -> bool {
    Message::parse(datagram).is_ok_and(|message| {
        let body = message.body();
        body.option(option::ECHO).is_some() || body.option(option::OSCORE).is_some()
    })
}
