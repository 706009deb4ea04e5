//! The kernel's command line, in all the ways in which it is measured:
//!
//! | who | PCR | digest of | event data |
//! |---|---|---|---|
//! | U-Boot | 1 | the line with its NUL | the same |
//! | GRUB | 8 | the line | `kernel_cmdline: ` and the line |
//! | Linux's EFI stub | 9 | UTF-16 with its NUL | a tag and no more |
//! | systemd-stub, in the image | 11 | the line | the section's name |
//! | systemd-stub, given at boot | 12 | UTF-16 with its NUL | the same |
//!
//! Where the data is covered, the line can be read; where only a hash was measured, a line without
//! wildcards can still be recognised.

use mote_schemas::bootlog::{Event, Utf16};
use mote_schemas::tpm::HashAlg;

use crate::wildcard;

/// PCRs in which a command line may be.
pub(super) const PCRS: [u32; 5] = [1, 8, 9, 11, 12];

/// Text that the event's digest in `bank` covers, if it does cover text.
pub(super) fn covered_text(event: &Event<'_>, bank: HashAlg) -> Option<String> {
    if event.covers_data(bank) {
        return text(event.data);
    }
    // GRUB puts what it did in front of what it measured (`grub_tpm_measure`).
    let described = event.data.strip_suffix(b"\0").unwrap_or(event.data);
    let colon = described.windows(2).position(|two| two == b": ")?;
    let measured = &described[colon + 2..];
    if event.covers(bank, measured) {
        text(measured)
    } else {
        None
    }
}

fn text(bytes: &[u8]) -> Option<String> {
    let plain = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    let printable = |byte: &u8| byte.is_ascii_graphic() || matches!(*byte, b' ' | b'\t' | b'\n');
    if !plain.is_empty() && plain.iter().all(printable) {
        return String::from_utf8(plain.to_vec()).ok();
    }
    // All of it: what begins like text need not go on so.
    let whole = |wide: &Utf16<'_>| wide.is_text() && wide.as_bytes().len() + 2 >= bytes.len();
    if let Some(wide) = Utf16::new(bytes).filter(whole) {
        return Some(wide.to_string());
    }
    std::str::from_utf8(plain)
        .ok()
        .filter(|text| !text.is_empty() && !text.chars().any(char::is_control))
        .map(str::to_owned)
}

/// Whether the event is a measurement of a command line that one of the patterns allows.
pub(super) fn allows(patterns: &[String], event: &Event<'_>, bank: HashAlg) -> bool {
    let text = covered_text(event, bank);
    patterns.iter().any(|pattern| match &text {
        Some(text) => wildcard::matches(pattern, text),
        None => spellings(pattern)
            .iter()
            .any(|spelling| event.covers(bank, spelling)),
    })
}

/// What a line without wildcards may be measured as.
fn spellings(line: &str) -> Vec<Vec<u8>> {
    if line.contains(['*', '?']) {
        return Vec::new();
    }
    let wide = |nul: &[u16]| {
        let units = line.encode_utf16().chain(nul.iter().copied());
        units.flat_map(u16::to_le_bytes).collect()
    };
    let plain = |nul: &str| format!("{line}{nul}").into_bytes();
    vec![plain(""), plain("\0"), wide(&[0]), wide(&[])]
}
