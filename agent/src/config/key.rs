//! The verifier's public key as text: PEM, hex or base64 of a P-256 point or its
//! SubjectPublicKeyInfo, in the configuration itself or in a file.

use std::fs::File;
use std::io::Read;

use crate::verifier_key::VerifierKey;

/// A PEM file with a P-256 key has 178 bytes; a comment may precede it.
const MAX_FILE: u64 = 4096;

/// Understands a key, or reads the file of that name.
pub(super) fn parse(text: &str) -> Result<VerifierKey, String> {
    const WHENCE: &str = "the verifier's operator has it";
    let text = text.trim();
    if text.is_empty() {
        return Err(format!(
            "not set; give the verifier's public key or the name of a file with it ({WHENCE})"
        ));
    }
    if let Some(key) = from_text(text) {
        return Ok(key);
    }
    if text.contains("-----BEGIN") {
        return Err("this PEM holds no P-256 public key (\"BEGIN PUBLIC KEY\")".to_owned());
    }
    let mut content = Vec::new();
    File::open(text)
        .and_then(|file| file.take(MAX_FILE).read_to_end(&mut content))
        .map_err(|error| {
            format!(
                "{text:?} is no key (PEM, hex or base64 of a P-256 point or SubjectPublicKeyInfo), \
                 and as a file: {error}; {WHENCE}"
            )
        })?;
    VerifierKey::from_bytes(&content)
        .ok()
        .or_else(|| from_text(core::str::from_utf8(&content).ok()?.trim()))
        .ok_or_else(|| {
            format!(
                "the file {text} holds no P-256 public key (PEM \"BEGIN PUBLIC KEY\", DER, hex or \
                 base64); {WHENCE}"
            )
        })
}

fn from_text(text: &str) -> Option<VerifierKey> {
    let bytes = match pem_body(text) {
        Some(body) => base64(body)?,
        None => hex(text).or_else(|| base64(text))?,
    };
    VerifierKey::from_bytes(&bytes).ok()
}

/// What lies between the two lines of a public key (RFC 7468, 13).
fn pem_body(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("-----BEGIN PUBLIC KEY-----")?;
    let (body, _) = rest.split_once("-----END PUBLIC KEY-----")?;
    Some(body)
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, odd) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs
        .iter()
        .map(|[high, low]| Some((digit(*high)? << 4 | digit(*low)?) as u8));
    bytes.collect::<Option<_>>().filter(|_| odd.is_empty())
}

/// RFC 4648, 4 and 5: either alphabet, white space and missing padding allowed.
fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut out, mut bits, mut held) = (Vec::new(), 0u32, 0);
    for byte in text.trim_end().trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b' ' | b'\t' | b'\r' | b'\n' => continue,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    // What is left over is padding, and zero.
    (held < 6 && bits & ((1 << held) - 1) == 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    const PEM: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt
6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==
-----END PUBLIC KEY-----";

    #[test]
    fn one_key_in_every_spelling() {
        let key = parse(PEM).unwrap();
        let der = base64(pem_body(PEM).unwrap()).unwrap();
        assert_eq!(der.len(), 91);
        let as_hex = |bytes: &[u8]| {
            bytes.iter().fold(String::new(), |mut out, byte| {
                write!(out, "{byte:02x}").unwrap();
                out
            })
        };
        let spki = pem_body(PEM).unwrap().replace('\n', "");
        for text in [
            &as_hex(&der),
            &as_hex(&der[26..]).to_uppercase(),
            &spki,
            &spki.replace('+', "-").replace('/', "_"),
            spki.trim_end_matches('='),
            &format!("# the verifier's\n{PEM}\n"),
        ] {
            assert_eq!(parse(text).as_ref(), Ok(&key), "{text}");
        }
    }

    #[test]
    fn what_is_no_key_is_named() {
        let private = PEM.replace("PUBLIC", "PRIVATE");
        assert!(parse(&private).unwrap_err().contains("PEM holds no"));
        assert!(parse("").unwrap_err().contains("not set"));
        assert!(parse("/nowhere/key").unwrap_err().contains("No such file"));
        let error = parse("/dev/null").unwrap_err();
        assert!(error.contains("holds no P-256 public key"), "{error}");
        // One character missing, one changed.
        let spki = pem_body(PEM).unwrap().replace('\n', "");
        assert!(parse(&spki[1..]).is_err());
        assert!(parse(&spki.replacen("axfR", "axfS", 1)).is_err());
    }
}
