//! How agents and verifier treat each other when something is slow, busy, asleep or gone.

use std::time::Duration;

use mote_agent::session::Pacing;
use mote_schemas::coap::Parameters;
use mote_schemas::message::Tier;
use mote_tests::sim::agent::Setup;
use mote_tests::sim::link::{Direction, Link};
use mote_tests::sim::{Action, Sim};
use mote_verifier::engine::Settings;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Runs a test that ends without anything that must never happen.
fn simulate(settings: Settings, test: impl FnOnce(&mut Sim)) {
    let mut sim = Sim::new(1, settings);
    test(&mut sim);
    assert!(
        sim.violations().is_empty(),
        "{}{:?}",
        sim.story(),
        sim.violations()
    );
}

fn settings(interval: Duration, nonce_lifetime: Duration) -> Settings {
    Settings {
        interval: interval.as_secs() as u32,
        nonce_lifetime: nonce_lifetime.as_secs() as u32,
        ..Settings::default()
    }
}

/// The agents' configuration, less the wait before the first hello.
fn at_once() -> Setup {
    Setup {
        pacing: Pacing {
            start_jitter: Duration::ZERO,
            ..Pacing::default()
        },
        ..Setup::default()
    }
}

fn milliseconds(time: Duration) -> u64 {
    time.as_millis() as u64
}

/// Most events in any window of this length.
fn busiest(mut times: Vec<u64>, window: Duration) -> usize {
    times.sort_unstable();
    let window = milliseconds(window);
    let within = |from: &u64| {
        times
            .iter()
            .filter(|t| (*from..from + window).contains(t))
            .count()
    };
    times.iter().map(within).max().unwrap_or(0)
}

#[test]
fn a_busy_verifier_serves_at_its_rate_and_is_not_asked_before_the_time_it_named() {
    let busy = Settings {
        hellos_per_second: 2,
        ..Settings::default()
    };
    simulate(busy, |sim| {
        for _ in 0..60 {
            let agent = sim.add_agent(Setup {
                files: 3,
                ..at_once()
            });
            sim.at(SECOND, Action::PowerOn(agent));
        }
        sim.run_until(5 * MINUTE);
        sim.settled().unwrap();
        let mut turned_away = 0;
        for agent in sim.agents() {
            for (at, reason, retry) in &agent.refused {
                assert_eq!(reason, "verifier-busy");
                assert!(*retry >= SECOND);
                let next = agent.sent.iter().find(|sent| *sent > at).unwrap();
                assert_eq!(*next, at + milliseconds(*retry));
                turned_away += 1;
            }
        }
        let opened = sim.agents().iter().flat_map(|agent| agent.opened.clone());
        // Two seconds' worth after the quiet, and the rate from then on.
        let served = busiest(opened.collect(), SECOND);
        println!("{turned_away} turned away, at most {served} served within a second");
        assert!((2..=6).contains(&served), "{served}");
        assert!((50..=300).contains(&turned_away), "{turned_away}");
    });
}

#[test]
fn back_off_is_capped_and_starts_over_after_success() {
    let pacing = Pacing::default();
    simulate(settings(MINUTE, DAY), |sim| {
        let agent = sim.add_agent(at_once());
        sim.at(Duration::ZERO, Action::CrashVerifier);
        sim.at(Duration::ZERO, Action::PowerOn(agent));
        sim.run_until(24 * HOUR);
        let waits: Vec<Duration> = sim.agent(agent).unreachable.iter().map(|u| u.1).collect();
        assert!(waits[0] <= pacing.backoff_first, "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= pacing.backoff_max));
        let last = &waits[waits.len() - 10..];
        assert!(
            last.iter().all(|wait| *wait >= pacing.backoff_max / 2),
            "{last:?}"
        );
        // A day of silence costs little: five datagrams an attempt, of 50 bytes.
        let up = sim.agent(agent).up;
        println!(
            "{} datagrams, {} bytes in a day of silence",
            up.datagrams, up.bytes
        );
        assert!(up.bytes < 50_000, "{up:?}");

        sim.at(24 * HOUR, Action::StartVerifier);
        sim.run_until(26 * HOUR);
        sim.settled().unwrap();
        let before = sim.agent(agent).unreachable.len();
        sim.at(26 * HOUR, Action::CrashVerifier);
        sim.run_until(27 * HOUR);
        let again = sim.agent(agent).unreachable[before].1;
        assert!(again <= pacing.backoff_first, "{again:?}");
    });
}

#[test]
fn a_fleet_that_boots_at_once_does_not_arrive_at_once() {
    const FLEET: usize = 200;
    simulate(Settings::default(), |sim| {
        for _ in 0..FLEET {
            let agent = sim.add_agent(Setup {
                files: 1,
                ..Setup::default()
            });
            sim.at(Duration::ZERO, Action::PowerOn(agent));
        }
        sim.run_until(MINUTE);
        sim.settled().unwrap();
        let first = sim.agents().iter().map(|agent| agent.sent[0]).collect();
        let hellos = busiest(first, SECOND);
        let after = |agent: &mote_tests::sim::agent::Agent, from: Duration| {
            agent
                .sent
                .iter()
                .copied()
                .find(|at| *at > milliseconds(from))
                .unwrap()
        };
        sim.run_until(6 * MINUTE);
        let beats = sim
            .agents()
            .iter()
            .map(|agent| after(agent, MINUTE))
            .collect();
        let beats = busiest(beats, SECOND);
        sim.run_until(HOUR);
        let later = sim
            .agents()
            .iter()
            .map(|agent| after(agent, 50 * MINUTE))
            .collect();
        let later = busiest(later, SECOND);
        println!("busiest second of {FLEET}: {hellos} hellos, {beats} beats, later {later} beats");
        // Evenly over 10 s would be 20, over 40 s 5.
        assert!(hellos <= 40, "{hellos}");
        assert!(beats <= 20, "{beats}");
        assert!(later <= 12, "{later}");
    });
}

#[test]
fn a_device_that_wakes_once_a_day_is_appraised_each_time_whatever_the_nonce_lives() {
    // The nonce is alive: one datagram each way. Or dead: one more each way, for a fresh one.
    for (lifetime, datagrams) in [(2 * DAY, 1), (HOUR, 2)] {
        simulate(settings(DAY, lifetime), |sim| {
            let agent = sim.add_agent(at_once());
            sim.at(Duration::ZERO, Action::PowerOn(agent));
            sim.run_until(HOUR);
            let before = sim.agent(agent).up.datagrams;
            sim.run_until(6 * DAY);
            let agent = sim.agent(agent);
            let woken = agent.appraisals.len() as u64 - 1;
            assert!((5..=7).contains(&woken), "{woken}");
            assert_eq!(agent.up.datagrams - before, woken * datagrams);
            assert_eq!(agent.sessions, 1);
            assert!(agent.appraisals.iter().all(|a| a.tier == Tier::Affirming));
            assert_eq!(sim.appraised(0).len(), agent.appraisals.len());
        });
    }
}

#[test]
fn once_from_a_timer_sends_only_what_is_new_since_the_last_time() {
    simulate(Settings::default(), |sim| {
        let agent = sim.add_agent(Setup {
            files: 200,
            ..at_once()
        });
        sim.at(Duration::ZERO, Action::PowerOn(agent));
        let mut spent = Vec::new();
        for day in 0..5 {
            sim.at(day * DAY, Action::StartAgent(agent));
            sim.at(day * DAY + 2 * HOUR, Action::Measure(agent, true));
            let before = sim.agent(agent).up.bytes;
            sim.run_until(day * DAY + MINUTE);
            sim.settled().unwrap();
            spent.push(sim.agent(agent).up.bytes - before);
            assert_eq!(sim.appraised(0).len() as u64, u64::from(day) + 1);
            sim.at(day * DAY + MINUTE, Action::StopAgent(agent));
            sim.run_until(day * DAY + 3 * HOUR);
        }
        println!("bytes up for each of five runs: {spent:?}");
        // hello twice, open, and the record of the day before.
        assert!(spent[1..].iter().all(|bytes| *bytes < 1500), "{spent:?}");
    });
}

#[test]
fn a_verifier_that_restarts_goes_on_with_its_hundred_sessions() {
    simulate(settings(MINUTE, HOUR), |sim| {
        for _ in 0..100 {
            let agent = sim.add_agent(Setup {
                files: 5,
                ..Setup::default()
            });
            sim.at(Duration::ZERO, Action::PowerOn(agent));
        }
        sim.run_until(10 * MINUTE);
        sim.at(10 * MINUTE, Action::CrashVerifier);
        sim.at(10 * MINUTE + SECOND, Action::StartVerifier);
        let before: Vec<_> = sim.agents().iter().map(|a| a.appraisals.len()).collect();
        sim.run_until(14 * MINUTE);
        sim.settled().unwrap();
        for (agent, before) in sim.agents().iter().zip(before) {
            // Echo, not hello (RFC 8613, B.1.2).
            assert_eq!(agent.sessions, 1);
            assert!(agent.refused.is_empty() && agent.unreachable.is_empty());
            let since = &agent.appraisals[before..];
            assert!(since.len() >= 3, "{since:?}");
            assert!(
                since
                    .iter()
                    .all(|appraisal| appraisal.tier == Tier::Affirming)
            );
        }
    });
}

#[test]
fn duplicates_and_reordering_cost_no_session() {
    let direction = Direction {
        duplicate: 100,
        jitter: SECOND,
        reorder: 30,
        detour: 20 * SECOND,
        ..Direction::PERFECT
    };
    simulate(settings(MINUTE, HOUR), |sim| {
        let agent = sim.add_agent(Setup {
            link: Link {
                up: direction,
                down: direction,
            },
            race: 30,
            ..at_once()
        });
        sim.at(Duration::ZERO, Action::PowerOn(agent));
        sim.run_until(4 * HOUR);
        let agent = sim.agent(agent);
        assert_eq!(agent.sessions, 1, "{:?}", agent.refused);
        assert!(agent.appraisals.len() > 200);
        assert!(agent.appraisals.iter().all(|a| a.tier == Tier::Affirming));
    });
}

#[test]
fn another_address_is_still_the_same_device() {
    simulate(settings(MINUTE, HOUR), |sim| {
        let agent = sim.add_agent(at_once());
        sim.at(Duration::ZERO, Action::PowerOn(agent));
        for minute in 1..60 {
            sim.at(minute * MINUTE + SECOND / 2, Action::Rebind(agent));
        }
        sim.run_until(HOUR);
        let agent = sim.agent(agent);
        assert_eq!(agent.sessions, 1);
        assert!(agent.appraisals.len() >= 60);
        assert_eq!(agent.up.datagrams, agent.down.datagrams);
    });
}

#[test]
fn another_address_in_the_middle_of_an_exchange_costs_no_session() {
    simulate(settings(MINUTE, HOUR), |sim| {
        let agent = sim.add_agent(at_once());
        sim.at(Duration::ZERO, Action::PowerOn(agent));
        sim.run_until(10 * SECOND);
        for _ in 0..20 {
            // The answer to the next heartbeat is lost, and then the address changes.
            let deaf = Link {
                down: Link::CUT.down,
                ..Link::PERFECT
            };
            sim.at(sim.now(), Action::SetLink(agent, deaf));
            let (sent, answers) = (
                sim.agent(agent).sent.len(),
                sim.agent(agent).appraisals.len(),
            );
            while sim.agent(agent).sent.len() == sent {
                sim.run_until(sim.now() + SECOND / 10);
            }
            sim.at(sim.now() + SECOND, Action::Rebind(agent));
            sim.at(sim.now() + SECOND, Action::SetLink(agent, Link::PERFECT));
            sim.run_until(sim.now() + 10 * SECOND);
            assert_eq!(sim.agent(agent).appraisals.len(), answers + 1);
        }
        let agent = sim.agent(agent);
        assert_eq!(agent.sessions, 1);
        assert!(agent.refused.is_empty(), "{:?}", agent.refused);
    });
}

#[test]
fn a_link_that_takes_minutes_is_learnt_or_configured() {
    let slow = Setup {
        link: Link::lossy(0, 2 * MINUTE),
        files: 5,
        ..at_once()
    };
    let configured = Setup {
        transmission: Parameters {
            ack_timeout: 5 * MINUTE,
            ..Parameters::default()
        },
        ..slow.clone()
    };
    // Without configuration it takes a while until the first answer is waited for long enough.
    for (setup, first, datagrams) in [(configured, HOUR, 10), (slow, 4 * HOUR, 600)] {
        simulate(settings(HOUR, 4 * HOUR), |sim| {
            let agent = sim.add_agent(setup);
            sim.at(Duration::ZERO, Action::PowerOn(agent));
            sim.run_until(first);
            sim.settled().unwrap();
            sim.run_until(24 * HOUR);
            let agent = sim.agent(agent);
            println!("{:?}, {} appraisals", agent.up, agent.appraisals.len());
            assert!(agent.appraisals.len() >= 18, "{}", agent.appraisals.len());
            assert!(agent.up.datagrams <= datagrams + 5 * 24, "{:?}", agent.up);
        });
    }
}
