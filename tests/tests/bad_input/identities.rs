//! Devices that are not who they say they are.

use std::process::Command;

use mote_schemas::coap::Code;
use mote_tests::evil::{self, Keys};
use mote_tests::process::run;
use mote_tests::soft_tpm::{AK_ATTRIBUTES, EK_ATTRIBUTES, RESTRICTED, SoftTpm};
use mote_tests::{Evil, Lab, TempDir};
use mote_verifier::admin::{Request, Response};
use mote_verifier::admission::{AdmissionRules, EkId};
use mote_verifier::engine::Settings;

use super::{assert_goes_on, assert_refused, with_trusted};

/// `TPMA_OBJECT` bits.
const FIXED_TPM: u32 = 1 << 1;
const FIXED_PARENT: u32 = 1 << 4;
const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
const DECRYPT: u32 = 1 << 17;
const SIGN: u32 = 1 << 18;

/// A certificate (DER) of a key that no TPM here has, by nobody in particular.
fn certificate_of_another_key() -> Vec<u8> {
    let dir = TempDir::new("certificate").unwrap();
    let line = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
                -subj /CN=another -outform DER -keyout key -out der";
    run(Command::new("openssl")
        .args(line.split_whitespace())
        .current_dir(dir.path()))
    .unwrap();
    std::fs::read(dir.join("der")).unwrap()
}

#[test]
fn an_operator_sees_whose_hello_was_refused_and_why() {
    let mut lab = Lab::new();
    let list = |lab: &mut Lab| match lab.ask(&Request::DeviceList { after: None }) {
        Response::Devices {
            devices, refused, ..
        } => (devices.len(), refused),
        other => panic!("{other:?}"),
    };
    let tpm = SoftTpm::new(5).with_certificate(&certificate_of_another_key());
    let mut copied = Evil::with_tpm(tpm, 5);
    for _ in 0..2 {
        let payload = copied.hello_payload(true);
        copied.knock(&mut lab, &payload);
    }
    let (devices, refused) = list(&mut lab);
    assert_eq!((devices, refused.len()), (0, 1), "nothing is stored of it");
    let id = copied.id().to_string();
    assert_eq!((&refused[0].id, refused[0].count), (&id, 2));
    assert_eq!(refused[0].reason, "ek-certificate-mismatch");
    let digits = id[..12].to_owned();
    for request in [
        Request::DeviceShow {
            device: digits.clone(),
        },
        Request::Explain { device: digits },
    ] {
        match lab.ask(&request) {
            Response::Error(error) => {
                let text = error.message;
                assert!(text.contains("ek-certificate-mismatch"), "{text}");
                assert!(text.contains("certifies another key"), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
    // Until it is let in.
    let mut mended = Evil::with_tpm(SoftTpm::new(5), 7);
    assert_eq!(mended.id(), copied.id());
    mended.hello(&mut lab);
    assert_eq!(list(&mut lab).1.len(), 1, "a hello proves nothing");
    mended.open(&mut lab);
    assert_eq!(list(&mut lab), (1, Vec::new()));
    // Another AK of a device that is enrolled.
    let mut twin = Evil::with_tpm(SoftTpm::new(5).with_other_ak(1), 6);
    let payload = twin.hello_payload(true);
    twin.knock(&mut lab, &payload);
    assert_eq!(list(&mut lab).1[0].reason, "ak-mismatch");
}

#[test]
fn an_ek_that_does_not_match_its_certificate_is_refused() {
    let tpm = SoftTpm::new(5).with_certificate(&certificate_of_another_key());
    let mut rules = AdmissionRules::default();
    // Not even the allow list excuses somebody else's certificate.
    let ek = mote_schemas::tpm::Public::parse(tpm.ek_public()).unwrap();
    rules.allow(EkId::of(&ek));
    let mut lab = Lab::with(rules, Settings::default());
    let mut evil = Evil::with_tpm(tpm, 5);
    let before = lab.stored();
    let payload = evil.hello_payload(true);
    let answer = evil.knock(&mut lab, &payload);
    assert_eq!(answer.code, Code::FORBIDDEN);
    assert_refused(&answer, "ek-certificate-mismatch", &before, &mut lab);
}

#[test]
fn a_known_ek_with_another_ak_is_refused_and_the_known_device_goes_on() {
    let (mut lab, mut known) = with_trusted();
    let before = lab.stored();
    // The same TPM with another key in it, or somebody who only knows the public EK.
    let twin = known.device.tpm.clone().with_other_ak(1);
    let mut twin = Evil::with_tpm(twin, 4711);
    let payload = twin.hello_payload(true);
    let answer = twin.knock(&mut lab, &payload);
    assert_refused(&answer, "ak-mismatch", &before, &mut lab);

    // Without keys it gets a challenge, but for the enrolled AK, which it cannot open.
    let payload = twin.hello_payload(false);
    let answer = twin.knock(&mut lab, &payload);
    assert_eq!(answer.code, Code::CHANGED);
    let mut thief = Evil::with_tpm(twin.device.tpm.clone(), 4712);
    let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        thief.take_challenge(&payload, &answer.payload);
    }));
    assert!(opened.is_err(), "a credential for another AK must not open");
    assert_eq!(before, lab.stored());
    assert_goes_on(&mut lab, &mut known);
}

#[test]
fn an_ak_that_could_sign_anything_is_refused() {
    for attributes in [
        AK_ATTRIBUTES & !RESTRICTED,
        AK_ATTRIBUTES & !FIXED_TPM,
        AK_ATTRIBUTES & !FIXED_PARENT,
        AK_ATTRIBUTES & !SENSITIVE_DATA_ORIGIN,
        AK_ATTRIBUTES & !SIGN,
        AK_ATTRIBUTES | DECRYPT,
        // A reserved bit, x509sign.
        AK_ATTRIBUTES | 1 << 30,
        AK_ATTRIBUTES | 1 << 19,
    ] {
        let mut lab = Lab::new();
        let mut evil = Evil::with_tpm(SoftTpm::new(6).with_ak_attributes(attributes), 6);
        let before = lab.stored();
        let payload = evil.hello_payload(true);
        let answer = evil.knock(&mut lab, &payload);
        assert_refused(&answer, "ak-unsuitable", &before, &mut lab);
    }
}

#[test]
fn an_ek_that_could_be_anywhere_is_refused() {
    for attributes in [
        EK_ATTRIBUTES & !RESTRICTED,
        EK_ATTRIBUTES & !FIXED_TPM,
        EK_ATTRIBUTES & !FIXED_PARENT,
        EK_ATTRIBUTES & !SENSITIVE_DATA_ORIGIN,
        EK_ATTRIBUTES & !DECRYPT,
        EK_ATTRIBUTES | SIGN,
    ] {
        let mut lab = Lab::new();
        let mut evil = Evil::with_tpm(SoftTpm::new(6).with_ek_attributes(attributes), 6);
        let before = lab.stored();
        let payload = evil.hello_payload(true);
        let answer = evil.knock(&mut lab, &payload);
        assert_refused(&answer, "ek-unsuitable", &before, &mut lab);
    }
}

#[test]
fn an_ek_and_ak_in_each_others_place_are_refused() {
    let mut lab = Lab::new();
    let mut evil = Evil::new(6);
    let before = lab.stored();
    let keys = Keys {
        ek: evil.device.tpm.ak_public().to_vec(),
        ak: evil.device.tpm.ek_public().to_vec(),
        certificate: None,
    };
    let id = mote_schemas::message::DeviceId::of_ek(&keys.ek);
    let payload = evil::hello_payload(1, &[0; 16], &id.0, Some(&keys));
    let answer = evil.knock(&mut lab, &payload);
    assert_refused(&answer, "ek-unsuitable", &before, &mut lab);
}

#[test]
fn a_device_id_that_is_not_its_eks_is_refused() {
    let (mut lab, mut known) = with_trusted();
    let before = lab.stored();
    let mut evil = Evil::new(8);
    let keys = Keys {
        ek: evil.device.tpm.ek_public().to_vec(),
        ak: evil.device.tpm.ak_public().to_vec(),
        certificate: None,
    };
    let mut id = evil.id().0;
    id[15] ^= 1;
    let payload = evil::hello_payload(1, &[0; 16], &id, Some(&keys));
    let answer = evil.knock(&mut lab, &payload);
    assert_refused(&answer, "device-id-mismatch", &before, &mut lab);
    // Another device's id, with keys of its own: that device has other keys.
    let payload = evil::hello_payload(1, &[0; 16], &known.id().0, Some(&keys));
    let answer = evil.knock(&mut lab, &payload);
    assert_refused(&answer, "ak-mismatch", &before, &mut lab);
    assert_goes_on(&mut lab, &mut known);
}

#[test]
fn an_unknown_device_without_keys_is_asked_for_them() {
    let mut lab = Lab::new();
    let mut evil = Evil::new(9);
    let before = lab.stored();
    let payload = evil.hello_payload(false);
    let answer = evil.knock(&mut lab, &payload);
    assert_eq!(answer.code, Code::NOT_FOUND);
    assert_refused(&answer, "device-unknown", &before, &mut lab);
}

#[test]
fn a_device_that_the_operator_refused_gets_no_further() {
    let (mut lab, mut evil) = with_trusted();
    let id = evil.id();
    lab.refuse(&id);
    evil.device.run("/bin/5");
    // To have the Echo behind us.
    let answer = evil.beat(&mut lab);
    assert_eq!(answer.reason(), "admission-refused");
    let before = lab.stored();
    for path in ["b", "l"] {
        let payload = evil.beat_payload(&evil.quote(), 0, &evil.device.list.0);
        let answer = evil.ask(&mut lab, path, &payload);
        assert_refused(&answer, "admission-refused", &before, &mut lab);
    }
    evil.hello(&mut lab);
    let answer = evil.open(&mut lab);
    assert_refused(&answer, "admission-refused", &before, &mut lab);
}

#[test]
fn more_devices_than_may_wait_for_admission_are_turned_away() {
    let settings = Settings {
        max_waiting: 3,
        ..Settings::default()
    };
    let mut lab = Lab::with(AdmissionRules::default(), settings);
    for seed in 0..3 {
        let mut evil = Evil::new(100 + seed);
        evil.hello(&mut lab);
        assert_eq!(evil.open(&mut lab).reason(), "admission-pending");
    }
    let before = lab.stored();
    let mut evil = Evil::new(103);
    evil.hello(&mut lab);
    let answer = evil.open(&mut lab);
    assert_refused(&answer, "verifier-busy", &before, &mut lab);
    // A restart does not forget the bound.
    lab.crash();
    evil.hello(&mut lab);
    let answer = evil.open(&mut lab);
    assert_eq!(answer.reason(), "verifier-busy");
    // Those that wait may come again, and one place less taken is one place free.
    let mut first = Evil::new(100);
    first.hello(&mut lab);
    assert_eq!(first.open(&mut lab).reason(), "admission-pending");
    lab.admit(&first.id());
    evil.hello(&mut lab);
    assert_eq!(evil.open(&mut lab).reason(), "admission-pending");
}
