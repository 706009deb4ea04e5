//! Keylime's measured-boot reference state (`keylime.mba.elchecking`, docs: "Use Measured Boot"), as
//! `create_mb_refstate` writes it for the policy `example`.
//!
//! `scrtm_and_bios` is all that may have been measured into PCR 0, as there; which version of the CRTM goes with
//! which firmware is lost. `pk`, `kek` and `db` are what these variables may hold, any part of it, and `dbx`
//! what that one must. `mokdig` and `mokxdig` become all that PCR 14 may have seen.
//!
//! Its kernels are combinations of shim, GRUB, kernel, initrd and command line; a manifest lists each of
//! these by itself, so that a boot that mixes two combinations of one reference state passes. One state
//! for each image version, and a manifest of its own for each, keeps them apart.

use mote_schemas::bootlog::{Guid, Signature};
use mote_schemas::tpm::{Digest, HashAlg, hash};

use super::{ConvertError, Imported, Place, parse_json};
use crate::manifest::{FileDigest, KeyVariable};
use crate::wildcard;

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

/// PCR of shim's lists.
const MACHINE_OWNER_PCR: u8 = 14;

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
            let pattern = wildcard::of_regex(line.text()?).map_err(|what| line.wrong(&what))?;
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
    keys(&state, &mut imported)?;
    machine_owner(&state, &mut imported)?;
    if let Some(list) = state.get("vendor_db") {
        imported.leave_out(
            list.items()?.len(),
            "keys of \"vendor_db\", which `example` does not look at either",
        );
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

/// What Secure Boot's variables may hold, and dbx must. Without Secure Boot, an empty list says nothing.
fn keys(state: &Place<'_>, imported: &mut Imported) -> Result<(), ConvertError> {
    for key in KeyVariable::ALL {
        let Some(list) = state.get(&key.name().to_ascii_lowercase()) else {
            continue;
        };
        let signatures: Vec<_> = list
            .items()?
            .iter()
            .map(|item| signature(item, key))
            .collect::<Result<_, _>>()?;
        let nothing = signatures.is_empty();
        let boot = &mut imported.boot;
        if key == KeyVariable::Dbx {
            if !nothing {
                boot.required_signatures.insert(key, signatures);
            }
        } else if boot.secure_boot || !nothing {
            boot.allowed_signatures.insert(key, signatures);
        }
    }
    Ok(())
}

/// A member of a list of keys. db and dbx hold certificates, and digests of images, which are as short as none.
fn signature(place: &Place<'_>, key: KeyVariable) -> Result<FileDigest, ConvertError> {
    let owner = place.must("SignatureOwner")?;
    let owner = Guid::parse(owner.text()?).ok_or_else(|| {
        owner.wrong("is not a GUID, such as 77fa9abd-0359-4d32-bd60-28fc4e78f784")
    })?;
    let data = place.must("SignatureData")?;
    let bytes = hex_of(&data)?.ok_or_else(|| data.wrong("is not hexadecimal digits"))?;
    let of_image = matches!(key, KeyVariable::Db | KeyVariable::Dbx)
        && bytes.len() == HashAlg::Sha256.digest_len();
    let signature = Signature {
        kind: if of_image {
            Guid::CERT_SHA256
        } else {
            Guid::CERT_X509
        },
        owner,
        data: &bytes,
    };
    let digest = signature.digest().as_bytes().try_into();
    digest
        .map(FileDigest)
        .map_err(|_| place.wrong("has no SHA-256 digest"))
}

/// What shim may measure into PCR 14: `MokList`, `MokListX`, and as there, `MokListTrusted` of either value. The name
/// of the list is in no PCR, so which of them a digest belongs to is lost.
fn machine_owner(state: &Place<'_>, imported: &mut Imported) -> Result<(), ConvertError> {
    let lists = ["mokdig", "mokxdig"].map(|name| state.get(name));
    if lists.iter().all(Option::is_none) {
        return Ok(());
    }
    let (mut allowed, mut others) = (Vec::new(), 0);
    for list in lists.iter().flatten() {
        for digests in list.items()? {
            for (name, value) in digests.members()? {
                match BANKS.iter().find(|(bank, _)| *bank == name) {
                    Some((_, alg)) => allowed.push(of_alg(&value, *alg)?),
                    None => others += 1,
                }
            }
        }
    }
    for (_, bank) in BANKS {
        allowed.extend([[0], [1]].map(|trusted| hash(bank, &[&trusted])));
    }
    imported
        .boot
        .events
        .entry(MACHINE_OWNER_PCR)
        .or_default()
        .extend(allowed);
    imported.leave_out(
        others,
        "digests of machine owner keys in banks that are not known here",
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
    hex_of(place)?
        .and_then(|bytes| Digest::new(alg, &bytes))
        .ok_or_else(|| {
            let known = BANKS.iter().find(|(_, known)| *known == alg);
            let (name, digits) = (known.map_or("", |(name, _)| name), 2 * alg.digest_len());
            place.wrong(&format!("is not a digest of {name}, {digits} hex digits"))
        })
}

fn hex_of(place: &Place<'_>) -> Result<Option<Vec<u8>>, ConvertError> {
    let text = place.text()?;
    Ok(crate::hex::decode(text.strip_prefix("0x").unwrap_or(text)))
}
