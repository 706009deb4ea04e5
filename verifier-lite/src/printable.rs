//! Bytes that a device chose, made fit for a terminal.

use bstr::ByteSlice;

/// `bytes` as text: what is not UTF-8, or would steer a terminal or reorder its text, as `\xNN`; a
/// backslash as `\\`. No two inputs look the same.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for (start, end, c) in bytes.char_indices() {
        if c == '\\' {
            text.push_str("\\\\");
        } else if steers(c) {
            for byte in &bytes[start..end] {
                text.push_str("\\x");
                text.push_str(&crate::hex::encode(&[*byte]));
            }
        } else {
            text.push(c);
        }
    }
    text
}

/// Control characters, what bstr puts for bytes that are not UTF-8, and the invisible characters that
/// change how others are shown (Unicode UAX #9, zero width).
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{FFFD}' | '\u{AD}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
                | '\u{2060}'..='\u{2069}' | '\u{FEFF}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_path_reaches_the_terminal_as_more_than_text() {
        for (bytes, text) in [
            (b"/usr/bin/ls".as_slice(), "/usr/bin/ls"),
            ("/größe".as_bytes(), "/größe"),
            (b"/\x1b[31m", "/\\x1b[31m"),
            (b"/a\nb", "/a\\x0ab"),
            (b"/\xFF\xFE", "/\\xff\\xfe"),
            (b"/a\\xff", "/a\\\\xff"),
            ("/\u{202E}gpj".as_bytes(), "/\\xe2\\x80\\xaegpj"),
        ] {
            assert_eq!(printable(bytes), text);
        }
    }
}
