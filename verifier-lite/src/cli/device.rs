//! `motectl device`.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Subcommand;
use mote_schemas::reason::Reason;

use super::backend::{ask, unexpected};
use super::text::{shorten, table, wrap};
use super::{Context, Failure, Outcome, time};
use crate::admin::{
    AdmissionView, DeviceDetail, DeviceSummary, RefusedView, Request, Response, TokenView,
    VerdictView,
};
use crate::signing_key::PublicKey;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List every device that has said hello.
    #[command(after_help = "\
Examples:
  motectl device list
  motectl device list --json | jq -r '.[] | select(.verdict.verdict != \"trusted\") | .id'")]
    List,
    /// Show everything about a device.
    Show {
        /// Name, or the first digits of the id.
        device: String,
    },
    /// Let a device attest.
    #[command(after_help = "\
Examples:
  motectl device admit 3f9a
  motectl device admit 3f9a --name gate-7

Compare the id with the one that mote-agent prints on the device before you admit it.")]
    Admit {
        /// Name, or the first digits of the id.
        device: String,
        /// And call it so from now on.
        #[arg(long)]
        name: Option<String>,
        /// Who decides. Default: you.
        #[arg(long)]
        by: Option<String>,
    },
    /// Enrol a device without a TPM by the public key that signs its tokens (EAT, RFC 9711).
    #[command(after_help = "\
Examples:
  motectl device endorse valve-12.pub --name valve-12
  motectl device endorse valve-12.pub --ueid 0198f50a4ff6c05861c8860d13a638ea

The key is P-256, in PEM (SPKI). The device's id is the first 16 bytes of the SHA-256 of its SPKI, which
is also the kid of its tokens. Whoever holds the private key is the device: take the public key from the device's
maker or its DICE certificate, not from the network.")]
    Endorse {
        /// The device's public key.
        key: PathBuf,
        /// And call it so.
        #[arg(long)]
        name: Option<String>,
        /// The UEID that its tokens must claim, if they claim one.
        #[arg(long, value_name = "HEX")]
        ueid: Option<String>,
        /// Who decides. Default: you.
        #[arg(long)]
        by: Option<String>,
    },
    /// Stop a device from attesting, and keep what is known about it.
    Refuse {
        /// Name, or the first digits of the id.
        device: String,
        /// Who decides. Default: you.
        #[arg(long)]
        by: Option<String>,
    },
    /// Give a device a name.
    Rename {
        /// Name, or the first digits of the id.
        device: String,
        /// The new name.
        name: String,
    },
    /// Put a device into groups, which policies can be bound to.
    #[command(after_help = "\
Examples:
  motectl device label gate-7 gate canary
  motectl device label gate-7 --remove canary")]
    Label {
        /// Name, or the first digits of the id.
        device: String,
        /// Labels to give it.
        labels: Vec<String>,
        /// A label to take from it. May be given several times.
        #[arg(long, value_name = "LABEL")]
        remove: Vec<String>,
    },
    /// Forget a device: its keys, sessions, log and verdicts. It may say hello anew.
    Remove {
        /// Name, or the first digits of the id.
        device: String,
    },
}

pub(super) fn run(context: &Context, command: Command) -> Outcome {
    let (request, done) = match command {
        Command::List => {
            let (devices, refused) = list(context)?;
            return context.show(&devices, |devices| {
                let now = time::now();
                in_a_table(now, devices) + &refused_in_a_table(now, &refused)
            });
        }
        Command::Show { device } => {
            return match ask(context, &Request::DeviceShow { device })? {
                Response::Device(device) => {
                    context.show(&*device, |device| all(time::now(), device))
                }
                other => unexpected(&other),
            };
        }
        Command::Admit { device, name, by } => (
            Request::DeviceAdmit {
                device,
                name,
                by: by.unwrap_or_else(operator),
            },
            "admitted",
        ),
        Command::Endorse {
            key,
            name,
            ueid,
            by,
        } => (
            Request::DeviceEndorse {
                pem: PublicKey::load(&key)?.to_pem()?,
                ueid,
                by: by.unwrap_or_else(operator),
                name,
            },
            "endorsed",
        ),
        Command::Refuse { device, by } => (
            Request::DeviceRefuse {
                device,
                by: by.unwrap_or_else(operator),
            },
            "refused",
        ),
        Command::Rename { device, name } => (Request::DeviceRename { device, name }, "renamed"),
        Command::Remove { device } => (Request::DeviceRemove { device }, "removed"),
        Command::Label {
            device,
            labels,
            remove,
        } => return label(context, device, labels, remove),
    };
    match ask(context, &request)? {
        Response::Changed(device) => {
            context.show(&device, |device| format!("{done} {}\n", title(device)))
        }
        other => unexpected(&other),
    }
}

fn label(context: &Context, device: String, add: Vec<String>, remove: Vec<String>) -> Outcome {
    let request = Request::DeviceLabel {
        device,
        add,
        remove,
    };
    match ask(context, &request)? {
        Response::Changed(device) => context.show(&device, |device| {
            let labels = match device.labels.as_slice() {
                [] => "no labels".to_owned(),
                labels => labels.join(", "),
            };
            format!("{}: {labels}\n", title(device))
        }),
        other => unexpected(&other),
    }
}

fn list(context: &Context) -> Result<(Vec<DeviceSummary>, Vec<RefusedView>), Failure> {
    let mut all: Vec<DeviceSummary> = Vec::new();
    loop {
        let after = all.last().map(|device| device.id.clone());
        match ask(context, &Request::DeviceList { after })? {
            Response::Devices {
                devices,
                more,
                refused,
            } => {
                let more = more && !devices.is_empty();
                all.extend(devices);
                if !more {
                    return Ok((all, refused));
                }
            }
            other => return unexpected(&other),
        }
    }
}

/// Who types this, as far as the environment tells.
fn operator() -> String {
    ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .unwrap_or_else(|| "operator".to_owned())
}

/// `gate-7 (3f9a...)`, or the id alone.
pub(super) fn title(device: &DeviceSummary) -> String {
    match &device.name {
        Some(name) => format!("{name} ({})", device.id),
        None => device.id.clone(),
    }
}

/// Digits of an id in the list: enough that an operator never has to count.
const DIGITS: usize = 12;

fn in_a_table(now: u64, devices: &[DeviceSummary]) -> String {
    if devices.is_empty() {
        return "no device has said hello yet\n".to_owned();
    }
    let mut rows = vec![
        [
            "DEVICE",
            "NAME",
            "ADMISSION",
            "VERDICT",
            "QUOTED",
            "REASONS",
        ]
        .map(String::from),
    ];
    for device in devices {
        let verdict = device.verdict.as_ref();
        rows.push([
            device.id[..DIGITS.min(device.id.len())].to_owned(),
            device.name.clone().unwrap_or_else(|| "-".to_owned()),
            device.admission.state.clone(),
            verdict.map_or("-", |verdict| &verdict.verdict).to_owned(),
            // The age of the evidence, not of the verdict: an old "trusted" must not look fresh.
            device
                .quoted_at
                .map_or("never".to_owned(), |at| time::ago(now, at)),
            verdict.map_or(String::new(), |verdict| verdict.reasons.join(", ")),
        ]);
    }
    table([DIGITS, 16, 9, 9, 13, 80], &rows)
}

/// What follows the devices, if a running verifier has refused any.
fn refused_in_a_table(now: u64, refused: &[RefusedView]) -> String {
    if refused.is_empty() {
        return String::new();
    }
    let mut rows = vec![["DEVICE", "TIMES", "LAST", "FROM", "REASON"].map(String::from)];
    for one in refused {
        rows.push([
            one.id[..DIGITS.min(one.id.len())].to_owned(),
            one.count.to_string(),
            time::ago(now, one.at),
            one.from.clone(),
            one.reason.clone(),
        ]);
    }
    let rows = table([DIGITS, 8, 13, 48, 40], &rows);
    format!("\nrefused at hello since the verifier started, ids as claimed:\n{rows}")
}

fn all(now: u64, device: &DeviceDetail) -> String {
    let mut out = String::new();
    let mut line = |label: &str, value: &str| {
        // Writing to a String does not fail.
        let _ = writeln!(out, "{label:<12} {value}");
    };
    let summary = &device.summary;
    line("device", &summary.id);
    if let Some(name) = &summary.name {
        line("name", name);
    }
    if !summary.labels.is_empty() {
        line("labels", &summary.labels.join(", "));
    }
    let policies = match summary.policies.as_slice() {
        [] => "none bound: every stored manifest is allowed".to_owned(),
        policies => policies.join(", "),
    };
    line("policy", &policies);
    line("admission", &admission(now, &summary.admission));
    line("verdict", &verdict(now, summary.verdict.as_ref()));
    line("enrolled", &time::both(now, summary.enrolled_at));
    let when = |at: Option<u64>| at.map_or("never".to_owned(), |at| time::both(now, at));
    line("last seen", &when(summary.last_seen));
    let evidence = match device.token {
        Some(_) => "last token",
        None => "last quote",
    };
    line(evidence, &when(summary.quoted_at));
    if let Some(software) = &device.software {
        line("agent", &shorten(software, 67));
    }
    if let Some(boot) = &device.boot {
        line(
            "boot",
            &format!(
                "number {}, first seen {}",
                boot.number,
                time::both(now, boot.since)
            ),
        );
        line(
            "",
            &format!(
                "TPM resets {}, restarts {}",
                boot.reset_count, boot.restart_count
            ),
        );
        line(
            "log",
            &format!(
                "{} records, {} certified by a quote",
                boot.records, boot.certified
            ),
        );
    }
    line("deviations", &device.deviations.to_string());
    if let Some(token) = &device.token {
        of_token(now, token, line);
    } else {
        line("EK SHA-256", &device.ek_digest);
        line("AK SHA-256", &device.ak_digest);
        line(
            "EK cert.",
            device.ek_certificate.as_deref().unwrap_or("none"),
        );
        if let Some(fault) = &device.certificate_fault {
            line("", Reason::EkCertificateUntrusted.token());
            out.push_str(&wrap(&" ".repeat(13), 13, fault));
        }
    }
    let mut line = |label: &str, value: &str| {
        let _ = writeln!(out, "{label:<12} {value}");
    };
    for (index, entry) in device.history.iter().enumerate() {
        let reasons = entry.reasons.join(", ");
        let entry = format!("{}  {:<9}  {reasons}", time::date(entry.at), entry.verdict);
        line(
            if index == 0 { "history" } else { "" },
            &shorten(&entry, 67),
        );
    }
    if device.deviations > 0 {
        let _ = writeln!(out, "\n`motectl explain {}` says why.", &summary.id[..8]);
    }
    out
}

/// What `all` shows of a device without a TPM.
fn of_token(now: u64, token: &TokenView, mut line: impl FnMut(&str, &str)) {
    line("evidence", "tokens (EAT); no TPM");
    if let (Some(boot), Some(since)) = (token.boot, token.since) {
        let since = time::both(now, since);
        let count = token.boot_count.map(|count| format!("; bootcount {count}"));
        let count = count.unwrap_or_default();
        line("boot", &format!("number {boot}, first seen {since}{count}"));
    }
    line("key SHA-256", &token.key_digest);
    if let Some(ueid) = &token.ueid {
        line("UEID", ueid);
    }
    for (name, digest) in &token.components {
        line("component", &shorten(name, 67));
        line("", digest);
    }
}

fn admission(now: u64, admission: &AdmissionView) -> String {
    match (&admission.by, admission.at) {
        (Some(by), Some(at)) => format!("{} by {by}, {}", admission.state, time::both(now, at)),
        _ => admission.state.clone(),
    }
}

/// `untrusted since 3 min ago (2026-...)`.
pub(super) fn verdict(now: u64, verdict: Option<&VerdictView>) -> String {
    verdict.map_or("none yet".to_owned(), |verdict| {
        format!("{} since {}", verdict.verdict, time::both(now, verdict.at))
    })
}
