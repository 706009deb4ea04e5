//! Who is admitted without a hand: a TPM whose EK certificate chains to a given root, a TPM on the
//! allow list, and nobody else.

use std::fs;

use mote_tests::{Device, Manufacture, Verifier};

use super::{BOOTED, becomes, boot, enrolled, show};

fn from_the_factory() -> Device {
    let how = Manufacture {
        ek_certificates: true,
        ..Manufacture::default()
    };
    Device::manufactured("factory", &how).unwrap()
}

#[test]
fn a_certificate_of_a_given_root_admits_and_so_does_the_allow_list_and_nothing_else() {
    let mut device = from_the_factory();
    let ca = device.dir().join("ca");
    let file = |name: &str| ca.join(name).display().to_string();
    let (root, issuer) = (
        file("swtpm-localca-rootca-cert.pem"),
        file("issuercert.pem"),
    );

    // Nobody vouches for it: pending, with or without an agent that tries again.
    let strict = Verifier::start(&["--interval", "1"]).unwrap();
    boot(&device, &strict, "");
    device.start_agent().unwrap();
    let id = enrolled(&strict, 1).remove(0);
    let shown = show(&strict, &id);
    assert_eq!(shown["admission"]["state"], "pending", "{shown:#}");
    assert!(
        shown["ek_certificate"].is_string(),
        "it sent one: {shown:#}"
    );
    assert!(shown["verdict"].is_null(), "{shown:#}");
    let digest = shown["ek_digest"].as_str().unwrap().to_owned();
    drop(strict);

    // Its certificate does. The intermediate alone, or another root, does not.
    let certified = Verifier::start(&[
        "--interval",
        "1",
        "--ek-root",
        &root,
        "--ek-intermediate",
        &issuer,
    ])
    .unwrap();
    boot(&device, &certified, "");
    device.start_agent().unwrap();
    assert_eq!(enrolled(&certified, 1)[0], id);
    let shown = becomes(&certified, &id, "trusted", BOOTED);
    assert_eq!(shown["admission"]["state"], "admitted");
    assert_eq!(shown["admission"]["by"], "ek-certificate");
    drop(certified);

    let list = device.dir().join("allowed");
    fs::write(&list, format!("# ours\n{digest} bench 1\n")).unwrap();
    let list = list.display().to_string();
    let listed = Verifier::start(&["--interval", "1", "--admit-ek", &list]).unwrap();
    boot(&device, &listed, "");
    device.start_agent().unwrap();
    assert_eq!(enrolled(&listed, 1)[0], id);
    let shown = becomes(&listed, &id, "trusted", BOOTED);
    assert_eq!(shown["admission"]["by"], "allow-list");
    drop(listed);

    // Another factory's root says nothing about this one.
    let other = from_the_factory();
    let other_ca = other.dir().join("ca");
    let other_root = other_ca.join("swtpm-localca-rootca-cert.pem");
    let other_root = other_root.display().to_string();
    let foreign = Verifier::start(&[
        "--interval",
        "1",
        "--ek-root",
        &other_root,
        "--ek-intermediate",
        &issuer,
    ])
    .unwrap();
    boot(&device, &foreign, "");
    device.start_agent().unwrap();
    assert_eq!(enrolled(&foreign, 1)[0], id);
    assert_eq!(show(&foreign, &id)["admission"]["state"], "pending");
}
