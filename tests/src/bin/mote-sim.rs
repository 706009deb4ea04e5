//! Runs the simulator by hand; see `mote_tests::sim`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use mote_tests::sim::lossy::{self, Question};
use mote_tests::sim::scenario;

/// Share of days that must be good.
const BUDGET: f64 = 0.99;

/// Simulates agents and a verifier on bad links.
#[derive(Parser)]
#[command(max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Threads; all processors unless given.
    #[arg(long, global = true)]
    threads: Option<usize>,
}

#[derive(Subcommand)]
enum Command {
    /// Random scenarios: every seed is one; prints those that fail.
    Seeds {
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        first: u64,
        /// Number of seeds.
        #[arg(long, default_value_t = 10_000)]
        count: u64,
    },
    /// Days on a lossy link: the share without a missed heartbeat, as a line for `figures.sh`.
    Lossy {
        /// Number of days.
        #[arg(long, default_value_t = 1000)]
        days: u64,
        /// The first day's seed.
        #[arg(long, default_value_t = 0)]
        first: u64,
        /// Datagrams lost each way, of 100.
        #[arg(long, default_value_t = 30)]
        loss: u8,
        /// Milliseconds each way.
        #[arg(long, default_value_t = 2000)]
        delay: u64,
        /// Seconds between heartbeats.
        #[arg(long, default_value_t = 300)]
        interval: u32,
    },
}

fn main() -> ExitCode {
    env_logger::init();
    let arguments = Arguments::parse();
    let threads = arguments
        .threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    match arguments.command {
        Command::Seeds { first, count } => seeds(first, count, threads),
        Command::Lossy {
            days,
            first,
            loss,
            delay,
            interval,
        } => {
            let question = Question {
                interval,
                ..Question::new(loss, Duration::from_millis(delay))
            };
            lossy(first, days, threads, &question)
        }
    }
}

fn lossy(first: u64, days: u64, threads: usize, question: &Question) -> ExitCode {
    let answer = match lossy::days(first, days, threads, question) {
        Ok(answer) => answer,
        Err(what) => {
            eprintln!("{what}");
            return ExitCode::FAILURE;
        }
    };
    eprintln!(
        "{} of {} days; {} quotes appraised, {} sessions, {} exchanges unanswered, {} bytes up and \
         {} down a day, longest gap {} s",
        answer.good,
        answer.days,
        answer.appraised,
        answer.sessions,
        answer.unanswered,
        answer.up / days.max(1),
        answer.down / days.max(1),
        answer.longest
    );
    println!(
        "figure lossy_{}_success {:.4} ratio budget >= {BUDGET}",
        question.link.up.loss,
        answer.ratio()
    );
    if answer.ratio() >= BUDGET {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn seeds(first: u64, count: u64, threads: usize) -> ExitCode {
    let begun = Instant::now();
    let (failures, sum) = scenario::run_many(first, count, threads);
    for failure in &failures {
        println!("{failure}\n");
    }
    println!(
        "{count} seeds from {first} in {:.1} s: {} failed; {} faults, {} sessions, {} appraisals, \
         {} datagrams",
        begun.elapsed().as_secs_f64(),
        failures.len(),
        sum.faults,
        sum.sessions,
        sum.appraisals,
        sum.datagrams
    );
    if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
