//! How fast measurements are replayed, and a heartbeat is appraised, beside what the hash or signature
//! alone takes in the same run, so that the ratio says something on any machine. Build with `--release`.
//!
//! ```text
//! mote-bench [beat | replay]
//! ```
//! Prints lines `figure NAME VALUE UNIT`; `NAME_hash_alone` and `NAME_ratio` belong to NAME. With `beat`, only
//! the heartbeat's ratio; with `replay`, all but that. Fails when a budget is missed.
#![allow(clippy::cast_precision_loss)] // counts far below 2^52

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
    ParsedPublicKey,
};
use mote_agent::verifier_key::VerifierKey;
use mote_schemas::bootlog::{BootLog, BootPcrs};
use mote_schemas::ima::{ListFormat, ListParser, Step};
use mote_schemas::message::Tier;
use mote_schemas::pcr::replay_sha256;
use mote_schemas::tpm::{HashAlg, Public};
use mote_tests::lab::Lab;
use mote_tests::recorded;
use mote_tests::wire::{Exchanged, Far, Wire};
use mote_verifier::admission::{AdmissionRules, EkId};
use mote_verifier::engine::Settings;
use mote_verifier::prefix::{LogState, Outcome, PendingLog};
use mote_verifier::quote::VerifiedQuote;
use mote_verifier::signature::VerifyingKey;
use mote_verifier::store::Record;
use nix::time::{ClockId, clock_gettime};
use sha2::{Digest as _, Sha256};

/// Runs of each measurement; the fastest counts, since others only had more company.
const RUNS: usize = 7;

/// Known entries in one run.
const KNOWN: usize = 200_000;

/// Boot logs in one run.
const BOOTS: usize = 200;

/// Devices in turn, and then what they have changed is made durable: those that are heard in the second
/// between two flushes, of a fleet of 30,000 with a heartbeat every five minutes.
const DEVICES: u8 = 100;

/// Heartbeats measured of each.
const ROUNDS: usize = 40;

/// Replay of known entries is a chain of hashes, so the hash alone is all there is to reach: its speed, or
/// nearly. (DESIGN's 10 M entries/s on a core are of chains of several devices side by side.)
const KNOWN_BUDGET: f64 = 0.9;

/// DESIGN: verifier CPU per heartbeat, in P-256 verifications.
const BEAT_BUDGET: f64 = 1.25;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if cfg!(debug_assertions) {
        eprintln!("mote-bench: not optimised, the figures mean nothing; build with --release");
    }
    let kept = match std::env::args().nth(1).as_deref() {
        None => [replay()?, beat()?].iter().all(|kept| *kept),
        Some("replay") => replay()?,
        Some("beat") => beat()?,
        Some(other) => return Err(format!("what is '{other}'?").into()),
    };
    kept.then_some(())
        .ok_or_else(|| "a budget is missed".into())
}

/// All but the heartbeat.
fn replay() -> Result<bool, Box<dyn std::error::Error>> {
    let kept = known();
    unknown()?;
    boot_log()?;
    Ok(kept)
}

/// What the engine takes for a heartbeat with nothing new, from datagram to datagram: OSCORE, the quote
/// rebuilt and verified, the position and the next nonce committed, and its share of the CPU that making
/// them durable takes. Beside it, one verification of such a signature with a key that has been parsed
/// before. Both a hundred times in a row, as a verifier has them that is busy: what the devices compute
/// for it, on other machines, leaves nothing of it in the caches of this one.
fn beat() -> Result<bool, Box<dyn std::error::Error>> {
    let mut wires: Vec<Wire> = (1..=DEVICES).map(Wire::new).collect();
    let mut rules = AdmissionRules::default();
    for wire in &wires {
        rules.allow(EkId::of(
            &Public::parse(wire.device.tpm.ek_public()).map_err(|error| error.to_string())?,
        ));
    }
    let mut held = Held {
        lab: Lab::with(rules, Settings::default()),
        hold: false,
        request: None,
        reply: None,
    };
    for wire in &mut wires {
        wire.until_appraised(&mut held)?;
    }

    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)?;
    let message = [7; 129]; // TPMS_ATTEST of such a quote
    let signature = key.sign(&SystemRandom::new(), &message)?;
    let public = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key().as_ref())?;
    let (mut ours, mut flushes, mut alone) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        // In turns, so that whatever else the machine does falls on both.
        let mut requests = Vec::new();
        for wire in &mut wires {
            held.hold = true;
            // Ends where the reply is missing.
            let ended = wire.until_appraised(&mut held);
            let request = held.request.take();
            requests.push(request.ok_or_else(|| format!("no heartbeat: {ended:?}"))?);
        }
        held.hold = false;
        let mut replies = Vec::new();
        for (peer, request) in &requests {
            let started = Instant::now();
            let reply = held.lab.handle(*peer, request);
            ours.push(started.elapsed());
            replies.push(reply);
        }
        for _ in 0..DEVICES {
            let started = Instant::now();
            public.verify_sig(black_box(&message), black_box(signature.as_ref()))?;
            alone.push(started.elapsed());
        }
        let started = cpu()?;
        held.lab.engine().flush()?;
        flushes.push(cpu()?.saturating_sub(started) / u32::from(DEVICES));
        for (wire, reply) in wires.iter_mut().zip(replies) {
            // The device asks again, with the same bytes.
            held.reply = reply;
            let cost = wire.until_appraised(&mut held)?;
            if cost.requests != 1 || wire.tier != Tier::Affirming {
                return Err(format!("a heartbeat took {cost:?}: {:?}", wire.tier).into());
            }
        }
    }
    let micros = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e6
    };
    let (ours, flush, alone) = (micros(&mut ours), micros(&mut flushes), micros(&mut alone));
    let ratio = (ours + flush) / alone;
    eprintln!(
        "a heartbeat takes {ours:.1} us and {flush:.1} us of a flush, one P-256 verification {alone:.1} us"
    );
    println!("figure verifier_beat_vs_p256_verify {ratio:.2} ratio budget <= {BEAT_BUDGET}");
    Ok(ratio <= BEAT_BUDGET)
}

/// CPU time of this thread: a flush waits for the disk besides.
fn cpu() -> Result<Duration, Box<dyn std::error::Error>> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// A lab whose replies can be late.
struct Held {
    lab: Lab,
    /// The next request is kept, and not answered.
    hold: bool,
    request: Option<(SocketAddr, Vec<u8>)>,
    /// To whatever is asked next.
    reply: Option<Vec<u8>>,
}

impl Far for Held {
    fn verifier_key(&self) -> Result<VerifierKey, Box<dyn std::error::Error>> {
        self.lab.verifier_key()
    }

    fn clock(&self) -> u64 {
        self.lab.clock()
    }

    fn pass(&mut self, milliseconds: u64) {
        self.lab.pass(milliseconds);
    }

    fn exchange(
        &mut self,
        peer: SocketAddr,
        request: &[u8],
    ) -> Result<Exchanged, Box<dyn std::error::Error>> {
        if self.hold {
            self.request = Some((peer, request.to_vec()));
            return Err("held".into());
        }
        let Some(reply) = self.reply.take() else {
            return self.lab.exchange(peer, request);
        };
        Ok(Exchanged {
            up: request.len(),
            down: reply.len(),
            reply: Some(reply),
        })
    }
}

/// Entries that reference values have: their template digests are at hand, and only the extends remain.
fn known() -> bool {
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
    let ratio = rate("replay_known_entries_per_s", KNOWN, ours, alone);
    println!("figure replay_known_entries_per_s_ratio {ratio:.2} ratio budget >= {KNOWN_BUDGET}");
    ratio >= KNOWN_BUDGET
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
    let ratio = rate("replay_unknown_entries_per_s", records.len(), ours, alone);
    println!("figure replay_unknown_entries_per_s_ratio {ratio:.2} ratio");
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
    let ratio = ours / alone;
    println!("figure bootlog_parse_us {:.2} us", micros(ours));
    println!("figure bootlog_parse_us_hash_alone {:.2} us", micros(alone));
    println!("figure bootlog_parse_us_ratio {ratio:.2} ratio");
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

fn rate(name: &str, entries: usize, ours: f64, alone: f64) -> f64 {
    println!("figure {name} {:.0} entries/s", entries as f64 / ours);
    println!(
        "figure {name}_hash_alone {:.0} entries/s",
        entries as f64 / alone
    );
    alone / ours
}
