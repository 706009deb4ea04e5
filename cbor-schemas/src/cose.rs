//! COSE_Sign1 with ES256, structure only (RFC 9052, 4.2 and 4.4).
//!
//! No key and no signature algorithm live here: each side brings its own. The holder of a parsed
//! [`Sign1`] knows nothing until a signature over [`Sign1::signed_bytes`] has verified.

use minicbor::encode::{Error, Write};
use minicbor::{Decoder, Encoder, data::Type};

/// Protected header of everything that Mote signs: `{1: -7}`, ES256 (RFC 9053, 2.1).
pub const PROTECTED_ES256: &[u8] = &[0xa1, 0x01, 0x26];

/// A COSE_Sign1 array taken apart; nothing in it is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sign1<'a> {
    /// The signed content.
    pub payload: &'a [u8],
    /// Key id from the unprotected header (RFC 9052, 3.1, label 4): a hint, not a claim.
    pub kid: Option<&'a [u8]>,
    /// r || s.
    pub signature: &'a [u8; 64],
}

/// Why bytes are not a COSE_Sign1 of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign1Error {
    /// Not an array of four items of the right types.
    Shape,
    /// The protected header is not `{1: -7}`.
    Algorithm,
}

impl core::fmt::Display for Sign1Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Sign1Error::Shape => "not a COSE_Sign1",
            Sign1Error::Algorithm => "COSE_Sign1 is not signed with ES256",
        })
    }
}

impl core::error::Error for Sign1Error {}

impl From<minicbor::decode::Error> for Sign1Error {
    fn from(_: minicbor::decode::Error) -> Self {
        Sign1Error::Shape
    }
}

impl<'a> Sign1<'a> {
    /// Takes `bytes` apart: one untagged array, nothing after it. The payload may be large and of
    /// any content; check its determinism when decoding it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Sign1Error> {
        let mut d = Decoder::new(bytes);
        if d.array()? != Some(4) {
            return Err(Sign1Error::Shape);
        }
        if d.bytes()? != PROTECTED_ES256 {
            return Err(Sign1Error::Algorithm);
        }
        let kid = match d.map()? {
            Some(0) => None,
            Some(1) if d.u8()? == 4 && d.datatype()? == Type::Bytes => Some(d.bytes()?),
            _ => return Err(Sign1Error::Shape),
        };
        let payload = d.bytes()?;
        let signature = d.bytes()?.try_into().map_err(|_| Sign1Error::Shape)?;
        if d.position() != bytes.len() {
            return Err(Sign1Error::Shape);
        }
        Ok(Self {
            payload,
            kid,
            signature,
        })
    }

    /// Writes what the signature is over.
    pub fn signed_bytes<W: Write>(&self, aad: &[u8], out: W) -> Result<(), Error<W::Error>> {
        sig_structure(aad, self.payload, out)
    }

    /// Writes the array.
    pub fn write<W: Write>(&self, out: W) -> Result<(), Error<W::Error>> {
        let mut e = Encoder::new(out);
        e.array(4)?.bytes(PROTECTED_ES256)?;
        match self.kid {
            Some(kid) => e.map(1)?.u8(4)?.bytes(kid)?,
            None => e.map(0)?,
        };
        e.bytes(self.payload)?.bytes(self.signature)?.ok()
    }
}

/// Sig_structure of a COSE_Sign1 (RFC 9052, 4.4): what is to be signed.
pub fn sig_structure<W: Write>(aad: &[u8], payload: &[u8], out: W) -> Result<(), Error<W::Error>> {
    Encoder::new(out)
        .array(4)?
        .str("Signature1")?
        .bytes(PROTECTED_ES256)?
        .bytes(aad)?
        .bytes(payload)?
        .ok()
}

#[cfg(test)]
mod tests {
    use minicbor::encode::write::Cursor;

    use super::*;

    #[test]
    fn parse_is_the_inverse_of_write_and_refuses_the_rest() {
        let sign1 = Sign1 {
            payload: b"payload",
            kid: Some(b"kid"),
            signature: &[7; 64],
        };
        let mut buffer = [0; 128];
        let mut cursor = Cursor::new(&mut buffer[..]);
        assert!(sign1.write(&mut cursor).is_ok());
        let len = cursor.position();
        assert_eq!(Sign1::parse(&buffer[..len]), Ok(sign1));
        for cut in 0..len {
            assert_eq!(
                Sign1::parse(&buffer[..cut]),
                Err(Sign1Error::Shape),
                "{cut}"
            );
        }
        assert_eq!(Sign1::parse(&buffer[..=len]), Err(Sign1Error::Shape));
        buffer[4] = 0x27; // {1: -8}, EdDSA
        assert_eq!(Sign1::parse(&buffer[..len]), Err(Sign1Error::Algorithm));
    }
}
