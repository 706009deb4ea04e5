//! Records and messages that are longer than a datagram arrive all the same, on the narrowest path, and
//! whatever is cut off on the way.

use mote_agent::tpm::PcrSelection;
use mote_schemas::limits::MAX_IMA_TEMPLATE_DATA;
use mote_schemas::message::Tier;
use mote_schemas::tpm::HashAlg;
use mote_tests::lab::Lab;
use mote_tests::simkernel::ima::Record;
use mote_tests::soft_device::{digest_of, record};
use mote_tests::soft_tpm::SoftTpm;
use mote_tests::wire::Wire;

use super::lab;

/// A key of `len` bytes that the kernel has measured.
fn key(len: usize) -> Record {
    let bytes: Vec<u8> = (0..len).map(|i| (i * i % 251) as u8).collect();
    Record::buffer(".builtin_trusted_keys", &bytes)
}

/// Runs two known programs around a key of `len` bytes.
fn with_key(seed: u8, datagram: usize, len: usize) -> Wire {
    let mut wire = Wire::new(seed);
    wire.datagram = datagram;
    wire.device.run("/bin/1");
    wire.device.measure(key(len));
    wire.device.run("/bin/2");
    wire
}

/// Everything has arrived and is judged: a buffer that nobody has named warns.
#[track_caller]
fn assert_appraised(lab: &mut Lab, wire: &Wire) {
    assert_eq!((wire.tier, wire.records), (Tier::Warning, 4));
    let stored = lab.stored();
    let deviations: Vec<_> = stored.deviations.values().flatten().collect();
    assert_eq!(deviations.len(), 1, "{deviations:?}");
    assert_eq!(deviations[0].reason, "buffer-unknown");
    assert_eq!(deviations[0].record, Some(2));
}

#[test]
fn a_record_of_any_length_arrives_in_datagrams_of_any_size() {
    let most = MAX_IMA_TEMPLATE_DATA - 100;
    for (datagram, len) in [
        (64, 100),
        (64, 3_000),
        (100, 5_000),
        (300, 10_000),
        (1024, 1_000),
        (1024, most),
        (2560, most),
    ] {
        let mut wire = with_key(1, datagram, len);
        let mut lab = lab(&[&wire]);
        let cost = wire.until_appraised(&mut lab).unwrap();
        assert_appraised(&mut lab, &wire);
        assert!(
            cost.largest <= datagram,
            "{cost:?} in datagrams of {datagram}"
        );
        // Nothing of it is ever asked for again.
        let idle = wire.until_appraised(&mut lab).unwrap();
        assert!(idle.largest <= datagram, "{idle:?}");
        assert!(idle.up < 400, "{idle:?} in datagrams of {datagram}");
        if datagram >= 300 {
            assert_eq!(idle.requests, 1);
            assert!(
                cost.up < len + len / 4 + 2_000,
                "{cost:?} for {len} bytes in datagrams of {datagram}"
            );
        }
        // And what comes after it goes on as ever.
        wire.device.run("/bin/3");
        wire.until_appraised(&mut lab).unwrap();
        assert_eq!((wire.tier, wire.records), (Tier::Warning, 5));
    }
}

#[test]
fn a_record_that_is_known_costs_its_prefix_however_long_it_is() {
    let (mut first, mut second) = (with_key(2, 300, 20_000), with_key(3, 300, 20_000));
    let mut lab = lab(&[&first, &second]);
    let whole = first.until_appraised(&mut lab).unwrap();
    assert!(whole.up > 20_000, "{whole:?}");
    let known = second.until_appraised(&mut lab).unwrap();
    assert!(known.up < 2_000, "{known:?}");
    assert_eq!((second.tier, second.records), (Tier::Warning, 4));
}

#[test]
fn a_lost_datagram_costs_itself_wherever_it_is_lost() {
    let whole = |lose: Option<usize>| {
        let mut wire = with_key(4, 200, 3_000);
        wire.lose = lose;
        let mut lab = lab(&[&wire]);
        let cost = wire.until_appraised(&mut lab).unwrap();
        assert_appraised(&mut lab, &wire);
        assert!(wire.lose.is_none(), "only {} requests", cost.requests);
        cost
    };
    let base = whole(None);
    assert!(base.requests > 25, "{base:?}");
    for lost in 1..=base.requests {
        let cost = whole(Some(lost));
        assert_eq!(cost.requests, base.requests + 1, "request {lost} lost");
    }
}

#[test]
fn an_upload_outlasts_the_agent_and_the_verifier() {
    let plain = {
        let mut wire = with_key(5, 300, 12_000);
        let mut lab = lab(&[&wire]);
        wire.until_appraised(&mut lab).unwrap()
    };
    for (agent, verifier) in [(true, false), (false, true), (true, true)] {
        let mut wire = with_key(5, 300, 12_000);
        let mut lab = lab(&[&wire]);
        wire.stop_after = Some(plain.requests / 2);
        wire.until_appraised(&mut lab).unwrap_err();
        wire.stop_after = None;
        if verifier {
            lab.restart();
        }
        if agent {
            wire.restart();
        }
        let rest = wire.until_appraised(&mut lab).unwrap();
        assert_appraised(&mut lab, &wire);
        // A session more, and the other half.
        assert!(
            rest.up < plain.up / 2 + 2_500,
            "agent {agent}, verifier {verifier}: {rest:?} of {plain:?}"
        );
    }
}

#[test]
fn a_crash_at_any_moment_loses_nothing_but_time() {
    for datagram in [64, 300] {
        let mut crashes = 0;
        for at in (3..).step_by(if datagram < 100 { 13 } else { 1 }) {
            let mut wire = with_key(6, datagram, 1_500);
            let mut lab = lab(&[&wire]);
            wire.stop_after = Some(at);
            if wire.until_appraised(&mut lab).is_ok() {
                break;
            }
            crashes += 1;
            lab.crash();
            wire.stop_after = None;
            let mut cost = wire.until_appraised(&mut lab);
            // Told to say hello again, if the session was not open yet.
            if cost.is_err() {
                cost = wire.until_appraised(&mut lab);
            }
            let cost = cost.unwrap_or_else(|error| panic!("crash after {at}: {error}"));
            assert!(cost.largest <= datagram, "crash after {at}: {cost:?}");
            assert_appraised(&mut lab, &wire);
        }
        assert!(crashes >= 9, "only {crashes}");
    }
}

#[test]
fn every_pcr_of_every_bank_fits_through_the_narrowest_path() {
    for datagram in [64, 127, 500, 1024] {
        let banks = [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384];
        let mut wire = Wire::with_tpm(SoftTpm::with_banks(7, &banks), 7);
        wire.datagram = datagram;
        wire.selection = banks
            .iter()
            .map(|alg| PcrSelection {
                bank: alg.to_u16(),
                mask: 0x7ff,
            })
            .collect();
        wire.device.run("/bin/1");
        let mut lab = lab(&[&wire]);
        let cost = wire.until_appraised(&mut lab).unwrap();
        assert_eq!((wire.tier, wire.records), (Tier::Affirming, 2));
        assert!(
            cost.up > 1_100 && cost.largest <= datagram,
            "{cost:?} in datagrams of {datagram}"
        );
        // A file that nobody knows: the reply says why, in pieces if it must.
        wire.device
            .measure(record("/opt/intruder", &digest_of("intruder")));
        let cost = wire.until_appraised(&mut lab).unwrap();
        assert_eq!(wire.tier, Tier::Contraindicated);
        assert!(cost.largest <= datagram, "{cost:?}");
    }
}
