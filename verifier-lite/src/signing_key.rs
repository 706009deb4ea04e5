//! ES256 keys of our own: the verifier's identity, and whoever signs manifests.
//!
//! On disk: PKCS#8 in PEM (RFC 7468), readable by its owner alone, never overwritten. The public half
//! travels as SPKI in PEM or as an uncompressed point (SEC 1, 2.3.3). Signatures are COSE's ES256: raw
//! `r || s` over SHA-256 (RFC 9053, 2.1). Who can read the private key's file can speak for the verifier.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use aws_lc_rs::encoding::{AsBigEndian, AsDer, EcPrivateKeyBin};
use aws_lc_rs::hkdf;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    ParsedPublicKey,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

use crate::pem;

/// Length of an ES256 signature, `r || s`, in bytes.
pub const SIGNATURE_LEN: usize = 64;

/// Length of an uncompressed P-256 point, `04 || x || y`, in bytes.
pub const POINT_LEN: usize = 65;

/// Why a key could not be made, read or used. `Display` says what to do about it.
#[derive(Debug)]
pub enum KeyError {
    /// The operating system refused: the file and its word.
    Io(PathBuf, io::Error),
    /// A new key never replaces an existing file.
    Exists(PathBuf),
    /// Not the expected PEM block: the file, the label that was looked for.
    NotPem(PathBuf, &'static str),
    /// The PEM block does not hold a P-256 key.
    NotP256(PathBuf),
    /// A raw point that is not on P-256.
    BadPoint,
    /// The cryptographic library failed to make a key or a signature.
    Crypto,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::Io(path, error) => write!(f, "{}: {error}", path.display()),
            KeyError::Exists(path) => write!(
                f,
                "{}: exists already; a new key never replaces an old one, move it away first",
                path.display()
            ),
            KeyError::NotPem(path, label) => write!(
                f,
                "{}: no \"-----BEGIN {label}-----\" block in it; make a key with `motectl key new`",
                path.display()
            ),
            KeyError::NotP256(path) => write!(
                f,
                "{}: holds a key, but not an ECDSA P-256 (ES256) one",
                path.display()
            ),
            KeyError::BadPoint => f.write_str("not an uncompressed point on P-256"),
            KeyError::Crypto => f.write_str("the cryptographic library refused"),
        }
    }
}

impl std::error::Error for KeyError {}

/// The private half. `Debug` shows nothing of it.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    public: PublicKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(private half of {:?})", self.public)
    }
}

impl SigningKey {
    /// A fresh key, in memory only.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|_| KeyError::Crypto)?;
        Self::of_pair(pair)
    }

    /// A fresh key, written to `path` with mode 0600. The file appears whole or not at all and never
    /// replaces another.
    pub fn create(path: &Path) -> Result<Self, KeyError> {
        let key = Self::generate()?;
        key.save(path)?;
        Ok(key)
    }

    /// The key in a PEM file made by [`SigningKey::create`] or by
    /// `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`.
    /// Warns in the log when others than its owner may read the file.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let io = |error| KeyError::Io(path.to_owned(), error);
        let mode = fs::metadata(path).map_err(io)?.permissions().mode();
        if mode & 0o077 != 0 {
            log::warn!(
                "{}: this private key is open to others (mode {:04o}); run `chmod 600 {}`",
                path.display(),
                mode & 0o7777,
                path.display()
            );
        }
        let text = fs::read(path).map_err(io)?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(&text)
            .map_err(|_| KeyError::NotPem(path.to_owned(), "PRIVATE KEY"))?;
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der())
                .map_err(|_| KeyError::NotP256(path.to_owned()))?;
        Self::of_pair(pair)
    }

    fn of_pair(pair: EcdsaKeyPair) -> Result<Self, KeyError> {
        let public = PublicKey::from_point(pair.public_key().as_ref())?;
        Ok(SigningKey { pair, public })
    }

    fn save(&self, path: &Path) -> Result<(), KeyError> {
        let der = self.pair.to_pkcs8v1().map_err(|_| KeyError::Crypto)?;
        let text = pem::encode("PRIVATE KEY", der.as_ref());
        let io = |error| KeyError::Io(path.to_owned(), error);
        // A name beside it that nothing else uses, then a hard link: `link` fails if `path` exists.
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".new-{}", std::process::id()));
        let temporary = PathBuf::from(name);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()
            })
            .and_then(|()| fs::hard_link(&temporary, path));
        let removed = fs::remove_file(&temporary);
        match written {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(KeyError::Exists(path.to_owned()))
            }
            Err(error) => Err(io(error)),
            Ok(()) => removed.map_err(io),
        }
    }

    /// The public half.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// ES256 over `message`, always the same for the same message (RFC 6979): for signed files that
    /// builds must be able to reproduce. Slower than [`SigningKey::sign`].
    pub fn sign_deterministic(&self, message: &[u8]) -> Result<[u8; SIGNATURE_LEN], KeyError> {
        let private = self.pair.private_key();
        let scalar = AsBigEndian::<EcPrivateKeyBin<'_>>::as_be_bytes(&private)
            .map_err(|_| KeyError::Crypto)?;
        let key =
            p256::ecdsa::SigningKey::from_slice(scalar.as_ref()).map_err(|_| KeyError::Crypto)?;
        let signature: p256::ecdsa::Signature = p256::ecdsa::signature::Signer::sign(&key, message);
        Ok(signature.to_bytes().into())
    }

    /// A secret of this key's own for this purpose (HKDF-SHA256, RFC 5869): whoever holds the key file has
    /// the same one.
    pub(crate) fn derive(&self, purpose: &[u8]) -> Result<[u8; 32], KeyError> {
        let private = self.pair.private_key();
        let scalar = AsBigEndian::<EcPrivateKeyBin<'_>>::as_be_bytes(&private)
            .map_err(|_| KeyError::Crypto)?;
        let mut secret = [0; 32];
        hkdf::Salt::new(hkdf::HKDF_SHA256, b"mote/1")
            .extract(scalar.as_ref())
            .expand(&[purpose], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut secret))
            .map_err(|_| KeyError::Crypto)?;
        Ok(secret)
    }

    /// ES256 over `message`: raw `r || s`.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; SIGNATURE_LEN], KeyError> {
        let signature = self
            .pair
            .sign(&SystemRandom::new(), message)
            .map_err(|_| KeyError::Crypto)?;
        signature.as_ref().try_into().map_err(|_| KeyError::Crypto)
    }
}

/// The public half, known to be a point on P-256.
#[derive(Clone)]
pub struct PublicKey {
    key: ParsedPublicKey,
    point: [u8; POINT_LEN],
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.point == other.point
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("P-256:")?;
        self.point
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl PublicKey {
    /// From an uncompressed point, `04 || x || y`.
    pub fn from_point(point: &[u8]) -> Result<Self, KeyError> {
        let point: [u8; POINT_LEN] = point.try_into().map_err(|_| KeyError::BadPoint)?;
        let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .map_err(|_| KeyError::BadPoint)?;
        Ok(PublicKey { key, point })
    }

    /// From a PEM file with an SPKI block (`PUBLIC KEY`).
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let text = fs::read(path).map_err(|error| KeyError::Io(path.to_owned(), error))?;
        Self::of_pem(&text, path)
    }

    /// From the text of such a file.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        Self::of_pem(text.as_bytes(), Path::new("public key"))
    }

    fn of_pem(text: &[u8], path: &Path) -> Result<Self, KeyError> {
        let spki = SubjectPublicKeyInfoDer::from_pem_slice(text)
            .map_err(|_| KeyError::NotPem(path.to_owned(), "PUBLIC KEY"))?;
        // RFC 5480, 2: for P-256 everything before the point is fixed.
        spki.strip_prefix(P256_SPKI_PREFIX)
            .and_then(|point| Self::from_point(point).ok())
            .ok_or_else(|| KeyError::NotP256(path.to_owned()))
    }

    /// SPKI in PEM, as [`PublicKey::load`] and OpenSSL read it.
    pub fn to_pem(&self) -> Result<String, KeyError> {
        let der = self.key.as_der().map_err(|_| KeyError::Crypto)?;
        Ok(pem::encode("PUBLIC KEY", der.as_ref()))
    }

    /// How signed objects name this key: the first 8 bytes of SHA-256 of its SPKI.
    pub fn key_id(&self) -> [u8; 8] {
        let spki = [P256_SPKI_PREFIX, &self.point].concat();
        let digest = digest::digest(&digest::SHA256, &spki);
        let mut id = [0; 8];
        id.copy_from_slice(&digest.as_ref()[..8]);
        id
    }

    /// The uncompressed point, `04 || x || y`.
    pub fn point(&self) -> &[u8; POINT_LEN] {
        &self.point
    }

    /// Whether `signature` (raw `r || s`) is this key's over `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }
}

/// `SubjectPublicKeyInfo` of a P-256 key up to the point (RFC 5480, 2.1.1).
pub(crate) const P256_SPKI_PREFIX: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::TempDir;

    #[test]
    fn a_key_survives_its_file_and_signs_what_its_public_half_verifies() {
        let dir = TempDir::new("key");
        let path = dir.path().join("verifier.pem");
        let made = SigningKey::create(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o600
        );
        let loaded = SigningKey::load(&path).unwrap();
        assert_eq!(made.public_key(), loaded.public_key());

        let public = dir.path().join("verifier.pub");
        fs::write(&public, made.public_key().to_pem().unwrap()).unwrap();
        let public = PublicKey::load(&public).unwrap();
        assert_eq!(&public, made.public_key());

        let signature = loaded.sign(b"message").unwrap();
        assert!(public.verify(b"message", &signature));
        assert!(!public.verify(b"massage", &signature));
        assert!(!public.verify(b"message", &signature[..63]));
        for bit in 0..8 * SIGNATURE_LEN {
            let mut changed = signature;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!public.verify(b"message", &changed), "bit {bit}");
        }
    }

    #[test]
    fn a_new_key_never_replaces_a_file() {
        let dir = TempDir::new("key");
        let path = dir.path().join("verifier.pem");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(
            SigningKey::create(&path),
            Err(KeyError::Exists(p)) if p == path
        ));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "no temporary file stays behind");
    }

    #[test]
    fn what_is_not_a_p256_key_is_named_as_such() {
        let dir = TempDir::new("key");
        let path = dir.path().join("key.pem");
        assert!(matches!(SigningKey::load(&path), Err(KeyError::Io(..))));
        fs::write(&path, "not a key\n").unwrap();
        assert!(matches!(
            SigningKey::load(&path),
            Err(KeyError::NotPem(_, "PRIVATE KEY"))
        ));
        let p384 =
            EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        fs::write(
            &path,
            pem::encode("PRIVATE KEY", p384.to_pkcs8v1().unwrap().as_ref()),
        )
        .unwrap();
        assert!(matches!(SigningKey::load(&path), Err(KeyError::NotP256(_))));
        assert!(matches!(
            PublicKey::from_point(&[4; POINT_LEN]),
            Err(KeyError::BadPoint)
        ));
    }

    #[test]
    fn openssl_reads_our_keys_and_we_read_its() {
        use std::process::Command;
        let dir = TempDir::new("key");
        let ours = dir.path().join("ours.pem");
        let made = SigningKey::create(&ours).unwrap();
        let public = Command::new("openssl")
            .args(["pkey", "-pubout", "-in"])
            .arg(&ours)
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8(public.stdout).unwrap(),
            made.public_key().to_pem().unwrap()
        );

        let theirs = dir.path().join("theirs.pem");
        let status = Command::new("openssl")
            .args([
                "genpkey",
                "-algorithm",
                "EC",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-out",
            ])
            .arg(&theirs)
            .status()
            .unwrap();
        assert!(status.success());
        SigningKey::load(&theirs).unwrap();
    }
}
