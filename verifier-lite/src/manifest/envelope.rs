//! The `COSE_Sign1` envelope of manifests and policies (RFC 9052, 4.2; ES256 of RFC 9053, 2.1).
//!
//! Everything in the file is attacker's until [`SignedManifest::verify`] has returned: the key id
//! only selects which trusted key to try, and the payload is not even parsed before the signature
//! fits.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use aws_lc_rs::digest;
use minicbor::data::Tag;
use minicbor::{Decoder, Encoder};

use super::codec::{self, Reader};
use super::error::Fault;
use super::{MAX_MANIFEST, Manifest, ManifestError};
use crate::signing_key::{PublicKey, SIGNATURE_LEN, SigningKey};

const COSE_SIGN1: Tag = Tag::new(18);
const ES256: i64 = -7;
const CONTENT_TYPE: &str = "application/vnd.mote.manifest+cbor";

mod header {
    pub(super) const ALG: u64 = 1;
    pub(super) const CONTENT_TYPE: u64 = 3;
    pub(super) const KID: u64 = 4;
}

/// The manifest signed with `key`, as it goes into a file. Same manifest, same key: same bytes.
pub fn sign(manifest: &Manifest, key: &SigningKey) -> Result<Vec<u8>, ManifestError> {
    let bytes = seal(CONTENT_TYPE, &codec::encode(manifest), key)?;
    if bytes.len() > MAX_MANIFEST {
        return Err(Fault::Oversize(MAX_MANIFEST).into());
    }
    Ok(bytes)
}

/// `payload` of this content type, signed with `key`.
pub(crate) fn seal(
    content_type: &str,
    payload: &[u8],
    key: &SigningKey,
) -> Result<Vec<u8>, ManifestError> {
    let protected = encode_header(content_type, key.public_key().key_id());
    let signature = key
        .sign_deterministic(&signature_structure(&protected, payload))
        .map_err(|_| Fault::CannotSign)?;
    Ok(encode_envelope(&protected, payload, &signature))
}

/// A signed object, taken apart. Nothing in it is believed yet.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    protected: Vec<u8>,
    payload: Vec<u8>,
    payload_offset: usize,
    signature: [u8; SIGNATURE_LEN],
    key_id: [u8; 8],
    digest: [u8; 32],
}

impl Envelope {
    /// Takes apart an object of at most `max` bytes, whose content type must be this one.
    pub(crate) fn parse(
        bytes: &[u8],
        content_type: &'static str,
        max: usize,
    ) -> Result<Self, ManifestError> {
        if bytes.len() > max {
            return Err(Fault::Oversize(max).into());
        }
        let mut d = Reader(Decoder::new(bytes));
        if d.item("a COSE_Sign1 (tag 18)", Decoder::tag)? != COSE_SIGN1 {
            return Err(ManifestError::at(
                0,
                Fault::Expected("a COSE_Sign1 (tag 18)"),
            ));
        }
        let offset = d.0.position();
        if d.array("a COSE_Sign1 (an array)")? != 4 {
            return Err(ManifestError::at(offset, Fault::Expected("an array of 4")));
        }
        let protected = d.bytes("the protected header")?;
        let key_id = decode_header(protected, content_type)
            .map_err(|error| error.shifted(d.0.position() - protected.len()))?;
        let offset = d.0.position();
        if d.map("the unprotected header (a map)")? != 0 {
            let fault = Fault::Expected("an empty unprotected header");
            return Err(ManifestError::at(offset, fault));
        }
        let payload = d.bytes("the payload")?;
        let payload_offset = d.0.position() - payload.len();
        let offset = d.0.position();
        let signature = d
            .bytes("the signature")?
            .try_into()
            .map_err(|_| ManifestError::at(offset, Fault::Expected("a signature of 64 bytes")))?;
        d.end()?;
        codec::check_spelling(bytes, &encode_envelope(protected, payload, &signature))?;
        Ok(Self {
            protected: protected.to_vec(),
            payload: payload.to_vec(),
            payload_offset,
            signature,
            key_id,
            digest: sha256(bytes),
        })
    }

    pub(crate) fn key_id(&self) -> [u8; 8] {
        self.key_id
    }

    /// SHA-256 of the whole file.
    pub(crate) fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// What `decode` makes of the payload; its errors name bytes of the file.
    pub(crate) fn claims<T>(
        &self,
        decode: impl FnOnce(&[u8]) -> Result<T, ManifestError>,
    ) -> Result<T, ManifestError> {
        decode(&self.payload).map_err(|error| error.shifted(self.payload_offset))
    }

    /// Whether one of `trusted` signed exactly this.
    pub(crate) fn verify<'k>(
        &self,
        trusted: impl IntoIterator<Item = &'k PublicKey>,
    ) -> Result<(), ManifestError> {
        let message = signature_structure(&self.protected, &self.payload);
        let mut named = trusted
            .into_iter()
            .filter(|key| key.key_id() == self.key_id)
            .peekable();
        if named.peek().is_none() {
            return Err(Fault::UnknownSigner(self.key_id).into());
        }
        if !named.any(|key| key.verify(&message, &self.signature)) {
            return Err(Fault::WrongSignature.into());
        }
        Ok(())
    }
}

/// The bytes of a file, if they are at most `max`. Errors name it.
pub(crate) fn read_file(file: &Path, max: usize) -> Result<Vec<u8>, ManifestError> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|opened| opened.take(max as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| ManifestError::from(Fault::Io(error)).in_file(file))?;
    if bytes.len() > max {
        return Err(ManifestError::from(Fault::Oversize(max)).in_file(file));
    }
    Ok(bytes)
}

/// A file that looks like a signed manifest. Nothing in it is believed yet.
#[derive(Clone, Debug)]
pub struct SignedManifest(Envelope);

impl SignedManifest {
    /// Reads a file of at most [`MAX_MANIFEST`] bytes. Errors name it.
    pub fn read(file: &Path) -> Result<Self, ManifestError> {
        let bytes = read_file(file, MAX_MANIFEST)?;
        Self::parse(&bytes).map_err(|error| error.in_file(file))
    }

    /// Takes the envelope apart.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        Envelope::parse(bytes, CONTENT_TYPE, MAX_MANIFEST).map(Self)
    }

    /// Key id of the claimed signer: the first 8 bytes of SHA-256 of its SPKI.
    pub fn key_id(&self) -> [u8; 8] {
        self.0.key_id()
    }

    /// SHA-256 of the whole file.
    pub fn digest(&self) -> [u8; 32] {
        self.0.digest()
    }

    /// What the file says, for showing to people. **Not verified.**
    pub fn claims(&self) -> Result<Manifest, ManifestError> {
        self.0.claims(codec::decode)
    }

    /// The proof that one of `trusted` signed exactly this manifest.
    pub fn verify(&self, trusted: &[PublicKey]) -> Result<VerifiedManifest, ManifestError> {
        self.0.verify(trusted)?;
        Ok(VerifiedManifest {
            manifest: self.claims()?,
            key_id: self.key_id(),
            digest: self.digest(),
        })
    }
}

/// A manifest that a trusted key signed. Only [`SignedManifest::verify`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedManifest {
    manifest: Manifest,
    key_id: [u8; 8],
    digest: [u8; 32],
}

impl VerifiedManifest {
    /// Reads and verifies a file. Errors name it.
    pub fn read(file: &Path, trusted: &[PublicKey]) -> Result<Self, ManifestError> {
        let signed = SignedManifest::read(file)?;
        signed.verify(trusted).map_err(|error| error.in_file(file))
    }

    /// What was signed.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Key id of who signed it.
    pub fn key_id(&self) -> [u8; 8] {
        self.key_id
    }

    /// SHA-256 of the whole file.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

/// `Sig_structure` of a `COSE_Sign1` without external data (RFC 9052, 4.4).
pub(crate) fn signature_structure(protected: &[u8], payload: &[u8]) -> Vec<u8> {
    in_memory(|e| {
        e.array(4)?.str("Signature1")?.bytes(protected)?;
        e.bytes(&[])?.bytes(payload)?.ok()
    })
}

fn encode_envelope(protected: &[u8], payload: &[u8], signature: &[u8; SIGNATURE_LEN]) -> Vec<u8> {
    in_memory(|e| {
        e.tag(COSE_SIGN1)?.array(4)?.bytes(protected)?;
        e.map(0)?.bytes(payload)?.bytes(signature)?.ok()
    })
}

fn encode_header(content_type: &str, key_id: [u8; 8]) -> Vec<u8> {
    in_memory(|e| {
        e.map(3)?.u64(header::ALG)?.i64(ES256)?;
        e.u64(header::CONTENT_TYPE)?.str(content_type)?;
        e.u64(header::KID)?.bytes(&key_id)?.ok()
    })
}

fn decode_header(bytes: &[u8], expected: &'static str) -> Result<[u8; 8], ManifestError> {
    let mut d = Reader(Decoder::new(bytes));
    let (mut alg, mut content_type, mut key_id) = (None, None, None);
    let mut previous = None;
    for _ in 0..d.map("a protected header (a map)")? {
        let offset = d.0.position();
        let key = d.key(previous)?;
        previous = Some(key);
        match key {
            header::ALG => alg = Some(d.item("an algorithm", Decoder::i64)?),
            header::CONTENT_TYPE => {
                content_type = Some(d.item("a content type (text)", Decoder::str)?);
            }
            header::KID => {
                let offset = d.0.position();
                let bytes = d.bytes("a key id")?.try_into();
                key_id = Some(bytes.map_err(|_| {
                    ManifestError::at(offset, Fault::Expected("a key id of 8 bytes"))
                })?);
            }
            _ => return Err(ManifestError::at(offset, Fault::UnknownKey(key))),
        }
    }
    d.end()?;
    if content_type != Some(expected) {
        return Err(Fault::AnotherKind(expected).into());
    }
    if alg != Some(ES256) {
        return Err(Fault::Expected("ES256 as the algorithm").into());
    }
    let key_id = key_id.ok_or(Fault::MissingKey("the key id"))?;
    codec::check_spelling(bytes, &encode_header(expected, key_id))?;
    Ok(key_id)
}

pub(crate) type Encoded = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

pub(crate) fn in_memory(write: impl FnOnce(&mut Encoder<Vec<u8>>) -> Encoded) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    match write(&mut encoder) {
        Ok(()) => encoder.into_writer(),
        // Writing to a Vec cannot fail, and nothing here reports a custom error.
        Err(error) => unreachable!("{error}"),
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}
