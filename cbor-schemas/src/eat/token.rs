//! The `COSE_Sign1` around the claims: a CWT (RFC 8392, 7), ES256.

use minicbor::data::{Tag, Type};
use minicbor::encode::{Error as EncodeError, Write};
use minicbor::{Decoder, Encoder};

use super::{EatError, Wanted};
use crate::message::DeviceId;

/// Media type of a token (RFC 9782).
pub const MEDIA_TYPE: &str = "application/eat+cwt";

/// CoAP Content-Format of a token (RFC 9782).
pub const CONTENT_FORMAT: u16 = 263;

const COSE_SIGN1: Tag = Tag::new(18);
const CWT: Tag = Tag::new(61);

/// Header parameters (RFC 9052, 3.1).
mod header {
    pub(super) const ALG: i64 = 1;
    pub(super) const CRIT: i64 = 2;
    pub(super) const KID: i64 = 4;
}

/// ES256 (RFC 9053, 2.1).
const ES256: i64 = -7;

/// A token taken apart; nothing in it is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    protected: &'a [u8],
    /// Key id: a hint, not a claim.
    pub kid: Option<&'a [u8]>,
    /// The claims set.
    pub payload: &'a [u8],
    /// r || s.
    pub signature: &'a [u8; 64],
}

impl<'a> Token<'a> {
    /// Takes apart all of `bytes`: a `COSE_Sign1` with tag 18, with 61 and 18, or without.
    ///
    /// # Errors
    /// Where it is none, or not ES256, or asks to understand more than that (`crit`).
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EatError> {
        let mut d = Decoder::new(bytes);
        for tag in [CWT, COSE_SIGN1] {
            let mut ahead = d.clone();
            if ahead.tag().is_ok_and(|found| found == tag) {
                d = ahead;
            }
        }
        let at = d.position();
        let sign1 = "a COSE_Sign1";
        if d.array().wanted(sign1, at)? != Some(4) {
            return Err(EatError {
                offset: at,
                wanted: sign1,
            });
        }
        let protected = d.bytes().wanted(sign1, at)?;
        let start = d.position() - protected.len();
        let in_protected = headers(&mut Decoder::new(protected)).map_err(|error| EatError {
            offset: start + error.offset,
            ..error
        })?;
        if in_protected.alg != Some(ES256) {
            return Err(EatError {
                offset: start,
                wanted: "ES256 as the algorithm, protected",
            });
        }
        let unprotected = headers(&mut d)?;
        let at = d.position();
        let payload = d.bytes().wanted("a payload", at)?;
        let at = d.position();
        let signature = d.bytes().wanted("a signature of 64 bytes", at)?;
        let signature = signature.try_into().map_err(|_| EatError {
            offset: at,
            wanted: "a signature of 64 bytes",
        })?;
        if d.position() < bytes.len() {
            return Err(EatError {
                offset: d.position(),
                wanted: "the end of the token",
            });
        }
        Ok(Self {
            protected,
            kid: in_protected.kid.or(unprotected.kid),
            payload,
            signature,
        })
    }

    /// Writes what the signature is over (RFC 9052, 4.4).
    ///
    /// # Errors
    /// Those of `out`.
    pub fn signed_bytes<W: Write>(&self, out: W) -> Result<(), EncodeError<W::Error>> {
        sig_structure(self.protected, self.payload, out)
    }
}

#[derive(Default)]
struct Headers<'a> {
    alg: Option<i64>,
    kid: Option<&'a [u8]>,
}

fn headers<'a>(d: &mut Decoder<'a>) -> Result<Headers<'a>, EatError> {
    let at = d.position();
    let wanted = "a header map";
    let mut headers = Headers::default();
    let count = d.map().wanted(wanted, at)?;
    for _ in 0..count.ok_or(EatError { offset: at, wanted })? {
        let at = d.position();
        let label = match d.datatype().wanted(wanted, at)? {
            Type::String => {
                d.skip().wanted(wanted, at)?;
                None
            }
            _ => Some(d.i64().wanted(wanted, at)?),
        };
        let at = d.position();
        let new = match label {
            Some(header::ALG) => headers
                .alg
                .replace(d.i64().wanted("an algorithm", at)?)
                .is_none(),
            Some(header::KID) => headers
                .kid
                .replace(d.bytes().wanted("a key id", at)?)
                .is_none(),
            Some(header::CRIT) => false,
            _ => {
                d.skip().wanted(wanted, at)?;
                true
            }
        };
        if !new {
            return Err(EatError {
                offset: at,
                wanted: "a header that we know, once",
            });
        }
    }
    Ok(headers)
}

/// The protected header of our tokens: `{1: -7, 4: kid}`.
fn protected(kid: &DeviceId) -> [u8; 21] {
    let mut bytes = [0; 21];
    bytes[..5].copy_from_slice(&[0xa2, 0x01, 0x26, 0x04, 0x50]);
    bytes[5..].copy_from_slice(&kid.0);
    bytes
}

/// Writes what the device with this id has to sign for these claims.
///
/// # Errors
/// Those of `out`.
pub fn signed_bytes<W: Write>(
    kid: &DeviceId,
    claims: &[u8],
    out: W,
) -> Result<(), EncodeError<W::Error>> {
    sig_structure(&protected(kid), claims, out)
}

/// Writes the token: these claims under this signature (r || s, ES256).
///
/// # Errors
/// Those of `out`.
pub fn write<W: Write>(
    kid: &DeviceId,
    claims: &[u8],
    signature: &[u8; 64],
    out: W,
) -> Result<(), EncodeError<W::Error>> {
    let mut e = Encoder::new(out);
    e.tag(COSE_SIGN1)?.array(4)?.bytes(&protected(kid))?;
    e.map(0)?.bytes(claims)?.bytes(signature)?.ok()
}

fn sig_structure<W: Write>(
    protected: &[u8],
    payload: &[u8],
    out: W,
) -> Result<(), EncodeError<W::Error>> {
    let mut e = Encoder::new(out);
    e.array(4)?.str("Signature1")?.bytes(protected)?;
    e.bytes(&[])?.bytes(payload)?.ok()
}
