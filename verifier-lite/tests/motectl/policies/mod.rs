//! Policies decide what is allowed on which devices, and a change of them appraises what is stored.

mod daemon;
mod signatures;

use std::fs;

use crate::common::TempDir;
use crate::operator;
use crate::operator::{
    GATE, bad, device, good, history, json, keys, manifest, open, policy, verdict, verdict_of,
};
use mote_schemas::message::Tier;
use mote_verifier::store::{Change, Durability, Store};
use serde_json::json;

const OLD: [(&str, u8); 2] = [("/usr/bin/ls", 1), ("/usr/bin/app", 3)];
const NEW: [(&str, u8); 2] = [("/usr/bin/ls", 1), ("/usr/bin/app", 4)];

/// Both images' manifests are stored; `gate-7` runs the new one.
fn updated(dir: &TempDir) {
    device(dir, &NEW);
    keys(dir);
    manifest(dir, "1.3", &OLD);
    manifest(dir, "1.4", &NEW);
    good(dir, "manifest add edge-1.3.mote edge-1.4.mote");
}

#[test]
fn a_manifest_counts_once_a_trusted_key_signed_it_and_it_is_stored() {
    let dir = TempDir::new("policies");
    device(&dir, &NEW);
    good(&dir, "key new --out image.key");
    manifest(&dir, "1.3", &OLD);
    manifest(&dir, "1.4", &NEW);
    let said = bad(&dir, "manifest add edge-1.3.mote");
    assert!(
        said.starts_with("motectl: edge-1.3.mote: signed by key ")
            && said
                .ends_with("none of the trusted keys; `motectl key trust KEY.pub` makes it one\n"),
        "{said}"
    );
    good(&dir, "key trust image.key.pub --policies");
    assert!(bad(&dir, "manifest add edge-1.3.mote").contains("none of the trusted keys"));
    good(&dir, "key trust image.key.pub --manifests");
    assert_eq!(
        good(&dir, "manifest add edge-1.3.mote"),
        "added manifest edge-1.3 (2 files)\n\
         appraised 1 device anew: 1 device with another verdict\n"
    );
    assert_eq!(
        verdict_of(&dir),
        ("untrusted".into(), vec!["file-modified".into()])
    );
    good(&dir, "manifest add edge-1.4.mote");
    assert_eq!(verdict_of(&dir), ("trusted".into(), vec![]));
    let listed = json(&good(&dir, "manifest list --json"));
    assert_eq!(listed[0]["version"], "1.3");
    assert_eq!(listed[1]["files"], 2);
    assert_eq!(
        good(&dir, "manifest remove edge-1.4").lines().next(),
        Some("removed manifest edge-1.4")
    );
    assert_eq!(verdict_of(&dir).0, "untrusted");
    assert!(bad(&dir, "manifest remove edge-1.4").contains("no manifest \"edge-1.4\""));
    let said = good(
        &dir,
        &format!("key distrust {}", listed[0]["key_id"].as_str().unwrap()),
    );
    assert!(
        said.contains("nor are 1 manifests that it signed"),
        "{said}"
    );
    let (verdict, reasons) = verdict_of(&dir);
    assert_eq!(verdict, "untrusted");
    assert!(
        reasons.contains(&"no-reference-values".to_owned()),
        "{reasons:?}"
    );
    assert_eq!(
        history(&dir).len(),
        5,
        "each change of the verdict is one entry"
    );
}

#[test]
fn the_closest_binding_counts_and_explain_says_what_it_leaves_out() {
    let dir = TempDir::new("policies");
    updated(&dir);
    assert_eq!(verdict_of(&dir).0, "trusted", "no policy: every manifest");
    let gates = json!({ "name": "gates", "version": 1,
        "manifests": [{ "name": "edge", "version": "1.3" }] });
    assert_eq!(policy(&dir, &gates), "added policy gates@1\n");
    assert_eq!(
        good(&dir, "policy bind gates group:gate"),
        "bound policy gates to group:gate\n"
    );
    assert_eq!(verdict_of(&dir).0, "trusted", "not in that group");
    assert_eq!(
        good(&dir, "device label gate-7 gate canary"),
        format!("gate-7 ({GATE}): canary, gate\n")
    );
    assert_eq!(
        verdict_of(&dir),
        ("untrusted".into(), vec!["file-modified".into()])
    );
    let explained = good(&dir, "explain gate-7");
    assert!(
        explained.contains(
            "      cause     this file belongs to manifest edge-1.4; the device is bound to\n                \
             edge-1.3 only (policy gates@1)\n"
        ),
        "{explained}"
    );
    assert!(explained.contains("says edge-1.3"), "{explained}");
    assert!(
        explained.contains("shown by  log record 2\n"),
        "{explained}"
    );

    policy(&dir, &json!({ "name": "open", "version": 7 }));
    good(&dir, "policy bind open gate-7");
    assert_eq!(
        verdict_of(&dir).0,
        "trusted",
        "the device's own comes first"
    );
    let shown = json(&good(&dir, "device show gate-7 --json"));
    assert_eq!(shown["policies"], json!(["open@7"]));
    assert_eq!(shown["labels"], json!(["canary", "gate"]));
    assert!(bad(&dir, "policy remove open").contains("policy unbind"));
    good(&dir, "policy unbind open gate-7");
    assert_eq!(verdict_of(&dir).0, "untrusted");
    assert_eq!(good(&dir, "policy remove open"), "removed policy open\n");
    good(&dir, "device label gate-7 --remove gate");
    assert_eq!(verdict_of(&dir).0, "trusted");

    assert_eq!(
        good(&dir, "policy list")
            .lines()
            .nth(1)
            .map(|line| line.split("  ").next().unwrap()),
        Some("gates@1")
    );
    let detail = json(&good(&dir, "policy show gates --json"));
    assert_eq!(detail["bound_to"], json!(["group:gate"]));
    assert_eq!(detail["allows"], json!(["edge-1.3"]));
    assert_eq!(detail["policy"]["manifests"][0]["version"], "1.3");
    // The device and what is bound to it go together.
    good(&dir, "policy bind gates gate-7");
    good(&dir, "device remove gate-7");
    let detail = json(&good(&dir, "policy show gates --json"));
    assert_eq!(detail["bound_to"], json!(["group:gate"]));
}

#[test]
fn an_update_overlaps_until_the_old_image_expires() {
    let dir = TempDir::new("policies");
    updated(&dir);
    let both = |version: u64, expires: u64| {
        json!({ "name": "gates", "version": version, "manifests": [
            { "name": "edge", "version": "1.3" },
            { "name": "edge", "version": "1.4", "expires": expires },
        ]})
    };
    let second = operator::now() / 1000;
    policy(&dir, &both(1, second + 3600));
    good(&dir, "policy bind gates all");
    assert_eq!(verdict_of(&dir).0, "trusted");
    policy(&dir, &both(2, second - 1));
    assert_eq!(verdict_of(&dir).0, "untrusted");
    let differ = good(&dir, "policy diff gates@1 gates@2");
    assert!(
        differ.contains(&format!("  - {{\"expires\":{}", second + 3600)),
        "{differ}"
    );
    assert!(differ.ends_with("version\n  - 1\n  + 2\n"), "{differ}");
    assert_eq!(good(&dir, "policy diff gates p.json"), "no difference\n");
    // Taking the newer version back puts the older one in force.
    good(&dir, "policy remove gates@2");
    assert_eq!(verdict_of(&dir).0, "trusted");
    // One that expires while nobody changes anything.
    let expires = operator::now() / 1000 + 3600;
    policy(&dir, &both(3, expires));
    assert_eq!(verdict_of(&dir).0, "trusted");
    let mut store = open(&dir);
    let policies = mote_verifier::policy::Policies::default();
    let mut sweep = mote_verifier::policy::Sweep::default();
    let mut at = |now| sweep.go_on(&mut store, &policies, now, 10).unwrap().changed;
    assert_eq!(at(operator::now()), 0);
    assert_eq!(at(expires * 1000 + 1000), 1);
    assert_eq!(at(expires * 1000 + 1001), 0);
    drop(store);
    assert_eq!(history(&dir)[0], "untrusted");
}

#[test]
fn reasons_weigh_what_the_policy_says_and_monitoring_only_warns() {
    let dir = TempDir::new("policies");
    updated(&dir);
    let mut source = json!({ "name": "gates", "version": 1,
        "manifests": [{ "name": "edge", "version": "1.3" }] });
    policy(&dir, &source);
    good(&dir, "policy bind gates all");
    let mut becomes = |field: &str, value: serde_json::Value| {
        source["version"] = (source["version"].as_u64().unwrap() + 1).into();
        source[field] = value;
        policy(&dir, &source);
        verdict_of(&dir)
    };
    let modified = vec!["file-modified".to_owned()];
    assert_eq!(
        becomes("mode", "monitor".into()),
        ("warning".into(), modified.clone())
    );
    assert_eq!(
        becomes("mode", "enforce".into()),
        ("untrusted".into(), modified.clone())
    );
    assert_eq!(
        becomes("reasons", json!({ "file-modified": "warning" })),
        ("warning".into(), modified.clone())
    );
    assert_eq!(
        becomes("reasons", json!({ "file-modified": "ignore" })),
        ("trusted".into(), vec![])
    );
    assert_eq!(becomes("exclusions", json!(["/usr/bin/ap?"])).0, "trusted");
    assert_eq!(becomes("reasons", json!({})).0, "trusted", "excluded");
    assert_eq!(
        becomes("exclusions", json!(["/usr/*"])),
        ("untrusted".into(), modified),
        "a star stops at a slash"
    );
    assert_eq!(
        becomes("exclusions", json!(["/usr/**"])),
        ("trusted".into(), vec![])
    );
    assert_eq!(
        becomes("banks", json!(["sha384"])),
        ("untrusted".into(), vec!["pcr-bank-not-allowed".into()])
    );
    assert_eq!(becomes("banks", json!(["sha256", "sha384"])).0, "trusted");
    assert_eq!(
        becomes("min-key-strength", 112.into()),
        ("untrusted".into(), vec!["key-too-weak".into()])
    );
    assert_eq!(
        becomes("min-key-strength", serde_json::Value::Null).0,
        "trusted"
    );
    assert_eq!(
        becomes("stale-after", 100.into()),
        ("stale".into(), vec!["result-stale".into()])
    );
    let explained = good(&dir, "explain gate-7");
    assert!(explained.contains("stale since"), "{explained}");
    assert!(
        explained.contains("result-stale\n  The last evidence is older"),
        "{explained}"
    );
}

#[test]
fn no_policy_turns_a_log_that_does_not_replay_into_a_pass() {
    let dir = TempDir::new("policies");
    updated(&dir);
    verdict(&dir, Tier::Contraindicated, &["log-does-not-replay"]);
    policy(
        &dir,
        &json!({ "name": "lenient", "version": 1, "mode": "monitor", "exclusions": ["**"] }),
    );
    good(&dir, "policy bind lenient all");
    assert_eq!(
        verdict_of(&dir),
        ("untrusted".into(), vec!["log-does-not-replay".into()])
    );
    fs::write(
        dir.file("bad.json"),
        r#"{ "name": "x", "version": 1, "reasons": { "log-does-not-replay": "ignore" } }"#,
    )
    .unwrap();
    let said = bad(&dir, "policy build bad.json --sign policy.key -o x.policy");
    assert!(
        said.contains("bad.json: reason \"log-does-not-replay\": is not for a policy to weigh"),
        "{said}"
    );
}

#[test]
fn what_the_store_lost_is_not_made_up() {
    let dir = TempDir::new("policies");
    device(&dir, &NEW);
    let cut = Change::TruncateLog {
        device: GATE,
        boot: 1,
        from: 2,
    };
    open(&dir).commit(&[cut], Durability::Immediate).unwrap();
    keys(&dir);
    manifest(&dir, "1.4", &NEW);
    good(&dir, "manifest add edge-1.4.mote");
    let list = json(&good(&dir, "device list --json"));
    assert_eq!(
        list[0]["verdict"],
        json!(null),
        "no verdict from part of a log"
    );
}

#[test]
fn a_policy_that_is_refused_leaves_the_one_in_force() {
    let dir = TempDir::new("policies");
    updated(&dir);
    let gates = json!({ "name": "gates", "version": 2, "stale-after": 9999 });
    policy(&dir, &gates);
    good(&dir, "policy bind gates all");
    let before = good(&dir, "policy list --json");
    let bytes = fs::read(dir.file("p.policy")).unwrap();

    let refused = |name: &str, bytes: &[u8]| {
        fs::write(dir.file(name), bytes).unwrap();
        let said = bad(&dir, &format!("policy add {name}"));
        assert_eq!(good(&dir, "policy list --json"), before, "{name}");
        said
    };
    let said = refused("short.policy", &bytes[..40]);
    assert!(
        said.contains("short.policy: at byte 2: the file is truncated"),
        "{said}"
    );
    let mut changed = bytes.clone();
    let at = bytes.windows(2).position(|w| w == [0x27, 0x0F]).unwrap();
    changed[at] ^= 1;
    let said = refused("changed.policy", &changed);
    assert!(
        said.contains("changed.policy: the signature does not fit"),
        "{said}"
    );
    let said = refused(
        "manifest.policy",
        &fs::read(dir.file("edge-1.3.mote")).unwrap(),
    );
    assert!(
        said.contains("but not of type application/vnd.mote.policy+cbor"),
        "{said}"
    );
    good(&dir, "policy build p.json --sign image.key -o other.policy");
    let other = fs::read(dir.file("other.policy")).unwrap();
    let said = refused("other.policy", &other);
    assert!(said.contains("which is none of the trusted keys"), "{said}");

    // Neither an older version, nor another policy under the same one.
    for (version, stale) in [(1, 9999), (2, 1)] {
        let older = json!({ "name": "gates", "version": version, "stale-after": stale });
        fs::write(dir.file("old.json"), older.to_string()).unwrap();
        good(
            &dir,
            "policy build old.json --sign policy.key -o old.policy",
        );
        let bytes = fs::read(dir.file("old.policy")).unwrap();
        let said = refused("old.policy", &bytes);
        assert!(said.contains("is not newer: raise its version"), "{said}");
    }
    for (source, says) in [
        (
            "{",
            "bad.json: EOF while parsing an object at line 1 column 1",
        ),
        (
            r#"{"name":"a","version":1,"modes":1}"#,
            "unknown field `modes`",
        ),
        (r#"{"name":"a","version":0}"#, "versions begin with 1"),
        (r#"{"name":"a@b","version":1}"#, "no @"),
        (
            r#"{"name":"a","version":1,"exclusions":["["]}"#,
            "exclusion \"[\"",
        ),
        (
            r#"{"name":"a","version":1,"reasons":{"x":"ignore"}}"#,
            "no such reason",
        ),
        (
            r#"{"name":"a","version":1,"manifests":[{}]}"#,
            "goes by name",
        ),
        (
            r#"{"name":"a","version":1,"ima-keys":["ab"]}"#,
            "4 to 32 bytes",
        ),
    ] {
        fs::write(dir.file("bad.json"), source).unwrap();
        let said = bad(
            &dir,
            "policy build bad.json --sign policy.key -o bad.policy",
        );
        assert!(said.contains(says), "{source}: {said}");
        assert!(!dir.file("bad.policy").exists());
    }
}

#[test]
fn a_test_shows_what_would_be_and_changes_nothing() {
    let dir = TempDir::new("policies");
    updated(&dir);
    let before = history(&dir);
    fs::write(
        dir.file("try.json"),
        r#"{ "name": "try", "version": 1, "manifests": [{ "name": "edge", "version": "1.3" }] }"#,
    )
    .unwrap();
    let tried = good(&dir, "policy test try.json");
    assert!(
        tried.starts_with(
            "gate-7: trusted, would be untrusted (file-modified)\n    /usr/bin/app\n      measured  "
        ),
        "{tried}"
    );
    assert!(tried.contains("says edge-1.3"), "{tried}");
    let tried = json(&good(&dir, "policy test try.json gate-7 --json"));
    assert_eq!(tried[0]["would_be"], "untrusted");
    assert_eq!(tried[0]["count"], 1);
    assert_eq!(history(&dir), before);
    assert_eq!(json(&good(&dir, "policy list --json")), json!([]));
    assert_eq!(verdict_of(&dir).0, "trusted");
}
