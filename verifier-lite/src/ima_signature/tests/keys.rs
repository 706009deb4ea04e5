//! Key files, and keys that a log brings.

use super::*;

#[test]
fn a_file_that_is_no_key_file_is_refused_whole_and_says_why() {
    let signer = Signer::new(&["rsa", "p256"]);
    let path = signer.file("keys");
    let mut keyring = signer.keyring(&["p256"]);
    let before = keyring.all().to_vec();
    let good = fs::read_to_string(signer.file("rsa.crt")).unwrap();
    let mut refused = |contents: &[u8]| {
        fs::write(&path, contents).unwrap();
        let error = keyring.add_file(&path).unwrap_err();
        assert_eq!(keyring.all(), before, "{error}");
        error
    };
    assert!(matches!(refused(b""), KeyringError::Empty(_)));
    let private = fs::read(signer.file("rsa.key")).unwrap();
    assert!(matches!(refused(&private), KeyringError::Empty(_)));
    let cut = format!("{good}{}", &good[..good.len() / 2]);
    assert!(matches!(refused(cut.as_bytes()), KeyringError::Damaged(_)));
    assert!(matches!(
        refused(&[0x30, 3, 2, 1, 5]),
        KeyringError::Key(_, 1, KeyParseError::Malformed)
    ));
    for (kind, option, expected) in [
        (
            "rsa",
            "rsa_keygen_bits:1024",
            KeyParseError::RsaLength(1024),
        ),
        (
            "ec",
            "ec_paramgen_curve:secp256k1",
            KeyParseError::Algorithm,
        ),
        ("ed25519", "", KeyParseError::Algorithm),
    ] {
        let mut command = Command::new("openssl");
        command.args(["genpkey", "-algorithm", kind]);
        if !option.is_empty() {
            command.args(["-pkeyopt", option]);
        }
        fs::write(signer.file("weak.key"), run(&mut command)).unwrap();
        let public = run(Command::new("openssl")
            .args(["pkey", "-pubout", "-in"])
            .arg(signer.file("weak.key")));
        let both = [good.as_bytes(), &public].concat();
        match refused(&both) {
            KeyringError::Key(_, 2, error) => assert_eq!(error, expected),
            other => panic!("{kind}: {other}"),
        }
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(keyring.add_file(&path), Err(KeyringError::Io(..))));
}

#[test]
fn keys_are_learned_from_the_kernels_own_keyrings_alone() {
    let mut keyring = Keyring::default();
    for (name, is_kernels) in [
        (".ima", true),
        ("_ima", false),
        ("ima", false),
        (".", false),
    ] {
        keyring.learn_from(name);
        assert_eq!(keyring.learns_from(name.as_bytes()), is_kernels, "{name}");
        assert_eq!(Keyring::kernel_name(name).is_ok(), is_kernels, "{name}");
    }
}

#[test]
fn learned_keys_survive_being_stored_and_are_bounded() {
    let signer = Signer::new(&["p256", "rsa"]);
    let mut learned = LearnedKeys::default();
    assert!(!learned.learn(b"no key"));
    for name in ["p256", "rsa", "p256"] {
        assert!(learned.learn(signer.keyring(&[name]).all()[0].der()));
    }
    assert_eq!(learned.ders().count(), 2);
    let id = signer.keyring(&["p256"]).all()[0].ids()[0];
    assert_eq!(learned.keys(&id.into()).count(), 1);
    assert_eq!(LearnedKeys::from_ders(learned.ders()), learned);
}
