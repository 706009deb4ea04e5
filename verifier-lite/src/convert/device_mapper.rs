//! `ima.dm_policy` of a Keylime runtime policy (`keylime.ima.ima_dm.Policies`): rules for what the kernel measures
//! of the device mapper.
//!
//! A rule's strings are regular expressions that must match all of a value, its numbers and truths are compared. What
//! cannot be said as a pattern leaves its whole rule out, and so makes that device unknown. Keylime also follows each
//! device through the log; here each record is judged by itself, and what a rule demands of their order is named.
//! Keylime takes the first rule that matches a device, a manifest lets any of them allow it.

use serde_json::Value;

use super::{ConvertError, Imported, Place};
use crate::manifest::{Attributes, DeviceTable};
use crate::wildcard;

const DEVICE: [&str; 5] = ["name", "uuid", "major", "minor", "minor_count"];

/// Adds the tables of a policy to what was imported.
pub(super) fn read(policy: &Place<'_>, imported: &mut Imported) -> Result<(), ConvertError> {
    policy.members()?;
    imported.leave_out_unknown(policy, &["match_on", "rules"]);
    let on = policy.must("match_on")?;
    if !["name", "uuid"].contains(&on.text()?) {
        return Err(on.wrong("is not \"name\" or \"uuid\""));
    }
    let rules = policy.must("rules")?.members()?;
    imported.leave_out(
        rules.len(),
        "device-mapper rules' demands on the order of events: that a table is loaded before it is resumed, and the \
         same one, and once",
    );
    for (_, rule) in rules {
        match table(&rule, imported)? {
            Ok(table) => imported.buffers.tables.push(table),
            Err(why) => imported.left_out.push(format!("device-mapper rule {why}")),
        }
    }
    Ok(())
}

/// A table; or where what cannot be converted is, and why.
fn table(
    rule: &Place<'_>,
    imported: &mut Imported,
) -> Result<Result<DeviceTable, String>, ConvertError> {
    let load = rule.must("table_load")?;
    let mut order = Vec::new();
    for (place, name, demanding) in [
        (rule, "required", true),
        (rule, "device_resume_required", true),
        (&load, "allow_multiple_loads", false),
    ] {
        if is(place, name)? == Some(demanding) {
            order.push(format!("{}.{name}", place.at));
        }
    }
    let rename = rule.get("device_rename");
    let remove = rule.get("device_remove");
    let allowed = |value: Result<Option<bool>, ConvertError>| value.map(|v| v == Some(true));
    let mut table = DeviceTable {
        may_clear: allowed(is(rule, "allow_clear"))?,
        may_remove: match &remove {
            Some(remove) => allowed(is(remove, "allow_removal"))?,
            None => false,
        },
        ..DeviceTable::default()
    };
    let targets = load.must("targets")?.items()?;
    let count = load.must("num_targets")?;
    if count.value.as_u64() != Some(targets.len() as u64) {
        return Err(count.wrong("is not the number of \"targets\""));
    }
    let mut members: Vec<(Place<'_>, Vec<&str>)> = vec![(load, DEVICE.to_vec())];
    for target in &targets {
        let names = target.members()?.into_iter().map(|(name, _)| name);
        members.push((target.clone(), names.collect()));
    }
    let mut all = Vec::new();
    for (place, names) in &members {
        let mut attributes = Attributes::new();
        for name in names {
            let Some(value) = place.get(name) else {
                continue;
            };
            match pattern(&value)? {
                Ok(pattern) => drop(attributes.insert((*name).to_owned(), pattern)),
                Err(why) => return Ok(Err(format!("{}: {why}", value.at))),
            }
        }
        all.push(attributes);
    }
    table.device = all.remove(0);
    table.targets = all;
    if let Some(rename) = &rename {
        let mut becomes = Vec::new();
        for name in ["valid_name", "valid_uuid"] {
            match rename.get(name).map(|place| pattern(&place)).transpose()? {
                Some(Ok(pattern)) => becomes.push(pattern),
                Some(Err(why)) => return Ok(Err(format!("{}.{name}: {why}", rename.at))),
                // Anything, as there.
                None => becomes.push("*".to_owned()),
            }
        }
        let [name, uuid] = <[String; 2]>::try_from(becomes).unwrap_or_default();
        table.may_become = Some((name, uuid));
    }
    for place in order {
        imported.left_out.push(format!(
            "{place}: the order of device-mapper events is not judged"
        ));
    }
    Ok(Ok(table))
}

/// What this member must be true or false for.
fn is(place: &Place<'_>, name: &str) -> Result<Option<bool>, ConvertError> {
    let Some(member) = place.get(name) else {
        return Ok(None);
    };
    let value = member.value.as_bool();
    value
        .map(Some)
        .ok_or_else(|| member.wrong("is not true or false"))
}

/// The pattern for a value of a rule; or why there is none.
fn pattern(place: &Place<'_>) -> Result<Result<String, String>, ConvertError> {
    match place.value {
        Value::String(regex) => Ok(wildcard::of_regex(regex)),
        Value::Number(number) => Ok(Ok(number.to_string())),
        // As the kernel writes a flag.
        Value::Bool(flag) => Ok(Ok(if *flag { "y" } else { "n" }.to_owned())),
        _ => Err(place.wrong("is not a string, a number, or true or false")),
    }
}
