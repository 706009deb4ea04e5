//! Policies that change while a verifier runs.

use crate::common::TempDir;
use crate::operator::{device, good, history, json, keys, manifest, policy, verdict_of};
use serde_json::json;
use std::time::Duration;

use super::{NEW, OLD};

/// For everything that a loaded machine may take its time for.
const PATIENCE: Duration = Duration::from_secs(120);

/// `mote-verifier` on the test's state directory, killed when dropped.
struct Daemon(std::process::Child);

impl Daemon {
    fn start(dir: &TempDir) -> Self {
        let child = std::process::Command::new(env!("CARGO_BIN_EXE_mote-verifier"))
            .current_dir(dir.path())
            .args(["--state", "state", "--listen", "127.0.0.1:0"])
            .args([
                "--manifest",
                "edge-1.4.mote",
                "--manifest-key",
                "image.key.pub",
            ])
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let daemon = Daemon(child);
        let socket = dir.file("state/admin.sock");
        mote_swtpm::wait_for("mote-verifier listens", PATIENCE, || {
            socket.exists().then_some(())
        })
        .unwrap();
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_running_verifier_appraises_anew_without_hearing_from_the_device() {
    let dir = TempDir::new("policies");
    device(&dir, &NEW);
    keys(&dir);
    manifest(&dir, "1.3", &OLD);
    manifest(&dir, "1.4", &NEW);
    let daemon = Daemon::start(&dir);
    // What changed while it was down is seen to after its start.
    mote_swtpm::wait_for("--manifest stores it", PATIENCE, || {
        (verdict_of(&dir).0 == "trusted").then_some(())
    })
    .unwrap();
    let listed = json(&good(&dir, "manifest list --json"));
    assert_eq!(listed[0]["version"], "1.4");

    good(&dir, "manifest add edge-1.3.mote");
    let gates = json!({ "name": "gates", "version": 1,
        "manifests": [{ "name": "edge", "version": "1.3" }] });
    policy(&dir, &gates);
    let seen = |dir: &TempDir| json(&good(dir, "device show gate-7 --json"))["last_seen"].clone();
    let before = seen(&dir);
    assert_eq!(
        good(&dir, "policy bind gates all"),
        "bound policy gates to all\nappraised 1 device anew: 1 device with another verdict\n"
    );
    assert_eq!(
        verdict_of(&dir),
        ("untrusted".into(), vec!["file-modified".into()])
    );
    assert_eq!(seen(&dir), before, "it has said nothing");
    assert!(good(&dir, "explain gate-7").contains("belongs to manifest edge-1.4"));
    assert_eq!(good(&dir, "result gate-7 --jwt").matches('.').count(), 2);
    // Durable before the answer: nothing of it is lost with the process.
    drop(daemon);
    assert_eq!(verdict_of(&dir).0, "untrusted");
    assert_eq!(history(&dir).first().map(String::as_str), Some("untrusted"));
}
