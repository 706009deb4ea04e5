//! Keylime's measured-boot reference state (`keylime.mba.elchecking`, docs: "Use Measured Boot"), as
//! `create_mb_refstate` writes it.
//!
//! Its kernels are combinations of shim, GRUB, kernel, initrd and command line; a manifest lists each of
//! these by itself, so that a boot that mixes two combinations of one reference state passes. One state
//! for each image version, and a manifest of its own for each, keeps them apart.

use mote_schemas::tpm::{Digest, HashAlg};

use super::{ConvertError, Imported, Place, parse_json};

/// Reads a reference state.
pub fn read(bytes: &[u8]) -> Result<Imported, ConvertError> {
    let document = parse_json(bytes)?;
    let state = Place::root(&document);
    let mut imported = Imported::default();
    let kernels = state.must("kernels")?;
    for kernel in kernels.items()? {
        let boot = &mut imported.boot;
        let started = ["shim", "grub", "kernel"].map(|what| format!("{what}_authcode_sha256"));
        for name in &started {
            boot.applications.extend(digest(&kernel, name)?);
        }
        boot.kernels.extend(digest(&kernel, "kernel_plain_sha256")?);
        boot.initrds.extend(digest(&kernel, "initrd_plain_sha256")?);
        if let Some(line) = kernel.get("kernel_cmdline") {
            let pattern = pattern(line.text()?).map_err(|what| line.wrong(&what))?;
            boot.command_lines.push(pattern);
        }
    }
    imported.boot.secure_boot = match state.get("has_secureboot") {
        Some(on) => on
            .value
            .as_bool()
            .ok_or_else(|| on.wrong("is not true or false"))?,
        // Older states say so by having keys.
        None => state.get("pk").is_some(),
    };
    for (name, what) in [
        ("scrtm_and_bios", "firmware versions (\"scrtm_and_bios\")"),
        ("pk", "platform keys (\"pk\")"),
        ("kek", "key exchange keys (\"kek\")"),
        ("db", "keys of \"db\""),
        ("dbx", "entries of \"dbx\""),
        ("vendor_db", "keys of \"vendor_db\""),
        ("mokdig", "digests of machine owner keys (\"mokdig\")"),
        (
            "mokxdig",
            "digests of forbidden machine owner keys (\"mokxdig\")",
        ),
    ] {
        if let Some(list) = state.get(name) {
            imported.leave_out(list.items()?.len(), what);
        }
    }
    if imported.boot.is_empty() {
        return Err(kernels.wrong("expects nothing of the boot, so there is nothing to convert"));
    }
    Ok(imported)
}

/// The member called `name`, `0x` and hexadecimal digits.
fn digest(kernel: &Place<'_>, name: &str) -> Result<Option<Digest>, ConvertError> {
    let Some(place) = kernel.get(name) else {
        return Ok(None);
    };
    let text = place.text()?;
    crate::hex::decode(text.strip_prefix("0x").unwrap_or(text))
        .and_then(|bytes| Digest::new(HashAlg::Sha256, &bytes))
        .map(Some)
        .ok_or_else(|| place.wrong("is not a SHA-256 of 64 hex digits"))
}

/// A manifest's pattern, in which `*` and `?` are all that is special, of a regular expression that must
/// match the whole line. Of those, only `.*` can be said; a dot by itself is taken as `?`.
fn pattern(regex: &str) -> Result<String, String> {
    let cannot = |what: &str| format!("cannot be said as a pattern with * and ? ({what})");
    let mut pattern = String::new();
    let mut rest = regex.strip_prefix('^').unwrap_or(regex);
    rest = rest.strip_suffix('$').unwrap_or(rest);
    let mut chars = rest.chars();
    loop {
        if let Some(after) = chars.as_str().strip_prefix(".*") {
            pattern.push('*');
            chars = after.chars();
            continue;
        }
        match chars.next() {
            None => return Ok(pattern),
            Some('.') => pattern.push('?'),
            Some('\\') => match chars.next() {
                Some(c) if c.is_alphanumeric() || matches!(c, '*' | '?') => {
                    return Err(cannot(&format!("\\{c}")));
                }
                Some(c) => pattern.push(c),
                None => return Err(cannot("a backslash at the end")),
            },
            Some(c @ ('*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '^' | '$')) => {
                return Err(cannot(&c.to_string()));
            }
            Some(c) => pattern.push(c),
        }
    }
}
