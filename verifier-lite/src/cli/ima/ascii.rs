//! `ascii_runtime_measurements`, turned back into what the kernel hashed (`ima_ascii_measurements_show`
//! in Linux `security/integrity/ima/ima_fs.c`): PCR, template hash, template name, fields.
//!
//! The template hash tells whether that came out right; names may be anything without a space, which
//! the kernel has replaced.

use mote_schemas::ima::{Endian, Record, TemplateWriter};
use mote_schemas::limits::MAX_IMA_TEMPLATE_DATA;
use mote_schemas::tpm::{Digest, HashAlg};

use crate::hex;
use crate::store;

/// Whether this is such a list: its first line begins with a number and a hash.
pub(super) fn is_ascii(bytes: &[u8]) -> bool {
    let line = bytes
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let mut words = words(line);
    let number = |word: &[u8]| word.iter().all(u8::is_ascii_digit);
    let hash = |word: &[u8]| word.len() >= 40 && word.iter().all(u8::is_ascii_hexdigit);
    words.next().is_some_and(number) && words.next().is_some_and(hash)
}

/// The records, each with its template hash and whether that is of the data.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<(store::Record, Digest, bool)>, String> {
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    lines
        .filter(|(_, line)| !line.is_empty())
        .map(|(number, line)| record(line).map_err(|why| format!("line {}: {why}", number + 1)))
        .collect()
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b' ')
        .filter(|word| !word.is_empty())
}

fn text<'a>(word: Option<&'a [u8]>, what: &str) -> Result<&'a str, String> {
    let word = word.ok_or_else(|| format!("{what} is missing"))?;
    std::str::from_utf8(word).map_err(|_| format!("{what} is not ASCII"))
}

fn digits(word: &str, what: &str) -> Result<Vec<u8>, String> {
    hex::decode(word).ok_or_else(|| format!("{what} is not hex"))
}

fn record(line: &[u8]) -> Result<(store::Record, Digest, bool), String> {
    let mut words = words(line);
    let pcr = text(words.next(), "the PCR")?;
    let pcr = pcr.parse().map_err(|_| "not a PCR".to_owned())?;
    let hash = digits(
        text(words.next(), "the template hash")?,
        "the template hash",
    )?;
    let hash = HashAlg::ALL
        .into_iter()
        .find_map(|alg| Digest::new(alg, &hash))
        .ok_or("a template hash of no known length")?;
    let template = text(words.next(), "the template")?;
    let digest = text(words.next(), "the digest")?;
    let name = words.next().ok_or("the name is missing")?;
    let last = words.next();
    if words.next().is_some() {
        return Err("more fields than are known".to_owned());
    }

    let mut buffer = vec![0; MAX_IMA_TEMPLATE_DATA];
    let mut data = TemplateWriter::new(Endian::Little, &mut buffer);
    let written = |_| "too long".to_owned();
    let (tag, value) = digest.rsplit_once(':').unwrap_or(("", digest));
    let value = digits(value, "the digest")?;
    match template {
        "ima" => {
            // No length in front of the digest, and no NUL behind the name.
            let mut raw = value;
            raw.extend((name.len() as u32).to_le_bytes());
            raw.extend(name);
            return finish(pcr, hash, template, &raw);
        }
        "ima-ng" | "ima-sig" | "ima-ngv2" | "ima-sigv2" | "ima-buf" => {
            data.digest(tag, &value).map_err(written)?;
            data.text(name).map_err(written)?;
        }
        other => {
            return Err(format!(
                "template {other} cannot be read from ASCII; use the binary list"
            ));
        }
    }
    match (template, last) {
        ("ima-sig" | "ima-sigv2" | "ima-buf", last) => {
            let last = digits(
                text(last.or(Some(b"")), "the last field")?,
                "the last field",
            )?;
            data.bytes(&last).map_err(written)?;
        }
        (_, Some(_)) => return Err("more fields than the template has".to_owned()),
        _ => {}
    }
    finish(pcr, hash, template, data.finish())
}

fn finish(
    pcr: u32,
    template_hash: Digest,
    template_name: &str,
    template_data: &[u8],
) -> Result<(store::Record, Digest, bool), String> {
    if pcr as usize >= mote_schemas::limits::PCR_COUNT {
        return Err(format!("PCR {pcr} does not exist"));
    }
    Ok(super::kept(&Record {
        pcr,
        template_hash,
        template_name,
        template_data,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0000000000000000000000000000000000000000";

    #[test]
    fn what_is_wrong_in_a_line_is_said_with_its_number() {
        let first = format!("10 {HASH} ima-ng sha256:00 /a\n");
        for (line, why) in [
            (format!("x {HASH} ima-ng sha256:00 /a"), "line 2: not a PCR"),
            (
                format!("24 {HASH} ima-ng sha256:00 /a"),
                "line 2: PCR 24 does not exist",
            ),
            (
                "10 00 ima-ng sha256:00 /a".to_owned(),
                "line 2: a template hash of no known length",
            ),
            (
                format!("10 {HASH} ima-ng sha256:0 /a"),
                "line 2: the digest is not hex",
            ),
            (
                format!("10 {HASH} ima-ng sha256:00"),
                "line 2: the name is missing",
            ),
            (
                format!("10 {HASH} ima-ng sha256:00 /a 00"),
                "line 2: more fields than the template has",
            ),
            (
                format!("10 {HASH} ima-sig sha256:00 /a 00 00"),
                "line 2: more fields than are known",
            ),
            (
                format!("10 {HASH} evm-sig sha256:00 /a 00"),
                "line 2: template evm-sig cannot be read from ASCII; use the binary list",
            ),
        ] {
            let list = format!("{first}{line}\n");
            assert!(is_ascii(list.as_bytes()));
            assert_eq!(parse(list.as_bytes()).unwrap_err(), why);
        }
        assert!(!is_ascii(&[0, 0, 0, 10]));
    }
}
