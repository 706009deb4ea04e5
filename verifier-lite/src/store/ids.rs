//! What the store's tables are keyed by.

use std::fmt;

use aws_lc_rs::digest;
use minicbor::{Decode, Encode};
use mote_schemas::limits::MAX_KID;

/// Which device: 16 bytes that follow from its endorsement key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct DeviceId(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 16]);

/// Which IMA record: SHA-256 of its template name, a zero byte and its template data. The same
/// record of two devices has the same id, and is stored once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct RecordId(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

impl RecordId {
    /// The id of a record. A template name has no zero byte in it, so no two records share the input.
    pub fn of(template: &[u8], data: &[u8]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(template);
        context.update(&[0]);
        context.update(data);
        let mut id = [0; 32];
        id.copy_from_slice(context.finish().as_ref());
        Self(id)
    }
}

/// Which session: the agent's OSCORE Sender ID, 1 to 7 bytes, chosen by the verifier (RFC 8613, 3.3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kid {
    bytes: [u8; MAX_KID],
    length: u8,
}

impl Kid {
    /// `None`: empty (the verifier's own) or longer than [`MAX_KID`].
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() || bytes.len() > MAX_KID {
            return None;
        }
        let mut kid = Self {
            bytes: [0; MAX_KID],
            length: bytes.len() as u8,
        };
        kid.bytes[..bytes.len()].copy_from_slice(bytes);
        Some(kid)
    }

    /// As it stands in the OSCORE option.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

macro_rules! shown_in_hex {
    ($($name:ident: $bytes:expr;)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let bytes: fn(&$name) -> &[u8] = $bytes;
                crate::hex::write(f, bytes(self))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}

shown_in_hex! {
    DeviceId: |id| &id.0;
    RecordId: |id| &id.0;
    Kid: |kid| kid.as_bytes();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kid_has_1_to_7_bytes() {
        assert_eq!(Kid::new(&[]), None);
        assert_eq!(Kid::new(&[0; 8]), None);
        assert_eq!(Kid::new(&[1, 0]).unwrap().as_bytes(), [1, 0]);
        assert_ne!(Kid::new(&[1, 0]), Kid::new(&[1]));
    }

    #[test]
    fn a_record_id_is_sha_256_of_name_zero_data() {
        // printf 'ima-ng\0x' | sha256sum
        assert_eq!(
            RecordId::of(b"ima-ng", b"x").to_string(),
            "abe347c94c1f0245dd5b9860e479ed3e6b9c8311a6e82476093c787e3aa86df2"
        );
        assert_ne!(RecordId::of(b"ima", b"-ng"), RecordId::of(b"ima-ng", b""));
    }
}
