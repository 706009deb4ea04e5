//! What the conversation costs in bytes, both ways.
//!
//! First CoAP messages as they would stand in UDP datagrams, counted where they pass from the agent's
//! session to the verifier's engine. Then, as `tls_NAME`, the bytes of TCP connections from the agent's
//! TLS client to a verifier's process, counted on the way: TLS handshakes and records included. Real
//! are session, links and engine, the recorded kernel's list and its image's reference values; the TPM
//! is one in memory.
//!
//! Prints `figure NAME VALUE UNIT budget OP LIMIT`, or `figure NAME VALUE UNIT` where there is no
//! budget (as with TLS), and fails when one is missed.
#![allow(clippy::cast_precision_loss, clippy::similar_names)] // averages of small counts

use std::collections::HashSet;
use std::process::ExitCode;

use mote_schemas::tpm::Public;
use mote_tests::lab::Lab;
use mote_tests::simkernel::ima::{Record, records};
use mote_tests::soft_boot::boot_log;
use mote_tests::soft_device::{digest_of, record};
use mote_tests::tls_wire::TlsVerifier;
use mote_tests::wire::{Cost, Far, Result, Wire};
use mote_tests::{fleet, hex, recorded};
use mote_verifier::admission::{AdmissionRules, EkId};
use mote_verifier::engine;
use mote_verifier::manifest::sums::read_sums;
use mote_verifier::manifest::{Exclusion, FileEntry};
use sha2::{Digest as _, Sha256};

/// Prints figures and remembers whether all budgets were kept.
struct Figures {
    /// Before each name; with one, there are no budgets.
    prefix: &'static str,
    kept: bool,
}

impl Figures {
    fn show(&mut self, name: &str, value: f64, unit: &str, limit: Option<f64>) {
        let value = (value * 100.0).round() / 100.0;
        let prefix = self.prefix;
        match limit.filter(|_| prefix.is_empty()) {
            Some(limit) => {
                println!("figure {name} {value} {unit} budget <= {limit}");
                self.kept &= value <= limit;
            }
            None => println!("figure {prefix}{name} {value} {unit}"),
        }
    }
}

/// What the devices measure.
struct Lists {
    /// The recorded list.
    all: Vec<Record>,
    /// Those of its records that the image's reference values have.
    known: Vec<Record>,
}

impl Lists {
    fn new(files: &[FileEntry]) -> Result<Self> {
        let all = records(&recorded::read("binary_runtime_measurements")?)?;
        // What changes on every device is on none that counts as trusted.
        let of_image: HashSet<(&[u8], &[u8])> = files
            .iter()
            .flat_map(|file| file.digests.iter().map(|d| (&file.path[..], &d.0[..])))
            .collect();
        let known = |record: &&Record| {
            let digest = record.file_digest();
            digest.is_ok_and(|(_, digest)| of_image.contains(&(record.path.as_bytes(), digest)))
        };
        let known = all.iter().filter(known).cloned().collect();
        Ok(Self { all, known })
    }
}

/// Five devices, the EK of each from its number.
fn wires() -> Vec<Wire> {
    (1..=5).map(Wire::new).collect()
}

fn by_udp(lists: &Lists, files: Vec<FileEntry>) -> Result<bool> {
    let mut rules = AdmissionRules::default();
    let wires = wires();
    for wire in &wires {
        let ek = Public::parse(wire.device.tpm.ek_public()).map_err(|e| e.to_string())?;
        rules.allow(EkId::of(&ek));
    }
    let mut lab = Lab::knowing(files, rules, engine::Settings::default());
    measure("", wires, &mut lab, lists)
}

fn by_tls(lists: &Lists) -> Result<bool> {
    let wires = wires();
    let ids = wires.iter().map(|wire| {
        let digest: [u8; 32] = Sha256::digest(wire.device.tpm.ek_public()).into();
        hex::encode(&digest) + "\n"
    });
    let mut verifier = TlsVerifier::start(&ids.collect::<String>())?;
    measure("tls_", wires, &mut verifier, lists)
}

fn measure(
    prefix: &'static str,
    mut wires: Vec<Wire>,
    far: &mut impl Far,
    Lists { all, known }: &Lists,
) -> Result<bool> {
    let mut figures = Figures { prefix, kept: true };
    let [first, second, third, fourth, fifth] = &mut wires[..] else {
        return Err("five devices".into());
    };

    // A device with nothing but boot_aggregate: what a session costs without a log.
    let bare = third.boot(far, &[])?;
    let whole = first.boot(far, known)?;
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
        let beat = first.until_appraised(far)?;
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
    second.boot(far, &[])?;
    let boot = second.boot(far, &known[..999])?;
    figures.show("boot_1000_records_bytes", boot.total(), "bytes", None);
    figures.show(
        "boot_1000_records_exchanges",
        boot.requests as f64,
        "exchanges",
        None,
    );

    boot_logs(&mut figures, far, [fourth, fifth], &known[..999])?;

    // Files that nobody knows, one at a time, with real paths of 54 bytes on average.
    let base = third.until_appraised(far)?;
    let long: Vec<&Record> = all
        .iter()
        .filter(|record| record.path.len() > 45)
        .step_by(8)
        .collect();
    let (mut in_full, mut in_all, mut length) = (0, 0.0, 0);
    for (index, unknown) in long.iter().enumerate() {
        third
            .device
            .measure(record(&unknown.path, &digest_of(&index.to_string())));
        let cost = third.until_appraised(far)?;
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
    Ok(figures.kept)
}

/// Power-on until trusted with 1,000 records and a boot log of 40 kB, made up of variables and
/// applications with their digests: the first device that has it, then an equal one. Both have been
/// enrolled before.
fn boot_logs(
    figures: &mut Figures,
    far: &mut impl Far,
    wires: [&mut Wire; 2],
    known: &[Record],
) -> Result<()> {
    let log = boot_log(1, 40_000);
    figures.show("boot_log_size", log.len() as f64, "bytes", None);
    let budgets = [("first", 60_000.0), ("known", 8_000.0)];
    for (wire, (name, limit)) in wires.into_iter().zip(budgets) {
        wire.boot(far, &[])?;
        wire.device.boot_log.bytes.clone_from(&log);
        let boot = wire.boot(far, known)?;
        let bytes = format!("boot_{name}_bytes");
        figures.show(&bytes, boot.total(), "bytes", Some(limit));
        let exchanges = format!("boot_{name}_exchanges");
        figures.show(&exchanges, boot.requests as f64, "exchanges", None);
    }
    Ok(())
}

fn figures() -> Result<bool> {
    let mut sums = &fleet::sha256sums()?[..];
    let files = read_sums(&mut sums, &Exclusion::new(&[])?)?;
    let lists = Lists::new(&files)?;
    let kept = by_udp(&lists, files)?;
    Ok(by_tls(&lists)? && kept)
}

fn main() -> ExitCode {
    match figures() {
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
