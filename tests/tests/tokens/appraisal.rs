//! What a genuine token comes down to.

use mote_schemas::eat::DebugState;
use mote_schemas::message::Tier;
use mote_schemas::tpm::HashAlg;
use mote_verifier::admin::{Request, Response, ResultFormat};

use super::{Answer, Bench};

fn verdict(tier: Tier, reasons: &[&str]) -> (Tier, Vec<String>) {
    (tier, reasons.iter().map(ToString::to_string).collect())
}

#[test]
fn a_device_that_runs_its_firmware_is_trusted_and_the_reply_brings_the_next_nonce() {
    let mut bench = Bench::new();
    let mut nonce = bench.nonce();
    for _ in 0..3 {
        let wrapper = bench.device.wrapped(&nonce);
        let answer = bench.send(&wrapper);
        let Answer::Verdict(tier, reasons, next) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!((tier, reasons), verdict(Tier::Affirming, &[]));
        assert_ne!(next, nonce);
        nonce = next;
        bench.lab.now += 300_000;
    }
    let stored = bench.lab.stored();
    // The verdict is one, however often it is reached.
    assert_eq!(stored.verdicts[&bench.device.id()].len(), 1);
}

#[test]
fn each_deviation_has_its_reason_and_its_explanation() {
    type Change = fn(&mut Bench);
    let cases: [(Change, Tier, &[&str]); 10] = [
        (
            |b| b.device.components[1].1[0] ^= 1,
            Tier::Contraindicated,
            &["component-modified"],
        ),
        (
            |b| b.device.components.push(("radio".into(), [7; 32])),
            Tier::Contraindicated,
            &["component-unknown"],
        ),
        (
            |b| drop(b.device.components.pop()),
            Tier::Contraindicated,
            &["component-missing"],
        ),
        (
            |b| b.device.software = Some(("valve".into(), "2.0".into())),
            Tier::Contraindicated,
            &["software-version-unexpected"],
        ),
        (
            |b| b.device.debug = Some(DebugState::Enabled),
            Tier::Contraindicated,
            &["debug-enabled"],
        ),
        (
            |b| b.device.debug = None,
            Tier::Warning,
            &["debug-state-unknown"],
        ),
        (
            |b| b.device.oem_boot = Some(false),
            Tier::Contraindicated,
            &["boot-not-authorised"],
        ),
        (
            // SHA-256 digests that claim to be something else have no digest that is known.
            |b| b.device.hash_alg = HashAlg::Sha384,
            Tier::Contraindicated,
            &["component-missing", "claims-unappraised"],
        ),
        (|b| b.device.software = None, Tier::Affirming, &[]),
        (|b| b.device.oem_boot = None, Tier::Affirming, &[]),
    ];
    for (change, tier, reasons) in cases {
        let mut bench = Bench::new();
        change(&mut bench);
        assert_eq!(bench.attest(), verdict(tier, reasons));
        let device = bench.device.id().to_string();
        let Response::Explanation(explained) = bench.ask(&Request::Explain {
            device: device.clone(),
        }) else {
            panic!("no explanation");
        };
        let told: Vec<_> = explained
            .reasons
            .iter()
            .map(|r| r.reason.as_str())
            .collect();
        assert_eq!(told, reasons);
        for reason in &explained.reasons {
            assert!(!reason.deviations.is_empty(), "{}", reason.reason);
        }
        // Repaired, it is trusted again, and nothing is held against it.
        bench.device = mote_tests::token_device::TokenDevice::new(&[0x11; 32]);
        assert_eq!(bench.attest(), verdict(Tier::Affirming, &[]));
        assert!(bench.lab.stored().deviations[&bench.device.id()].is_empty());
    }
}

#[test]
fn parts_of_two_versions_do_not_make_a_third() {
    let mut bench = Bench::new();
    bench
        .lab
        .add_firmware("2.2", &["bootloader", "app", "radio"]);
    assert_eq!(bench.attest(), verdict(Tier::Affirming, &[]));
    bench
        .device
        .components
        .push(("radio".into(), mote_tests::soft_device::digest_of("radio")));
    // All of 2.2, but it says 2.1.
    let both = bench.attest();
    assert_eq!(both, verdict(Tier::Contraindicated, &["component-unknown"]));
    bench.device.software = Some(("valve".into(), "2.2".into()));
    assert_eq!(bench.attest(), verdict(Tier::Affirming, &[]));
}

#[test]
fn a_result_says_what_it_rests_on_and_gets_stale() {
    let mut bench = Bench::new();
    let device = bench.device.id().to_string();
    let result = |bench: &mut Bench| match bench.ask(&Request::Result {
        device: device.clone(),
        format: ResultFormat::Json,
        nonce: None,
    }) {
        Response::Result(result) => result.claims["submods"]["token"].clone(),
        other => panic!("{other:?}"),
    };
    let none = result(&mut bench);
    assert_eq!(none["ear_status"], "none");
    bench.attest();
    let good = result(&mut bench);
    assert_eq!(good["ear_status"], "affirming");
    let vector = &good["ear_trustworthiness_vector"];
    assert_eq!(vector["instance-identity"], 2);
    assert_eq!(vector["executables"], 2);
    // Nothing is claimed of what a token does not show.
    assert_eq!(vector.get("file-system"), None);
    assert_eq!(vector.get("hardware"), None);
    assert_eq!(
        good["ear_verifier_claims"]["mote.evidence"],
        "application/eat+cwt"
    );
    bench.lab.now += 86_400_001;
    let stale = result(&mut bench);
    assert_eq!(stale["ear_status"], "none");
    assert_eq!(
        stale["ear_verifier_claims"]["mote.reasons"][0],
        "result-stale"
    );
    let Response::Device(shown) = bench.ask(&Request::DeviceShow {
        device: device.clone(),
    }) else {
        panic!("no device");
    };
    let token = shown.token.unwrap();
    assert_eq!(shown.summary.verdict.unwrap().verdict, "stale");
    assert_eq!(token.boot_count, Some(7));
    assert_eq!(token.components.len(), 2);
    assert_eq!(shown.software.as_deref(), Some("valve 2.1"));
    // Fresh evidence against it does not get better with time.
    bench.device.debug = Some(DebugState::Enabled);
    bench.attest();
    bench.lab.now += 86_400_001;
    let bad = result(&mut bench);
    assert_eq!(bad["ear_status"], "contraindicated");
    assert_eq!(bad["ear_trustworthiness_vector"]["configuration"], 96);
}

#[test]
fn a_changed_policy_appraises_the_stored_token_anew_and_the_device_sends_nothing() {
    let mut bench = Bench::new();
    bench.device.debug = Some(DebugState::Enabled);
    assert_eq!(
        bench.attest(),
        verdict(Tier::Contraindicated, &["debug-enabled"])
    );
    let policy = |weight: &str| {
        serde_json::json!({
            "name": "lab", "version": 1, "reasons": { "debug-enabled": weight },
        })
    };
    let id = bench.device.id();
    // What would be, without touching anything.
    let before = bench.lab.stored();
    for (weight, would_be) in [("ignore", "trusted"), ("warning", "warning")] {
        let Response::Tested { devices, .. } = bench.ask(&Request::PolicyTest {
            policy: policy(weight),
            device: Some(id.to_string()),
            after: None,
        }) else {
            panic!("not tested");
        };
        assert_eq!(devices[0].would_be.as_deref(), Some(would_be));
    }
    assert_eq!(bench.lab.stored(), before);
    // The manifest goes, and with it the reference values.
    let Response::Manifests(manifests) = bench.ask(&Request::ManifestList) else {
        panic!("no manifests");
    };
    for manifest in manifests {
        bench.ask(&Request::ManifestRemove {
            manifest: manifest.digest,
        });
    }
    let verdicts = &bench.lab.stored().verdicts[&id];
    assert_eq!(
        verdicts[0].1.reasons,
        ["debug-enabled", "no-reference-values"]
    );
}
