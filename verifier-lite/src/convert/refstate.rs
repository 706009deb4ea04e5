//! Keylime's measured-boot reference state (`keylime.mba.elchecking`, docs: "Use Measured Boot"), as
//! `create_mb_refstate` writes it for the policy `example`.
//!
//! `scrtm_and_bios` is all that may have been measured into PCR 0, as there; which version of the CRTM goes with
//! which firmware is lost. Keys (`pk` to `dbx`, `vendor_db`) are lists there of which a variable may hold any part or
//! must hold all; a manifest names whole variables, by what `motectl bootlog` shows of a device.
//!
//! Its kernels are combinations of shim, GRUB, kernel, initrd and command line; a manifest lists each of
//! these by itself, so that a boot that mixes two combinations of one reference state passes. One state
//! for each image version, and a manifest of its own for each, keeps them apart.

use mote_schemas::tpm::{Digest, HashAlg};

use super::{ConvertError, Imported, Place, parse_json};

/// Members of a kernel: what the firmware starts, by Authenticode digest.
const STARTED: [&str; 3] = [
    "shim_authcode_sha256",
    "grub_authcode_sha256",
    "kernel_authcode_sha256",
];
/// What GRUB loads; without Secure Boot, `example` has the kernel by the second name.
const LOADED: [&str; 2] = ["kernel_plain_sha256", "vmlinuz_plain_sha256"];
const INITRD: &str = "initrd_plain_sha256";
const COMMAND_LINE: &str = "kernel_cmdline";

/// Names of hash algorithms.
const BANKS: [(&str, HashAlg); 4] = [
    ("sha1", HashAlg::Sha1),
    ("sha256", HashAlg::Sha256),
    ("sha384", HashAlg::Sha384),
    ("sha512", HashAlg::Sha512),
];

/// Reads a reference state.
pub fn read(bytes: &[u8]) -> Result<Imported, ConvertError> {
    let document = parse_json(bytes)?;
    let state = Place::root(&document);
    let mut imported = Imported::default();
    let kernels = state.must("kernels")?;
    for kernel in kernels.items()? {
        kernel.members()?;
        let boot = &mut imported.boot;
        for name in STARTED {
            boot.applications.extend(digest(&kernel, name)?);
        }
        for name in LOADED {
            boot.kernels.extend(digest(&kernel, name)?);
        }
        boot.initrds.extend(digest(&kernel, INITRD)?);
        if let Some(line) = kernel.get(COMMAND_LINE) {
            let pattern = pattern(line.text()?).map_err(|what| line.wrong(&what))?;
            boot.command_lines.push(pattern);
        }
        let known = [&STARTED[..], &LOADED, &[INITRD, COMMAND_LINE]].concat();
        imported.leave_out_unknown(&kernel, &known);
    }
    if imported.boot.is_empty() {
        return Err(kernels.wrong("expects nothing of the boot, so there is nothing to convert"));
    }
    if let Some(firmwares) = state.get("scrtm_and_bios") {
        firmware(&firmwares, &mut imported)?;
    }
    imported.boot.secure_boot = match state.get("has_secureboot") {
        Some(on) => on
            .value
            .as_bool()
            .ok_or_else(|| on.wrong("is not true or false"))?,
        None => true,
    };
    imported.leave_out(
        usize::from(!imported.boot.secure_boot),
        "demand that Secure Boot be off (\"has_secureboot\")",
    );
    for (name, what) in [
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
    let known = [
        "scrtm_and_bios",
        "has_secureboot",
        "kernels",
        "pk",
        "kek",
        "db",
        "dbx",
        "vendor_db",
        "mokdig",
        "mokxdig",
    ];
    imported.leave_out_unknown(&state, &known);
    Ok(imported)
}

/// What may have been measured into PCR 0.
fn firmware(firmwares: &Place<'_>, imported: &mut Imported) -> Result<(), ConvertError> {
    let mut others = 0;
    for firmware in firmwares.items()? {
        firmware.members()?;
        let mut measured = vec![firmware.must("scrtm")?];
        measured.extend(firmware.must("platform_firmware")?.items()?);
        for event in measured {
            for (name, value) in event.members()? {
                let Some((_, alg)) = BANKS.iter().find(|(bank, _)| *bank == name) else {
                    others += 1;
                    continue;
                };
                let listed = imported.boot.events.entry(0).or_default();
                listed.push(of_alg(&value, *alg)?);
            }
        }
        imported.leave_out_unknown(&firmware, &["scrtm", "platform_firmware"]);
    }
    imported.leave_out(
        others,
        "digests of firmware in banks that are not known here",
    );
    Ok(())
}

/// The member called `name`, SHA-256.
fn digest(kernel: &Place<'_>, name: &str) -> Result<Option<Digest>, ConvertError> {
    let place = kernel.get(name);
    place
        .map(|place| of_alg(&place, HashAlg::Sha256))
        .transpose()
}

/// `0x` and hexadecimal digits, as many as the algorithm has.
fn of_alg(place: &Place<'_>, alg: HashAlg) -> Result<Digest, ConvertError> {
    let text = place.text()?;
    crate::hex::decode(text.strip_prefix("0x").unwrap_or(text))
        .and_then(|bytes| Digest::new(alg, &bytes))
        .ok_or_else(|| {
            let known = BANKS.iter().find(|(_, known)| *known == alg);
            let (name, digits) = (known.map_or("", |(name, _)| name), 2 * alg.digest_len());
            place.wrong(&format!("is not a digest of {name}, {digits} hex digits"))
        })
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
