//! `motectl explain`.

use std::fmt::Write;

use super::backend::{ask, unexpected};
use super::text::wrap;
use super::{Context, Outcome, device, time};
use crate::admin::{DeviationView, Explanation, ReasonView, Request, Response};

pub(super) fn run(context: &Context, device: String) -> Outcome {
    match ask(context, &Request::Explain { device })? {
        Response::Explanation(explanation) => context.show(&*explanation, |explanation| {
            in_words(time::now(), explanation)
        }),
        other => unexpected(&other),
    }
}

fn in_words(now: u64, explanation: &Explanation) -> String {
    let summary = &explanation.device;
    // Writing to a String does not fail.
    let mut out = format!("{}\n", device::title(summary));
    let verdict = device::verdict(now, summary.verdict.as_ref());
    let _ = writeln!(out, "{}, {verdict}", summary.admission.state);
    if let Some(at) = summary.quoted_at {
        let _ = writeln!(out, "last quote {}", time::both(now, at));
    }
    if explanation.reasons.is_empty() {
        out.push_str("\nNothing to explain: no reason is recorded against this device.\n");
    }
    for reason in &explanation.reasons {
        out.push('\n');
        out.push_str(&of_reason(now, reason));
    }
    let shown: usize = explanation
        .reasons
        .iter()
        .map(|reason| reason.deviations.len())
        .sum();
    if (shown as u64) < explanation.deviations {
        let rest = explanation.deviations - shown as u64;
        let _ = writeln!(out, "\n... and {rest} more deviations of this boot.");
    }
    out
}

fn of_reason(now: u64, reason: &ReasonView) -> String {
    let mut out = format!("{}\n", reason.reason);
    out.push_str(&wrap("  ", 2, &reason.meaning));
    if let Some(found) = &reason.found {
        out.push_str(&wrap("  Found: ", 4, found));
    }
    out.push_str(&wrap("  Likely cause: ", 4, &reason.cause));
    out.push_str(&wrap("  What to do: ", 4, &reason.action));
    for deviation in &reason.deviations {
        out.push('\n');
        out.push_str(&of_deviation(now, deviation));
    }
    out
}

pub(super) fn of_deviation(now: u64, deviation: &DeviationView) -> String {
    let subject = match (&deviation.path, deviation.pcr) {
        (Some(path), _) => path.clone(),
        (None, Some(pcr)) => format!("PCR {pcr}"),
        (None, None) => "this boot".to_owned(),
    };
    let mut out = format!("    {subject}\n");
    // Writing to a String does not fail.
    let mut line = |label: &str, value: &str| {
        let _ = writeln!(out, "      {label:<8}  {value}");
    };
    if let Some(measured) = &deviation.measured {
        line("measured", measured);
    }
    for (index, expected) in deviation.expected.iter().enumerate() {
        line(if index == 0 { "expected" } else { "or" }, &expected.value);
        line("", &format!("says {}", expected.source));
    }
    if deviation.expected.is_empty() && deviation.path.is_some() {
        let what = deviation.record.map_or("it", |_| "this file");
        line("expected", &format!("nothing: no manifest names {what}"));
    }
    line("since", &time::both(now, deviation.since));
    match (deviation.record, deviation.pcr) {
        (Some(record), Some(pcr)) => line("shown by", &format!("log record {record}, PCR {pcr}")),
        (Some(record), None) => line("shown by", &format!("log record {record}")),
        _ => {}
    }
    if let Some(note) = &deviation.note {
        out.push_str(&wrap("      note      ", 16, note));
    }
    if let Some(likely) = &deviation.likely {
        out.push_str(&wrap("      cause     ", 16, likely));
    }
    out
}
