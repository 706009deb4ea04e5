//! Two devices at once: one with ECC keys, one whose TPM is used as if it had none.

use mote_tests::{Verifier, wait_for};

use super::{BOOTED, PATIENCE, UNKNOWN, becomes, booted, enrolled, show, verdict};

#[test]
fn of_an_ecc_and_an_rsa_device_only_the_one_that_runs_an_unknown_program_becomes_untrusted() {
    let verifier = Verifier::start(&["--interval", "1"]).unwrap();
    let mut ecc = booted("ecc", &verifier, "ek = \"ecc\"\nak = \"ecc\"\n");
    let mut rsa = booted("rsa", &verifier, "ek = \"rsa\"\nak = \"rsa\"\n");

    ecc.start_agent().unwrap();
    let first = enrolled(&verifier, 1).remove(0);
    rsa.start_agent().unwrap();
    let both = enrolled(&verifier, 2);
    assert_eq!(both.len(), 2);
    let second = both.iter().find(|id| **id != first).unwrap();
    for device in &both {
        assert_eq!(show(&verifier, device)["admission"]["state"], "pending");
        verifier.motectl(&["device", "admit", device]).unwrap();
    }
    becomes(&verifier, &first, "trusted", BOOTED);
    becomes(&verifier, second, "trusted", BOOTED);

    // Both go on; the RSA device alone runs something that no image has.
    ecc.kernel().append(5).unwrap();
    rsa.kernel().append_path(UNKNOWN).unwrap();
    becomes(&verifier, second, "untrusted", BOOTED + 1);
    becomes(&verifier, &first, "trusted", BOOTED + 5);
    let explained = verifier.motectl(&["explain", second]).unwrap();
    assert!(explained.contains(UNKNOWN), "{explained}");

    // And stays the only one, over further heartbeats of both.
    let quoted = |device: &str| show(&verifier, device)["quoted_at"].as_u64();
    let (one, two) = (quoted(&first), quoted(second));
    wait_for("three more seconds of heartbeats", PATIENCE, || {
        let later = quoted(&first) > one.map(|at| at + 3000);
        (later && quoted(second) > two.map(|at| at + 3000)).then_some(())
    })
    .unwrap();
    assert_eq!(verdict(&show(&verifier, &first)), "trusted");
    assert_eq!(verdict(&show(&verifier, second)), "untrusted");
}
