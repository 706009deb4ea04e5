//! The verdict on a token in a file.

use std::fmt::Write;

use mote_schemas::message::{DeviceId, Tier};
use serde::Serialize;

use super::SHOWN;
use crate::admin::{DeviationView, deviation_view};
use crate::cli::text::wrap;
use crate::cli::{Context, explain};
use crate::evidence::token::VerifiedToken;
use crate::hex;
use crate::policy::Settled;
use crate::printable::printable;

#[derive(Serialize)]
pub(super) struct Report {
    verdict: &'static str,
    pub(super) trusted: bool,
    evidence: &'static str,
    device: String,
    ueid: Option<String>,
    reasons: Vec<&'static str>,
    boot_count: Option<u64>,
    software: Option<String>,
    components: Vec<Measured>,
    deviations: Vec<Found>,
}

#[derive(Serialize)]
struct Measured {
    name: String,
    digest: String,
}

#[derive(Serialize)]
struct Found {
    reason: String,
    #[serde(flatten)]
    deviation: DeviationView,
}

impl Report {
    pub(super) fn new(
        evidence: &'static str,
        device: DeviceId,
        token: &VerifiedToken,
        settled: &Settled,
    ) -> Self {
        Report {
            verdict: settled.tier.word(),
            trusted: matches!(settled.tier, Tier::Affirming | Tier::Warning),
            evidence,
            device: device.to_string(),
            ueid: token.ueid().map(hex::encode),
            reasons: settled
                .reasons
                .iter()
                .map(|reason| reason.token())
                .collect(),
            boot_count: token.boot_count(),
            software: token.software().map(|text| printable(text.as_bytes())),
            components: token
                .components()
                .iter()
                .map(|component| Measured {
                    name: printable(component.name.as_bytes()),
                    digest: format!("{}:{}", component.alg, hex::encode(&component.digest)),
                })
                .collect(),
            deviations: settled
                .deviations
                .iter()
                .map(|deviation| Found {
                    reason: deviation.reason.clone(),
                    deviation: deviation_view(deviation, None),
                })
                .collect(),
        }
    }

    pub(super) fn in_words(&self, context: &Context) -> String {
        let mut out = format!("{}\n", self.verdict);
        let mut line = |label: &str, value: &str| {
            // Writing to a String does not fail.
            let _ = writeln!(out, "{label:<11} {value}");
        };
        line("device", &self.device);
        line("evidence", self.evidence);
        if let Some(ueid) = &self.ueid {
            line("UEID", ueid);
        }
        if let Some(software) = &self.software {
            line("software", software);
        }
        if let Some(count) = self.boot_count {
            line("bootcount", &count.to_string());
        }
        for component in &self.components {
            line("component", &component.name);
            line("", &component.digest);
        }
        for reason in &self.reasons {
            let _ = writeln!(out, "\n{reason}");
            let text = crate::explain::text(reason);
            out.push_str(&wrap("  ", 2, text.meaning));
            out.push_str(&wrap("  What to do: ", 4, text.action));
            let all = self
                .deviations
                .iter()
                .filter(|found| found.reason == *reason);
            for found in all.take(SHOWN) {
                out.push_str(&explain::of_deviation(context.now, &found.deviation));
            }
        }
        out
    }
}
