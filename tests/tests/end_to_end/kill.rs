//! `kill -9` of the verifier at random moments: nothing that anybody was told is lost, and the end is
//! the same as without.
//!
//! Another run: `MOTE_SEED=N cargo test -p mote-tests --test end_to_end kill`. More moments:
//! `MOTE_TEST_LONG=1`.

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mote_tests::{Device, Verifier};
use serde_json::Value;

use super::{BOOTED, UNKNOWN, becomes, booted, devices, enrolled, show, verdict};

/// Random moments, from a seed (SplitMix64).
struct Moments(u64);

impl Moments {
    fn next(&mut self) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Duration::from_millis((z ^ (z >> 31)) % 1500)
    }
}

/// Kills the verifier so many times, each at a random moment after it has come up again, and checks
/// that it still knows everything that it had told.
struct Killer {
    moments: Moments,
    times: u32,
    killed: u32,
}

impl Killer {
    fn strike(&mut self, verifier: &mut Verifier, device: &mut Device) {
        for _ in 0..self.times {
            thread::sleep(self.moments.next());
            let told: Vec<Value> = devices(verifier)
                .iter()
                .map(|device| show(verifier, device["id"].as_str().unwrap()))
                .collect();
            verifier.kill().unwrap();
            let heard = device.agent().map(|agent| agent.log()).unwrap_or_default();
            verifier.launch().unwrap();
            self.killed += 1;
            for before in &told {
                let after = show(verifier, before["id"].as_str().unwrap());
                assert_kept(before, &after, self.killed);
            }
            assert_heard(&heard, verifier, self.killed);
        }
    }
}

/// Enrolment and admission are the same, and the history only grew.
fn assert_kept(before: &Value, after: &Value, kill: u32) {
    for field in ["id", "enrolled_at", "ek_digest", "ak_digest", "admission"] {
        assert_eq!(before[field], after[field], "{field} after kill {kill}");
    }
    let history = |shown: &Value| shown["history"].as_array().cloned().unwrap_or_default();
    let (old, new) = (history(before), history(after));
    assert!(
        new.ends_with(&old),
        "after kill {kill}: told {old:#?}, now {new:#?}"
    );
    let boot = |shown: &Value| shown["boot"]["number"].as_u64().unwrap_or(0);
    assert!(boot(after) >= boot(before), "boot after kill {kill}");
}

/// What the verifier told the agent, it still knows: that it is enrolled, and each verdict.
fn assert_heard(log: &str, verifier: &Verifier, kill: u32) {
    let listed = devices(verifier);
    if log.contains("waiting to be admitted") {
        assert_eq!(listed.len(), 1, "enrolment lost by kill {kill}");
    }
    for (word, line) in [("trusted", " trusted, "), ("untrusted", " untrusted: ")] {
        if !log.contains(line) {
            continue;
        }
        let shown = show(verifier, listed[0]["id"].as_str().unwrap());
        let history = shown["history"].as_array().unwrap();
        assert!(
            history.iter().any(|entry| entry["verdict"] == word),
            "the agent heard '{word}', after kill {kill} the verifier has {history:#?}"
        );
    }
}

/// A device's life: enrols, is admitted, runs programs, goes untrusted, reboots. Returns what the
/// verifier thinks in the end.
fn life(mut killer: Option<Killer>) -> (Vec<Value>, Value) {
    let mut verifier = Verifier::start(&["--interval", "1"]).unwrap();
    let mut device = booted("life", &verifier, "");
    let mut strike = |verifier: &mut Verifier, device: &mut Device| {
        if let Some(killer) = &mut killer {
            killer.strike(verifier, device);
        }
    };

    device.start_agent().unwrap();
    strike(&mut verifier, &mut device);
    let id = enrolled(&verifier, 1).remove(0);

    verifier.motectl(&["device", "admit", &id]).unwrap();
    strike(&mut verifier, &mut device);
    assert_eq!(show(&verifier, &id)["admission"]["state"], "admitted");
    becomes(&verifier, &id, "trusted", BOOTED);

    device.kernel().append(20).unwrap();
    strike(&mut verifier, &mut device);
    becomes(&verifier, &id, "trusted", BOOTED + 20);

    device.kernel().append_path(UNKNOWN).unwrap();
    strike(&mut verifier, &mut device);
    let shown = becomes(&verifier, &id, "untrusted", BOOTED + 21);
    assert_eq!(shown["deviations"], 1, "{shown:#}");
    let explained = verifier.motectl(&["explain", &id]).unwrap();
    assert!(explained.contains(UNKNOWN), "{explained}");

    device.reboot().unwrap();
    device.kernel().append_until(BOOTED).unwrap();
    device.start_agent().unwrap();
    strike(&mut verifier, &mut device);
    let shown = becomes(&verifier, &id, "trusted", BOOTED);
    assert_eq!(verdict(&shown), "trusted");
    if let Some(killer) = killer {
        eprintln!("killed {} times", killer.killed);
    }

    let mut history = shown["history"].as_array().unwrap().clone();
    for entry in &mut history {
        // When is the only thing that may differ.
        entry["at"] = Value::Null;
    }
    (history, shown["deviations"].clone())
}

#[test]
fn at_random_moments_loses_nothing_and_changes_no_verdict() {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = match std::env::var("MOTE_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => clock.as_nanos() as u64,
    };
    eprintln!("MOTE_SEED={seed}");
    let long = std::env::var_os("MOTE_TEST_LONG").is_some();
    // In each of the five parts of its life.
    let times = if long { 20 } else { 4 };
    let undisturbed = thread::spawn(|| life(None));
    let killed = life(Some(Killer {
        moments: Moments(seed),
        times,
        killed: 0,
    }));
    assert_eq!(killed, undisturbed.join().unwrap());
}
