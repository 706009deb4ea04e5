//! Makers of files, who sign them with `evmctl`.

use std::fs;
use std::process::Command;

use super::common::{TempDir, run};
use mote_verifier::ima_signature::Keyring;

/// A maker with a key `maker.key`, its certificate in PEM and DER, and one more, `other`.
pub(crate) fn makers() -> TempDir {
    let dir = TempDir::new("file-signatures");
    for name in ["maker", "other"] {
        run(Command::new("openssl")
            .args(["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt"])
            .args(["ec_paramgen_curve:P-256", "-days", "9999", "-subj"])
            .arg(format!("/CN={name}"))
            .arg("-keyout")
            .arg(dir.file(&format!("{name}.key")))
            .arg("-out")
            .arg(dir.file(&format!("{name}.crt"))));
        run(Command::new("openssl")
            .args(["x509", "-outform", "DER", "-in"])
            .arg(dir.file(&format!("{name}.crt")))
            .arg("-out")
            .arg(dir.file(&format!("{name}.der"))));
    }
    dir
}

pub(crate) fn signature(dir: &TempDir, maker: &str, contents: &[u8]) -> Vec<u8> {
    fs::write(dir.file("file"), contents).unwrap();
    run(Command::new("evmctl")
        .args(["ima_sign", "--sigfile", "--key"])
        .arg(dir.file(&format!("{maker}.key")))
        .arg(dir.file("file")));
    fs::read(dir.file("file.sig")).unwrap()
}

pub(crate) fn keyring(dir: &TempDir, makers: &[&str]) -> Keyring {
    let mut keyring = Keyring::default();
    for maker in makers {
        keyring
            .add_file(&dir.file(&format!("{maker}.crt")))
            .unwrap();
    }
    keyring
}
