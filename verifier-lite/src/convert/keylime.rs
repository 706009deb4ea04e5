//! Keylime's runtime policy, version 1 (`keylime.ima.types.RuntimePolicyType`, docs: "Runtime Integrity
//! Monitoring").
//!
//! Its `excludes` are regular expressions of Python that must match at the start of a path, a manifest's
//! exclusions are globs that must match all of it. Those that can be said as globs are; any other is an
//! error, since to leave one out or to guess would change what is judged.
//!
//! `keyrings` and `ima-buf` become measured buffers: here, too, a key is known by the digest that is logged. Out of a
//! manifest each buffer goes into both, since a manifest does not say which of them are keys.
//!
//! `ima.log_hash_alg` is how the log's template hashes were made, of which a manifest says nothing: every bank that
//! a quote covers is replayed.

use serde_json::json;

use super::{
    ConvertError, Imported, Place, absolute, device_mapper, digest, parse_json, path_text,
};
use crate::manifest::{FileDigest, FileEntry, Manifest};

/// All that a policy has; `meta` and `release` say nothing about a device.
const MEMBERS: [&str; 8] = [
    "meta",
    "release",
    "digests",
    "excludes",
    "keyrings",
    "ima",
    "ima-buf",
    "verification-keys",
];

/// Reads a policy.
pub fn read(bytes: &[u8]) -> Result<Imported, ConvertError> {
    let document = parse_json(bytes)?;
    let policy = Place::root(&document);
    if policy.get("payload").is_some() && policy.get("signatures").is_some() {
        return Err(policy.wrong("a signed policy (DSSE): convert the policy that was signed"));
    }
    if policy.get("digests").is_none() {
        // Of its allowlists, versions up to 5.
        for old in ["hashes", "allowlist"] {
            if let Some(place) = policy.get(old) {
                let what = "an allowlist of before Keylime 7: convert it with keylime_convert_runtime_policy";
                return Err(place.wrong(what));
            }
        }
    }
    let mut imported = Imported::default();
    let (mut other_algorithms, mut not_files) = (0, 0);
    for (path, digests) in policy.must("digests")?.members()? {
        if !path.starts_with('/') {
            // `boot_aggregate`, which follows from the boot PCRs here.
            not_files += 1;
            continue;
        }
        let path = absolute(path).ok_or_else(|| digests.wrong("is not a path of a file"))?;
        let mut known = Vec::new();
        for item in digests.items()? {
            match sha256(&item)? {
                Some(digest) => known.push(digest),
                None => other_algorithms += 1,
            }
        }
        if !known.is_empty() {
            imported.files.push(FileEntry {
                path,
                digests: known,
            });
        }
    }
    if let Some(excludes) = policy.get("excludes") {
        for exclude in excludes.items()? {
            let globs = globs(exclude.text()?).map_err(|what| exclude.wrong(&what))?;
            imported.exclusions.extend(globs);
        }
    }
    imported.leave_out(
        other_algorithms,
        "digests that are not SHA-256: have the devices measure with ima_hash=sha256",
    );
    imported.leave_out(
        not_files,
        "digests of no file, such as boot_aggregate, which is computed from the boot PCRs",
    );
    others(&policy, &mut imported)?;
    imported.not_empty("$.digests")
}

/// A digest, with or without its algorithm in front; `None` if that is not SHA-256.
fn sha256(item: &Place<'_>) -> Result<Option<FileDigest>, ConvertError> {
    let text = item.text()?;
    let (algorithm, hex) = match text.split_once(':') {
        Some((algorithm, hex)) => (Some(algorithm), hex),
        None => (None, text),
    };
    let is_hex = !hex.is_empty() && crate::hex::decode(hex).is_some();
    match (algorithm, hex.len()) {
        _ if !is_hex => Err(item.wrong("is not a digest in hexadecimal")),
        (Some("sha256"), _) | (None, 64) => digest(hex)
            .map(Some)
            .ok_or_else(|| item.wrong("is not a SHA-256 of 64 hex digits")),
        _ => Ok(None),
    }
}

/// Digests of keys by their keyring, or of other buffers by their name.
fn buffers(listed: &Place<'_>, imported: &mut Imported) -> Result<(), ConvertError> {
    let mut other_algorithms = 0;
    for (name, digests) in listed.members()? {
        let path = buffer_name(&digests, name)?.into();
        let mut known = Vec::new();
        for item in digests.items()? {
            match sha256(&item)? {
                Some(digest) => known.push(digest),
                None => other_algorithms += 1,
            }
        }
        if !known.is_empty() {
            imported.buffers.known.push(FileEntry {
                path,
                digests: known,
            });
        }
    }
    imported.leave_out(
        other_algorithms,
        "digests of buffers that are not SHA-256: have the devices measure with ima_hash=sha256",
    );
    Ok(())
}

/// The kernel's name of a buffer.
fn buffer_name(place: &Place<'_>, name: &str) -> Result<String, ConvertError> {
    if name.is_empty() || name.starts_with('/') || name.contains('\0') {
        return Err(place.wrong("is not the name of a buffer or keyring, such as .ima"));
    }
    Ok(name.to_owned())
}

/// What a policy says besides files.
fn others(policy: &Place<'_>, imported: &mut Imported) -> Result<(), ConvertError> {
    for name in ["keyrings", "ima-buf"] {
        if let Some(place) = policy.get(name) {
            buffers(&place, imported)?;
        }
    }
    let ima = policy.get("ima");
    if let Some(place) = ima.as_ref().and_then(|ima| ima.get("log_hash_alg")) {
        let known = ["sha1", "sha256", "sha384", "sha512"];
        if !known.contains(&place.text()?) {
            return Err(place.wrong("is none of sha1, sha256, sha384 and sha512"));
        }
    }
    if let Some(place) = ima.as_ref().and_then(|ima| ima.get("ignored_keyrings")) {
        for keyring in place.items()? {
            let name = buffer_name(&keyring, keyring.text()?)?;
            imported.buffers.unjudged_keyrings.push(name);
        }
    }
    if let Some(place) = ima.as_ref().and_then(|ima| ima.get("dm_policy")) {
        device_mapper::read(&place, imported)?;
    }
    let keys = policy.get("verification-keys").is_some_and(|keys| {
        let text = keys.value.as_str();
        text.is_some_and(|text| !text.is_empty())
            || keys.value.as_array().is_some_and(|keys| !keys.is_empty())
    });
    imported.leave_out(
        usize::from(keys),
        "set of verification keys: give their certificates with --ima-key",
    );
    imported.leave_out_unknown(policy, &MEMBERS);
    if let Some(ima) = &ima {
        ima.members()?;
        imported.leave_out_unknown(ima, &["ignored_keyrings", "log_hash_alg", "dm_policy"]);
    }
    Ok(())
}

/// Globs that match the paths that this regular expression matches at their start, and no others.
fn globs(regex: &str) -> Result<Vec<String>, String> {
    let cannot = |what: &str| {
        format!(
            "{regex:?} cannot be said as a glob ({what}): take it out, and give globs with --exclude"
        )
    };
    let mut rest = regex.strip_prefix('^').unwrap_or(regex);
    let exact = rest.ends_with('$') && !rest.ends_with("\\$");
    if exact {
        rest = &rest[..rest.len() - 1];
    }
    let open = rest.ends_with(".*") && !rest.ends_with("\\.*");
    if open {
        rest = &rest[..rest.len() - 2];
    }
    let mut glob = String::new();
    let mut chars = rest.chars();
    loop {
        if let Some(after) = chars.as_str().strip_prefix("[^/]*") {
            glob.push('*');
            chars = after.chars();
            continue;
        }
        match chars.next() {
            None => break,
            Some('\\') => match chars.next() {
                // A class such as \d or \w.
                Some(c) if c.is_alphanumeric() => return Err(cannot(&format!("\\{c}"))),
                Some(c) => literal(&mut glob, c),
                None => return Err(cannot("a backslash at the end")),
            },
            // A dot that is not escaped is nearly always meant as one; but it matches any character,
            // so that a glob's `?` is what it says.
            Some('.') => glob.push('?'),
            Some(c @ ('*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '^' | '$')) => {
                return Err(cannot(&c.to_string()));
            }
            Some(c) => literal(&mut glob, c),
        }
    }
    if !glob.starts_with('/') {
        return Err(cannot("it does not begin with /"));
    }
    if exact && !open {
        return Ok(vec![glob]);
    }
    Ok(if glob.ends_with('/') {
        vec![format!("{glob}**")]
    } else {
        // `/tmp/a` matches /tmp/a, /tmp/ab and /tmp/ab/c.
        vec![format!("{glob}*"), format!("{glob}*/**")]
    })
}

/// A character that stands for itself.
fn literal(glob: &mut String, c: char) {
    if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\') {
        glob.push('\\');
    }
    glob.push(c);
}

/// The manifest as a runtime policy, and what that cannot say.
pub fn write(manifest: &Manifest) -> Result<(String, Vec<String>), ConvertError> {
    let mut digests = serde_json::Map::new();
    let mut left_out = Vec::new();
    let mut unreadable = 0;
    for file in manifest.files() {
        let Some(path) = path_text(&file.path) else {
            unreadable += 1;
            continue;
        };
        // Without the algorithm: Keylime compares them as they are.
        let values: Vec<String> = file.digests.iter().map(ToString::to_string).collect();
        // As the kernel logs it.
        digests.insert(path.replace(' ', "_"), json!(values));
    }
    let excludes = manifest
        .exclusions()
        .iter()
        .map(|glob| regex(glob))
        .collect::<Result<Vec<_>, _>>()?;
    if unreadable > 0 {
        left_out.push(format!("{unreadable} paths that are not UTF-8"));
    }
    if !manifest.boot().is_empty() {
        left_out.push("what is expected of the boot event log".to_owned());
    }
    if !manifest.firmware().is_empty() {
        left_out.push("components of a firmware".to_owned());
    }
    if !manifest.pcrs().is_empty() {
        left_out.push("values of boot PCRs: give them to the tenant as a TPM policy".to_owned());
    }
    let buffers = manifest.buffers();
    let mut known = serde_json::Map::new();
    for buffer in &buffers.known {
        let Some(name) = path_text(&buffer.path) else {
            left_out.push("a buffer whose name is not UTF-8".to_owned());
            continue;
        };
        let digests = buffer.digests.iter();
        let digests: Vec<_> = digests.map(ToString::to_string).collect();
        known.insert(name.replace(' ', "_"), json!(digests));
    }
    if !buffers.tables.is_empty() {
        left_out.push(format!("{} device-mapper tables", buffers.tables.len()));
    }
    let policy = json!({
        "meta": {"version": 1, "generator": 0},
        "release": 0,
        "digests": digests,
        "excludes": excludes,
        "keyrings": known,
        "ima": {"ignored_keyrings": buffers.unjudged_keyrings, "log_hash_alg": "sha1", "dm_policy": null},
        "ima-buf": known,
        "verification-keys": "",
    });
    Ok((format!("{policy:#}\n"), left_out))
}

/// A regular expression that matches what the glob matches.
fn regex(glob: &str) -> Result<String, ConvertError> {
    let mut regex = String::new();
    let mut rest = glob;
    while let Some(c) = rest.chars().next() {
        let (text, len): (&str, usize) = if rest == "/**" {
            // globset: everything below, at any depth.
            ("/.+", 3)
        } else if rest.starts_with("/**/") {
            ("/(.*/)?", 4)
        } else if rest.starts_with("**/") && regex.is_empty() {
            ("(.*/)?", 3)
        } else {
            match c {
                '*' => ("[^/]*", 1),
                '?' => ("[^/]", 1),
                '[' | '{' => {
                    return Err(ConvertError::new(
                        format!("exclusion {glob:?}"),
                        "classes and alternatives are not converted",
                    ));
                }
                '\\' => {
                    let escaped = rest[1..].chars().next();
                    let len = 1 + escaped.map_or(0, char::len_utf8);
                    push_literal(&mut regex, escaped.unwrap_or('\\'));
                    ("", len)
                }
                c => {
                    push_literal(&mut regex, c);
                    ("", c.len_utf8())
                }
            }
        };
        regex.push_str(text);
        rest = &rest[len..];
    }
    regex.push('$');
    Ok(regex)
}

fn push_literal(regex: &mut String, c: char) {
    if c.is_ascii_punctuation() && !matches!(c, '/' | '-' | '_') {
        regex.push('\\');
    }
    regex.push(c);
}
