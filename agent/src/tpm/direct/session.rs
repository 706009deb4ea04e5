//! The session that lets the endorsement key be used, and its cryptography (TPM 2.0 Library part 1,
//! 11.4.10, 17 to 21): salted with the endorsement key, HMACs both ways, and the first parameter of a
//! response encrypted, so that an activated secret does not cross the bus between TPM and CPU in the
//! clear.
//!
//! Who may lie: whoever sits on that bus. It can break a session; it cannot read or change the secret,
//! as long as the endorsement key is the TPM's, which is for the verifier's certificate check to say.

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use heapless::Vec;
use mote_schemas::tpm::{EncodeError, Reader, Writer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::frame::{Frame, Response, SESSION_AUTHORIZATION};

/// Bytes of a nonce of ours, and most of one of the TPM's: the session hash's size.
pub(super) const NONCE: usize = 32;

/// `continueSession` and `encrypt` (part 2, 8.4).
const ATTRIBUTES: u8 = 0x01 | 0x40;

/// A policy session with the TPM.
pub(super) struct Session {
    pub(super) handle: u32,
    key: Zeroizing<[u8; 32]>,
    ours: [u8; NONCE],
    tpms: Vec<u8, NONCE>,
}

/// The response's authorization is not the TPM's, or not well-formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotAuthentic;

impl Session {
    /// From the salt and the nonces of `TPM2_StartAuthSession`. `None` when the TPM's nonce is longer
    /// than the session's hash.
    pub(super) fn new(
        handle: u32,
        salt: &[u8; 32],
        ours: [u8; NONCE],
        tpms: &[u8],
    ) -> Option<Self> {
        // Part 1, 19.6.8: KDFa over authValue (none) and salt.
        Some(Self {
            handle,
            key: kdfa(salt, b"ATH", tpms, &ours),
            ours,
            tpms: Vec::from_slice(tpms).ok()?,
        })
    }

    /// Fills in this session's authorization of the command in `frame`, about keys of these Names.
    pub(super) fn authorize(
        &mut self,
        frame: &mut Frame,
        code: u32,
        names: [&[u8]; 2],
        nonce: [u8; NONCE],
    ) -> Result<(), EncodeError> {
        self.ours = nonce;
        let parameters = Sha256::new()
            .chain_update(code.to_be_bytes())
            .chain_update(names[0])
            .chain_update(names[1])
            .chain_update(frame.command_parameters())
            .finalize();
        let hmac = hmac(
            &*self.key,
            &[&parameters, &self.ours, &self.tpms, &[ATTRIBUTES]],
        );
        let mut out = Writer::new(frame.session_authorization());
        out.u32(self.handle)?;
        out.tpm2b(&self.ours, NONCE)?;
        out.u8(ATTRIBUTES)?;
        out.tpm2b(&*hmac, NONCE)?;
        debug_assert_eq!(out.finish().len(), SESSION_AUTHORIZATION);
        Ok(())
    }

    /// Checks the response's HMAC, and decrypts its first parameter, a `TPM2B_DIGEST`, into `secret`;
    /// returns its length.
    pub(super) fn open(
        &mut self,
        response: &Response<'_>,
        code: u32,
        secret: &mut [u8],
    ) -> Result<usize, NotAuthentic> {
        let mut authorizations = Reader::new(response.authorizations);
        let mut next = || {
            let nonce = authorizations.tpm2b(NONCE)?;
            let attributes = authorizations.u8()?;
            Ok::<_, mote_schemas::tpm::WireError>((nonce, attributes, authorizations.tpm2b(NONCE)?))
        };
        // The first authorization is the password's.
        next().map_err(|_| NotAuthentic)?;
        let (nonce, attributes, theirs) = next().map_err(|_| NotAuthentic)?;
        self.tpms = Vec::from_slice(nonce).map_err(|_| NotAuthentic)?;
        let parameters = Sha256::new()
            .chain_update(0_u32.to_be_bytes())
            .chain_update(code.to_be_bytes())
            .chain_update(response.parameters)
            .finalize();
        let hmac = hmac(
            &*self.key,
            &[&parameters, &self.tpms, &self.ours, &[attributes]],
        );
        if !equal(&*hmac, theirs) {
            return Err(NotAuthentic);
        }
        let mut parameters = Reader::new(response.parameters);
        let encrypted = parameters.tpm2b(secret.len()).map_err(|_| NotAuthentic)?;
        let secret = &mut secret[..encrypted.len()];
        secret.copy_from_slice(encrypted);
        let material = kdfa(&*self.key, b"CFB", &self.tpms, &self.ours);
        decrypt(&material, secret);
        Ok(encrypted.len())
    }
}

/// Without looking at where the first difference is.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

/// AES-128 in CFB mode, key and IV from `material` (part 1, 21.3).
fn decrypt(material: &[u8; 32], data: &mut [u8]) {
    let (key, iv) = material.split_at(16);
    let mut previous = [0; 16];
    previous.copy_from_slice(iv);
    let Ok(cipher) = Aes128::new_from_slice(key) else {
        return; // 16 bytes are a key
    };
    for block in data.chunks_mut(16) {
        let mut mask = previous.into();
        cipher.encrypt_block(&mut mask);
        for (at, byte) in block.iter_mut().enumerate() {
            previous[at] = *byte;
            *byte ^= mask[at];
        }
    }
}

/// KDFa with HMAC-SHA-256, for 256 bits (part 1, 11.4.10.2).
pub(super) fn kdfa(
    key: &[u8],
    label: &[u8],
    context_u: &[u8],
    context_v: &[u8],
) -> Zeroizing<[u8; 32]> {
    let parts = [
        &1_u32.to_be_bytes()[..],
        label,
        &[0],
        context_u,
        context_v,
        &256_u32.to_be_bytes(),
    ];
    hmac(key, &parts)
}

/// HMAC-SHA-256 (RFC 2104) with a key of no more than one block.
fn hmac(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let pad = |with: u8| {
        let mut block = Zeroizing::new([with; 64]);
        for (byte, key) in block.iter_mut().zip(key) {
            *byte ^= key;
        }
        Sha256::new().chain_update(*block)
    };
    let mut inner = pad(0x36);
    for part in parts {
        inner.update(part);
    }
    let outer = pad(0x5C).chain_update(inner.finalize());
    Zeroizing::new(outer.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, 4.3.
    #[test]
    fn hmac_is_that_of_the_rfc() {
        let mac = hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(mac[..6], [0x5B, 0xDC, 0xC1, 0x46, 0xBF, 0x60]);
        assert_eq!(mac[28..], [0x64, 0xEC, 0x38, 0x43]);
    }

    /// NIST SP 800-38A, F.3.14.
    #[test]
    fn cfb_is_that_of_nist() {
        let mut material = [0; 32];
        material[..16].copy_from_slice(&[
            0x2B, 0x7E, 0x15, 0x16, 0x28, 0xAE, 0xD2, 0xA6, 0xAB, 0xF7, 0x15, 0x88, 0x09, 0xCF,
            0x4F, 0x3C,
        ]);
        for (at, byte) in material[16..].iter_mut().enumerate() {
            *byte = at as u8;
        }
        let mut data = [
            0x3B, 0x3F, 0xD9, 0x2E, 0xB7, 0x2D, 0xAD, 0x20, 0x33, 0x34, 0x49, 0xF8, 0xE8, 0x3C,
            0xFB, 0x4A, 0xC8, 0xA6, 0x45, 0x37, 0xA0, 0xB3, 0xA9, 0x3F, 0xCD, 0xE3, 0xCD, 0xAD,
            0x9F, 0x1C, 0xE5, 0x8B,
        ];
        decrypt(&material, &mut data);
        assert_eq!(data[..4], [0x6B, 0xC1, 0xBE, 0xE2]);
        assert_eq!(data[16..20], [0xAE, 0x2D, 0x8A, 0x57]);
    }

    #[test]
    fn a_response_that_the_tpm_did_not_make_is_refused() {
        let mut session = Session::new(0x0300_0000, &[7; 32], [1; NONCE], &[2; 32]).unwrap();
        for authorizations in [
            &[][..],
            &[0, 0, 1, 0, 0],
            &[0, 0, 1, 0, 0, 0, 0, 0x41, 0, 0],
        ] {
            let response = Response {
                handle: 0,
                parameters: &[0, 1, 0x55],
                authorizations,
            };
            let mut secret = [0; 64];
            assert_eq!(
                session.open(&response, 0x147, &mut secret),
                Err(NotAuthentic)
            );
            assert_eq!(secret, [0; 64]);
        }
        assert!(Session::new(0, &[7; 32], [1; NONCE], &[2; 33]).is_none());
    }
}
