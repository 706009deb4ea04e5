//! Runs the simulator by hand; see `mote_tests::sim`.

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use mote_tests::sim::scenario;

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
}

fn main() -> ExitCode {
    env_logger::init();
    let arguments = Arguments::parse();
    let threads = arguments.threads.unwrap_or_else(|| {
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
    });
    match arguments.command {
        Command::Seeds { first, count } => seeds(first, count, threads),
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
