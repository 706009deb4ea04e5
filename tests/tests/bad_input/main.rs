//! Whatever a peer sends: it is told why it is refused, and nothing that is stored changes.
//!
//! The engine runs in process, on a real store; the peer is [`mote_tests::evil`], whose TPM signs
//! anything. Each test starts from a device that is enrolled, admitted and trusted.

#![allow(clippy::unwrap_used)]

mod addresses;
mod blocks;
mod cbor;
mod coap;
mod identities;
mod labels;
mod logs;
mod long_records;
mod quotes;
mod sessions;

use mote_schemas::coap::Code;
use mote_tests::evil::Answer;
use mote_tests::lab::Stored;
use mote_tests::{Evil, Lab};

/// A lab with one trusted device.
fn with_trusted() -> (Lab, Evil) {
    let mut lab = Lab::new();
    let evil = Evil::trusted(&mut lab, 1);
    (lab, evil)
}

/// That a request was refused for this reason, and everything stored is as before.
#[track_caller]
fn assert_refused(answer: &Answer, reason: &str, before: &Stored, lab: &mut Lab) {
    assert!(answer.code.class() >= 4, "refused, not {answer:?}");
    assert_eq!(answer.reason(), reason, "{answer:?}");
    assert_unchanged(before, lab);
}

#[track_caller]
fn assert_unchanged(before: &Stored, lab: &mut Lab) {
    let after = lab.stored();
    assert!(*before == after, "before:\n{before:#?}\nafter:\n{after:#?}");
}

/// After all that, the device goes on as if nothing had happened: same session, still trusted.
#[track_caller]
fn assert_goes_on(lab: &mut Lab, evil: &mut Evil) {
    let records = evil.device.list.0.len() as u64;
    evil.device.run("/bin/99");
    let answer = evil.beat(lab);
    assert_eq!(answer.code, Code::CHANGED, "{answer:?}");
    assert_eq!(answer.tier().word(), "trusted", "{answer:?}");
    assert_eq!(answer.next_record(), records + 1);
}
