//! Days on a link that loses much of what is sent: how many of them does a device get through without
//! missing a heartbeat?
//!
//! A day begins with power-on and ends 24 hours later. It is a good one if every nonce that the
//! verifier gave out was answered, by a quote that it appraised, within the nonce's lifetime, and the
//! first quote was appraised as soon after power-on. The lifetime is two intervals: a heartbeat that
//! is due after one has one more to get through.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mote_verifier::engine::Settings;

use super::agent::Setup;
use super::link::Link;
use super::{Action, Sim};

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3600);

/// Records measured before the agent starts.
const FILES: usize = 50;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// The link, all day.
    pub link: Link,
    /// Seconds between heartbeats.
    pub interval: u32,
    /// The agent's configuration; the link in it is not used.
    pub setup: Setup,
}

impl Question {
    /// This loss in each direction, this delay, and defaults otherwise.
    pub fn new(loss: u8, delay: Duration) -> Self {
        Question {
            link: Link::lossy(loss, delay),
            interval: Settings::default().interval,
            setup: Setup::default(),
        }
    }
}

/// What some days came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Days without a missed heartbeat.
    pub good: u64,
    /// Days.
    pub days: u64,
    /// Quotes appraised.
    pub appraised: u64,
    /// Sessions opened; one each day would do.
    pub sessions: u64,
    /// Exchanges that ended without an answer.
    pub unanswered: u64,
    /// Bytes sent by the agents.
    pub up: u64,
    /// Bytes that reached them.
    pub down: u64,
    /// The longest time from one appraised quote to the next, in seconds.
    pub longest: u64,
}

impl Answer {
    /// Share of days that were good.
    #[expect(clippy::cast_precision_loss, reason = "nobody simulates 2^52 days")]
    pub fn ratio(&self) -> f64 {
        self.good as f64 / self.days.max(1) as f64
    }

    fn and(self, other: Answer) -> Answer {
        Answer {
            good: self.good + other.good,
            days: self.days + other.days,
            appraised: self.appraised + other.appraised,
            sessions: self.sessions + other.sessions,
            unanswered: self.unanswered + other.unanswered,
            up: self.up + other.up,
            down: self.down + other.down,
            longest: self.longest.max(other.longest),
        }
    }
}

/// One day.
///
/// # Errors
/// What happened that must never happen.
pub fn day(seed: u64, question: &Question) -> Result<Answer, String> {
    let lifetime = 2 * u64::from(question.interval) * 1000;
    let settings = Settings {
        interval: question.interval,
        nonce_lifetime: 2 * question.interval,
        ..Settings::default()
    };
    let mut sim = Sim::new(seed, settings);
    let agent = sim.add_agent(Setup {
        link: question.link,
        files: FILES,
        ..question.setup.clone()
    });
    sim.at(Duration::ZERO, Action::PowerOn(agent));
    for hour in 1..24 {
        sim.at(hour * HOUR, Action::Measure(agent, true));
    }
    sim.run_until(DAY);
    if let Some(violation) = sim.violations().first() {
        return Err(format!("{}seed {seed}: {violation}", sim.story()));
    }
    let end = DAY.as_millis() as u64;
    let (mut longest, mut last) = (0, 0);
    for at in sim.appraised(agent).iter().chain([&end]) {
        longest = longest.max(at - last);
        last = *at;
    }
    let (appraised, agent) = (sim.appraised(agent).len() as u64, sim.agent(agent));
    Ok(Answer {
        good: u64::from(longest <= lifetime),
        days: 1,
        appraised,
        sessions: agent.sessions,
        unanswered: agent.unreachable.len() as u64,
        up: agent.up.bytes,
        down: agent.down.bytes,
        longest: longest / 1000,
    })
}

/// `count` days, with seeds from `first` on, on `threads` threads.
///
/// # Errors
/// The first thing that happened that must never happen.
pub fn days(first: u64, count: u64, threads: usize, question: &Question) -> Result<Answer, String> {
    let next = AtomicU64::new(0);
    let work = || -> Result<Answer, String> {
        let mut sum = Answer::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(sum);
            }
            sum = sum.and(day(first + number, question)?);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_fold(Answer::default(), |sum, worker| {
                let days = worker.join().map_err(|_| "a day panicked".to_owned())?;
                Ok(sum.and(days?))
            })
    })
}
