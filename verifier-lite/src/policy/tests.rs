use mote_schemas::message::Tier;
use mote_schemas::reason::{Reason, Severity};
use proptest::prelude::*;

use super::*;
use crate::manifest::Fault;
use crate::signing_key::SigningKey;

const CDDL: &str = include_str!("../../../cbor-schemas/cddl/policy.cddl");

fn full() -> Policy {
    Policy {
        name: "gates".into(),
        version: 3,
        mode: Mode::Monitor,
        manifests: vec![
            ManifestRef {
                which: Which::Digest([7; 32]),
                expires: None,
            },
            ManifestRef {
                which: Which::Name("edge".into(), Some("1.3".into())),
                expires: Some(1_798_070_400),
            },
            ManifestRef {
                which: Which::Name("edge".into(), None),
                expires: None,
            },
        ],
        exclusions: vec!["/var/**".into(), "/tmp/*".into()],
        ima_keys: vec![vec![1, 2, 3, 4]],
        banks: vec![0x000C, 0x000B],
        digests: vec![0x000B],
        stale_after: Some(3600),
        min_key_strength: Some(128),
        weights: [
            ("measurement-violation".to_owned(), Tier::None),
            ("file-unknown".to_owned(), Tier::Warning),
            ("clock-unsafe".to_owned(), Tier::Contraindicated),
        ]
        .into(),
    }
    .checked()
    .unwrap()
}

fn named(version: u64) -> Policy {
    Policy {
        name: "a".into(),
        version,
        ..Policy::default()
    }
}

#[test]
fn what_is_encoded_decodes_to_the_same_and_is_as_the_cddl_says() {
    for policy in [full(), named(1)] {
        let bytes = codec::encode(&policy);
        assert_eq!(codec::decode(&bytes).unwrap(), policy);
        cddl_cat::validate_cbor_bytes("policy", CDDL, &bytes).unwrap();
        let text = to_json(&policy).to_string();
        assert_eq!(from_json(text.as_bytes()).unwrap(), policy, "{text}");
    }
    let key = SigningKey::generate().unwrap();
    let signed = sign(&full(), &key).unwrap();
    cddl_cat::validate_cbor_bytes("signed-policy", CDDL, &signed[1..]).unwrap();
    assert_eq!(sign(&full(), &key).unwrap(), signed, "reproducible");
}

#[test]
fn another_spelling_is_refused_at_its_byte() {
    let good = codec::encode(&full());
    for (what, bytes, offset) in [
        // {1: 1, 2: "a", 3: 1, 4: 0}, and what may be wrong with it.
        ("version in two bytes", "a401010261610318010400", Some(7)),
        ("keys out of order", "a401010301026161 0400", Some(5)),
        ("a mode of 2", "a40101026161030104 02", Some(9)),
        (
            "an empty list of manifests",
            "a501010261610301040005 80",
            Some(11),
        ),
        ("an unknown key", "a50101026161030104001800", Some(10)),
        ("a newer format", "a401020261610301 0400", Some(2)),
        ("no mode", "a3010102616103 01", None),
        ("no version", "a30101026161 0400", None),
    ] {
        let bytes = crate::test_util::unhex(&bytes.replace(' ', ""));
        let error = codec::decode(&bytes).expect_err(what);
        if offset.is_some() {
            assert_eq!(error.offset(), offset, "{what}: {error}");
        }
    }
    let mut longer = good.clone();
    longer.push(0);
    assert!(matches!(
        codec::decode(&longer).unwrap_err().fault(),
        Fault::TrailingBytes
    ));
    for end in 0..good.len() {
        assert!(codec::decode(&good[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn a_policy_weighs_content_and_nothing_that_the_tpm_says() {
    for &reason in Reason::ALL {
        let judged = matches!(
            reason.severity(),
            Severity::Warning | Severity::Contraindicated
        );
        let mut policy = named(1);
        policy.weights.insert(reason.token().to_owned(), Tier::None);
        match policy.checked() {
            Ok(_) => assert!(judged && is_weighable(reason)),
            Err(error) => {
                assert!(!is_weighable(reason));
                assert!(matches!(error.fault(), Fault::BadWeight(..)), "{error}");
            }
        }
    }
    let integrity = [
        Reason::LogDoesNotReplay,
        Reason::ImaWithoutTpm,
        Reason::BootAggregateMismatch,
        Reason::BootAggregateMissing,
    ];
    assert!(!integrity.into_iter().any(is_weighable));
}

#[test]
fn policies_at_one_level_add_up() {
    let effective = |policies: &[&Policy]| {
        let nothing = crate::manifest::ReferenceValues::new([]).unwrap();
        EffectivePolicy::new(policies, nothing.into(), None)
    };
    let (mut one, mut two) = (named(1), named(2));
    one.mode = Mode::Monitor;
    one.stale_after = Some(100);
    one.banks = vec![0x000B];
    one.weights.insert("file-unknown".into(), Tier::None);
    two.stale_after = Some(50);
    two.min_key_strength = Some(112);
    let both = effective(&[&one, &two]);
    assert_eq!(both.rules().mode, Mode::Enforce);
    assert_eq!(both.rules().stale_after, 50);
    assert_eq!(both.rules().min_key_strength, 112);
    assert_eq!(both.rules().banks, [0; 0], "the second allows any");
    assert_eq!(both.weight(Reason::FileUnknown), Tier::Contraindicated);
    two.weights.insert("file-unknown".into(), Tier::Warning);
    two.banks = vec![0x000C];
    let both = effective(&[&one, &two]);
    assert_eq!(both.weight(Reason::FileUnknown), Tier::Warning);
    assert_eq!(both.rules().banks, [0x000B, 0x000C]);
    let one = effective(&[&one]);
    assert_eq!(one.weight(Reason::FileUnknown), Tier::None);
    assert_eq!(one.weight(Reason::FileModified), Tier::Warning, "monitored");
    assert_eq!(one.weight(Reason::LogDoesNotReplay), Tier::Contraindicated);
    assert_eq!(effective(&[]).rules().stale_after, DEFAULT_STALE_AFTER);
}

#[test]
fn a_target_reads_back() {
    let device = Target::Device(mote_schemas::message::DeviceId([0xAB; 16]));
    for target in [Target::All, Target::Group("gate".into()), device] {
        assert_eq!(Target::parse(&target.to_string()), Some(target));
    }
    for bad in ["", "group:", "device:ab", "device:zz", "gate"] {
        assert_eq!(Target::parse(bad), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn no_changed_byte_of_a_signed_policy_goes_unnoticed(at in 0usize..400, bit in 0u8..8) {
        let key = SigningKey::generate().unwrap();
        let mut bytes = sign(&full(), &key).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let read = SignedPolicy::parse(&bytes)
            .and_then(|signed| signed.verify([key.public_key()]));
        prop_assert!(read.is_err(), "byte {at}, bit {bit}");
    }

    #[test]
    fn decoding_anything_neither_panics_nor_accepts_a_second_spelling(bytes: Vec<u8>) {
        if let Ok(policy) = codec::decode(&bytes) {
            prop_assert_eq!(codec::encode(&policy), bytes);
        }
    }
}
