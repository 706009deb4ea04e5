//! What TLS needs to know (RFC 8323, 9.1): whom to believe, and who we are.

use std::path::PathBuf;

/// The settings of `coaps+tcp://`. A pin goes before an authority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// SHA-256 of the server's certificate, or of its SubjectPublicKeyInfo, both in DER.
    pub pin: Option<[u8; 32]>,
    /// Authorities, PEM.
    pub ca: Option<PathBuf>,
    /// Our certificate chain, PEM.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM.
    pub key: Option<PathBuf>,
}

pub(super) fn file(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

/// 64 hex digits, with or without colons between the bytes.
pub(super) fn pin(text: &str) -> Result<Option<[u8; 32]>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| *c != ':')
        .map(|c| c.to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()
        .filter(|digits: &Vec<u8>| digits.len() == 64)
        .ok_or_else(|| format!("a SHA-256 has 64 hex digits, unlike {text:?}"))?;
    let mut pin = [0; 32];
    for (byte, pair) in pin.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Ok(Some(pin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_what_openssl_and_sha256sum_print() {
        let mut expected = [0xab; 32];
        expected[0] = 0x01;
        let plain = format!("01{}", "ab".repeat(31));
        let colons = format!("01{}", ":AB".repeat(31));
        assert_eq!(pin(&plain), Ok(Some(expected)));
        assert_eq!(pin(&colons), Ok(Some(expected)));
        assert_eq!(pin(""), Ok(None));
        for wrong in [
            "01",
            &plain[1..],
            &format!("{plain}0"),
            &plain.replace('a', "x"),
        ] {
            assert!(pin(wrong).is_err(), "{wrong}");
        }
    }
}
