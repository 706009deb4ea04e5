//! Which endorsement key a TPM has a certificate for, and how long that is (TCG EK Credential Profile
//! 2.3, 2.2.1.4).

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
pub(super) fn der_size(head: &[u8]) -> Option<usize> {
    match *head {
        [0x30, 0x81, length, _] if length >= 0x80 => Some(3 + usize::from(length)),
        [0x30, 0x82, high, low] => Some(4 + usize::from(u16::from_be_bytes([high, low]))),
        _ => None,
    }
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
