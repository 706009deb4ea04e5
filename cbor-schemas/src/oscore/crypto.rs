//! Key derivation, nonce, additional data, and the AEAD itself, for the one pair of algorithms
//! that RFC 8613, 3.2 makes mandatory: AES-CCM-16-64-128 and HKDF-SHA-256.
//!
//! The expanded AES key is wiped after each use; what `hkdf` leaves on the stack is not.

use aes::Aes128;
use ccm::aead::AeadInOut;
use ccm::consts::{U8, U13};
use ccm::{Ccm, KeyInit};
use hkdf::Hkdf;
use minicbor::Encoder;
use minicbor::encode::write::Cursor;
use sha2::Sha256;

use super::compression::partial_iv_bytes;
use crate::limits::{MAX_ID_CONTEXT, MAX_KID};

pub(super) const KEY: usize = 16;
pub(super) const NONCE: usize = 13;
pub(super) const TAG: usize = 8;

/// COSE algorithm number of AES-CCM-16-64-128 (RFC 9053, 4.2).
const ALG_AEAD: u8 = 10;
const OSCORE_VERSION: u8 = 1;

/// RFC 8613, 3.2.1: `info` is a CBOR array of ID, ID context, algorithm, what for, and length.
const MAX_INFO: usize = 1 + (1 + MAX_KID) + (2 + MAX_ID_CONTEXT) + 1 + 4 + 1;
/// RFC 8613, 5.4: all but the kid and the partial IV is fixed.
const MAX_EXTERNAL_AAD: usize = 4 + (1 + MAX_KID) + (1 + 5) + 1;
/// RFC 9052, 5.3: `["Encrypt0", h'', external_aad]`.
pub(super) const MAX_AAD: usize = 1 + 9 + 1 + (1 + MAX_EXTERNAL_AAD);

type Aead = Ccm<Aes128, U8, U13>;

pub(super) struct Kdf(Hkdf<Sha256>);

impl Kdf {
    pub(super) fn new(master_secret: &[u8], master_salt: &[u8]) -> Kdf {
        Kdf(Hkdf::new(Some(master_salt), master_secret))
    }

    pub(super) fn key(&self, id: &[u8], id_context: Option<&[u8]>, key: &mut [u8; KEY]) {
        self.expand(id, id_context, "Key", key);
    }

    pub(super) fn common_iv(&self, id_context: Option<&[u8]>, iv: &mut [u8; NONCE]) {
        self.expand(&[], id_context, "IV", iv);
    }

    fn expand(&self, id: &[u8], id_context: Option<&[u8]>, what: &str, out: &mut [u8]) {
        let mut info = Encoder::new(Cursor::new([0; MAX_INFO]));
        info.array(5)
            .and_then(|info| info.bytes(id))
            .and_then(|info| match id_context {
                Some(context) => info.bytes(context),
                None => info.null(),
            })
            .and_then(|info| info.u8(ALG_AEAD)?.str(what)?.u8(out.len() as u8))
            .expect("MAX_INFO follows from the limits that Context::derive enforces");
        let info = info.into_writer();
        let length = info.position();
        self.0
            .expand(&info.into_inner()[..length], out)
            .expect("16 bytes are less than the 255 hashes that HKDF can give");
    }
}

/// RFC 8613, 5.2: the ID of whoever chose the partial IV, and the partial IV, spread over the
/// Common IV.
pub(super) fn nonce(common_iv: &[u8; NONCE], id: &[u8], sequence: u64) -> [u8; NONCE] {
    let mut nonce = *common_iv;
    nonce[0] ^= id.len() as u8;
    let id_end = NONCE - 5;
    for (byte, id) in nonce[id_end - id.len()..].iter_mut().zip(id) {
        *byte ^= id;
    }
    for (byte, iv) in nonce[id_end..].iter_mut().zip(&sequence.to_be_bytes()[3..]) {
        *byte ^= iv;
    }
    nonce
}

/// The `Enc_structure` for a request with this kid and partial IV, and for every response to it:
/// this is what binds a response to its request.
pub(super) struct Aad {
    bytes: [u8; MAX_AAD],
    length: usize,
}

impl Aad {
    pub(super) fn new(request_kid: &[u8], request_sequence: u64) -> Aad {
        let mut external = Encoder::new(Cursor::new([0; MAX_EXTERNAL_AAD]));
        external
            .array(5)
            .and_then(|aad| aad.u8(OSCORE_VERSION)?.array(1)?.u8(ALG_AEAD))
            .and_then(|aad| aad.bytes(request_kid))
            .and_then(|aad| aad.bytes(&partial_iv_bytes(request_sequence)))
            .and_then(|aad| aad.bytes(&[]))
            .expect("MAX_EXTERNAL_AAD follows from the limits of kid and partial IV");
        let external = external.into_writer();
        let length = external.position();
        let mut aad = Encoder::new(Cursor::new([0; MAX_AAD]));
        aad.array(3)
            .and_then(|aad| aad.str("Encrypt0")?.bytes(&[]))
            .and_then(|aad| aad.bytes(&external.into_inner()[..length]))
            .expect("MAX_AAD follows from MAX_EXTERNAL_AAD");
        let aad = aad.into_writer();
        let length = aad.position();
        Aad {
            bytes: aad.into_inner(),
            length,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Encrypts the first `length` bytes of `buffer` in place and puts the tag behind them. Returns
/// the length of the ciphertext; `None` if the buffer is too small.
pub(super) fn seal(
    key: &[u8; KEY],
    nonce: &[u8; NONCE],
    aad: &Aad,
    buffer: &mut [u8],
    length: usize,
) -> Option<usize> {
    let (plaintext, rest) = buffer.split_at_mut_checked(length)?;
    let tag_space = rest.get_mut(..TAG)?;
    // Fails only for plaintexts of 64 KiB and more, which CoAP over UDP cannot carry.
    let tag = Aead::new(key.into())
        .encrypt_inout_detached(nonce.into(), aad.bytes(), plaintext.into())
        .ok()?;
    tag_space.copy_from_slice(&tag);
    Some(length + TAG)
}

/// Why a ciphertext was not opened.
pub(super) enum OpenError {
    BufferTooSmall,
    DecryptionFailed,
}

/// Decrypts into `out`. Nothing of a forged plaintext stays there: `ccm` wipes it.
pub(super) fn open<'o>(
    key: &[u8; KEY],
    nonce: &[u8; NONCE],
    aad: &Aad,
    ciphertext: &[u8],
    out: &'o mut [u8],
) -> Result<&'o [u8], OpenError> {
    let (text, tag) = ciphertext
        .split_last_chunk::<TAG>()
        .ok_or(OpenError::DecryptionFailed)?;
    let out = out.get_mut(..text.len()).ok_or(OpenError::BufferTooSmall)?;
    out.copy_from_slice(text);
    Aead::new(key.into())
        .decrypt_inout_detached(nonce.into(), aad.bytes(), (&mut *out).into(), tag.into())
        .map_err(|_| OpenError::DecryptionFailed)?;
    Ok(out)
}
