//! Hexadecimal, the way operators type and read it.

use std::fmt::{self, Write};

/// Writes `bytes` in lower case.
pub fn write(f: &mut impl Write, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// `bytes` in lower case.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    // Writing to a String does not fail.
    let _ = write(&mut text, bytes);
    text
}

/// The bytes that `text` spells, in either case. `None`: an odd number of digits, or no digits.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    text.as_bytes()
        .chunks(2)
        .map(|pair| match *pair {
            [high, low] => Some((digit(high)? << 4 | digit(low)?) as u8),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decode_inverts_encode_and_refuses_the_rest() {
        assert_eq!(
            decode(&encode(&[0, 1, 0xAB, 0xFF])),
            Some(vec![0, 1, 0xAB, 0xFF])
        );
        assert_eq!(decode("AbfF"), Some(vec![0xAB, 0xFF]));
        assert_eq!(decode("abc"), None);
        assert_eq!(decode("zz"), None);
        assert_eq!(decode("é"), None);
        assert_eq!(decode(""), Some(vec![]));
    }
}
