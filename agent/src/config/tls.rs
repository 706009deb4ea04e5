//! What TLS needs to know (RFC 8323, 9.1): whom to believe, and who we are.

use std::path::PathBuf;

/// The one server that is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// It shows a certificate: SHA-256 of that, or of its SubjectPublicKeyInfo, both in DER.
    Certificate([u8; 32]),
    /// It shows its key alone (RFC 7250), some 500 bytes less: SHA-256 of the SubjectPublicKeyInfo.
    RawKey([u8; 32]),
}

/// The settings of `coaps+tcp://`. A pin goes before an authority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// The server itself.
    pub pin: Option<Pin>,
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

/// 64 hex digits, with or without colons between the bytes, and perhaps `raw:` before them.
pub(super) fn pin(text: &str) -> Result<Option<Pin>, String> {
    match text.strip_prefix("raw:") {
        Some(text) => sha256(text).map(|digest| Some(Pin::RawKey(digest))),
        None if text.is_empty() => Ok(None),
        None => sha256(text).map(|digest| Some(Pin::Certificate(digest))),
    }
}

fn sha256(text: &str) -> Result<[u8; 32], String> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| *c != ':')
        .map(|c| c.to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()
        .filter(|digits: &Vec<u8>| digits.len() == 64)
        .ok_or_else(|| format!("a SHA-256 has 64 hex digits, unlike {text:?}"))?;
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Ok(digest)
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
        assert_eq!(pin(&plain), Ok(Some(Pin::Certificate(expected))));
        assert_eq!(pin(&colons), Ok(Some(Pin::Certificate(expected))));
        let raw = format!("raw:{plain}");
        assert_eq!(pin(&raw), Ok(Some(Pin::RawKey(expected))));
        assert_eq!(pin(""), Ok(None));
        for wrong in [
            "01",
            "raw:",
            &plain[1..],
            &format!("{plain}0"),
            &plain.replace('a', "x"),
        ] {
            assert!(pin(wrong).is_err(), "{wrong}");
        }
    }
}
