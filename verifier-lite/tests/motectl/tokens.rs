//! Devices without a TPM, by `motectl` alone: keys endorsed, firmware described, tokens verified in files.

use std::fs;
use std::process::Command;

use crate::common;
use crate::common::TempDir;
use crate::operator::{bad, good, json, open};
use minicbor::encode::write::Writer;
use mote_schemas::cbor;
use mote_schemas::cmw::{self, MediaType};
use mote_schemas::eat::{self, Claims, Component, DebugState, Firmware};
use mote_schemas::tpm::{HashAlg, hash};
use mote_verifier::signing_key::SigningKey;

const NONCE: &str = "00112233445566778899aabbccddeeff";

/// A token of the device whose key is `valve.key`, in a wrapper in `token.cmw`.
fn token(dir: &TempDir, app: &[u8], debug: DebugState) {
    let key = SigningKey::load(&dir.file("valve.key")).unwrap();
    let id = eat::device_id(key.public_key().point());
    let digests = [b"boot", app].map(|content| hash(HashAlg::Sha256, &[content]));
    let component = |name, index: usize| Component {
        name,
        hash_alg: HashAlg::Sha256,
        digest: digests[index].as_bytes(),
    };
    let claims = Claims {
        nonce: &common::unhex(NONCE),
        debug: Some(debug),
        boot_count: Some(3),
        software_name: Some("valve"),
        software_version: Some("2.1"),
        measurements: Some(Firmware {
            name: "valve",
            version: Some("2.1"),
            maker: "mcuboot",
            components: &[component("bootloader", 0), component("app", 1)],
        }),
        ..Claims::default()
    };
    let mut room = [0; 1024];
    let len = cbor::encode(&claims, &mut room).unwrap();
    let written = |write: &dyn Fn(&mut Writer<Vec<u8>>)| {
        let mut out = Writer::new(Vec::new());
        write(&mut out);
        out.into_inner()
    };
    let signed = written(&|out| eat::signed_bytes(&id, &room[..len], out).unwrap());
    let signature = key.sign(&signed).unwrap();
    let token = written(&|out| eat::write(&id, &room[..len], &signature, out).unwrap());
    let wrapper = written(&|out| {
        cmw::write_evidence(MediaType::Name(eat::MEDIA_TYPE), &token, out).unwrap();
    });
    fs::write(dir.file("token.cmw"), wrapper).unwrap();
}

/// Keys of image and device, the firmware's files and its manifest.
fn desk() -> TempDir {
    let dir = TempDir::new("tokens");
    good(&dir, "key new --out image.key");
    good(&dir, "key new --out valve.key");
    fs::write(dir.file("boot.bin"), b"boot").unwrap();
    fs::write(dir.file("app.bin"), b"app").unwrap();
    let built = good(
        &dir,
        "manifest build --component bootloader=boot.bin --component app=app.bin --name valve \
         --version 2.1 --sign image.key -o valve.mote",
    );
    assert!(built.contains("valve 2.1, 2 components"), "{built}");
    dir
}

/// Standard output and exit code.
fn verify(dir: &TempDir, more: &str) -> (String, i32) {
    let words =
        format!("verify token.cmw --manifest valve.mote --manifest-key image.key.pub {more}");
    let output = Command::new(env!("CARGO_BIN_EXE_motectl"))
        .current_dir(dir.path())
        .args(words.split_whitespace())
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (text, output.status.code().unwrap())
}

#[test]
fn a_token_in_a_file_is_verified_by_its_media_type() {
    let dir = desk();
    token(&dir, b"app", DebugState::DisabledPermanently);
    let known = format!("--nonce {NONCE} --device-key valve.key.pub");
    let (text, code) = verify(&dir, &known);
    assert_eq!(code, 0, "{text}");
    assert!(text.starts_with("trusted\n"), "{text}");
    for says in [
        "evidence    application/eat+cwt\n",
        "software    valve 2.1\n",
        "bootcount   3\n",
        "component   app\n            sha256:",
    ] {
        assert!(text.contains(says), "{says} is not in {text}");
    }
    // What is missing on the command line is told for this kind.
    let (text, code) = verify(&dir, &format!("--nonce {NONCE}"));
    assert_eq!(code, 1);
    assert!(
        text.contains("give its endorsed key with --device-key"),
        "{text}"
    );
    for (more, reason) in [
        (
            "--nonce 00112233445566778899aabbccddeefe --device-key valve.key.pub",
            "token-wrong-nonce",
        ),
        (
            &format!("--nonce {NONCE} --device-key image.key.pub"),
            "token-signature-invalid",
        ),
    ] {
        let (text, code) = verify(&dir, more);
        assert_eq!(code, 1);
        assert!(text.starts_with(&format!("refused: {reason}\n")), "{text}");
    }
    let whole = fs::read(dir.file("token.cmw")).unwrap();
    fs::write(dir.file("token.cmw"), &whole[..whole.len() - 9]).unwrap();
    let (text, code) = verify(&dir, &known);
    assert_eq!(code, 1);
    assert!(text.contains("cut off"), "{text}");
    fs::write(dir.file("token.cmw"), b"something else").unwrap();
    let (text, code) = verify(&dir, &known);
    assert_eq!(code, 1);
    assert!(text.starts_with("refused: message-malformed\n"), "{text}");
}

#[test]
fn what_a_token_shows_is_weighed_by_a_policy_in_a_file() {
    let dir = desk();
    token(&dir, b"other", DebugState::Enabled);
    let known = format!("--nonce {NONCE} --device-key valve.key.pub");
    let (text, code) = verify(&dir, &known);
    assert_eq!(code, 1);
    assert!(text.starts_with("untrusted\n"), "{text}");
    for says in [
        "\ndebug-enabled\n",
        "\ncomponent-modified\n",
        "    app\n",
        "says valve-2.1",
    ] {
        assert!(text.contains(says), "{says} is not in {text}");
    }
    let lenient = r#"{"name": "desk", "version": 1,
        "reasons": {"debug-enabled": "ignore", "component-modified": "warning"}}"#;
    fs::write(dir.file("p.json"), lenient).unwrap();
    let (text, code) = verify(&dir, &format!("{known} --policy p.json"));
    assert_eq!(code, 0, "{text}");
    assert!(
        text.starts_with("warning\n") && !text.contains("debug-enabled"),
        "{text}"
    );
    // A signed policy must be by somebody who is named.
    good(&dir, "key new --out policy.key");
    good(&dir, "policy build p.json --sign policy.key -o p.policy");
    let (text, code) = verify(&dir, &format!("{known} --policy p.policy"));
    assert_eq!(code, 1);
    assert!(text.contains("give the signer with --policy-key"), "{text}");
    let signed = |key: &str| {
        verify(
            &dir,
            &format!("{known} --policy p.policy --policy-key {key}"),
        )
    };
    assert_eq!(signed("policy.key.pub").1, 0);
    assert_eq!(signed("image.key.pub").1, 1);
    // A manifest that the policy does not allow is none.
    let elsewhere = r#"{"name": "desk", "version": 1, "manifests": [{"name": "edge"}]}"#;
    fs::write(dir.file("p.json"), elsewhere).unwrap();
    let (text, _) = verify(&dir, &format!("{known} --policy p.json"));
    assert!(text.contains("\nno-reference-values\n"), "{text}");
    // The same without a verdict: a try.
    fs::write(dir.file("p.json"), lenient).unwrap();
    let tried = good(
        &dir,
        "policy test p.json --evidence token.cmw --device-key valve.key.pub --manifest valve.mote \
         --manifest-key image.key.pub",
    );
    assert!(
        tried.contains("warning\n    (component-modified)\n"),
        "{tried}"
    );
    let said = bad(
        &dir,
        "policy test p.json --evidence token.cmw --device-key image.key.pub --manifest valve.mote \
         --manifest-key image.key.pub",
    );
    assert!(
        said.contains("token.cmw: token-signature-invalid"),
        "{said}"
    );
}

#[test]
fn a_device_is_endorsed_once_by_its_key_and_shown_as_what_it_is() {
    let dir = desk();
    drop(open(&dir));
    let endorsed = good(
        &dir,
        "device endorse valve.key.pub --name valve-12 --ueid 010e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e",
    );
    let key = SigningKey::load(&dir.file("valve.key")).unwrap();
    let id = eat::device_id(key.public_key().point());
    assert_eq!(endorsed, format!("endorsed valve-12 ({id})\n"));
    let before = good(&dir, "device list --json");
    for (words, says) in [
        ("device endorse valve.key.pub", "endorsed already"),
        (
            "device endorse image.key.pub --name valve-12",
            "has the name",
        ),
        ("device endorse image.key.pub --ueid 0102", "7 to 33 bytes"),
        ("device endorse boot.bin", "PUBLIC KEY"),
    ] {
        let said = bad(&dir, words);
        assert!(said.contains(says), "{words}: {said}");
        assert_eq!(good(&dir, "device list --json"), before, "{words}");
    }
    let shown = good(&dir, "device show valve-12");
    for says in [
        "admission    admitted by ann",
        "verdict      none yet\n",
        "last token   never\n",
        "evidence     tokens (EAT); no TPM\n",
        "UEID         010e0e",
        "key SHA-256  ",
    ] {
        assert!(shown.contains(says), "{says} is not in {shown}");
    }
    assert!(!shown.contains("EK SHA-256"), "{shown}");
    // The key id that tokens carry begins the key's digest, as sha256sum says it.
    let detail = json(&good(&dir, "device show valve-12 --json"));
    let digest = detail["token"]["key_digest"].as_str().unwrap();
    assert!(digest.starts_with(&id.to_string()), "{digest}");
    good(&dir, "device remove valve-12");
    good(&dir, "device endorse valve.key.pub");
}

#[test]
fn the_manifest_of_a_firmware_shows_its_components_and_has_one_spelling() {
    let dir = desk();
    let shown = good(&dir, "manifest show valve.mote --key image.key.pub");
    assert!(shown.contains("component  app\n"), "{shown}");
    let app = mote_schemas::tpm::hash(HashAlg::Sha256, &[b"app"]);
    let digest = mote_verifier::hex::encode(app.as_bytes());
    assert!(shown.contains(&digest), "{shown}");
    // In another order, and by digest: the same bytes.
    good(
        &dir,
        &format!(
            "manifest build --component app=sha256:{digest} --component bootloader=boot.bin \
             --name valve --version 2.1 --sign image.key -o again.mote"
        ),
    );
    let read = |name: &str| fs::read(dir.file(name)).unwrap();
    assert_eq!(read("valve.mote"), read("again.mote"));
    for (component, says) in [
        ("app", "not NAME=FILE"),
        ("app=missing.bin", "missing.bin"),
        ("app=sha256:00", "not NAME=FILE"),
        ("=app.bin", "name of a component"),
    ] {
        let words = format!("manifest build --component {component} --sign image.key -o bad.mote");
        assert!(bad(&dir, &words).contains(says), "{component}");
        assert!(!dir.file("bad.mote").exists());
    }
    let said = {
        let words = "manifest export valve.mote --key image.key.pub --format corim -o v.corim";
        let output = Command::new(env!("CARGO_BIN_EXE_motectl"))
            .current_dir(dir.path())
            .args(words.split(' '))
            .output()
            .unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(
        said.contains("left out: components of a firmware"),
        "{said}"
    );
}
