//! `ascii_runtime_measurements`, turned back into what the kernel hashed (`ima_ascii_measurements_show`
//! in Linux `security/integrity/ima/ima_fs.c`): PCR, template hash, template name, fields.
//!
//! The template hash tells whether that came out right; names may be anything without a space, which
//! the kernel has replaced.

use mote_schemas::ima::{Endian, FieldKind, IMA_TEMPLATE, Record, TemplateWriter, format_of};
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

/// The words of a line. Between two spaces stands an empty field; in front of a small PCR, padding.
fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.trim_ascii_start().split(|byte| *byte == b' ')
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
    let format = format_of(template)
        .ok_or_else(|| format!("template {template} is not known; use the binary list"))?;

    let mut buffer = vec![0; MAX_IMA_TEMPLATE_DATA];
    let mut data = TemplateWriter::new(Endian::Little, &mut buffer);
    if template == IMA_TEMPLATE {
        // No length in front of the digest, and no NUL behind the name.
        let mut raw = digits(text(words.next(), "the digest")?, "the digest")?;
        let name = words.next().ok_or("the name is missing")?;
        raw.extend((name.len() as u32).to_le_bytes());
        raw.extend(name);
        if words.next().is_some() {
            return Err("more fields than the template has".to_owned());
        }
        return finish(pcr, hash, template, &raw);
    }
    for (number, id) in format.split('|').enumerate() {
        let word = match words.next() {
            Some(word) => word,
            None if number == 0 => return Err("the digest is missing".to_owned()),
            None if number == 1 => return Err("the name is missing".to_owned()),
            // Empty fields at the end, and an editor that leaves no spaces there.
            None => b"",
        };
        write_field(&mut data, id, word)?;
    }
    if words.next().is_some() {
        return Err("more fields than the template has".to_owned());
    }
    finish(pcr, hash, template, data.finish())
}

/// A field from what `ima_show_template_field_data` prints of it.
fn write_field(data: &mut TemplateWriter<'_>, id: &str, word: &[u8]) -> Result<(), String> {
    let kind = FieldKind::from_id(id);
    let word_text = || text(Some(word), "a field");
    let number = || {
        let number = word_text()?.parse::<u32>();
        number.map_err(|_| format!("field {id} is not a number"))
    };
    let written = match kind {
        _ if word.is_empty() => data.bytes(&[]),
        FieldKind::Digest => data.bytes(&digits(word_text()?, "the digest")?),
        FieldKind::DigestNg | FieldKind::DigestNgV2 | FieldKind::DigestModsig => {
            let (tag, value) = word_text()?
                .rsplit_once(':')
                .ok_or("a digest without its algorithm")?;
            data.digest(tag, &digits(value, "the digest")?)
        }
        FieldKind::Name | FieldKind::NameNg | FieldKind::XattrNames | FieldKind::DigestType => {
            data.text(word)
        }
        FieldKind::Sig
        | FieldKind::Modsig
        | FieldKind::EvmSig
        | FieldKind::Buf
        | FieldKind::XattrLengths
        | FieldKind::XattrValues
        | FieldKind::MountUidMap
        | FieldKind::MountGidMap => data.bytes(&digits(word_text()?, &format!("field {id}"))?),
        FieldKind::Uid | FieldKind::Gid => data.bytes(&number()?.to_le_bytes()),
        FieldKind::Mode => {
            let mode = u16::try_from(number()?);
            data.bytes(&mode.map_err(|_| "not a file mode")?.to_le_bytes())
        }
        FieldKind::Unknown => {
            return Err(format!("field {id} is not known; use the binary list"));
        }
    };
    written.map_err(|_| "too long".to_owned())
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
                "line 2: more fields than the template has",
            ),
            (
                format!("10 {HASH} ima-ng 00 /a"),
                "line 2: a digest without its algorithm",
            ),
            (
                format!("10 {HASH} novel 00 /a"),
                "line 2: template novel is not known; use the binary list",
            ),
            (
                format!("10 {HASH} d-ng|n-ng|novel sha256:00 /a 00"),
                "line 2: field novel is not known; use the binary list",
            ),
            (
                format!("10 {HASH} evm-sig sha256:00 /a  n 00 00 0 x 0"),
                "line 2: field igid is not a number",
            ),
            (
                format!("10 {HASH} evm-sig sha256:00 /a  n 00 00 0 0 65536"),
                "line 2: not a file mode",
            ),
        ] {
            let list = format!("{first}{line}\n");
            assert!(is_ascii(list.as_bytes()));
            assert_eq!(parse(list.as_bytes()).unwrap_err(), why);
        }
        assert!(!is_ascii(&[0, 0, 0, 10]));
    }

    /// A binary record of these fields, and the line that the kernel prints of it.
    fn check(pcr: u32, template: &str, fields: &[&[u8]], printed: &str) {
        let mut data = Vec::new();
        for field in fields {
            data.extend((field.len() as u32).to_le_bytes());
            data.extend(*field);
        }
        let made = Record::measured(pcr, HashAlg::Sha1, template, &data);
        let hash = hex::encode(made.template_hash.as_bytes());
        let line = format!("{pcr:2} {hash} {template} {printed}\n");
        let [(record, _, claims_hold)] = &parse(line.as_bytes()).unwrap()[..] else {
            panic!("{line}");
        };
        assert_eq!(record, &store::Record::from(&made), "{line}");
        assert!(claims_hold, "{line}");
    }

    #[test]
    fn a_line_of_each_template_gives_the_bytes_that_were_hashed() {
        let digest = [b"sha256:\0", &[0xab; 32][..]].concat();
        let hex_digest = format!("sha256:{}", "ab".repeat(32));
        let v2 = [b"verity:sha256:\0", &[0xab; 32][..]].concat();
        let name: &[u8] = b"/bin/a_b\0";
        let none: &[u8] = &[];
        let line = |rest: &str| format!("{hex_digest} /bin/a_b{rest}");
        check(10, "ima-ng", &[&digest, name], &line(""));
        check(10, "ima-sig", &[&digest, name, b"\x03\x02"], &line(" 0302"));
        check(10, "ima-sig", &[&digest, name, none], &line(" "));
        check(10, "ima-sig", &[&digest, name, none], &line(""));
        check(10, "ima-buf", &[&digest, name, b"root"], &line(" 726f6f74"));
        let printed = format!("verity:{hex_digest} /bin/a_b ");
        check(10, "ima-sigv2", &[&v2, name, none], &printed);
        check(
            9,
            "ima-modsig",
            &[&digest, name, none, &digest, b"\x30\x00"],
            &line(&format!("  {hex_digest} 3000")),
        );
        check(
            10,
            "ima-modsig",
            &[&digest, name, none, none, none],
            &line("   "),
        );
        let evm: [&[u8]; 9] = [
            &digest,
            name,
            b"\x05\x02",
            b"security.ima|security.selinux\0",
            &[2, 0, 0, 0, 1, 0, 0, 0],
            b"\x04\x04x",
            &[0xe8, 3, 0, 0],
            &[0; 4],
            &[0xed, 0x81],
        ];
        check(
            10,
            "evm-sig",
            &evm,
            &line(" 0502 security.ima|security.selinux 0200000001000000 040478 1000 0 33261"),
        );
        check(
            10,
            "d-ng|n-ng|imode|sig",
            &[&digest, name, &[0xed, 0x81], none],
            &line(" 33261 "),
        );
        check(
            10,
            "d|n",
            &[&[0xab; 20], name],
            &format!("{} /bin/a_b", "ab".repeat(20)),
        );
    }
}
