//! What the device mapper did, as the kernel measures it (Linux, `admin-guide/device-mapper/dm-ima.rst`,
//! `drivers/md/dm-ima.c`), against the tables of a manifest.
//!
//! ```text
//! dm_version=4.47.0;name=root,uuid=,major=253,...;target_index=0,...,target_name=verity,...,root_digest=ab...;
//! ```
//!
//! Each record is judged by itself: an unknown table is seen when it is loaded, whatever becomes of it. Which
//! came first, whether a table that was loaded became active, and whether one is missing is not judged.

use crate::manifest::{Attributes, DeviceTable};
use crate::wildcard;

/// What the kernel calls these records.
const EVENTS: [&str; 6] = [LOAD, RESUME, CLEAR, REMOVE, RENAME, UPDATE];
const LOAD: &str = "dm_table_load";
const RESUME: &str = "dm_device_resume";
const CLEAR: &str = "dm_table_clear";
const REMOVE: &str = "dm_device_remove";
const RENAME: &str = "dm_device_rename";
const UPDATE: &str = "dm_target_update";

/// Whether a record of this name is about the device mapper.
pub(super) fn is_event(name: &[u8]) -> bool {
    EVENTS.iter().any(|event| event.as_bytes() == name)
}

/// Why a record does not fit a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    /// Whether the table is of this very device, by its name and UUID.
    pub(super) device_is_known: bool,
    pub(super) why: String,
}

impl Misfit {
    fn new(why: impl Into<String>) -> Self {
        Self {
            device_is_known: false,
            why: why.into(),
        }
    }
}

/// Whether one of `tables` allows what this record says was done; if not, why the one that is nearest does not.
pub(super) fn judge<'t>(
    event: &[u8],
    buffer: &[u8],
    tables: impl Iterator<Item = &'t DeviceTable>,
) -> Result<(), Misfit> {
    let record = Record::parse(buffer).ok_or_else(|| Misfit::new("not in the form of dm-ima"))?;
    let mut nearest: Option<(usize, Misfit)> = None;
    for table in tables {
        match fits(event, &record, table) {
            Ok(()) => return Ok(()),
            Err((agreed, why)) => {
                if nearest.as_ref().is_none_or(|(best, _)| agreed > *best) {
                    nearest = Some((agreed, why));
                }
            }
        }
    }
    let none = || Misfit::new("no manifest has a device-mapper table");
    Err(nearest.map_or_else(none, |(_, misfit)| misfit))
}

/// Attributes as measured.
type Measured = Vec<(String, String)>;

struct Record {
    device: Measured,
    targets: Vec<Measured>,
    /// What it is called after a renaming.
    becomes: Measured,
}

impl Record {
    fn parse(buffer: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(buffer).ok()?;
        let mut record = Self {
            device: Vec::new(),
            targets: Vec::new(),
            becomes: Vec::new(),
        };
        for group in split(text, ';') {
            let attributes: Measured = split(group, ',')
                .into_iter()
                .map(attribute)
                .collect::<Option<_>>()?;
            match attributes.first().map(|(key, _)| key.as_str()) {
                Some("name") if record.device.is_empty() => record.device = attributes,
                // Of a removal: the active and the inactive table are of one device.
                Some("name")
                    if record.device[..2.min(record.device.len())]
                        == attributes[..2.min(attributes.len())] => {}
                Some("target_index") => record.targets.push(attributes),
                Some("new_name") if record.becomes.is_empty() => record.becomes = attributes,
                Some(
                    "dm_version"
                    | "current_device_capacity"
                    | "active_table_hash"
                    | "inactive_table_hash"
                    | "remove_all"
                    | "device_resume"
                    | "table_clear"
                    | "device_remove",
                ) if attributes.len() == 1 => {}
                _ => return None,
            }
        }
        (!record.device.is_empty()).then_some(record)
    }
}

/// One attribute; of a removal, the device's first has a name of its own in front.
fn attribute(text: &str) -> Option<(String, String)> {
    let text = ["device_active_metadata=", "device_inactive_metadata="]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))
        .unwrap_or(text);
    let (key, value) = text.split_once('=')?;
    // Separators in names and UUIDs come with a backslash (`fix_separator_chars`).
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => chars.next()?,
            c => c,
        });
    }
    Some((key.to_owned(), plain))
}

/// What stands between separators that no backslash is in front of; nothing after the last one.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        if c == separator && !escaped {
            parts.push(&text[start..at]);
            start = at + c.len_utf8();
        }
        escaped = c == '\\' && !escaped;
    }
    if start < text.len() {
        parts.push(&text[start..]);
    }
    parts
}

/// How many attributes agreed, and why the record does not fit.
type Difference<W> = (usize, W);

fn fits(event: &[u8], record: &Record, table: &DeviceTable) -> Result<(), Difference<Misfit>> {
    let mut agreed = 0;
    for (key, pattern) in table.device.iter().filter(|(key, _)| is_id(key)) {
        agreed = match compare(
            "the device",
            [(key, pattern)].into_iter(),
            &record.device,
            agreed,
        ) {
            Ok(agreed) => agreed,
            // It may have been renamed before.
            Err(_) if may_be_called(table, key, &record.device) => agreed + 1,
            Err((agreed, why)) => return Err((agreed, Misfit::new(why))),
        };
    }
    allows(event, record, table, agreed).map_err(|(agreed, why)| {
        let misfit = Misfit {
            device_is_known: true,
            why,
        };
        (agreed, misfit)
    })
}

fn is_id(key: &str) -> bool {
    matches!(key, "name" | "uuid")
}

/// Whether the device's name or UUID, `key`, is one that a renaming may have given it.
fn may_be_called(table: &DeviceTable, key: &str, device: &Measured) -> bool {
    let pattern = table.may_become.as_ref().map(|(name, uuid)| match key {
        "name" => name,
        _ => uuid,
    });
    let is = |pattern| value(device, key).is_some_and(|value| wildcard::matches(pattern, value));
    pattern.is_some_and(|pattern| is(pattern))
}

/// The same, of the device that the table is about.
fn allows(
    event: &[u8],
    record: &Record,
    table: &DeviceTable,
    agreed: usize,
) -> Result<(), Difference<String>> {
    let is = |name: &str| event == name.as_bytes();
    // Without data, the kernel knows the device's name and UUID alone.
    let others = |key: &str| !is_id(key) && record.device.len() > 2;
    let device = table.device.iter().filter(|(key, _)| others(key));
    let agreed = compare("the device", device, &record.device, agreed)?;
    let may = |allowed: bool, what: &str| {
        allowed
            .then_some(())
            .ok_or_else(|| (agreed, format!("this device may not be {what}")))
    };
    if is(LOAD) {
        let (measured, expected) = (record.targets.len(), table.targets.len());
        if measured != expected {
            return Err((agreed, format!("{measured} targets, not {expected}")));
        }
        if number(&record.device, "num_targets") != Some(measured) {
            return Err((
                agreed,
                "num_targets is not the number of targets".to_owned(),
            ));
        }
        let mut agreed = agreed;
        for (n, (measured, expected)) in record.targets.iter().zip(&table.targets).enumerate() {
            agreed = compare(&format!("target {n}"), expected.iter(), measured, agreed)?;
        }
        Ok(())
    } else if is(UPDATE) {
        let updated = record.targets.first();
        let expected =
            updated.and_then(|measured| table.targets.get(number(measured, "target_index")?));
        match (updated, expected) {
            (Some(measured), Some(expected)) if record.targets.len() == 1 => {
                compare("the target", expected.iter(), measured, agreed).map(drop)
            }
            _ => Err((agreed, "no target of this device".to_owned())),
        }
    } else if is(RESUME) {
        Ok(())
    } else if is(CLEAR) {
        may(table.may_clear, "cleared")
    } else if is(REMOVE) {
        may(table.may_remove, "removed")
    } else if is(RENAME) {
        let Some((name, uuid)) = &table.may_become else {
            return may(false, "renamed");
        };
        // Either may stay what it is.
        let changes =
            |old: &str, new: &str| value(&record.device, old) != value(&record.becomes, new);
        let becomes: Attributes = [("name", "new_name", name), ("uuid", "new_uuid", uuid)]
            .into_iter()
            .filter(|(old, new, _)| changes(old, new))
            .map(|(_, new, pattern)| (new.to_owned(), pattern.clone()))
            .collect();
        compare("the device", becomes.iter(), &record.becomes, agreed).map(drop)
    } else {
        Err((
            0,
            "no event of the device mapper that is known here".to_owned(),
        ))
    }
}

fn number(measured: &Measured, key: &str) -> Option<usize> {
    value(measured, key)?.parse().ok()
}

/// The one value of this attribute; none if there are several.
fn value<'m>(measured: &'m Measured, key: &str) -> Option<&'m str> {
    let mut values = measured.iter().filter(|(name, _)| name == key);
    let (_, value) = values.next()?;
    values.next().is_none().then_some(value)
}

fn compare<'t>(
    what: &str,
    expected: impl Iterator<Item = (&'t String, &'t String)>,
    measured: &Measured,
    mut agreed: usize,
) -> Result<usize, Difference<String>> {
    for (key, pattern) in expected {
        match value(measured, key) {
            Some(value) if wildcard::matches(pattern, value) => agreed += 1,
            Some(value) => {
                let why = format!("{key} of {what} is {value:?}, not {pattern:?}");
                return Err((agreed, why));
            }
            None => return Err((agreed, format!("{what} has no {key}"))),
        }
    }
    Ok(agreed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "dm_version=4.47.0;name=root,uuid=CRYPT-VERITY-a\\,b,major=253,minor=0,minor_count=1,\
        num_targets=1;target_index=0,target_begin=0,target_len=8192,target_name=verity,target_version=1.9.0,\
        hash_failed=V,verity_version=1,data_device_name=254:2,hash_device_name=254:3,verity_algorithm=sha256,\
        root_digest=ab12,salt=cd,ignore_zero_blocks=n,check_at_most_once=n;";

    fn root() -> DeviceTable {
        DeviceTable::verity("root", "ab12")
    }

    fn judged(event: &str, buffer: &str, table: &DeviceTable) -> Result<(), Misfit> {
        judge(event.as_bytes(), buffer.as_bytes(), [table].into_iter())
    }

    fn why_not(buffer: &str) -> String {
        judged(LOAD, buffer, &root()).unwrap_err().why
    }

    #[test]
    fn a_table_is_known_by_its_attributes_and_any_other_says_what_differs() {
        assert_eq!(judged(LOAD, ROOT, &root()), Ok(()));
        let mut with_uuid = root();
        with_uuid.device.insert("uuid".into(), "CRYPT-*-a,b".into());
        assert_eq!(judged(LOAD, ROOT, &with_uuid), Ok(()));
        for (from, to, why) in [
            (
                "ab12",
                "ab13",
                "root_digest of target 0 is \"ab13\", not \"ab12\"",
            ),
            (
                "name=root",
                "name=root2",
                "name of the device is \"root2\", not \"root\"",
            ),
            (
                "target_name=verity",
                "target_name=linear",
                "target_name of target 0 is \"linear\"",
            ),
            (
                "hash_failed=V",
                "hash_failed=C",
                "hash_failed of target 0 is \"C\"",
            ),
            ("num_targets=1", "num_targets=2", "num_targets is not"),
            ("root_digest=", "digest=", "target 0 has no root_digest"),
            // The same attribute twice: which one the kernel meant cannot be told.
            ("salt=cd", "root_digest=ab12", "target 0 has no root_digest"),
            ("dm_version", "version", "not in the form"),
            ("root,uuid", "root;uuid", "not in the form"),
        ] {
            assert!(ROOT.contains(from));
            let why_not = why_not(&ROOT.replace(from, to));
            assert!(why_not.contains(why), "{why_not}");
        }
        let twice = ROOT.replace("num_targets=1", "num_targets=2")
            + "target_index=1,target_begin=8192,target_len=8,target_name=linear;";
        assert!(judged(LOAD, &twice, &root()).is_err(), "a target more");
        assert_eq!(
            judge(LOAD.as_bytes(), ROOT.as_bytes(), std::iter::empty()),
            Err(Misfit::new("no manifest has a device-mapper table"))
        );
        assert!(judge(LOAD.as_bytes(), &[0xFF], std::iter::empty()).is_err());
        let of = |from, to| judged(LOAD, &ROOT.replace(from, to), &root()).unwrap_err();
        assert!(of("ab12", "ab13").device_is_known);
        assert!(!of("name=root", "name=swap").device_is_known);
    }

    #[test]
    fn what_may_be_done_with_a_device_is_said_one_by_one() {
        let device = "name=root,uuid=u,major=253,minor=0,minor_count=1,num_targets=1;";
        let capacity = "current_device_capacity=8192;";
        let resume = format!("dm_version=4.47.0;{device}active_table_hash=sha256:00;{capacity}");
        let clear = format!("dm_version=4.47.0;{device}inactive_table_hash=sha256:00;{capacity}");
        let nothing = format!("dm_version=4.47.0;table_clear=no_data;name=root,uuid=u;{capacity}");
        let remove = format!(
            "dm_version=4.47.0;device_active_metadata={device}device_inactive_metadata={device}\
             active_table_hash=sha256:00;inactive_table_hash=sha256:00;remove_all=n;{capacity}"
        );
        let rename = format!("dm_version=4.47.0;{device}new_name=root2,new_uuid=;{capacity}");
        let strict = DeviceTable {
            may_clear: false,
            may_remove: false,
            ..root()
        };
        for (event, buffer, allowed) in [
            (RESUME, &resume, true),
            (CLEAR, &clear, false),
            (CLEAR, &nothing, false),
            (REMOVE, &remove, false),
            (RENAME, &rename, false),
        ] {
            let judged_strictly = judged(event, buffer, &strict);
            assert_eq!(
                judged_strictly.is_ok(),
                allowed,
                "{event}: {judged_strictly:?}"
            );
            assert_eq!(judged(event, buffer, &root()).is_ok(), event != RENAME);
            let other = DeviceTable::verity("other", "ab12");
            assert!(judged(event, buffer, &other).is_err(), "{event}");
        }
        let mut renamed = root();
        renamed.may_become = Some(("root?".into(), String::new()));
        assert_eq!(judged(RENAME, &rename, &renamed), Ok(()));
        // By either of its names, from then on.
        for name in ["root", "root2"] {
            let resume = resume.replace("name=root,", &format!("name={name},"));
            assert_eq!(judged(RESUME, &resume, &renamed), Ok(()));
        }
        let other = resume.replace("name=root,", "name=swap,");
        assert!(judged(RESUME, &other, &renamed).is_err());
        renamed.may_become = Some(("root".into(), String::new()));
        assert!(judged(RENAME, &rename, &renamed).is_err());
        // What stays as it is need not be what it may become.
        renamed.may_become = Some(("root2".into(), "other".into()));
        assert!(judged(RENAME, &rename, &renamed).is_err());
        let same_uuid = rename.replace("new_uuid=", "new_uuid=u");
        assert_eq!(judged(RENAME, &same_uuid, &renamed), Ok(()));
        // A removal that names two devices is none of one.
        let two = remove.replacen("name=root", "name=swap", 1);
        assert!(judged(REMOVE, &two, &root()).is_err());

        let update = format!(
            "dm_version=4.47.0;{device}{}",
            ROOT.split_once(";target_index")
                .map(|(_, rest)| format!("target_index{rest}"))
                .unwrap()
        );
        assert_eq!(judged(UPDATE, &update, &root()), Ok(()));
        assert!(judged(UPDATE, &update.replace("ab12", "ab13"), &root()).is_err());
        assert!(judged(UPDATE, &update.replace("index=0", "index=1"), &root()).is_err());
        assert!(judged("dm_else", &resume, &root()).is_err());
    }
}
