use std::sync::LazyLock;

use mote_schemas::message::{DeviceId, Tier};
use mote_schemas::reason::{Reason, Severity};
use proptest::prelude::*;

use super::*;
use crate::manifest::{
    BootExpectations, FileDigest, FileEntry, Manifest, ReferenceValues, SignedManifest, StaticPcrs,
    sign,
};
use crate::signing_key::SigningKey;
use crate::store::{BootState, Content, TokenEvidence, TokenState};

const DEVICE: DeviceId = DeviceId([0xA1; 16]);
/// When the last quote was accepted, Unix milliseconds.
const QUOTED: u64 = 1_795_000_000_000;

/// One that says which file may run, and nothing about the boot.
static POLICY: LazyLock<EffectivePolicy> =
    LazyLock::new(|| booting(BootExpectations::default(), StaticPcrs::new()));

fn booting(boot: BootExpectations, pcrs: StaticPcrs) -> EffectivePolicy {
    let file = FileEntry {
        path: "/usr/bin/app".into(),
        digests: vec![FileDigest([1; 32])],
    };
    let manifest = Manifest::new("edge", "1", None, vec![file], vec![], pcrs);
    allowing(&manifest.unwrap().with_boot(boot).unwrap())
}

fn allowing(manifest: &Manifest) -> EffectivePolicy {
    let key = SigningKey::generate().unwrap();
    let signed = SignedManifest::parse(&sign(manifest, &key).unwrap()).unwrap();
    let verified = signed.verify(&[key.public_key().clone()]).unwrap();
    EffectivePolicy::allowing(ReferenceValues::new([&verified]).unwrap())
}

fn record(by: &str) -> DeviceRecord {
    DeviceRecord {
        ek_public: vec![1],
        ak_public: vec![2],
        ek_certificate: None,
        name: None,
        enrolled_at: 1,
        admission: Admission::Admitted {
            by: by.into(),
            at: 1,
        },
        boot: Some(BootState {
            number: 3,
            reset_count: 1,
            restart_count: 0,
            clock: 1,
            clock_safe: true,
            since: 1,
            quoted_at: QUOTED,
            certified: 2,
            pcrs: vec![],
            log_pcrs: 0,
            outstanding: None,
            content: Content {
                policy: Some(*POLICY.id()),
                ..Content::default()
            },
            quoted: None,
            guessed: None,
            in_full: None,
            padded_banks: None,
            restarted: None,
            boot_log: None,
        }),
        last_seen: None,
        session: None,
        software: None,
        token: None,
        certificate_fault: None,
    }
}

fn verdict(tier: Tier, reasons: &[Reason]) -> VerdictRecord {
    VerdictRecord {
        at: 1,
        boot: 3,
        tier,
        reasons: reasons.iter().map(|r| r.token().to_owned()).collect(),
    }
}

fn result(record: &DeviceRecord, verdict: Option<&VerdictRecord>, now: u64) -> AttestationResult {
    AttestationResult::new(DEVICE, record, verdict, &POLICY, now, None)
}

/// The status of each module.
fn statuses(result: &AttestationResult) -> Vec<(&'static str, Tier)> {
    let modules = result.modules.iter();
    modules
        .map(|module| (module.id.label(), module.status()))
        .collect()
}

#[test]
fn a_good_result_says_what_is_known_and_expires_with_its_evidence() {
    let good = verdict(Tier::Affirming, &[]);
    let by_certificate = result(&record("ek-certificate"), Some(&good), QUOTED + 5000);
    assert_eq!(by_certificate.status, Tier::Affirming);
    assert_eq!(by_certificate.expires, Some(QUOTED / 1000 + 86_400));
    let json = by_certificate.to_json();
    assert_eq!(json["sub"], DEVICE.to_string());
    for (module, status, vector) in [
        (
            "tpm",
            "affirming",
            serde_json::json!({ "instance-identity": 2, "hardware": 2 }),
        ),
        // Nothing is expected of the boot, so nothing is said of it.
        (
            "boot",
            "none",
            serde_json::json!({ "configuration": 0, "executables": 0 }),
        ),
        (
            "ima",
            "affirming",
            serde_json::json!({ "executables": 2, "file-system": 2 }),
        ),
    ] {
        let appraisal = &json["submods"][module];
        assert_eq!(appraisal["ear_status"], status, "{module}");
        assert_eq!(appraisal["ear_trustworthiness_vector"], vector, "{module}");
    }
    let by_hand = result(&record("ann"), Some(&good), QUOTED);
    let hardware = by_hand.modules[0].vector.get(Claim::Hardware);
    assert_eq!(hardware, None, "nobody vouches for the TPM");
}

#[test]
fn a_module_that_has_compared_nothing_affirms_nothing() {
    let good = verdict(Tier::Affirming, &[]);
    let mut device = record("ann");
    let of = |device: &DeviceRecord, verdict: &VerdictRecord, policy: &EffectivePolicy| {
        let result = AttestationResult::new(DEVICE, device, Some(verdict), policy, QUOTED, None);
        statuses(&result)
    };
    let (affirming, none) = (Tier::Affirming, Tier::None);
    // Expectations of the boot decide the claims that they are about.
    let secure = BootExpectations {
        secure_boot: true,
        ..BootExpectations::default()
    };
    let firmware: StaticPcrs = [(0x000B, [(0, vec![vec![1; 32]])].into())].into();
    for (boot, pcrs, configuration, executables) in [
        (secure.clone(), StaticPcrs::new(), 2, 0),
        (secure, firmware.clone(), 2, 2),
        (BootExpectations::default(), firmware, 0, 2),
    ] {
        let policy = booting(boot, pcrs);
        device.boot.as_mut().unwrap().content.policy = Some(*policy.id());
        let result = AttestationResult::new(DEVICE, &device, Some(&good), &policy, QUOTED, None);
        let vector = result.modules[1].vector;
        assert_eq!(vector.get(Claim::Configuration), Some(configuration));
        assert_eq!(vector.get(Claim::Executables), Some(executables));
        assert_eq!(of(&device, &good, &policy)[1], ("boot", affirming));
        // Not where the log has not led to the quoted PCR, nor under another policy.
        let broken = verdict(Tier::Contraindicated, &[Reason::LogDoesNotReplay]);
        let [tpm, boot, ima] = of(&device, &broken, &policy)[..] else {
            panic!("three modules");
        };
        assert_eq!((tpm.1, boot.1), (affirming, none));
        assert_eq!(ima.1, Tier::Contraindicated);
        device.boot.as_mut().unwrap().content.policy = Some([9; 32]);
        assert_eq!(of(&device, &good, &policy)[1], ("boot", none));
    }
    // No record but `boot_aggregate`, no word about files.
    for certified in [0, 1] {
        device.boot.as_mut().unwrap().certified = certified;
        assert_eq!(of(&device, &good, &POLICY)[2], ("ima", none));
    }
}

#[test]
fn a_silent_module_that_the_policy_wants_to_hear_keeps_the_whole_from_affirming() {
    let good = verdict(Tier::Affirming, &[]);
    let of = |device: &DeviceRecord, tier: Tier, policy: &EffectivePolicy| {
        let verdict = VerdictRecord {
            tier,
            ..good.clone()
        };
        AttestationResult::new(DEVICE, device, Some(&verdict), policy, QUOTED, None)
    };
    let mut device = record("ek-certificate");
    assert_eq!(
        of(&device, Tier::Affirming, &POLICY).status,
        Tier::Affirming
    );
    device.boot.as_mut().unwrap().certified = 1;
    let bare = of(&device, Tier::Affirming, &POLICY);
    let modules = [
        ("tpm", Tier::Affirming),
        ("boot", Tier::None),
        ("ima", Tier::None),
    ];
    assert_eq!(statuses(&bare), modules);
    assert_eq!(
        bare.status,
        Tier::None,
        "files are expected, none was measured"
    );
    assert_eq!(bare.to_json()["ear_status"], "none");
    // What speaks against it does so all the same.
    assert_eq!(of(&device, Tier::Warning, &POLICY).status, Tier::Warning);

    // A manifest of the boot alone wants no files; what it does want, must have been compared.
    let secure = BootExpectations {
        secure_boot: true,
        ..BootExpectations::default()
    };
    let manifest = Manifest::new("edge", "1", None, vec![], vec![], StaticPcrs::new());
    let policy = allowing(&manifest.unwrap().with_boot(secure).unwrap());
    assert!(!policy.expects_files());
    device.boot.as_mut().unwrap().content.policy = Some(*policy.id());
    assert_eq!(
        of(&device, Tier::Affirming, &policy).status,
        Tier::Affirming
    );
    device.boot.as_mut().unwrap().content.policy = Some([9; 32]);
    assert_eq!(of(&device, Tier::Affirming, &policy).status, Tier::None);
    // Without any manifest nothing is expected: what that weighs, is the policy's to say.
    let policy = EffectivePolicy::allowing(ReferenceValues::new([]).unwrap());
    assert_eq!(
        of(&device, Tier::Affirming, &policy).status,
        Tier::Affirming
    );
}

#[test]
fn an_old_pass_is_no_pass_and_an_old_failure_is_one_still() {
    let limit = u64::from(crate::policy::DEFAULT_STALE_AFTER) * 1000;
    for tier in [Tier::Affirming, Tier::Warning] {
        let verdict = verdict(tier, &[]);
        let at = |now| result(&record("ann"), Some(&verdict), now);
        assert_eq!(at(QUOTED + limit).status, tier);
        let stale = at(QUOTED + limit + 1);
        assert_eq!(stale.status, Tier::None);
        assert_eq!(stale.reasons, ["result-stale"]);
        let claimed = stale.modules.iter().any(|m| m.status() != Tier::None);
        assert!(!claimed, "nothing is claimed");
        assert_eq!(stale.expires, None);
    }
    let bad = verdict(Tier::Contraindicated, &[Reason::FileModified]);
    let bad = result(&record("ann"), Some(&bad), QUOTED + 10 * limit);
    assert_eq!(bad.status, Tier::Contraindicated);
    assert_eq!(bad.expires, None);
    let none = Tier::None;
    let left = [
        ("tpm", none),
        ("boot", none),
        ("ima", Tier::Contraindicated),
    ];
    assert_eq!(statuses(&bad), left);
    assert_eq!(bad.reasons, ["result-stale", "file-modified"]);
}

#[test]
fn what_speaks_for_a_device_expires_even_where_something_speaks_against_it() {
    let bad = verdict(Tier::Contraindicated, &[Reason::FileModified]);
    let fresh = result(&record("ann"), Some(&bad), QUOTED);
    assert_eq!(statuses(&fresh)[0], ("tpm", Tier::Affirming));
    assert_eq!(fresh.expires, Some(QUOTED / 1000 + 86_400));
}

#[test]
fn a_verdict_that_waits_for_the_boot_log_affirms_nothing() {
    let waits = verdict(Tier::None, &[Reason::LogIncomplete, Reason::BufferUnknown]);
    let waits = result(&record("ek-certificate"), Some(&waits), QUOTED);
    let none = Tier::None;
    assert_eq!((waits.status, waits.expires), (none, None));
    assert_eq!(
        statuses(&waits),
        [("tpm", none), ("boot", none), ("ima", none)]
    );
    assert_eq!(waits.reasons, ["log-incomplete"]);
}

/// Whose each reason is, where a device has a TPM.
fn module_of(reason: Reason) -> &'static str {
    let token = reason.token();
    let of_boot = ["boot-log-", "boot-pcr-", "boot-event-", "secure-boot-"];
    match reason {
        // The last refuses an upload, and is no verdict.
        Reason::KeyTooWeak
        | Reason::PcrBankNotAllowed
        | Reason::ClockUnsafe
        | Reason::BootLogMismatch => "tpm",
        Reason::CmdlineUnexpected | Reason::PcrValueUnexpected => "boot",
        _ if of_boot.iter().any(|start| token.starts_with(start)) => "boot",
        _ if reason.severity() == Severity::Refused => "tpm",
        _ => "ima",
    }
}

#[test]
fn each_reason_is_one_modules_and_no_other_is_worse_for_it() {
    let good = result(
        &record("ek-certificate"),
        Some(&verdict(Tier::Affirming, &[])),
        QUOTED,
    );
    for &reason in Reason::ALL {
        let tier = match reason.severity() {
            Severity::Warning => Tier::Warning,
            // A reason to refuse a message may also be that of a verdict (`pcr-digest-mismatch`).
            Severity::Refused | Severity::Contraindicated => Tier::Contraindicated,
            Severity::Pending => continue,
        };
        let verdict = verdict(tier, &[reason]);
        let result = result(&record("ek-certificate"), Some(&verdict), QUOTED);
        assert_eq!(result.status, tier, "{}", reason.token());
        assert_eq!(result.reasons, [reason.token()]);
        for (module, was) in result.modules.iter().zip(&good.modules) {
            let label = module.id.label();
            if label == module_of(reason) {
                assert_eq!(module.status(), tier, "{} is {label}'s", reason.token());
                assert_eq!(module.reasons, [reason.token()]);
            } else {
                assert_eq!(module, was, "{} is not {label}'s", reason.token());
            }
        }
    }
}

proptest! {
    #[test]
    fn the_status_is_that_of_the_worst_module_and_never_better_than_the_verdict(
        tier in prop::sample::select(vec![Tier::Affirming, Tier::Warning, Tier::Contraindicated]),
        reasons in prop::sample::subsequence(Reason::ALL, 0..5),
        certified in 0u64..3,
        late in 0u64..200_000_000,
        token in any::<bool>(),
    ) {
        let mut device = record("ann");
        device.boot.as_mut().unwrap().certified = certified;
        if token {
            let boot = device.boot.take().unwrap();
            device.token = Some(TokenState {
                key: vec![4; 65],
                ueid: None,
                last: Some(TokenEvidence {
                    token: vec![1],
                    nonce: vec![2; 16],
                    nonce_at: 1,
                    at: boot.quoted_at,
                    boot: boot.number,
                    since: 1,
                    content: boot.content,
                }),
            });
        }
        let now = QUOTED + late;
        let result = result(&device, Some(&verdict(tier, &reasons)), now);
        let worst = result.modules.iter().map(Module::status).max().unwrap();
        let files_missing = !token && certified < 2 && worst == Tier::Affirming;
        prop_assert_eq!(result.status, if files_missing { Tier::None } else { worst });
        let stale = late > 86_400_000;
        if !stale && !files_missing {
            prop_assert!(result.status >= tier);
        }
        prop_assert_eq!(result.modules.len(), if token { 1 } else { 3 });
        for module in &result.modules {
            prop_assert!(module.vector.claims().count() > 0, "AR4SI: not empty");
            let speaks_for = module.vector.claims().any(|(_, _, value)| (2..96).contains(&value));
            prop_assert!(!(stale && speaks_for), "{:?}", module);
            prop_assert!(!speaks_for || result.expires.is_some(), "{:?}", module);
        }
        // In both forms.
        let json = result.to_json();
        prop_assert_eq!(&json["ear_status"], &result.status.to_string());
        let submods = json["submods"].as_object().unwrap();
        for module in &result.modules {
            prop_assert_eq!(&submods[module.id.label()]["ear_status"], &module.status().to_string());
        }
        let cbor = result.to_cbor();
        let mut d = minicbor::Decoder::new(&cbor);
        d.skip().unwrap();
        prop_assert_eq!(d.position(), cbor.len());
    }
}

#[test]
fn a_device_that_may_not_attest_or_has_not_is_not_affirmed() {
    let good = verdict(Tier::Affirming, &[]);
    let mut device = record("ann");
    device.admission = Admission::Pending;
    let pending = result(&device, Some(&good), QUOTED);
    assert_eq!((pending.status, pending.expires), (Tier::None, None));
    assert_eq!(pending.reasons, ["admission-pending"]);
    device.admission = Admission::Refused {
        by: "ann".into(),
        at: 1,
    };
    let refused = result(&device, Some(&good), QUOTED);
    assert_eq!(refused.status, Tier::Contraindicated);
    assert_eq!(statuses(&refused)[0], ("tpm", Tier::Contraindicated));

    let mut earlier = good;
    earlier.boot = 2;
    let of_another_boot = result(&record("ann"), Some(&earlier), QUOTED);
    assert_eq!(of_another_boot.status, Tier::None);
    assert_eq!(of_another_boot.reasons, ["log-incomplete"]);
    assert_eq!(result(&record("ann"), None, QUOTED).status, Tier::None);
    let mut new = record("ann");
    new.boot = None;
    assert_eq!(result(&new, None, QUOTED).status, Tier::None);
}

#[test]
fn json_and_cbor_say_the_same() {
    let bad = verdict(Tier::Contraindicated, &[Reason::FileModified]);
    let mut result = result(&record("ek-certificate"), Some(&bad), QUOTED);
    result.nonce = Some(vec![0xAB; 8]);
    result.expires = Some(7);
    // draft-ietf-rats-ear-04, CBOR labels; written out by hand from the values above.
    let expected = [
        "a8",     // a map of 8
        "027820", // sub: 32 characters
        &crate::hex::encode(DEVICE.to_string().as_bytes()),
        "0407",                 // exp: 7
        "061a6afd86c0",         // iat
        "0a48abababababababab", // eat_nonce
    ]
    .concat();
    let bytes = result.to_cbor();
    let hex = crate::hex::encode(&bytes);
    assert!(hex.starts_with(&expected), "{hex}");
    let mut d = minicbor::Decoder::new(&bytes);
    assert_eq!(d.map().unwrap(), Some(8));
    let mut keys = Vec::new();
    for _ in 0..8 {
        keys.push(d.u64().unwrap());
        d.skip().unwrap();
    }
    assert_eq!(keys, [2, 4, 6, 10, 265, 266, 1000, 1004]);
    assert_eq!(d.position(), bytes.len());
    let json = result.to_json();
    let mut d = minicbor::Decoder::new(&bytes);
    d.map().unwrap();
    while d.u64().unwrap() != 266 {
        d.skip().unwrap();
    }
    let mut labels = Vec::new();
    for _ in 0..d.map().unwrap().unwrap() {
        labels.push(d.str().unwrap());
        d.skip().unwrap();
    }
    assert_eq!(
        labels,
        ["ima", "tpm", "boot"],
        "deterministic: shorter first"
    );
    assert_eq!(json["eat_nonce"], "q6urq6urq6s");
    assert_eq!(json["exp"], 7);
    assert_eq!(json["ear_status"], "contraindicated");
}
