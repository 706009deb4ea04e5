//! A device without a TPM: a key, a firmware, and what a Cortex-M would do with them, by `mote_schemas` alone.
//!
//! Its bootloader measured the components; its key never leaves it. It asks the verifier for a nonce, signs what it
//! is, and checks the verifier's signature under the reply, which brings the next nonce.

use minicbor::encode::write::Cursor;
use mote_schemas::cbor;
use mote_schemas::cmw::{self, MediaType};
use mote_schemas::coap::{Code, Type, Writer, option};
use mote_schemas::cose::Sign1;
use mote_schemas::eat::{self, Claims, Component, DebugState, Firmware};
use mote_schemas::limits::MAX_MESSAGE;
use mote_schemas::message::{DeviceId, NonceReply, NonceRequest, Reply, VERSION, path};
use mote_schemas::tpm::HashAlg;
use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::soft_device::digest_of;

/// A device whose every component's content is its name, so that [`digest_of`] is all a manifest needs.
#[derive(Clone)]
pub struct TokenDevice {
    key: SigningKey,
    /// Name and digest of each component.
    pub components: Vec<(String, [u8; 32])>,
    /// Hash algorithm that it says they were measured with.
    pub hash_alg: HashAlg,
    /// Name and version of the firmware.
    pub software: Option<(String, String)>,
    /// `bootcount`.
    pub boot_count: Option<u64>,
    /// `dbgstat`.
    pub debug: Option<DebugState>,
    /// `oemboot`.
    pub oem_boot: Option<bool>,
    /// `ueid`.
    pub ueid: Option<Vec<u8>>,
    /// `exp`.
    pub expires: Option<u64>,
    /// `nbf`.
    pub not_before: Option<u64>,
}

impl std::fmt::Debug for TokenDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenDevice({})", self.id())
    }
}

impl TokenDevice {
    /// A device with this private key, that runs `valve` 2.1: a bootloader and an application.
    ///
    /// # Panics
    /// When the bytes are no private key: zero, or beyond the curve's order.
    pub fn new(scalar: &[u8; 32]) -> Self {
        let component = |name: &str| (name.to_owned(), digest_of(name));
        TokenDevice {
            key: SigningKey::from_slice(scalar).unwrap_or_else(|error| panic!("{error}")),
            components: vec![component("bootloader"), component("app")],
            hash_alg: HashAlg::Sha256,
            software: Some(("valve".into(), "2.1".into())),
            boot_count: Some(7),
            debug: Some(DebugState::DisabledPermanently),
            oem_boot: Some(true),
            ueid: Some([&[1][..], &[0x0e; 16]].concat()),
            expires: None,
            not_before: None,
        }
    }

    /// Its public key: an uncompressed point.
    pub fn point(&self) -> [u8; 65] {
        let mut point = [0; 65];
        point.copy_from_slice(self.key.verifying_key().to_sec1_point(false).as_bytes());
        point
    }

    /// Its id.
    pub fn id(&self) -> DeviceId {
        eat::device_id(&self.point())
    }

    /// What asks for a nonce.
    pub fn nonce_request(&self) -> Vec<u8> {
        let request = NonceRequest {
            version: VERSION,
            device: self.id(),
        };
        encode(&request)
    }

    /// The nonce in a reply to that.
    pub fn nonce_of(payload: &[u8]) -> Option<Vec<u8>> {
        let reply: NonceReply<'_> = cbor::decode(payload).ok()?;
        Some(reply.nonce.get().to_vec())
    }

    /// What it claims.
    pub fn claims(&self, nonce: &[u8]) -> Vec<u8> {
        let components: Vec<_> = self
            .components
            .iter()
            .map(|(name, digest)| Component {
                name,
                hash_alg: self.hash_alg,
                digest,
            })
            .collect();
        let software = self.software.as_ref();
        let name = software.map(|(name, _)| name.as_str());
        let version = software.map(|(_, version)| version.as_str());
        encode(&Claims {
            expires: self.expires,
            not_before: self.not_before,
            nonce,
            ueid: self.ueid.as_deref(),
            oem_boot: self.oem_boot,
            debug: self.debug,
            boot_count: self.boot_count,
            software_name: name,
            software_version: version,
            measurements: Some(Firmware {
                name: name.unwrap_or("firmware"),
                version,
                maker: "mcuboot",
                components: &components,
            }),
            ..Claims::default()
        })
    }

    /// These claims under its signature.
    pub fn sign(&self, claims: &[u8]) -> Vec<u8> {
        let id = self.id();
        let signed = written(|out| eat::signed_bytes(&id, claims, out));
        let signature: Signature = self.key.sign(&signed);
        written(|out| eat::write(&id, claims, &signature.to_bytes().into(), out))
    }

    /// A token for this nonce.
    pub fn token(&self, nonce: &[u8]) -> Vec<u8> {
        self.sign(&self.claims(nonce))
    }

    /// The same in a wrapper.
    pub fn wrapped(&self, nonce: &[u8]) -> Vec<u8> {
        wrap(&self.token(nonce))
    }
}

/// A token in a wrapper.
pub fn wrap(token: &[u8]) -> Vec<u8> {
    let media_type = MediaType::ContentFormat(eat::CONTENT_FORMAT);
    written(|out| cmw::write_evidence(media_type, token, out))
}

/// The verifier's word on a wrapper: the payload of a 2.04, if the verifier with this key (uncompressed point)
/// signed it for exactly that wrapper. `None` otherwise.
pub fn verified_reply<'r>(
    verifier: &[u8; 65],
    wrapper: &[u8],
    reply: &'r [u8],
) -> Option<Reply<'r>> {
    let sign1 = Sign1::parse(reply).ok()?;
    let signed = written(|out| sign1.signed_bytes(&Sha256::digest(wrapper), out));
    let key = VerifyingKey::from_sec1_bytes(verifier).ok()?;
    let signature = Signature::from_slice(sign1.signature).ok()?;
    key.verify(&signed, &signature).ok()?;
    cbor::decode(sign1.payload).ok()
}

/// The confirmable POST of a nonce request, or of a wrapper.
///
/// # Panics
/// When it does not fit a message.
pub fn post(to: &str, message_id: u16, payload: &[u8]) -> Vec<u8> {
    let mut room = vec![0; MAX_MESSAGE];
    let write = |room: &mut [u8]| {
        let id = message_id.to_be_bytes();
        let writer = Writer::new(room, Type::Confirmable, Code::POST, message_id, &id)?;
        let mut writer = writer.option(option::URI_PATH, to.as_bytes())?;
        if to == path::EVIDENCE {
            writer = writer.option_uint(option::CONTENT_FORMAT, cmw::CONTENT_FORMAT.into())?;
        }
        writer.payload(payload)
    };
    let len = write(&mut room).unwrap_or_else(|error| panic!("{error:?}"));
    room.truncate(len);
    room
}

fn encode<T: minicbor::Encode<()>>(value: &T) -> Vec<u8> {
    let mut room = vec![0; 2 * MAX_MESSAGE];
    let len = cbor::encode(value, &mut room).unwrap_or_else(|error| panic!("{error}"));
    room.truncate(len);
    room
}

fn written<E: std::fmt::Debug>(
    write: impl FnOnce(&mut Cursor<&mut [u8]>) -> Result<(), E>,
) -> Vec<u8> {
    let mut room = vec![0; 2 * MAX_MESSAGE];
    let mut cursor = Cursor::new(&mut room[..]);
    write(&mut cursor).unwrap_or_else(|error| panic!("{error:?}"));
    let len = cursor.position();
    room.truncate(len);
    room
}
