//! Quotes that a TPM would not make, or not for this question.

use mote_tests::soft_tpm::{Attest, SoftTpm};
use mote_tests::{Evil, Lab};

use super::{assert_goes_on, assert_refused, assert_unchanged, with_trusted};

/// Sends a beat whose quote was altered before the TPM's own key signed it.
#[track_caller]
fn refused_when(alter: impl Fn(&mut Attest), reason: &str) {
    let (mut lab, mut evil) = with_trusted();
    let before = lab.stored();
    let mut attest = evil.attest();
    alter(&mut attest);
    let quote = evil.signed(&attest);
    let payload = evil.beat_payload(&quote, 0, &evil.device.list.0);
    let answer = evil.ask(&mut lab, "b", &payload);
    assert_refused(&answer, reason, &before, &mut lab);
    assert!(answer.protected, "the refusal is the verifier's own word");
    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn with_another_magic_is_not_a_tpms() {
    refused_when(|a| a.magic = 0xff54_4348, "quote-wrong-magic");
    refused_when(|a| a.magic = 0, "quote-wrong-magic");
}

#[test]
fn of_another_attestation_type_is_no_quote() {
    // TPM_ST_ATTEST_CERTIFY, TPM_ST_ATTEST_TIME, TPM_ST_ATTEST_NV.
    for kind in [0x8017, 0x8019, 0x8014] {
        refused_when(|a| a.kind = kind, "quote-wrong-type");
    }
}

#[test]
fn that_answers_another_nonce_is_old() {
    refused_when(|a| a.extra_data[0] ^= 1, "quote-wrong-nonce");
    refused_when(|a| a.extra_data.clear(), "quote-wrong-nonce");
    refused_when(|a| a.extra_data.truncate(31), "quote-wrong-nonce");
}

#[test]
fn under_another_keys_name_is_refused() {
    refused_when(|a| a.qualified_signer[5] ^= 1, "quote-wrong-signer");
    refused_when(|a| a.qualified_signer.clear(), "quote-wrong-signer");
}

#[test]
fn whose_clock_or_counters_run_backwards_is_refused() {
    let (mut lab, mut evil) = with_trusted();
    evil.device.tpm.set_counts(3, 2);
    evil.device.tpm.set_clock(50_000);
    let answer = evil.beat(&mut lab);
    assert_eq!(answer.code.class(), 2, "{answer:?}");
    for (clock, (reset, restart)) in [
        (49_999, (3, 2)),
        (0, (3, 2)),
        (60_000, (2, 2)),
        (60_000, (2, 9)),
        (60_000, (3, 1)),
        (60_000, (0, 0)),
        // A resume does not turn the clock back. (A reset that comes with a power cut may.)
        (49_999, (3, 3)),
    ] {
        let before = lab.stored();
        let mut attest = evil.attest();
        attest.clock = clock;
        (attest.reset_count, attest.restart_count) = (reset, restart);
        let quote = evil.signed(&attest);
        let payload = evil.beat_payload(&quote, 0, &evil.device.list.0);
        let answer = evil.ask(&mut lab, "b", &payload);
        assert_refused(&answer, "clock-went-backwards", &before, &mut lab);
    }
    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn with_a_signature_of_another_key_or_of_other_bytes_is_refused() {
    let (mut lab, mut evil) = with_trusted();
    let (attest, own) = evil.quote();
    let mut flipped = own.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut older = evil.attest();
    older.clock -= 1;
    for signature in [
        SoftTpm::new(2).sign(&attest),
        evil.device.tpm.clone().with_other_ak(1).sign(&attest),
        evil.device.tpm.sign(&older.encode()),
        flipped,
    ] {
        let before = lab.stored();
        let quote = (attest.clone(), signature);
        let payload = evil.beat_payload(&quote, 0, &evil.device.list.0);
        let answer = evil.ask(&mut lab, "b", &payload);
        assert_refused(&answer, "quote-signature-invalid", &before, &mut lab);
    }
    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn cut_short_or_with_more_behind_is_malformed() {
    let (mut lab, mut evil) = with_trusted();
    let (attest, _) = evil.quote();
    let before = lab.stored();
    for bytes in (1..attest.len())
        .step_by(7)
        .map(|end| attest[..end].to_vec())
        .chain([[&attest[..], &[0]].concat()])
    {
        let signature = evil.device.tpm.sign(&bytes);
        let payload = evil.beat_payload(&(bytes, signature), 0, &[]);
        let answer = evil.ask(&mut lab, "b", &payload);
        assert_refused(&answer, "quote-malformed", &before, &mut lab);
    }
    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn whose_signature_is_no_tpm_structure_is_refused() {
    let (mut lab, mut evil) = with_trusted();
    let before = lab.stored();
    let (attest, signature) = evil.quote();
    let mut scheme = signature.clone();
    scheme[1] = 0x1b; // TPM_ALG_SM2
    let mut hash = signature.clone();
    hash[3] = 0x04; // SHA-1: not what the key signs with
    for signature in [
        signature[..signature.len() - 1].to_vec(),
        [&signature[..], &[0]].concat(),
        vec![0],
        scheme,
        hash,
    ] {
        let payload = evil.beat_payload(&(attest.clone(), signature), 0, &[]);
        let answer = evil.ask(&mut lab, "b", &payload);
        assert_refused(&answer, "quote-signature-invalid", &before, &mut lab);
    }
    assert_goes_on(&mut lab, &mut evil);
}

#[test]
fn that_opens_a_session_badly_enrols_nobody() {
    for (alter, reason) in [
        (
            (|a: &mut Attest| a.magic ^= 1) as fn(&mut Attest),
            "quote-wrong-magic",
        ),
        (|a| a.extra_data[0] ^= 1, "quote-wrong-nonce"),
        (|a| a.kind = 0x8017, "quote-wrong-type"),
    ] {
        let mut lab = Lab::new();
        let mut evil = Evil::new(7);
        evil.hello(&mut lab);
        let before = lab.stored();
        let mut attest = evil.attest();
        alter(&mut attest);
        let quote = evil.signed(&attest);
        let payload = evil.open_payload(&quote, 1);
        let answer = evil.ask(&mut lab, "o", &payload);
        assert_refused(&answer, reason, &before, &mut lab);
        assert!(lab.stored().devices.is_empty());
        // The challenge still waits for the right answer.
        let answer = evil.open(&mut lab);
        assert_eq!(answer.reason(), "admission-pending");
    }
}

#[test]
fn of_another_session_is_worth_nothing_in_this_one() {
    let (mut lab, mut evil) = with_trusted();
    // Same TPM, same nonce value even; but the transcript is another.
    let mut attest = evil.attest();
    let nonce = evil.session().nonce.clone();
    evil.hello(&mut lab);
    let answer = evil.open(&mut lab);
    assert_eq!(answer.code.class(), 2);
    let before = lab.stored();
    let foreign = evil.signed(&attest);
    let payload = evil.beat_payload(&foreign, 0, &evil.device.list.0);
    let answer = evil.ask(&mut lab, "b", &payload);
    assert_refused(&answer, "quote-wrong-nonce", &before, &mut lab);
    attest.extra_data = nonce.1;
    let bare = evil.signed(&attest);
    let payload = evil.beat_payload(&bare, 0, &evil.device.list.0);
    let answer = evil.ask(&mut lab, "b", &payload);
    assert_refused(&answer, "quote-wrong-nonce", &before, &mut lab);
    assert_unchanged(&before, &mut lab);
}
