//! `motectl policy`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use serde_json::Value;

use super::backend::{ask, unexpected};
use super::text::{table, wrap};
use super::verify::{self, Against};
use super::{Context, Failure, Outcome, explain, stored};
use crate::admin::{PolicyDetail, PolicyView, Request, Response, TestView, deviation_view};
use crate::hex;
use crate::manifest::envelope::read_file;
use crate::policy::{self, MAX_POLICY, Policy, SignedPolicy};
use crate::signing_key::SigningKey;

const SOURCE: &str = "\
A policy is written in JSON; everything but name and version may be left out:
  {
    \"name\": \"gates\", \"version\": 2, \"mode\": \"enforce\",
    \"manifests\": [ { \"name\": \"edge\", \"version\": \"1.4\" },
                   { \"name\": \"edge\", \"version\": \"1.3\", \"expires\": \"2026-12-24\" } ],
    \"exclusions\": [ \"/var/log/**\" ],
    \"ima-keys\": [ \"1a2b3c4d\" ], \"banks\": [ \"sha256\" ], \"digests\": [ \"sha256\" ],
    \"stale-after\": 86400, \"min-key-strength\": 128,
    \"reasons\": { \"measurement-violation\": \"ignore\", \"clock-unsafe\": \"untrusted\" }
  }
mode: enforce, or monitor (no verdict worse than a warning). reasons: ignore, warning or untrusted.";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Sign a policy written in JSON.
    #[command(after_help = SOURCE)]
    Build {
        /// The policy in JSON.
        source: PathBuf,
        /// The private key to sign it with.
        #[arg(long, value_name = "KEY")]
        sign: PathBuf,
        /// Where to put it.
        #[arg(long, short, value_name = "FILE")]
        out: PathBuf,
    },
    /// Store a signed policy. A higher version takes the place of a lower one wherever it is bound.
    Add {
        /// Signed by a key that is trusted for policies.
        file: PathBuf,
    },
    /// List the stored policies.
    List,
    /// Show what a policy says, and which stored manifests it allows.
    Show {
        /// Name, or name@version.
        policy: String,
    },
    /// Show what changed from one policy to another.
    #[command(after_help = "\
Examples:
  motectl policy diff gates@1 gates@2
  motectl policy diff gates ./gates.json")]
    Diff {
        /// Name, name@version, or a file.
        from: String,
        /// Name, name@version, or a file.
        to: String,
    },
    /// Bind a policy to a device, to all devices with a label, or to all.
    #[command(after_help = "\
Examples:
  motectl policy bind gates group:gate
  motectl policy bind canary gate-7
  motectl policy bind strict all

The closest binding counts: a device's own, then its groups', then that of all. Several at the same
level add up: what any of them allows is allowed, what any of them demands is demanded.")]
    Bind {
        /// Its name.
        policy: String,
        /// all, group:LABEL, or a device.
        to: String,
    },
    /// Undo a binding.
    Unbind {
        /// Its name.
        policy: String,
        /// all, group:LABEL, or a device.
        from: String,
    },
    /// Forget a policy that is bound to nobody, or one version of a policy.
    Remove {
        /// Name, or name@version.
        policy: String,
    },
    /// Show what would become of recorded evidence under a policy, without touching a device: that of the
    /// stored devices, or that in a file.
    #[command(after_help = "\
Examples:
  motectl policy test gates.json
  motectl policy test gates.json gate-7
  motectl policy test gates.json --evidence gate-7.cmw --manifest edge-1.4.mote --manifest-key image.key.pub
  motectl policy test valves.json --evidence token.cmw --device-key valve-12.pub \\
    --manifest valve-2.1.mote --manifest-key image.key.pub

Signatures are checked; that the evidence is fresh, and whose the attestation key in it is, is not.")]
    Test {
        /// The policy: JSON, or signed.
        file: PathBuf,
        /// This device only.
        device: Option<String>,
        /// Evidence in a file (mote-agent evidence, or a token) instead of what is stored.
        #[arg(long, value_name = "FILE", conflicts_with = "device")]
        evidence: Option<PathBuf>,
        /// The endorsed key of the device, for a token.
        #[arg(long, value_name = "KEY.pub", requires = "evidence")]
        device_key: Option<PathBuf>,
        #[command(flatten)]
        against: Box<Against>,
    },
}

pub(super) fn run(context: &Context, command: Command) -> Outcome {
    match command {
        Command::Build { source, sign, out } => build(context, &source, &sign, &out),
        Command::Add { file } => {
            let bytes = read_file(&file, MAX_POLICY)?;
            SignedPolicy::parse(&bytes)
                .and_then(|signed| signed.claims())
                .map_err(|error| error.in_file(&file))?;
            let data = STANDARD.encode(bytes);
            stored(context, "added ", &Request::PolicyAdd { data })
                .map_err(|Failure(why)| Failure(format!("{}: {why}", file.display())))
        }
        Command::List => match ask(context, &Request::PolicyList)? {
            Response::Policies(policies) => context.show(&policies, |p| in_a_table(p)),
            other => unexpected(&other),
        },
        Command::Show { policy } => {
            let detail = detail(context, policy)?;
            context.show(&detail, in_words)
        }
        Command::Diff { from, to } => diff(context, &from, &to),
        Command::Bind { policy, to } => stored(context, "", &Request::PolicyBind { policy, to }),
        Command::Unbind { policy, from } => {
            stored(context, "", &Request::PolicyUnbind { policy, from })
        }
        Command::Remove { policy } => stored(context, "", &Request::PolicyRemove { policy }),
        Command::Test {
            file,
            device: None,
            evidence: Some(evidence),
            device_key,
            against,
        } => test_file(context, &file, &evidence, device_key.as_deref(), &against),
        Command::Test { file, device, .. } => test(context, &file, device.as_ref()),
    }
}

fn build(context: &Context, source: &Path, sign: &Path, out: &Path) -> Outcome {
    let policy = read_json(source)?;
    let key = SigningKey::load(sign)?;
    let bytes = policy::sign(&policy, &key)?;
    fs::write(out, bytes).map_err(|error| Failure(format!("{}: {error}", out.display())))?;
    let label = policy.label();
    let key_id = hex::encode(&key.public_key().key_id());
    let made = serde_json::json!({ "policy": label, "key_id": key_id, "file": out });
    context.show(&made, |_| {
        format!("{}: policy {label}, signed by {key_id}\n", out.display())
    })
}

pub(super) fn read_json(file: &Path) -> Result<Policy, Failure> {
    let bytes = read_file(file, MAX_POLICY)?;
    Ok(policy::from_json(&bytes).map_err(|error| error.in_file(file))?)
}

/// A policy in a file: signed, which begins with the tag of a `COSE_Sign1`, or in JSON. The signature is
/// not checked: nothing comes of it but text.
fn read_either(file: &Path) -> Result<Policy, Failure> {
    let bytes = read_file(file, MAX_POLICY)?;
    if bytes.first() != Some(&0xD2) {
        return read_json(file);
    }
    let claims = SignedPolicy::parse(&bytes).and_then(|signed| signed.claims());
    Ok(claims.map_err(|error| error.in_file(file))?)
}

fn detail(context: &Context, policy: String) -> Result<PolicyDetail, Failure> {
    match ask(context, &Request::PolicyShow { policy })? {
        Response::Policy(detail) => Ok(*detail),
        other => unexpected(&other),
    }
}

fn in_a_table(policies: &[PolicyView]) -> String {
    if policies.is_empty() {
        return "no policy is stored: every stored manifest is allowed on every device\n"
            .to_owned();
    }
    let mut rows = vec![["POLICY", "MODE", "IN FORCE", "SIGNED BY", "BOUND TO"].map(String::from)];
    rows.extend(policies.iter().map(|policy| {
        [
            format!("{}@{}", policy.name, policy.version),
            policy.mode.clone(),
            if policy.in_force { "yes" } else { "-" }.to_owned(),
            policy.key_id.clone(),
            policy.bound_to.join(", "),
        ]
    }));
    table([24, 7, 8, 16, 80], &rows)
}

fn in_words(detail: &PolicyDetail) -> String {
    let summary = &detail.summary;
    let mut out = String::new();
    let mut line =
        |label: &str, value: &str| out.push_str(&wrap(&format!("{label:<10} "), 11, value));
    line("policy", &format!("{}@{}", summary.name, summary.version));
    line("signed by", &summary.key_id);
    line("SHA-256", &summary.digest);
    let bound = match (summary.in_force, summary.bound_to.as_slice()) {
        (false, _) => "nobody: a higher version is stored".to_owned(),
        (true, []) => "nobody".to_owned(),
        (true, targets) => targets.join(", "),
    };
    line("bound to", &bound);
    let allows = match detail.allows.as_slice() {
        [] => "no stored manifest".to_owned(),
        manifests => manifests.join(", "),
    };
    line("allows", &allows);
    // A value of strings and numbers always becomes text.
    let _ = writeln!(out, "{:#}", detail.policy);
    out
}

/// What the two say, field by field: only where they differ.
fn diff(context: &Context, from: &str, to: &str) -> Outcome {
    let of = |operand: &str| -> Result<Value, Failure> {
        let path = Path::new(operand);
        if path.is_file() {
            return Ok(policy::to_json(&read_either(path)?));
        }
        Ok(detail(context, operand.to_owned())?.policy)
    };
    let (from, to) = (fields(&of(from)?), fields(&of(to)?));
    let mut changes: BTreeMap<String, BTreeMap<&str, Vec<String>>> = BTreeMap::new();
    let names: BTreeSet<_> = from.keys().chain(to.keys()).collect();
    for name in names {
        let none = BTreeSet::new();
        let (old, new) = (
            from.get(name).unwrap_or(&none),
            to.get(name).unwrap_or(&none),
        );
        let removed: Vec<_> = old.difference(new).cloned().collect();
        let added: Vec<_> = new.difference(old).cloned().collect();
        if !removed.is_empty() || !added.is_empty() {
            let change = BTreeMap::from([("removed", removed), ("added", added)]);
            changes.insert(name.clone(), change);
        }
    }
    context.show(&changes, |changes| {
        if changes.is_empty() {
            return "no difference\n".to_owned();
        }
        let mut out = String::new();
        for (name, change) in changes {
            let _ = writeln!(out, "{name}");
            for (sign, key) in [("-", "removed"), ("+", "added")] {
                for value in change.get(key).into_iter().flatten() {
                    let _ = writeln!(out, "  {sign} {value}");
                }
            }
        }
        out
    })
}

/// Each field of a policy as a set of values, in JSON.
fn fields(policy: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let fields = policy.as_object().into_iter().flatten();
    fields
        .map(|(name, value)| {
            let values = match value {
                Value::Array(items) => items.iter().map(ToString::to_string).collect(),
                Value::Object(items) => items.iter().map(|(k, v)| format!("{k}: {v}")).collect(),
                other => BTreeSet::from([other.to_string()]),
            };
            (name.clone(), values)
        })
        .collect()
}

fn test(context: &Context, file: &Path, device: Option<&String>) -> Outcome {
    let policy = policy::to_json(&read_either(file)?);
    let mut all: Vec<TestView> = Vec::new();
    loop {
        let request = Request::PolicyTest {
            policy: policy.clone(),
            device: device.cloned(),
            after: all.last().map(|tested| tested.id.clone()),
        };
        match ask(context, &request)? {
            Response::Tested { devices, more } => {
                let more = more && !devices.is_empty();
                all.extend(devices);
                if !more {
                    break;
                }
            }
            other => return unexpected(&other),
        }
    }
    context.show(&all, |all| tested_in_words(all))
}

/// The same for evidence in a file.
fn test_file(
    context: &Context,
    file: &Path,
    evidence: &Path,
    device_key: Option<&Path>,
    against: &Against,
) -> Outcome {
    let policy = against.load(&read_either(file)?, context.now)?;
    let (device, settled) = verify::test(context, evidence, device_key, &policy)?;
    let deviations = settled.deviations.iter();
    let tested = TestView {
        id: device.to_string(),
        name: None,
        now: None,
        would_be: Some(settled.tier.word().to_owned()),
        reasons: settled
            .reasons
            .iter()
            .map(|reason| reason.token().to_owned())
            .collect(),
        deviations: deviations
            .map(|found| deviation_view(found, None))
            .collect(),
        count: settled.deviations.len() as u64,
    };
    context.show(&vec![tested], |all| tested_in_words(all))
}

fn tested_in_words(all: &[TestView]) -> String {
    let mut out = String::new();
    for tested in all {
        let name = tested.name.as_ref().unwrap_or(&tested.id);
        let now = tested.now.as_ref().map_or("no verdict", |now| &now.verdict);
        let Some(would_be) = &tested.would_be else {
            let _ = writeln!(out, "{name}: {now}; nothing of it is certified to appraise");
            continue;
        };
        let reasons = tested.reasons.join(", ");
        let reasons = if reasons.is_empty() {
            reasons
        } else {
            format!(" ({reasons})")
        };
        out += &wrap(
            "",
            4,
            &format!("{name}: {now}, would be {would_be}{reasons}"),
        );
        for deviation in &tested.deviations {
            out += &explain::of_deviation(super::time::now(), deviation);
        }
        let shown = tested.deviations.len() as u64;
        if shown < tested.count {
            let _ = writeln!(out, "    ... and {} more", tested.count - shown);
        }
    }
    if all.is_empty() {
        out.push_str("no device has said hello yet\n");
    }
    out
}
