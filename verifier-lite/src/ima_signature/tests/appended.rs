//! Appended signatures.

use super::*;

/// What `openssl cms` makes as the kernel's `sign-file` does, and with other options.
fn append(signer: &Signer, name: &str, hash: &str, options: &[&str]) -> Vec<u8> {
    run(Command::new("openssl")
        .args(["cms", "-sign", "-binary", "-outform", "DER", "-nosmimecap"])
        .args(["-md", hash])
        .args(options)
        .arg("-signer")
        .arg(signer.file(&format!("{name}.crt")))
        .arg("-inkey")
        .arg(signer.file(&format!("{name}.key")))
        .arg("-in")
        .arg(signer.file("pump")))
}

/// Data of an `ima-modsig` record of a file with this appended, and nothing in its attributes.
fn modsig(algorithm: &str, contents: &[u8], signature: &[u8], message: &[u8]) -> Vec<u8> {
    let mut buffer = [0; 8192];
    let mut writer = TemplateWriter::new(Endian::Little, &mut buffer);
    let whole = [contents, message].concat();
    writer
        .digest("sha256", &digest_of("sha256", &whole))
        .unwrap();
    writer.text(b"/lib/modules/pump.ko").unwrap();
    writer.bytes(signature).unwrap();
    writer
        .digest(algorithm, &digest_of(algorithm, contents))
        .unwrap();
    writer.bytes(message).unwrap();
    writer.finish().to_vec()
}

/// `sign-file`: CMS_NOCERTS, CMS_NOATTR, and CMS_USE_KEYID where asked for.
const AS_SIGN_FILE: &[&str] = &["-noattr", "-nocerts"];

#[test]
fn an_appended_signature_is_verified_over_the_file_without_it() {
    let names = KEYS.map(|(name, _)| name);
    let signer = Signer::new(&names);
    let keyring = signer.keyring(&names);
    for (name, alg, options) in [
        ("rsa", "sha256", AS_SIGN_FILE),
        ("rsa", "sha512", &["-noattr", "-nocerts", "-keyid"]),
        ("p256", "sha256", &["-noattr", "-nocerts", "-keyid"]),
        ("p384", "sha384", AS_SIGN_FILE),
        ("p521", "sha512", AS_SIGN_FILE),
        // With signed attributes, and with the certificate.
        ("p256", "sha256", &["-nocerts"]),
        ("rsa", "sha384", &[]),
    ] {
        let message = append(&signer, name, alg, options);
        let data = modsig(alg, CONTENTS, &[], &message);
        let signed_by = check("ima-modsig", &data, &keyring);
        assert_eq!(signed_by, Ok(format!("Test {name}")), "{name} {options:?}");
        // Other contents with the same appended.
        let other = check("ima-modsig", &modsig(alg, b"else", &[], &message), &keyring);
        let attributes = !options.contains(&"-noattr");
        match other {
            Err(SignatureError::Appended(why)) if attributes => {
                assert_eq!(why, "its attributes are of other contents");
            }
            Err(SignatureError::Invalid(_)) if !attributes => {}
            other => panic!("{name} {options:?}: {other:?}"),
        }
        // Another signer's is not taken for an allowed one's, its certificate inside or not.
        let others: Vec<_> = names.into_iter().filter(|other| *other != name).collect();
        let unknown = check("ima-modsig", &data, &signer.keyring(&others)).unwrap_err();
        assert!(
            matches!(unknown, SignatureError::UnknownSigner(_)),
            "{unknown}"
        );
        // In any other form than the kernel's, whoever wrote the file may have chosen the digest.
        for label in [
            "d-ng|n-ng|sig|modsig|d-modsig",
            "d-ng|n-ng|d-modsig|sig|modsig",
        ] {
            if let Ok(record) = TemplateData::parse(label, &data, Endian::Little) {
                assert_eq!(record.appended_signature(), None);
            }
        }
    }
}

#[test]
fn a_raw_key_verifies_an_appended_signature_that_names_a_certificate() {
    let signer = Signer::new(&["p256"]);
    run(Command::new("openssl")
        .args(["pkey", "-pubout", "-in"])
        .arg(signer.file("p256.key"))
        .arg("-out")
        .arg(signer.file("raw.pem")));
    let mut raw = Keyring::default();
    raw.add_file(&signer.file("raw.pem")).unwrap();
    let message = append(&signer, "p256", "sha256", AS_SIGN_FILE);
    check(
        "ima-modsig",
        &modsig("sha256", CONTENTS, &[], &message),
        &raw,
    )
    .unwrap();
}

#[test]
fn of_two_kinds_of_signatures_one_that_holds_is_enough() {
    let signer = Signer::new(&["p256", "rsa"]);
    let keyring = signer.keyring(&["p256"]);
    let message = append(&signer, "p256", "sha256", AS_SIGN_FILE);
    let other = append(&signer, "rsa", "sha256", AS_SIGN_FILE);
    // In `security.ima`: over other contents than the whole file, and by nobody who is allowed.
    let bad = signer.sign("p256", "sha256");
    let id = SignerId::from(keyring.all()[0].ids()[0]);
    let found = |signature: &[u8], message: &[u8]| {
        let data = modsig("sha256", CONTENTS, signature, message);
        check("ima-modsig", &data, &keyring)
    };
    assert_eq!(found(&bad, &message), Ok("Test p256".to_owned()));
    assert_eq!(found(&bad, &other), Err(SignatureError::Invalid(id)));
    assert_eq!(found(&[], &[]), Err(SignatureError::Absent));
}

#[test]
fn any_changed_bit_of_an_appended_signature_is_refused() {
    let signer = Signer::new(&["p256"]);
    let keyring = signer.keyring(&["p256"]);
    for options in [AS_SIGN_FILE, &["-nocerts"]] {
        let message = append(&signer, "p256", "sha256", options);
        let mut held = 0;
        for bit in 0..8 * message.len() {
            let mut changed = message.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let data = modsig("sha256", CONTENTS, &[], &changed);
            held += usize::from(check("ima-modsig", &data, &keyring).is_ok());
        }
        // Versions, the list of hashes and names of algorithms are not signed, nor do they decide
        // anything: the key's own algorithm does.
        assert!(held < 8 * 40, "{held} changed bits went unnoticed");
        for len in 0..message.len() {
            let data = modsig("sha256", CONTENTS, &[], &message[..len]);
            assert!(check("ima-modsig", &data, &keyring).is_err(), "{len} bytes");
        }
    }
}

#[test]
fn what_is_no_detached_signature_says_why() {
    let signer = Signer::new(&["p256"]);
    let keyring = signer.keyring(&["p256"]);
    let why = |message: &[u8]| match check(
        "ima-modsig",
        &modsig("sha256", CONTENTS, &[], message),
        &keyring,
    ) {
        Err(SignatureError::Appended(why)) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(why(b"PKCS#7"), "it is not CMS in DER");
    let attached = append(
        &signer,
        "p256",
        "sha256",
        &["-noattr", "-nocerts", "-nodetach"],
    );
    assert_eq!(why(&attached), "it has contents of its own");
    let sha1 = append(&signer, "p256", "sha1", AS_SIGN_FILE);
    assert_eq!(why(&sha1), "its hash is not SHA-256, SHA-384 or SHA-512");
    let data = run(Command::new("openssl")
        .args(["cms", "-data_create", "-binary", "-outform", "DER", "-in"])
        .arg(signer.file("pump")));
    assert_eq!(why(&data), "it is CMS, but not SignedData");
    let sha512 = append(&signer, "p256", "sha512", AS_SIGN_FILE);
    let data = modsig("sha256", CONTENTS, &[], &sha512);
    assert_eq!(
        check("ima-modsig", &data, &keyring),
        Err(SignatureError::OtherDigest {
            signed: "sha512".into(),
            measured: "sha256".into()
        })
    );
}

proptest! {
    #[test]
    fn no_bytes_make_a_header_or_a_key_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..96),
        kind in 0u8..8,
    ) {
        let _ = SignatureHeader::parse(&[&[kind, 2, 4][..], &bytes].concat());
        let _ = check("ima-modsig", &modsig("sha256", CONTENTS, &[], &bytes), &Keyring::default());
        let _ = FileKey::from_der(&bytes);
        let _ = FileKey::from_der(&[&[0x30, bytes.len() as u8][..], &bytes].concat());
    }
}
