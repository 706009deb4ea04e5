//! `motectl verify`: the verdict on evidence in a file, whatever its kind.

use std::fmt::Write;
use std::fs;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use mote_schemas::cmw::CmwError;
use mote_schemas::eat;
use mote_schemas::message::DeviceId;
use mote_schemas::reason::Reason;
use serde::Serialize;

use super::text::wrap;
use super::{Context, Failure};
use crate::appraise::Deviation;
use crate::bundle::{AkTrust, Bundle, BundleError, MAX_BUNDLE, Verdict};
use crate::evidence::token::{Endorsement, Hints, Token, TokenError};
use crate::evidence::tpm_ima::TpmIma;
use crate::evidence::{Appraise, Kind, KindId, WrapError, Wrapped};
use crate::hex;
use crate::policy::{EffectivePolicy, Policy, Settled};
use crate::printable::printable;
use crate::signing_key::PublicKey;

pub(super) use against::Against;
use against::read_policy;

mod against;
mod token;

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

  motectl verify token.cmw --nonce \"$(cat nonce)\" --device-key valve-12.pub \\
    --manifest valve-2.1.mote --manifest-key image.key.pub --policy valves.json

The media type of the evidence, in its wrapper (RFC 9999), says what it is: a TPM's (mote-agent evidence), or an
EAT of a device without one.

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
    #[arg(long, value_name = "FILE", conflicts_with = "device_key")]
    ak: Option<PathBuf>,

    /// Believe the attestation key in the evidence, unless --ak FILE exists and says another.
    #[arg(long)]
    trust_ak_on_first_use: bool,

    /// Public key that was endorsed for a device without a TPM: its token must be signed by it.
    #[arg(long, value_name = "KEY.pub")]
    device_key: Option<PathBuf>,

    /// The UEID that goes with --device-key, in hexadecimal.
    #[arg(long, value_name = "HEX", requires = "device_key")]
    ueid: Option<String>,

    #[command(flatten)]
    against: Against,

    /// Weigh what is found by this policy: JSON, or signed.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    /// Public key that a signed policy must be signed with.
    #[arg(long, value_name = "KEY.pub", requires = "policy")]
    policy_key: Vec<PathBuf>,
}

/// The report, and whether the device is trusted.
pub(super) fn run(context: &Context, options: &Verify) -> Result<(String, bool), Failure> {
    let nonce = hex::decode(&options.nonce)
        .ok_or("--nonce: not hexadecimal; give the one that the evidence was made for")?;
    options.against.check()?;
    let policy = match &options.policy {
        Some(file) => read_policy(file, &options.policy_key)?,
        None => Policy::default(),
    };
    let policy = options.against.load(&policy, context.now)?;
    let bytes = read(&options.file)?;
    let outcome = open(&bytes).and_then(|wrapped| match wrapped.kind {
        KindId::TpmIma => of_a_tpm(context, options, &wrapped.value, &nonce, &policy),
        KindId::Token => of_a_token(context, options, &wrapped.value, &nonce, &policy),
    });
    match outcome {
        Ok(report) => Ok(report),
        Err(Stop::Usage(failure)) => Err(failure),
        Err(Stop::Refused(reason, why)) => {
            let refusal = Refusal::new(&options.file, reason, why);
            Ok((context.show(&refusal, Refusal::in_words)?, false))
        }
    }
}

/// Why there is no verdict.
enum Stop {
    /// The command line does not fit the evidence, or a file of it cannot be read.
    Usage(Failure),
    /// The evidence proves nothing.
    Refused(Reason, String),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Stop::Usage(failure)
    }
}

impl From<BundleError> for Stop {
    fn from(error: BundleError) -> Self {
        Stop::Refused(error.reason(), error.to_string())
    }
}

impl From<TokenError> for Stop {
    fn from(error: TokenError) -> Self {
        Stop::Refused(error.reason(), error.to_string())
    }
}

/// Evidence of a kind that we know. What is no wrapper is no evidence.
fn open(bytes: &[u8]) -> Result<Wrapped<'_>, Stop> {
    Wrapped::open(bytes).map_err(|error| match error {
        WrapError::Cmw(CmwError::Truncated) if !bytes.is_empty() => BundleError::CutOff.into(),
        WrapError::Cmw(CmwError::TrailingBytes(at)) => BundleError::Trailing(at).into(),
        WrapError::Cmw(_) => BundleError::NotEvidence.into(),
        other => Stop::Refused(other.reason(), other.to_string()),
    })
}

fn of_a_tpm(
    context: &Context,
    options: &Verify,
    value: &[u8],
    nonce: &[u8],
    policy: &EffectivePolicy,
) -> Result<(String, bool), Stop> {
    if options.ak.is_none() && !options.trust_ak_on_first_use {
        let what = "this is a TPM's evidence: give --ak FILE or --trust-ak-on-first-use";
        return Err(Stop::Usage(what.into()));
    }
    let known = known_ak(options)?;
    let trust = known.as_deref().map_or(AkTrust::FirstUse, AkTrust::Known);
    let verified = TpmIma::verify(value, nonce, trust)?;
    // Only a key that has signed what it should is remembered.
    if let (Some(file), None) = (&options.ak, &known) {
        remember(file, verified.ak_public())?;
    }
    let settled = Appraise::appraise(&verified, policy, context.now);
    let verdict = verified.appraise(policy).under(policy, &settled);
    let report = Report::new(&verdict, known.is_none());
    let text = context.show(&report, Report::in_words)?;
    Ok((text, report.trusted))
}

fn of_a_token(
    context: &Context,
    options: &Verify,
    value: &[u8],
    nonce: &[u8],
    policy: &EffectivePolicy,
) -> Result<(String, bool), Stop> {
    let Some(file) = &options.device_key else {
        let what =
            "this is a token of a device without a TPM: give its endorsed key with --device-key";
        return Err(Stop::Usage(what.into()));
    };
    let key = PublicKey::load(file).map_err(Failure::from)?;
    let ueid = match &options.ueid {
        Some(text) => Some(hex::decode(text).ok_or(Failure("--ueid: not hexadecimal".into()))?),
        None => None,
    };
    let endorsement = Endorsement {
        key: &key,
        ueid: ueid.as_deref(),
        at: context.now / 1000,
    };
    let verified = Token::verify(value, nonce, endorsement)?;
    let settled = verified.appraise(policy, context.now);
    let device = eat::device_id(key.point());
    let report = token::Report::new(Token::MEDIA_TYPE, device, &verified, &settled);
    let text = context.show(&report, |report| report.in_words(context))?;
    Ok((text, report.trusted))
}

/// What recorded evidence would come down to under a policy: its own nonce and attestation key are believed,
/// since nothing comes of it but text.
pub(super) fn test(
    context: &Context,
    file: &Path,
    device_key: Option<&Path>,
    policy: &EffectivePolicy,
) -> Result<(DeviceId, Settled), Failure> {
    let bytes = read(file)?;
    let tested = open(&bytes).and_then(|wrapped| match wrapped.kind {
        KindId::TpmIma => {
            let nonce = Bundle::parse(&wrapped.value)?.nonce().to_vec();
            let verified = TpmIma::verify(&wrapped.value, &nonce, AkTrust::FirstUse)?;
            let settled = Appraise::appraise(&verified, policy, context.now);
            Ok((verified.device(), settled))
        }
        KindId::Token => {
            let Some(key) = device_key else {
                let what = "this is a token: give the device's key with --device-key";
                return Err(Stop::Usage(what.into()));
            };
            let key = PublicKey::load(key).map_err(Failure::from)?;
            let nonce = Hints::of(&wrapped.value)?.nonce;
            let endorsement = Endorsement {
                key: &key,
                ueid: None,
                at: context.now / 1000,
            };
            let verified = Token::verify(&wrapped.value, nonce, endorsement)?;
            let device = eat::device_id(key.point());
            Ok((device, verified.appraise(policy, context.now)))
        }
    });
    tested.map_err(|stop| match stop {
        Stop::Usage(failure) => failure,
        Stop::Refused(reason, why) => {
            Failure(format!("{}: {}: {why}", file.display(), reason.token()))
        }
    })
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
    fn new(file: &Path, reason: Reason, error: String) -> Self {
        Refusal {
            verdict: "refused",
            file: file.display().to_string(),
            reasons: [reason.token()],
            error,
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
    evidence: &'static str,
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
            evidence: TpmIma::MEDIA_TYPE,
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
