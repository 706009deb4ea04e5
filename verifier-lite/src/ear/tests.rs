use mote_schemas::message::{DeviceId, Tier};
use mote_schemas::reason::{Reason, Severity};

use super::*;
use crate::manifest::ReferenceValues;
use crate::store::{BootState, Content};

const DEVICE: DeviceId = DeviceId([0xA1; 16]);
/// When the last quote was accepted, Unix milliseconds.
const QUOTED: u64 = 1_795_000_000_000;

fn policy() -> EffectivePolicy {
    EffectivePolicy::allowing(ReferenceValues::new([]).unwrap())
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
            certified: 1,
            pcrs: vec![],
            log_pcrs: 0,
            outstanding: None,
            content: Content::default(),
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
    AttestationResult::new(DEVICE, record, verdict, &policy(), now, None)
}

#[test]
fn a_good_result_says_what_is_known_and_expires_with_its_evidence() {
    let good = verdict(Tier::Affirming, &[]);
    let by_certificate = result(&record("ek-certificate"), Some(&good), QUOTED + 5000);
    assert_eq!(by_certificate.status, Tier::Affirming);
    assert_eq!(by_certificate.expires, Some(QUOTED / 1000 + 86_400));
    let json = by_certificate.to_json();
    let vector = &json["submods"][DEVICE.to_string()]["ear_trustworthiness_vector"];
    assert_eq!(
        *vector,
        serde_json::json!({ "instance-identity": 2, "executables": 2, "file-system": 2, "hardware": 2 })
    );
    let by_hand = result(&record("ann"), Some(&good), QUOTED);
    assert_eq!(by_hand.vector.hardware, None, "nobody vouches for the TPM");
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
        assert_eq!(stale.vector.worst(), Tier::None, "nothing is claimed");
        assert_eq!(stale.expires, None);
    }
    let bad = verdict(Tier::Contraindicated, &[Reason::FileModified]);
    let bad = result(&record("ann"), Some(&bad), QUOTED + 10 * limit);
    assert_eq!(bad.status, Tier::Contraindicated);
    assert_eq!(bad.expires, None);
}

#[test]
fn no_status_is_better_than_its_worst_claim_nor_worse_than_every_claim() {
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
        assert_eq!(result.vector.worst(), tier, "{}", reason.token());
        assert_eq!(result.reasons, [reason.token()]);
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
    assert_eq!(refused.vector.worst(), Tier::Contraindicated);

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
        "a7",                   // a map of 7
        "0407",                 // exp: 7
        "061a6afd86c0",         // iat
        "0a48abababababababab", // eat_nonce
    ]
    .concat();
    let bytes = result.to_cbor();
    let hex = crate::hex::encode(&bytes);
    assert!(hex.starts_with(&expected), "{hex}");
    let mut d = minicbor::Decoder::new(&bytes);
    assert_eq!(d.map().unwrap(), Some(7));
    let mut keys = Vec::new();
    for _ in 0..7 {
        keys.push(d.u64().unwrap());
        d.skip().unwrap();
    }
    assert_eq!(keys, [4, 6, 10, 265, 266, 1000, 1004]);
    assert_eq!(d.position(), bytes.len());
    let json = result.to_json();
    assert_eq!(json["eat_nonce"], "q6urq6urq6s");
    assert_eq!(json["exp"], 7);
    assert_eq!(json["ear_status"], "contraindicated");
}
