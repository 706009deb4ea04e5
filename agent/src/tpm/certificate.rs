//! Which endorsement key a TPM has a certificate for, and how long that is (TCG EK Credential Profile
//! 2.3, 2.2.1.4).

use mote_schemas::limits::MAX_EK_CERTIFICATE;

use super::TpmError;
use super::connection::Fault;

/// Kind of a key, where both the endorsement and the attestation key have a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// ECC NIST P-256.
    Ecc,
    /// RSA-2048.
    Rsa,
}

/// NV index where the certificate of a default-template EK lies.
pub(super) const fn index(algorithm: Algorithm) -> u32 {
    match algorithm {
        Algorithm::Rsa => 0x01C0_0002,
        Algorithm::Ecc => 0x01C0_000A,
    }
}

/// A TPM may return NV memory in pieces as small as this (part 2, `TPM_PT_NV_BUFFER_MAX`, is at
/// least 512 on PC Client TPMs).
pub(super) const SMALLEST_PIECE: u32 = 512;

/// Size of a DER SEQUENCE with its header, from its first four bytes (X.690, 8.1.3). Shorter than
/// 128 bytes is no certificate.
fn der_size(head: &[u8]) -> Option<usize> {
    match *head {
        [0x30, 0x81, length, _] if length >= 0x80 => Some(3 + usize::from(length)),
        [0x30, 0x82, high, low] => Some(4 + usize::from(u16::from_be_bytes([high, low]))),
        _ => None,
    }
}

/// Copies a certificate of NV memory into `out`, without the padding after its DER. The index has
/// `data_size` bytes, of which at most `piece` come at a time: `read` fills the room it is given with those
/// from an offset on, or says that nobody has written the index yet.
pub(super) fn copy(
    data_size: usize,
    piece: usize,
    out: &mut [u8],
    mut read: impl FnMut(usize, &mut [u8]) -> Result<bool, Fault>,
) -> Result<Option<usize>, Fault> {
    // The index may be larger than the certificate in it: read its head, then what the head says.
    let limit = out.len().min(MAX_EK_CERTIFICATE);
    let mut have = 0;
    let mut want = data_size.min(4);
    while have < want {
        let size = (want - have).min(piece);
        let room = out.get_mut(have..have + size);
        let room = room.ok_or_else(|| too_large(data_size, limit))?;
        if !read(have, room)? {
            return Ok(None);
        }
        have += size;
        if want <= 4 {
            match der_size(&out[..have]) {
                Some(size) if size <= data_size => want = size,
                _ => {
                    log::warn!("the EK certificate in NV memory is not DER, and ignored");
                    return Ok(None);
                }
            }
            if want > limit {
                return Err(too_large(want, limit));
            }
        }
    }
    Ok((have > 0).then_some(have))
}

fn too_large(size: usize, limit: usize) -> Fault {
    TpmError::TooLarge {
        what: "the EK certificate",
        size,
        limit,
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_certificate_is_in_its_head() {
        assert_eq!(der_size(&[0x30, 0x82, 0x03, 0xFF]), Some(4 + 0x3FF));
        assert_eq!(der_size(&[0x30, 0x81, 0xFF, 0x30]), Some(3 + 0xFF));
        assert_eq!(der_size(&[0x31, 0x82, 0x03, 0xFF]), None);
        assert_eq!(der_size(&[0x30, 0x83, 0x03, 0xFF]), None);
        assert_eq!(der_size(&[0xFF; 4]), None);
        assert_eq!(der_size(&[0x30, 0x82]), None);
        assert_eq!(der_size(&[]), None);
    }
}
