//! Attestation results are signed with the verifier's key, and say no more than is known.

use std::fs;
use std::path::Path;

use crate::common::TempDir;
use crate::operator::{GATE, bad, device, good, json, keys, manifest, policy};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mote_verifier::signing_key::{PublicKey, SigningKey};
use serde_json::{Value, json};

const FILES: [(&str, u8); 2] = [("/usr/bin/ls", 1), ("/usr/bin/app", 4)];

/// A trusted `gate-7`, and a verifier with a key.
fn trusted(dir: &TempDir) {
    device(dir, &FILES);
    keys(dir);
    manifest(dir, "1.4", &FILES);
    good(dir, "manifest add edge-1.4.mote");
    SigningKey::create(&dir.file("state/verifier.key")).unwrap();
}

/// The claims of a JWT whose signature is that of the key that `result --key` prints.
fn opened(dir: &TempDir, jwt: &str) -> Value {
    let (signed, signature) = jwt.trim_end().rsplit_once('.').unwrap();
    let key = PublicKey::from_pem(&good(dir, "result --key")).unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    assert!(key.verify(signed.as_bytes(), &signature));
    let (header, claims) = signed.split_once('.').unwrap();
    let part =
        |text: &str| json(&String::from_utf8(URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap());
    let header = part(header);
    assert_eq!(header["alg"], "ES256");
    assert_eq!(
        header["kid"],
        json(&good(dir, "result --key --json"))["kid"]
    );
    part(claims)
}

#[test]
fn a_result_is_in_words_and_in_signed_claims() {
    let dir = TempDir::new("results");
    trusted(&dir);
    let words = good(&dir, "result gate-7");
    assert!(
        words.starts_with(&format!("{GATE}\nstatus   affirming\npolicy   sha-256:")),
        "{words}"
    );
    assert!(
        words.contains("ima      affirming\n  executables        2\n  file-system        2\n"),
        "{words}"
    );
    // No manifest says how the device should boot.
    assert!(
        words.contains("boot     none\n  configuration      0\n  executables        0\n"),
        "{words}"
    );
    let claims = opened(
        &dir,
        &good(&dir, "result gate-7 --jwt --nonce 0011223344556677"),
    );
    assert_eq!(claims["eat_profile"], "tag:ietf.org,2026:rats/ear#04");
    assert_eq!(claims["ear_status"], "affirming");
    assert_eq!(claims["eat_nonce"], "ABEiM0RVZnc");
    assert_eq!(claims["ear_verifier_id"]["developer"], "Mote");
    assert_eq!(claims["sub"], GATE.to_string());
    let quoted = &claims["submods"]["tpm"]["ear_verifier_claims"]["mote.quoted-at"];
    assert_eq!(
        claims["exp"].as_u64().unwrap(),
        quoted.as_u64().unwrap() + 86_400
    );
    let unsigned = json(&good(&dir, "result gate-7 --json"));
    assert_eq!(unsigned["submods"], claims["submods"]);
    assert!(bad(&dir, "result gate-7 --jwt --nonce 00").contains("8 to 64 bytes"));
    assert!(bad(&dir, "result door").contains("no device"));
}

#[test]
fn a_result_without_a_key_is_not_signed() {
    let dir = TempDir::new("results");
    device(&dir, &FILES);
    assert!(bad(&dir, "result gate-7 --jwt").contains("start mote-verifier once"));
    assert!(bad(&dir, "result --key").contains("start mote-verifier once"));
    let claims = json(&good(&dir, "result gate-7 --json"));
    assert_eq!(claims["ear_status"], "none", "not appraised yet");
}

/// What `tests/interop/ear.sh` hands to other implementations: in the directory `MOTE_EAR_OUT`.
#[test]
fn results_of_every_tier_for_other_implementations() {
    let dir = TempDir::new("results");
    trusted(&dir);
    let mut made = Vec::new();
    let mut issue = |name: &str, status: &str| {
        let claims = opened(&dir, &good(&dir, "result gate-7 --jwt"));
        assert_eq!(claims["ear_status"], status);
        let nonce = "--nonce 00112233445566778899aabbccddeeff";
        good(&dir, &format!("result gate-7 --jwt {nonce} -o {name}.jwt"));
        good(&dir, &format!("result gate-7 --cwt {nonce} -o {name}.cwt"));
        made.extend([format!("{name}.jwt"), format!("{name}.cwt")]);
    };
    issue("affirming", "affirming");
    let mut gates = json!({ "name": "gates", "version": 1, "min-key-strength": 128 });
    policy(&dir, &gates);
    good(&dir, "policy bind gates all");
    issue("contraindicated", "contraindicated");
    let words = good(&dir, "result gate-7");
    let tpm =
        "tpm      contraindicated\n  reasons            key-too-weak\n  configuration      96\n";
    assert!(words.contains(tpm), "{words}");
    gates = json!({ "name": "gates", "version": 2, "min-key-strength": 128, "mode": "monitor" });
    policy(&dir, &gates);
    issue("warning", "warning");
    policy(
        &dir,
        &json!({ "name": "gates", "version": 3, "stale-after": 60 }),
    );
    issue("none", "none");
    if let Some(out) = std::env::var_os("MOTE_EAR_OUT") {
        let out = Path::new(&out);
        for name in made {
            fs::copy(dir.file(&name), out.join(name)).unwrap();
        }
        fs::write(out.join("key.pem"), good(&dir, "result --key")).unwrap();
        fs::write(out.join("key.jwk"), good(&dir, "result --key --json")).unwrap();
    }
}
