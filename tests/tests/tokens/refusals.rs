//! Tokens that prove nothing. None of them changes anything.

use mote_schemas::cmw::{self, MediaType};
use mote_schemas::coap::Code;
use mote_schemas::message::{Tier, path};
use mote_tests::token_device::{TokenDevice, wrap};
use mote_verifier::admin::Request;

use super::{Answer, Bench, refused};

/// Sends it, expects this refusal, and that nothing has changed.
fn is_refused(bench: &mut Bench, wrapper: &[u8], code: Code, reason: &str) {
    let before = bench.lab.stored();
    assert_eq!(bench.send(wrapper), refused(code, reason));
    assert_eq!(bench.lab.stored(), before, "{reason}");
}

#[test]
fn another_key_another_device_and_another_nonce_are_told_apart() {
    let mut bench = Bench::new();
    let nonce = bench.nonce();
    let stranger = TokenDevice::new(&[0x22; 32]);
    // Nobody endorsed its key.
    is_refused(
        &mut bench,
        &stranger.wrapped(&nonce),
        Code::NOT_FOUND,
        "device-unknown",
    );
    let (code, _) = bench.exchange(path::NONCE, &stranger.nonce_request());
    assert_eq!(code, Code::NOT_FOUND);
    // It claims to be our device: our key id, its signature.
    let own = stranger.token(&nonce);
    let mut forged = bench.device.token(&nonce);
    let end = forged.len();
    forged[end - 64..].copy_from_slice(&own[own.len() - 64..]);
    is_refused(
        &mut bench,
        &wrap(&forged),
        Code::FORBIDDEN,
        "token-signature-invalid",
    );
    // A device of ours that answers another's nonce.
    bench.lab.endorse(&stranger, None);
    is_refused(
        &mut bench,
        &stranger.wrapped(&nonce),
        Code::FORBIDDEN,
        "token-wrong-nonce",
    );
    let device = bench.device.clone();
    is_refused(
        &mut bench,
        &device.wrapped(&[9; 16]),
        Code::FORBIDDEN,
        "token-wrong-nonce",
    );
    // All of that has used nothing up.
    assert!(matches!(
        bench.send(&device.wrapped(&nonce)),
        Answer::Verdict(Tier::Affirming, ..)
    ));
}

#[test]
fn a_token_counts_once_and_an_older_nonce_not_at_all() {
    let mut bench = Bench::new();
    let first = bench.nonce();
    bench.lab.now += 1;
    let second = bench.nonce();
    let device = bench.device.clone();
    let wrapper = device.wrapped(&second);
    assert!(matches!(bench.send(&wrapper), Answer::Verdict(..)));
    is_refused(&mut bench, &wrapper, Code::FORBIDDEN, "token-replayed");
    is_refused(
        &mut bench,
        &device.wrapped(&first),
        Code::FORBIDDEN,
        "token-replayed",
    );
    // Nor after the verifier's machine crashed, or its clock was set back.
    bench.lab.crash();
    is_refused(&mut bench, &wrapper, Code::FORBIDDEN, "token-replayed");
    bench.lab.now -= 1_000_000;
    is_refused(&mut bench, &wrapper, Code::FORBIDDEN, "token-replayed");
    assert_eq!(bench.attest(), (Tier::Affirming, vec![]));
}

#[test]
fn a_nonce_outlives_the_verifiers_process_but_not_its_lifetime() {
    let mut bench = Bench::new();
    let nonce = bench.nonce();
    bench.lab.crash();
    let device = bench.device.clone();
    bench.lab.now += 86_400_001;
    is_refused(
        &mut bench,
        &device.wrapped(&nonce),
        Code::FORBIDDEN,
        "nonce-expired",
    );
    bench.lab.now -= 1;
    assert!(matches!(
        bench.send(&device.wrapped(&nonce)),
        Answer::Verdict(..)
    ));
}

#[test]
fn times_ueid_and_boot_count_must_fit() {
    let mut bench = Bench::new();
    let now = bench.lab.now().unix / 1000;
    let nonce = bench.nonce();
    let with = |change: &dyn Fn(&mut TokenDevice)| {
        let mut device = TokenDevice::new(&[0x11; 32]);
        change(&mut device);
        device.wrapped(&nonce)
    };
    let expired = with(&|d| d.expires = Some(now - 301));
    is_refused(&mut bench, &expired, Code::FORBIDDEN, "token-expired");
    let early = with(&|d| d.not_before = Some(now + 301));
    is_refused(&mut bench, &early, Code::FORBIDDEN, "token-expired");
    let other = with(&|d| d.ueid = Some(vec![1; 17]));
    is_refused(&mut bench, &other, Code::FORBIDDEN, "ueid-mismatch");
    let sound = with(&|d| (d.expires, d.not_before) = (Some(now + 1), Some(now)));
    assert!(matches!(
        bench.send(&sound),
        Answer::Verdict(Tier::Affirming, ..)
    ));
    // Counters go up.
    let nonce = bench.nonce();
    let mut device = bench.device.clone();
    device.boot_count = Some(6);
    let wrapper = device.wrapped(&nonce);
    is_refused(
        &mut bench,
        &wrapper,
        Code::FORBIDDEN,
        "clock-went-backwards",
    );
    bench.device.boot_count = Some(8);
    bench.attest();
    let record = &bench.lab.stored().devices[&device.id()];
    assert_eq!(record.last_token().unwrap().boot, 2);
}

#[test]
fn a_device_that_the_operator_refuses_is_refused() {
    let mut bench = Bench::new();
    let nonce = bench.nonce();
    bench.ask(&Request::DeviceRefuse {
        device: "valve-12".into(),
        by: "ann".into(),
    });
    let wrapper = bench.device.wrapped(&nonce);
    is_refused(&mut bench, &wrapper, Code::FORBIDDEN, "admission-refused");
}

#[test]
fn what_is_not_a_token_in_a_wrapper_says_so() {
    let mut bench = Bench::new();
    let nonce = bench.nonce();
    let token = bench.device.token(&nonce);
    let mut other = minicbor::encode::write::Writer::new(Vec::new());
    cmw::write_evidence(MediaType::Name("application/rim+cose"), &token, &mut other).unwrap();
    let mut bundle = minicbor::encode::write::Writer::new(Vec::new());
    let media_type = MediaType::Name(mote_schemas::bundle::MEDIA_TYPE);
    cmw::write_evidence(media_type, &token, &mut bundle).unwrap();
    let mut padding = token.clone();
    padding.push(0);
    for (payload, code, reason) in [
        (
            other.into_inner(),
            Code::UNSUPPORTED_CONTENT_FORMAT,
            "media-type-unsupported",
        ),
        (
            bundle.into_inner(),
            Code::UNSUPPORTED_CONTENT_FORMAT,
            "media-type-unsupported",
        ),
        (wrap(&padding), Code::BAD_REQUEST, "token-malformed"),
        (vec![0xff; 300], Code::BAD_REQUEST, "message-malformed"),
    ] {
        is_refused(&mut bench, &payload, code, reason);
    }
    // Every form of wrapper is as good as another.
    let mut tagged = minicbor::encode::write::Writer::new(Vec::new());
    cmw::write_tagged(263, &token, &mut tagged)
        .unwrap()
        .unwrap();
    assert!(matches!(
        bench.send(&tagged.into_inner()),
        Answer::Verdict(..)
    ));
}

#[test]
fn no_bit_of_a_token_can_be_changed() {
    let mut bench = Bench::new();
    let nonce = bench.nonce();
    let wrapper = bench.device.wrapped(&nonce);
    let before = bench.lab.stored();
    // The last byte, the indicator, is outside the token.
    let end = wrapper.len() - 1;
    for bit in 0..8 * end {
        let mut changed = wrapper.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        // As many checks as there are in a second.
        bench.lab.now += 2;
        let code = bench.send_unchecked(&changed);
        assert!(
            !matches!(code, Code::CHANGED | Code::UNAUTHORIZED),
            "bit {bit}: {code}"
        );
    }
    assert_eq!(bench.lab.stored(), before);
    let mut other = wrapper.clone();
    other[end] = 1;
    let code = Code::UNSUPPORTED_CONTENT_FORMAT;
    is_refused(&mut bench, &other, code, "media-type-unsupported");
    assert!(matches!(
        bench.send(&wrapper),
        Answer::Verdict(Tier::Affirming, ..)
    ));
}
