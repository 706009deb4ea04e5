//! The programs as users run them, on swtpm and a simulated kernel with a real device's measurements:
//! nothing is mocked between the TPM and the verdict.

#![allow(clippy::unwrap_used)]

mod admission;
mod evidence_file;
mod kill;
mod links;
mod narrow;
mod simulated_kernel;
mod two_devices;
mod writes_nothing;

use std::time::Duration;

use mote_tests::{Device, Verifier, wait_for};
use serde_json::Value;

/// Records of the recorded device when its services are up.
const BOOTED: usize = 294;
/// A program of the recorded device that its image does not have.
const UNKNOWN: &str = "/usr/local/bin/job1";
/// For everything that a loaded machine may take its time for.
const PATIENCE: Duration = Duration::from_secs(120);

/// A device that has booted, its agent configured for this verifier and not started.
fn booted(name: &str, verifier: &Verifier, extra: &str) -> Device {
    let device = Device::new(name).unwrap();
    boot(&device, verifier, extra);
    device
}

fn boot(device: &Device, verifier: &Verifier, extra: &str) {
    device.kernel().append_until(BOOTED).unwrap();
    let key = verifier.state().join("verifier.pub");
    let extra = format!("start_jitter = 0\n{extra}");
    device
        .configure(&verifier.address(), &key.display().to_string(), &extra)
        .unwrap();
}

/// `motectl --json WORDS`.
fn json(verifier: &Verifier, words: &[&str]) -> Value {
    let words = [&["--json"], words].concat();
    serde_json::from_str(&verifier.motectl(&words).unwrap()).unwrap()
}

fn devices(verifier: &Verifier) -> Vec<Value> {
    match json(verifier, &["device", "list"]) {
        Value::Array(devices) => devices,
        other => panic!("no list: {other}"),
    }
}

/// Waits until as many devices are known; their ids.
fn enrolled(verifier: &Verifier, count: usize) -> Vec<String> {
    let what = format!("{count} devices enrolled");
    wait_for(&what, PATIENCE, || {
        let devices = devices(verifier);
        let id = |device: &Value| device["id"].as_str().unwrap().to_owned();
        (devices.len() >= count).then(|| devices.iter().map(id).collect())
    })
    .unwrap()
}

fn show(verifier: &Verifier, device: &str) -> Value {
    json(verifier, &["device", "show", device])
}

/// The last verdict's word; empty before the first.
fn verdict(shown: &Value) -> &str {
    shown["verdict"]["verdict"].as_str().unwrap_or_default()
}

/// Waits until a device has this verdict, with so many records certified in its current boot.
fn becomes(verifier: &Verifier, device: &str, word: &str, records: usize) -> Value {
    let mut last = Value::Null;
    let settled = wait_for(word, PATIENCE, || {
        last = show(verifier, device);
        let certified = last["boot"]["certified"].as_u64().unwrap_or(0);
        let there = verdict(&last) == word
            && certified == records as u64
            && last["verdict"]["boot"] == last["boot"]["number"];
        there.then(|| last.clone())
    });
    settled.unwrap_or_else(|error| panic!("{error}; {device} with {records} records: {last:#}"))
}
