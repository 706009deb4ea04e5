//! Quotes of a TPM verify under every scheme that an attestation key may have, and its counters say
//! what happened to it.

use crate::common::Swtpm;
use mote_schemas::tpm::{HashAlg, Public, tpm2b};
use mote_verifier::quote::{ClockError, Continuity, QuoteError, VerifiedQuote};
use mote_verifier::signature::{VerifyError, VerifyingKey};

const ATTRIBUTES: &str =
    "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign|noda";

const ECC: &str = "ecc256:ecdsa-sha256:null";

fn make_key(tpm: &Swtpm, hierarchy: &str, algorithm: &str) -> VerifyingKey {
    tpm.tool(&format!(
        "tpm2_createprimary -C {hierarchy} -G {algorithm} -c ak.ctx -a {ATTRIBUTES}"
    ));
    tpm.tool("tpm2_readpublic -c ak.ctx -o ak.pub -f tss");
    let public = tpm.read("ak.pub");
    VerifyingKey::new(&Public::parse(tpm2b(&public, 1024).unwrap()).unwrap()).unwrap()
}

fn quote(tpm: &Swtpm, algorithm: &str, key: &VerifyingKey) -> Result<VerifiedQuote, QuoteError> {
    let (hash, pcrs) = (key.hash(), "sha256:0,1,2,3,4,5,6,7,8,9,10");
    // The tool would ask for RSASSA of any RSA key.
    let scheme = if algorithm.contains("rsapss") {
        "--scheme rsapss"
    } else {
        ""
    };
    tpm.tool(&format!(
        "tpm2_quote -c ak.ctx -g {hash} {scheme} -l {pcrs} -q c0ffee -m attest -s signature"
    ));
    VerifiedQuote::verify(
        &tpm.read("attest"),
        &tpm.read("signature"),
        key,
        &[0xc0, 0xff, 0xee],
        None,
    )
}

#[test]
fn every_scheme_verifies_and_a_changed_signature_does_not() {
    let tpm = Swtpm::start();
    for (algorithm, hash) in [
        ("ecc256:ecdsa-sha256:null", HashAlg::Sha256),
        ("ecc256:ecdsa-sha384:null", HashAlg::Sha384),
        ("ecc384:ecdsa-sha384:null", HashAlg::Sha384),
        ("rsa2048:rsassa-sha256:null", HashAlg::Sha256),
        ("rsa2048:rsapss-sha256:null", HashAlg::Sha256),
        ("rsa2048:rsapss-sha384:null", HashAlg::Sha384),
    ] {
        let key = make_key(&tpm, "e", algorithm);
        let verified =
            quote(&tpm, algorithm, &key).unwrap_or_else(|error| panic!("{algorithm}: {error}"));
        assert_eq!(verified.pcr_digest().alg(), hash, "{algorithm}");
        assert_eq!(verified.selection().count(), 11, "{algorithm}");

        let mut signature = tpm.read("signature");
        *signature.last_mut().unwrap() ^= 1;
        assert_eq!(
            key.verify(&tpm.read("attest"), &signature),
            Err(VerifyError::Invalid),
            "{algorithm}"
        );
    }
}

#[test]
fn a_key_outside_the_endorsement_hierarchy_is_the_wrong_signer() {
    let tpm = Swtpm::start();
    let key = make_key(&tpm, "o", ECC);
    assert_eq!(quote(&tpm, ECC, &key), Err(QuoteError::WrongSigner));
}

#[test]
fn counters_of_a_tpm_tell_reset_from_resume() {
    let tpm = Swtpm::start();
    let key = make_key(&tpm, "e", ECC);
    let first = quote(&tpm, ECC, &key).unwrap();
    let second = quote(&tpm, ECC, &key).unwrap();
    assert_eq!(
        second.continuity(first.clock_info()),
        Ok(Continuity::SameBoot)
    );

    tpm.power_cycle("tpm2_shutdown", "tpm2_startup");
    // A saved context does not survive; the primary itself comes back from its seed.
    assert_eq!(key.name(), make_key(&tpm, "e", ECC).name());
    let resumed = quote(&tpm, ECC, &key).unwrap();
    assert_eq!(
        resumed.continuity(second.clock_info()),
        Ok(Continuity::Resumed)
    );

    tpm.power_cycle("tpm2_shutdown -c", "tpm2_startup -c");
    make_key(&tpm, "e", ECC);
    let rebooted = quote(&tpm, ECC, &key).unwrap();
    assert_eq!(rebooted.clock_info().restart_count, 0);
    assert_eq!(
        rebooted.continuity(resumed.clock_info()),
        Ok(Continuity::Rebooted)
    );
    assert_eq!(
        resumed.continuity(rebooted.clock_info()),
        Err(ClockError::ResetCountWentBackwards(
            rebooted.clock_info().reset_count,
            resumed.clock_info().reset_count
        ))
    );
}
