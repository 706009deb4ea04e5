//! Portable EVM signatures.

use super::*;

/// Attributes that `evmctl` has put on a file, as an `evm-sig` record has them.
struct EvmRecord {
    ima: Vec<u8>,
    evm: Vec<u8>,
    mode: u16,
}

impl EvmRecord {
    fn signed(signer: &Signer, key: &str, layout: &str) -> Self {
        let file = signer.file("pump");
        run(Command::new("evmctl")
            .args(["sign", "--imahash", "--portable", "--xattr-user", layout])
            .args(["--uid=7", "--gid=8", "--mode=33261", "--key"])
            .arg(signer.file(&format!("{key}.key")))
            .arg(&file));
        EvmRecord {
            ima: attribute(&file, "user.ima"),
            evm: attribute(&file, "user.evm"),
            mode: 0o100_755,
        }
    }

    fn data(&self) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let mut writer = TemplateWriter::new(Endian::Little, &mut buffer);
        writer
            .digest("sha256", &digest_of("sha256", CONTENTS))
            .unwrap();
        writer.text(b"/usr/bin/pump").unwrap();
        writer.bytes(&self.evm).unwrap();
        writer.text(b"security.ima").unwrap();
        let len = u32::try_from(self.ima.len()).unwrap().to_le_bytes();
        writer.bytes(&len).unwrap();
        writer.bytes(&self.ima).unwrap();
        writer.bytes(&7u32.to_le_bytes()).unwrap();
        writer.bytes(&8u32.to_le_bytes()).unwrap();
        writer.bytes(&self.mode.to_le_bytes()).unwrap();
        writer.finish().to_vec()
    }
}

/// `getxattr`, which std does not have.
fn attribute(file: &Path, name: &str) -> Vec<u8> {
    const SCRIPT: &str =
        "import os, sys; sys.stdout.buffer.write(os.getxattr(sys.argv[1], sys.argv[2]))";
    run(Command::new("python3")
        .args(["-c", SCRIPT])
        .arg(file)
        .arg(name))
}

#[test]
fn a_portable_evm_signature_covers_the_attributes_in_the_record() {
    let signer = Signer::new(&["rsa", "p256"]);
    let keyring = signer.keyring(&["rsa", "p256"]);
    for (key, layout) in [("rsa", "--m64"), ("p256", "--m64"), ("p256", "--m32")] {
        let signed = EvmRecord::signed(&signer, key, layout);
        check("evm-sig", &signed.data(), &keyring)
            .unwrap_or_else(|error| panic!("{key} {layout}: {error}"));
        let other_mode = EvmRecord {
            mode: 0o104_755,
            ..EvmRecord::signed(&signer, key, layout)
        };
        assert!(matches!(
            check("evm-sig", &other_mode.data(), &keyring),
            Err(SignatureError::Invalid(_))
        ));
        // `security.ima` of another file: the signature is right, and not about this one.
        let mut other_file = signed;
        *other_file.ima.last_mut().unwrap() ^= 1;
        assert_eq!(
            check("evm-sig", &other_file.data(), &keyring),
            Err(SignatureError::Attributes)
        );
    }
    // `ima-sig` shows an EVM signature where there is no other, without what it covers.
    let signed = EvmRecord::signed(&signer, "p256", "--m64");
    let data = record("sha256", &digest_of("sha256", CONTENTS), &signed.evm);
    assert_eq!(
        check("ima-sig", &data, &keyring),
        Err(SignatureError::Attributes)
    );
}

/// A big-endian kernel signs over its own byte order, and writes its list in that order or, told
/// `ima_canonical_fmt`, in little-endian. `evmctl` signs for the machine it runs on, so `openssl` does it.
#[test]
fn a_big_endian_kernels_evm_signature_is_verified_in_either_order_of_its_list() {
    let signer = Signer::new(&["p256"]);
    let keyring = signer.keyring(&["p256"]);
    let ima = [&[4, 4][..], &digest_of("sha256", CONTENTS)].concat();
    // ino, generation, uid, gid, mode, padding: of a 64-bit kernel.
    let mut misc = vec![0; 12];
    misc.extend(7u32.to_be_bytes());
    misc.extend(8u32.to_be_bytes());
    misc.extend(0o100_755_u16.to_be_bytes());
    misc.extend([0; 2]);
    fs::write(signer.file("covered"), [&ima[..], &misc].concat()).unwrap();
    let signature = run(Command::new("openssl")
        .args(["dgst", "-sha256", "-sign"])
        .arg(signer.file("p256.key"))
        .arg(signer.file("covered")));
    let id = keyring.all()[0].ids()[0];
    let len = u16::try_from(signature.len()).unwrap().to_be_bytes();
    let evm = [&[5, 2, 4][..], &id.0, &len, &signature].concat();
    for endian in [Endian::Little, Endian::Big] {
        let mut buffer = [0; 2048];
        let mut writer = TemplateWriter::new(endian, &mut buffer);
        let digest = digest_of("sha256", CONTENTS);
        writer.digest("sha256", &digest).unwrap();
        writer.text(b"/usr/bin/pump").unwrap();
        writer.bytes(&evm).unwrap();
        writer.text(b"security.ima").unwrap();
        let number = |v: u32| endian.u32_bytes(v);
        writer.bytes(&number(ima.len() as u32)).unwrap();
        writer.bytes(&ima).unwrap();
        writer.bytes(&number(7)).unwrap();
        writer.bytes(&number(8)).unwrap();
        let mode = match endian {
            Endian::Little => 0o100_755_u16.to_le_bytes(),
            Endian::Big => 0o100_755_u16.to_be_bytes(),
        };
        writer.bytes(&mode).unwrap();
        let data = writer.finish();
        let record = TemplateData::parse("evm-sig", data, endian).unwrap();
        let signed_by = verify(&record, endian, |id| keyring.keys(id));
        assert_eq!(signed_by.map(FileKey::name), Ok("Test p256"), "{endian:?}");
    }
}
