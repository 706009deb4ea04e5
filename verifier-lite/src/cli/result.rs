//! `motectl result`.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use serde_json::Value;

use super::backend::{ask, unexpected};
use super::text::wrap;
use super::{Context, Failure, Outcome};
use crate::admin::{Request, Response, ResultFormat, ResultView};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  motectl result gate-7
  motectl result gate-7 --jwt
  motectl result gate-7 --cwt -o gate-7.cwt --nonce 00112233445566778899aabbccddeeff
  motectl result --key > verifier.pub

A result is signed with the verifier's own key (ES256). It has a part for each module that has looked at the
device: tpm, boot and ima, or token; its status is that of the worst. One of which any part speaks for the
device says when it expires (exp); whoever relies on it must check that.")]
pub(super) struct Options {
    /// Name, or the first digits of the id.
    #[arg(required_unless_present = "key")]
    device: Option<String>,
    /// Print the public key that verifies results instead (PEM; a JWK with --json).
    #[arg(long, conflicts_with_all = ["device", "jwt", "cwt", "nonce"])]
    key: bool,
    /// As a signed JSON Web Token.
    #[arg(long)]
    jwt: bool,
    /// As a signed CBOR Web Token: base64url, or as it is with --out.
    #[arg(long, conflicts_with = "jwt")]
    cwt: bool,
    /// Bytes to find in the result, in hex: 8 to 64 of them.
    #[arg(long, value_name = "HEX")]
    nonce: Option<String>,
    /// Write to a file.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(context: &Context, options: Options) -> Outcome {
    let Some(device) = options.device else {
        return match ask(context, &Request::ResultKey)? {
            Response::ResultKey(key) if context.json => context.show(&key.jwk, |_| String::new()),
            Response::ResultKey(key) => Ok(key.pem),
            other => unexpected(&other),
        };
    };
    let format = match (options.jwt, options.cwt) {
        (true, _) => ResultFormat::Jwt,
        (_, true) => ResultFormat::Cwt,
        _ => ResultFormat::Json,
    };
    let request = Request::Result {
        device,
        format,
        nonce: options.nonce,
    };
    let result = match ask(context, &request)? {
        Response::Result(result) => result,
        other => return unexpected(&other),
    };
    let text = match &result.token {
        Some(token) if context.json => context.show(&token, |_| String::new())?,
        Some(token) => format!("{token}\n"),
        None => context.show(&result.claims, |_| in_words(&result))?,
    };
    let Some(file) = options.out else {
        return Ok(text);
    };
    let bytes = match (&result.token, format) {
        (Some(token), ResultFormat::Cwt) => URL_SAFE_NO_PAD.decode(token)?,
        _ => text.into_bytes(),
    };
    fs::write(&file, bytes).map_err(|error| Failure(format!("{}: {error}", file.display())))?;
    Ok(String::new())
}

fn in_words(result: &ResultView) -> String {
    let mut out = format!("{}\nstatus   {}\n", result.device, result.status);
    let texts = |value: &Value| -> Vec<String> {
        let all = value.as_array().into_iter().flatten();
        all.filter_map(|text| text.as_str().map(ToOwned::to_owned))
            .collect()
    };
    let modules = result.claims["submods"].as_object();
    // One policy for all modules.
    let policies = modules.and_then(|modules| modules.values().next());
    let policies = policies.map_or(&Value::Null, |module| &module["ear_appraisal_policy_ids"]);
    out += &wrap("policy   ", 9, &texts(policies).join(", "));
    for (label, module) in modules.into_iter().flatten() {
        let status = module["ear_status"].as_str().unwrap_or_default();
        // Writing to a String does not fail.
        let _ = writeln!(out, "{label:<8} {status}");
        let reasons = texts(&module["ear_verifier_claims"]["mote.reasons"]);
        if !reasons.is_empty() {
            out += &wrap("  reasons            ", 21, &reasons.join(", "));
        }
        let vector = module["ear_trustworthiness_vector"].as_object();
        for (claim, value) in vector.into_iter().flatten() {
            let _ = writeln!(out, "  {claim:<18} {value}");
        }
    }
    out
}
