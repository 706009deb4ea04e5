//! Random scenarios on bad links, and days on a link that loses a third of everything.
//!
//! `MOTE_SIM_SEEDS` says how many seeds, `MOTE_SIM_SEED` which one alone. Any failure prints its seed.

use std::time::Duration;

use mote_tests::sim::lossy::{self, Question};
use mote_tests::sim::scenario::{self, run_many};

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[test]
fn no_evidence_is_lost_and_no_verdict_wrong_on_bad_links() {
    let (first, count) = match number("MOTE_SIM_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("MOTE_SIM_SEEDS").unwrap_or(50)),
    };
    let (failures, sum) = run_many(first, count, threads());
    for failure in &failures {
        eprintln!("{failure}\n");
    }
    assert!(failures.is_empty(), "{} seeds failed", failures.len());
    // A simulator in which nothing happens proves nothing.
    assert!(
        sum.faults >= 4 * count && sum.appraisals >= 5 * count && sum.sessions >= count,
        "{sum:?}"
    );
}

#[test]
fn a_seed_decides_the_whole_run() {
    let run = |seed| scenario::run(seed).unwrap();
    for seed in [3, 14, 15] {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    assert_ne!(run(3), run(4));
}

#[test]
fn a_device_on_a_link_that_loses_a_third_misses_no_heartbeat() {
    // `mote-sim lossy` asks for 1,000 days.
    let question = Question::new(30, Duration::from_secs(2));
    let answer = lossy::days(0, 4, threads(), &question).unwrap();
    assert_eq!(answer.good, answer.days, "{answer:?}");
    assert!(answer.unanswered > 0, "no link loses so little: {answer:?}");
}

#[test]
fn a_link_that_loses_almost_everything_is_found_out() {
    let question = Question::new(85, Duration::from_secs(2));
    let answer = lossy::days(0, 1, 1, &question).unwrap();
    assert_eq!(answer.good, 0, "{answer:?}");
}
