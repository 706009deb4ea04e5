//! `motectl verify`: the verdict on evidence in a file.

use std::fmt::Write;
use std::fs;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::text::wrap;
use super::{Context, Failure};
use crate::appraise::Deviation;
use crate::bundle::{AkTrust, Bundle, BundleError, MAX_BUNDLE, Verdict};
use crate::hex;
use crate::ima_signature::Keyring;
use crate::manifest::{ReferenceValues, VerifiedManifest};
use crate::printable::printable;
use crate::signing_key::PublicKey;

/// Deviations shown in words; `--json` has all.
const SHOWN: usize = 20;

/// Largest file that can be a public area, in bytes: a `TPM2B_PUBLIC`.
const MAX_AK_FILE: u64 = 2 + mote_schemas::limits::MAX_TPMT_PUBLIC as u64;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  openssl rand -hex 16 > nonce                       # here
  mote-agent evidence -o evidence.cbor --nonce \"$(cat nonce)\"   # on the device
  motectl verify evidence.cbor --nonce \"$(cat nonce)\" --ak gate-7.ak \\
    --manifest edge-1.3.mote --manifest-key image.key.pub

--ak knows the device again by its attestation key: a TPMT_PUBLIC or TPM2B_PUBLIC. With
--trust-ak-on-first-use the key in the evidence is believed, and written to --ak FILE if that
does not exist yet. A file cannot be challenged: only the verifier's own enrolment proves that
the key is in the TPM that its maker certified.

Exit code 0: trusted; 1: not trusted, or the evidence was refused; 2: wrong usage.")]
pub(super) struct Verify {
    /// The evidence; `-` for standard input.
    file: PathBuf,

    /// The nonce that the evidence was made for, in hexadecimal.
    #[arg(long, value_name = "HEX")]
    nonce: String,

    /// Public area of the attestation key that must have signed.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "trust_ak_on_first_use"
    )]
    ak: Option<PathBuf>,

    /// Believe the attestation key in the evidence, unless --ak FILE exists and says another.
    #[arg(long)]
    trust_ak_on_first_use: bool,

    /// Signed reference values of an image version. May be given several times.
    #[arg(long, value_name = "FILE", required = true)]
    manifest: Vec<PathBuf>,

    /// Public key that manifests must be signed with. May be given several times.
    #[arg(long, value_name = "KEY.pub", required = true)]
    manifest_key: Vec<PathBuf>,

    /// Certificates or public keys whose IMA signature accounts for a file that no manifest lists.
    #[arg(long, value_name = "FILE")]
    ima_key: Vec<PathBuf>,

    /// Kernel keyring whose measured additions are trusted as --ima-key, such as .ima.
    #[arg(long, value_name = "KEYRING", value_parser = Keyring::kernel_name)]
    ima_keyring: Vec<String>,
}

/// The report, and whether the device is trusted.
pub(super) fn run(context: &Context, options: &Verify) -> Result<(String, bool), Failure> {
    let nonce = hex::decode(&options.nonce)
        .ok_or("--nonce: not hexadecimal; give the one that the evidence was made for")?;
    let references = references(options)?;
    let known = known_ak(options)?;
    let bytes = read(&options.file)?;
    let outcome = Bundle::parse(&bytes).and_then(|bundle| {
        let trust = known.as_deref().map_or(AkTrust::FirstUse, AkTrust::Known);
        let verdict = bundle.appraise(&nonce, trust, &references)?;
        Ok((bundle.ak_public().to_vec(), verdict))
    });
    match outcome {
        Ok((ak, verdict)) => {
            // Only a key that has signed what it should is remembered.
            if let (Some(file), None) = (&options.ak, &known) {
                remember(file, &ak)?;
            }
            let report = Report::new(&verdict, known.is_none());
            let text = context.show(&report, Report::in_words)?;
            Ok((text, verdict.is_trusted()))
        }
        Err(error) => {
            let refusal = Refusal::new(&options.file, &error);
            Ok((context.show(&refusal, Refusal::in_words)?, false))
        }
    }
}

fn references(options: &Verify) -> Result<ReferenceValues, Failure> {
    let trusted = options
        .manifest_key
        .iter()
        .map(|file| PublicKey::load(file))
        .collect::<Result<Vec<_>, _>>()?;
    let manifests = options
        .manifest
        .iter()
        .map(|file| VerifiedManifest::read(file, &trusted))
        .collect::<Result<Vec<_>, _>>()?;
    let references = ReferenceValues::new(&manifests)?;
    if options.ima_key.is_empty() && options.ima_keyring.is_empty() {
        return Ok(references);
    }
    let mut keyring = Keyring::default();
    for file in &options.ima_key {
        keyring.add_file(file)?;
    }
    for name in &options.ima_keyring {
        keyring.learn_from(name);
    }
    Ok(references.with_ima_keys(keyring))
}

/// The public area in `--ak FILE`; `None` on first use.
fn known_ak(options: &Verify) -> Result<Option<Vec<u8>>, Failure> {
    let Some(file) = &options.ak else {
        return Ok(None);
    };
    let in_file = |error: &dyn std::fmt::Display| Failure(format!("{}: {error}", file.display()));
    match fs::metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && options.trust_ak_on_first_use => {
            return Ok(None);
        }
        Err(error) => return Err(in_file(&error)),
        Ok(metadata) if metadata.len() > MAX_AK_FILE => {
            return Err(in_file(&"too large for a TPMT_PUBLIC or TPM2B_PUBLIC"));
        }
        Ok(_) => {}
    }
    let mut public = fs::read(file).map_err(|error| in_file(&error))?;
    // TPM2B_PUBLIC is the same behind its length, and no TPMT_PUBLIC begins with that: the first two
    // bytes of one are the key's type, 1 or 0x23.
    if let Some((len, rest)) = public.split_first_chunk()
        && usize::from(u16::from_be_bytes(*len)) == rest.len()
    {
        public.drain(..2);
    }
    if mote_schemas::tpm::Public::parse(&public).is_err() {
        return Err(in_file(
            &"not a TPMT_PUBLIC or TPM2B_PUBLIC; --trust-ak-on-first-use writes one",
        ));
    }
    Ok(Some(public))
}

fn remember(file: &Path, ak: &[u8]) -> Result<(), Failure> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file)
        .and_then(|mut out| out.write_all(ak))
        .map_err(|error| Failure(format!("{}: {error}", file.display())))
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let in_file = |error: io::Error| Failure(format!("{}: {error}", file.display()));
    let mut bytes = Vec::new();
    let input: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(fs::File::open(file).map_err(in_file)?)
    };
    input
        .take(MAX_BUNDLE + 1)
        .read_to_end(&mut bytes)
        .map_err(in_file)?;
    if bytes.len() as u64 > MAX_BUNDLE {
        return Err(Failure(format!(
            "{}: larger than 512 MiB: no evidence",
            file.display()
        )));
    }
    Ok(bytes)
}

/// Evidence that proves nothing, and why.
#[derive(Serialize)]
struct Refusal {
    verdict: &'static str,
    file: String,
    reasons: [&'static str; 1],
    error: String,
}

impl Refusal {
    fn new(file: &Path, error: &BundleError) -> Self {
        Refusal {
            verdict: "refused",
            file: file.display().to_string(),
            reasons: [error.reason().token()],
            error: error.to_string(),
        }
    }

    fn in_words(&self) -> String {
        let [reason] = self.reasons;
        let mut out = format!("refused: {reason}\n");
        out.push_str(&wrap("  ", 2, &format!("{}: {}", self.file, self.error)));
        out
    }
}

#[derive(Serialize)]
struct Report {
    verdict: &'static str,
    trusted: bool,
    device: String,
    ak_name: String,
    ak_trusted_on_first_use: bool,
    reasons: Vec<&'static str>,
    records: u64,
    records_after_quote: u64,
    boot_log_bytes: usize,
    reset_count: u32,
    restart_count: u32,
    clock_ms: u64,
    software: Option<String>,
    boot_manifest: Option<String>,
    deviations: Vec<Line>,
    boot_deviations: Vec<BootLine>,
}

/// A deviation of the boot.
#[derive(Serialize)]
struct BootLine {
    reason: &'static str,
    pcr: Option<u32>,
    event: Option<u32>,
    what: String,
    measured: Option<String>,
    expected: Vec<String>,
    manifest: String,
    note: Option<String>,
}

/// A deviation.
#[derive(Serialize)]
struct Line {
    reason: &'static str,
    record: u64,
    path: String,
    measured: Option<String>,
    expected: Vec<Known>,
    note: Option<String>,
}

#[derive(Serialize)]
struct Known {
    value: String,
    source: String,
}

impl Line {
    fn new(deviation: &Deviation) -> Self {
        let known = |known: &crate::appraise::KnownFile| Known {
            value: format!(
                "{}:{}",
                known.digest.alg(),
                hex::encode(known.digest.as_bytes())
            ),
            source: known.manifest.clone(),
        };
        Line {
            reason: deviation.fault.reason().token(),
            record: deviation.record,
            path: printable(&deviation.path),
            measured: deviation.measured.as_ref().map(ToString::to_string),
            expected: deviation.expected.iter().map(known).collect(),
            note: deviation.note.clone(),
        }
    }
}

impl Report {
    fn new(verdict: &Verdict, first_use: bool) -> Self {
        Report {
            verdict: verdict.tier.word(),
            trusted: verdict.is_trusted(),
            device: verdict.device.to_string(),
            ak_name: hex::encode(&verdict.ak_name),
            ak_trusted_on_first_use: first_use,
            reasons: verdict
                .reasons
                .iter()
                .map(|reason| reason.token())
                .collect(),
            records: verdict.records,
            records_after_quote: verdict.records_after,
            boot_log_bytes: verdict.boot_log,
            reset_count: verdict.clock.reset_count,
            restart_count: verdict.clock.restart_count,
            clock_ms: verdict.clock.clock,
            software: verdict
                .software
                .as_deref()
                .map(|text| printable(text.as_bytes())),
            boot_manifest: verdict.boot_manifest.clone(),
            deviations: verdict.deviations.iter().map(Line::new).collect(),
            boot_deviations: verdict.boot_deviations.iter().map(BootLine::new).collect(),
        }
    }

    fn in_words(&self) -> String {
        let mut out = format!("{}\n", self.verdict);
        let mut line = |label: &str, value: &str| {
            // Writing to a String does not fail.
            let _ = writeln!(out, "{label:<11} {value}");
        };
        line("device", &self.device);
        line("AK name", self.ak_name.get(..64).unwrap_or(&self.ak_name));
        if let Some(rest) = self.ak_name.get(64..) {
            line("", rest);
        }
        if self.ak_trusted_on_first_use {
            line("", "believed as it came: nothing here says whose it is");
        }
        line("records", &self.records.to_string());
        let boot = match (self.boot_log_bytes, &self.boot_manifest) {
            (0, None) => "no boot log, and no manifest expects anything of the boot".to_owned(),
            (_, None) => "replays, or below; no manifest expects anything of the boot".to_owned(),
            (0, Some(manifest)) => format!("no boot log; PCRs compared with {manifest}"),
            (_, Some(manifest)) => format!("compared with {manifest}"),
        };
        line("boot", &boot);
        if self.records_after_quote > 0 {
            let after = self.records_after_quote;
            line("", &format!("{after} more after the quote, not judged"));
        }
        let resets = format!("{}, restart count {}", self.reset_count, self.restart_count);
        line("resets", &resets);
        for reason in &self.reasons {
            let _ = writeln!(out, "\n{reason}");
            let text = crate::explain::text(reason);
            out.push_str(&wrap("  ", 2, text.meaning));
            out.push_str(&wrap("  What to do: ", 4, text.action));
            let all = self.deviations.iter().filter(|line| line.reason == *reason);
            for deviation in all.clone().take(SHOWN) {
                out.push_str(&deviation.in_words());
            }
            let of_boot = self
                .boot_deviations
                .iter()
                .filter(|line| line.reason == *reason);
            for deviation in of_boot.take(SHOWN) {
                out.push_str(&deviation.in_words());
            }
            let rest = all.count().saturating_sub(SHOWN);
            if rest > 0 {
                let _ = writeln!(out, "    ... and {rest} more (--json has all)");
            }
        }
        out
    }
}

impl BootLine {
    fn new(deviation: &crate::boot::Deviation) -> Self {
        BootLine {
            reason: deviation.reason.token(),
            pcr: deviation.pcr,
            event: deviation.event,
            what: printable(deviation.what.as_bytes()),
            measured: deviation.measured.as_deref().map(hex::encode),
            expected: deviation
                .expected
                .iter()
                .map(|value| value_text(value))
                .collect(),
            manifest: deviation.manifest.clone(),
            note: deviation
                .note
                .as_ref()
                .map(|note| printable(note.as_bytes())),
        }
    }

    fn in_words(&self) -> String {
        let pcr = self.pcr.map(|pcr| format!("PCR {pcr}"));
        let event = self
            .event
            .map(|event| format!("event {event} {}", self.what));
        let subject: Vec<String> = pcr.into_iter().chain(event).collect();
        let mut out = format!("    {}\n", subject.join(", "));
        let mut line = |label: &str, value: &str| {
            // Writing to a String does not fail.
            let _ = writeln!(out, "      {label:<8}  {value}");
        };
        if let Some(measured) = &self.measured {
            line("measured", measured);
        }
        for (index, expected) in self.expected.iter().take(SHOWN).enumerate() {
            line(if index == 0 { "expected" } else { "or" }, expected);
        }
        if let Some(note) = &self.note {
            out.push_str(&wrap("      note      ", 16, note));
        }
        out
    }
}

/// A digest in hexadecimal; a command line as it is.
fn value_text(value: &[u8]) -> String {
    if matches!(value.len(), 20 | 32 | 48 | 64) && !value.is_ascii() {
        return hex::encode(value);
    }
    match std::str::from_utf8(value) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => hex::encode(value),
    }
}

impl Line {
    fn in_words(&self) -> String {
        let mut out = format!("    {} (record {})\n", self.path, self.record);
        let mut line = |label: &str, value: &str| {
            // Writing to a String does not fail.
            let _ = writeln!(out, "      {label:<8}  {value}");
        };
        if let Some(measured) = &self.measured {
            line("measured", measured);
        }
        for (index, known) in self.expected.iter().enumerate() {
            line(if index == 0 { "expected" } else { "or" }, &known.value);
            line("", &format!("says {}", known.source));
        }
        if let Some(note) = &self.note {
            out.push_str(&wrap("      note      ", 16, note));
        }
        out
    }
}
