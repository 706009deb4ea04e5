//! How fast measurements are replayed, beside what the hash crate alone does in the same run, so that
//! the ratio says something on any machine. Build with `--release`.
//!
//! Prints lines `figure NAME VALUE`; `NAME_hash_alone` and `NAME_ratio` belong to NAME.
#![allow(clippy::cast_precision_loss)] // counts far below 2^52

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use mote_schemas::bootlog::{BootLog, BootPcrs};
use mote_schemas::ima::{ListFormat, ListParser, Step};
use mote_schemas::pcr::replay_sha256;
use mote_schemas::tpm::{HashAlg, Public};
use mote_tests::recorded;
use mote_verifier::prefix::{LogState, Outcome, PendingLog};
use mote_verifier::quote::VerifiedQuote;
use mote_verifier::signature::VerifyingKey;
use mote_verifier::store::Record;
use sha2::{Digest as _, Sha256};

/// Runs of each measurement; the fastest counts, since others only had more company.
const RUNS: usize = 7;

/// Known entries in one run.
const KNOWN: usize = 200_000;

/// Boot logs in one run.
const BOOTS: usize = 200;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if cfg!(debug_assertions) {
        eprintln!("mote-bench: not optimised, the figures mean nothing; build with --release");
    }
    known();
    unknown()?;
    boot_log()
}

/// Entries that reference values have: their template digests are at hand, and only the extends remain.
fn known() {
    let digests: Vec<[u8; 32]> = (0..KNOWN as u64)
        .map(|n| Sha256::digest(n.to_le_bytes()).into())
        .collect();
    let ours = fastest(|| {
        black_box(replay_sha256([0; 32], black_box(&digests)));
    });
    let alone = fastest(|| {
        let mut value = [0; 32];
        for digest in black_box(&digests) {
            value = extend(&value, digest);
        }
        black_box(value);
    });
    rate("replay_known_entries_per_s", KNOWN, ours, alone);
}

/// Entries that came in full: the recorded list, certified by a recorded quote.
fn unknown() -> Result<(), Box<dyn std::error::Error>> {
    let list = recorded::read("binary_runtime_measurements")?;
    let mut records = Vec::new();
    let (mut parser, mut rest) = (ListParser::new(ListFormat::LITTLE_SHA1), &list[..]);
    while let Step::Record(record, len) = parser.next(rest)? {
        records.push(Record::from(&record));
        rest = &rest[len..];
    }
    let public = recorded::read("ak.tpmt")?;
    let key = VerifyingKey::new(&Public::parse(&public).map_err(|error| error.to_string())?)?;
    let quote = VerifiedQuote::verify(
        &recorded::read("attest.2")?,
        &recorded::read("sig.2")?,
        &key,
        &0xffee_ddcc_bbaa_9988_7766_5544_3322_1100_u128.to_be_bytes(),
        None,
    )?;
    let values = recorded::read("pcrs.2")?;
    let selection = *quote.selection();
    let claims: BTreeMap<_, _> = mote_schemas::pcr::PcrValues::new(selection, &values)?
        .iter()
        .map(|(pcr, value)| ((value.alg(), pcr), value))
        .collect();
    let mut certified = 0;
    let ours = fastest(|| {
        let mut log = PendingLog::new(LogState::at_boot());
        // Parsing and copying are part of it: so they come.
        if log.append(0, records.iter().cloned()).is_ok()
            && let Ok(Outcome::Certified(prefix)) = log.certify(&quote, &claims, true)
        {
            certified = prefix.entries().len();
        }
    });
    if certified != records.len() {
        return Err(format!("{certified} of {} records were certified", records.len()).into());
    }
    let alone = fastest(|| {
        let mut value = [0; 32];
        for record in black_box(&records) {
            value = extend(&value, &Sha256::digest(&record.data).into());
        }
        black_box(value);
    });
    rate("replay_unknown_entries_per_s", records.len(), ours, alone);
    Ok(())
}

/// A boot event log, parsed and replayed in the SHA-256 bank.
fn boot_log() -> Result<(), Box<dyn std::error::Error>> {
    let bytes = include_bytes!("../../data/ovmf-amd64/secureboot-uki/binary_bios_measurements");
    let log = BootLog::parse(bytes)?;
    let digests: Vec<[u8; 32]> = log
        .events()
        .filter(mote_schemas::bootlog::Event::is_extended)
        .filter_map(|event| event.digest(HashAlg::Sha256)?.as_bytes().try_into().ok())
        .collect();
    let ours = fastest(|| {
        for _ in 0..BOOTS {
            if let Ok(log) = BootLog::parse(black_box(bytes)) {
                let _ = black_box(BootPcrs::replay(&log, HashAlg::Sha256));
            }
        }
    });
    let alone = fastest(|| {
        for _ in 0..BOOTS {
            let mut value = [0; 32];
            for digest in black_box(&digests) {
                value = extend(&value, digest);
            }
            black_box(value);
        }
    });
    let micros = |seconds: f64| seconds * 1e6 / BOOTS as f64;
    println!("figure bootlog_parse_us {:.2}", micros(ours));
    println!("figure bootlog_parse_us_hash_alone {:.2}", micros(alone));
    println!("figure bootlog_parse_us_ratio {:.2}", ours / alone);
    Ok(())
}

fn extend(value: &[u8; 32], digest: &[u8; 32]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(value);
    hasher.update(digest);
    hasher.finalize().into()
}

/// Seconds of the fastest run.
fn fastest(mut run: impl FnMut()) -> f64 {
    (0..RUNS)
        .map(|_| {
            let started = Instant::now();
            run();
            started.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}

fn rate(name: &str, entries: usize, ours: f64, alone: f64) {
    println!("figure {name} {:.0}", entries as f64 / ours);
    println!("figure {name}_hash_alone {:.0}", entries as f64 / alone);
    println!("figure {name}_ratio {:.2}", alone / ours);
}
