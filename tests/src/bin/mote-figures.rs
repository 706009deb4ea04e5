//! What the conversation costs in bytes: CoAP messages as they would stand in UDP datagrams, both
//! ways, counted where they pass from the agent's session to the verifier's engine. Real are both of
//! them, the recorded kernel's list and its image's reference values; the TPM is one in memory.
//!
//! Prints `figure NAME VALUE UNIT budget OP LIMIT`, or `figure NAME VALUE UNIT` where there is no
//! budget, and fails when one is missed.
#![allow(clippy::cast_precision_loss, clippy::similar_names)] // averages of small counts

use std::collections::HashSet;
use std::process::ExitCode;

use mote_schemas::tpm::Public;
use mote_tests::lab::Lab;
use mote_tests::simkernel::ima::{Record, records};
use mote_tests::soft_boot::boot_log;
use mote_tests::soft_device::{digest_of, record};
use mote_tests::wire::{Cost, Result, Wire};
use mote_tests::{fleet, recorded};
use mote_verifier::admission::{AdmissionRules, EkId};
use mote_verifier::engine;
use mote_verifier::manifest::Exclusion;
use mote_verifier::manifest::sums::read_sums;

/// Prints figures and remembers whether all budgets were kept.
struct Figures(bool);

impl Figures {
    fn show(&mut self, name: &str, value: f64, unit: &str, limit: Option<f64>) {
        let value = (value * 100.0).round() / 100.0;
        match limit {
            Some(limit) => {
                println!("figure {name} {value} {unit} budget <= {limit}");
                self.0 &= value <= limit;
            }
            None => println!("figure {name} {value} {unit}"),
        }
    }
}

fn measure() -> Result<bool> {
    let exclusion = Exclusion::new(&[])?;
    let mut sums = &fleet::sha256sums()?[..];
    let files = read_sums(&mut sums, &exclusion)?;
    let list = records(&recorded::read("binary_runtime_measurements")?)?;
    // What changes on every device is on none that counts as trusted.
    let of_image: HashSet<(&[u8], &[u8])> = files
        .iter()
        .flat_map(|file| file.digests.iter().map(|d| (&file.path[..], &d.0[..])))
        .collect();
    let known = |record: &&Record| {
        let digest = record.file_digest();
        digest.is_ok_and(|(_, digest)| of_image.contains(&(record.path.as_bytes(), digest)))
    };
    let known: Vec<Record> = list.iter().filter(known).cloned().collect();

    let mut wires: Vec<Wire> = (1..=5).map(Wire::new).collect();
    let mut rules = AdmissionRules::default();
    for wire in &wires {
        let ek = Public::parse(wire.device.tpm.ek_public()).map_err(|e| e.to_string())?;
        rules.allow(EkId::of(&ek));
    }
    let mut lab = Lab::knowing(files, rules, engine::Settings::default());
    let mut figures = Figures(true);
    let [first, second, third, fourth, fifth] = &mut wires[..] else {
        return Err("five devices".into());
    };

    // A device with nothing but boot_aggregate: what a session costs without a log.
    let bare = third.boot(&mut lab, &[])?;
    let whole = first.boot(&mut lab, &known)?;
    let entries = known.len() as f64;
    figures.show("known_entries", entries, "records", None);
    figures.show(
        "known_entry_bytes",
        (whole.total() - bare.total()) / entries,
        "bytes",
        Some(7.0),
    );
    let mut idle = Cost::default();
    let beats = 20;
    for _ in 0..beats {
        let beat = first.until_appraised(&mut lab)?;
        idle.up = idle.up.max(beat.up);
        idle.down = idle.down.max(beat.down);
        idle.requests = idle.requests.max(beat.requests);
    }
    figures.show("beat_up_bytes", idle.up as f64, "bytes", Some(112.0));
    figures.show("beat_down_bytes", idle.down as f64, "bytes", Some(64.0));
    figures.show(
        "beat_round_trips",
        idle.requests as f64,
        "exchanges",
        Some(1.0),
    );

    // Until trusted, 1,000 records, without a boot log.
    second.boot(&mut lab, &[])?;
    let boot = second.boot(&mut lab, &known[..999])?;
    figures.show("boot_1000_records_bytes", boot.total(), "bytes", None);
    figures.show(
        "boot_1000_records_exchanges",
        boot.requests as f64,
        "exchanges",
        None,
    );

    boot_logs(&mut figures, &mut lab, [fourth, fifth], &known[..999])?;

    // Files that nobody knows, one at a time, with real paths of 54 bytes on average.
    let base = third.until_appraised(&mut lab)?;
    let long: Vec<&Record> = list
        .iter()
        .filter(|record| record.path.len() > 45)
        .step_by(8)
        .collect();
    let (mut in_full, mut in_all, mut length) = (0, 0.0, 0);
    for (index, unknown) in long.iter().enumerate() {
        third
            .device
            .measure(record(&unknown.path, &digest_of(&index.to_string())));
        let cost = third.until_appraised(&mut lab)?;
        if third.records != third.device.list.0.len() as u64 || cost.requests != 2 {
            return Err(format!("an unknown file took {cost:?}").into());
        }
        // The first beat names it by a prefix, the second carries it.
        in_full += cost.last_up - base.up;
        in_all += cost.total() - base.total();
        length += unknown.path.len();
    }
    let count = long.len() as f64;
    figures.show("unknown_path_bytes", length as f64 / count, "bytes", None);
    figures.show(
        "unknown_entry_bytes",
        in_full as f64 / count,
        "bytes",
        Some(72.0),
    );
    figures.show("unknown_entry_asked_bytes", in_all / count, "bytes", None);
    Ok(figures.0)
}

/// Power-on until trusted with 1,000 records and a boot log of 40 kB, made up of variables and
/// applications with their digests: the first device that has it, then an equal one. Both have been
/// enrolled before.
fn boot_logs(
    figures: &mut Figures,
    lab: &mut Lab,
    wires: [&mut Wire; 2],
    known: &[Record],
) -> Result<()> {
    let log = boot_log(1, 40_000);
    figures.show("boot_log_size", log.len() as f64, "bytes", None);
    let budgets = [("first", 60_000.0), ("known", 8_000.0)];
    for (wire, (name, limit)) in wires.into_iter().zip(budgets) {
        wire.boot(lab, &[])?;
        wire.device.boot_log.bytes.clone_from(&log);
        let boot = wire.boot(lab, known)?;
        let bytes = format!("boot_{name}_bytes");
        figures.show(&bytes, boot.total(), "bytes", Some(limit));
        let exchanges = format!("boot_{name}_exchanges");
        figures.show(&exchanges, boot.requests as f64, "exchanges", None);
    }
    Ok(())
}

fn main() -> ExitCode {
    match measure() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("a budget is missed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
