//! The keys that may sign files.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustls_pki_types::pem::{self, PemObject, SectionKind};

use super::{FileKey, ImaKeyring, KeyParseError, SignerId};

/// Largest key file, in bytes. A certificate is about 1 kB, so this is room for some hundred.
const MAX_FILE: u64 = 1 << 20;

/// Most keys learned from one boot's log: each is stored with the device.
const MAX_LEARNED: usize = 64;

/// Why keys cannot be read from a file. Nothing of that file is taken then.
#[derive(Debug)]
pub enum KeyringError {
    /// The operating system refused.
    Io(PathBuf, io::Error),
    /// Larger than 1 MiB.
    TooLarge(PathBuf),
    /// No certificate and no public key in it.
    Empty(PathBuf),
    /// A PEM block in it that is cut off or not base64.
    Damaged(PathBuf),
    /// A key in it cannot be used: the file, which one (from 1), why.
    Key(PathBuf, usize, KeyParseError),
}

impl fmt::Display for KeyringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyringError::Io(path, error) => write!(f, "{}: {error}", path.display()),
            KeyringError::TooLarge(path) => {
                write!(f, "{}: larger than 1 MiB: no key file", path.display())
            }
            KeyringError::Empty(path) => write!(
                f,
                "{}: no certificate or public key in it, neither PEM (\"CERTIFICATE\", \"PUBLIC KEY\") \
                 nor DER",
                path.display()
            ),
            KeyringError::Damaged(path) => {
                write!(f, "{}: a damaged PEM block in it", path.display())
            }
            KeyringError::Key(path, number, error) => {
                write!(f, "{}: key {number} is {error}", path.display())
            }
        }
    }
}

impl std::error::Error for KeyringError {}

/// Allowed keys, and the kernel keyrings whose additions are allowed too.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    keys: Vec<FileKey>,
    learns_from: Vec<Vec<u8>>,
}

impl Keyring {
    /// Adds every key in a file: certificates and public keys, any number in PEM, or one in DER.
    /// Returns how many; on an error none is added.
    pub fn add_file(&mut self, path: &Path) -> Result<usize, KeyringError> {
        let io = |error| KeyringError::Io(path.to_owned(), error);
        if fs::metadata(path).map_err(io)?.len() > MAX_FILE {
            return Err(KeyringError::TooLarge(path.to_owned()));
        }
        let ders = ders(&fs::read(path).map_err(io)?)
            .map_err(|_| KeyringError::Damaged(path.to_owned()))?;
        if ders.is_empty() {
            return Err(KeyringError::Empty(path.to_owned()));
        }
        let keys = (1..)
            .zip(&ders)
            .map(|(number, der)| {
                FileKey::from_der(der)
                    .map_err(|error| KeyringError::Key(path.to_owned(), number, error))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let count = keys.len();
        for key in keys {
            self.add(key);
        }
        Ok(count)
    }

    /// Adds a key, unless it is there.
    pub fn add(&mut self, key: FileKey) {
        if !self.keys.contains(&key) {
            self.keys.push(key);
        }
    }

    /// The name of one of the kernel's own keyrings, such as `.ima`. They begin with a dot, and such names
    /// are refused to everybody else (`add_key`, `join_session_keyring`): the keys in another keyring may be
    /// anybody's.
    pub fn kernel_name(name: &str) -> Result<String, &'static str> {
        if name.len() > 1 && name.starts_with('.') {
            Ok(name.to_owned())
        } else {
            Err("the kernel's own keyrings begin with a dot, and anybody may add keys to others")
        }
    }

    /// Allows keys that a log shows being added to this kernel keyring, if it [is one](Self::kernel_name).
    pub fn learn_from(&mut self, kernel_keyring: &str) {
        if let Ok(name) = Self::kernel_name(kernel_keyring) {
            self.learns_from.push(name.into_bytes());
        }
    }

    /// The keys.
    pub fn all(&self) -> &[FileKey] {
        &self.keys
    }
}

impl ImaKeyring for Keyring {
    fn keys(&self, signer: &SignerId) -> Vec<&FileKey> {
        self.keys.iter().filter(|key| key.is_of(signer)).collect()
    }

    fn learns_from(&self, kernel_keyring: &[u8]) -> bool {
        self.learns_from.iter().any(|name| name == kernel_keyring)
    }
}

/// The DER of each certificate and public key in a file. A block of another kind is passed over, since
/// files made by `openssl` may have a private key in front.
fn ders(bytes: &[u8]) -> Result<Vec<Vec<u8>>, pem::Error> {
    if bytes.first() == Some(&crate::der::SEQUENCE) {
        return Ok(vec![bytes.to_vec()]);
    }
    <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes)
        .filter_map(|block| match block {
            Ok((SectionKind::Certificate | SectionKind::PublicKey, der)) => Some(Ok(der)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
        .collect()
}

/// Keys that a boot's log has shown being added to a keyring that is learned from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LearnedKeys(Vec<FileKey>);

impl LearnedKeys {
    /// What [`Self::ders`] gave. What is no key any more is left out.
    pub fn from_ders<'d>(ders: impl IntoIterator<Item = &'d [u8]>) -> Self {
        LearnedKeys(
            ders.into_iter()
                .filter_map(|der| FileKey::from_der(der).ok())
                .collect(),
        )
    }

    /// To be stored until the boot ends.
    pub fn ders(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(FileKey::der)
    }

    /// Takes a key that was added to a keyring; false if it is none that could verify anything, or one
    /// too many.
    pub fn learn(&mut self, payload: &[u8]) -> bool {
        let Ok(key) = FileKey::from_der(payload) else {
            return false;
        };
        if !self.0.contains(&key) {
            if self.0.len() == MAX_LEARNED {
                return false;
            }
            self.0.push(key);
        }
        true
    }

    /// Those that this signer may be.
    pub fn keys(&self, signer: &SignerId) -> impl Iterator<Item = &FileKey> {
        self.0.iter().filter(move |key| key.is_of(signer))
    }
}
