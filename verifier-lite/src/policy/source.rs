//! The JSON in which people write policies, and in which `motectl policy show` prints them.

use std::collections::BTreeMap;

use mote_schemas::message::Tier;
use serde::{Deserialize, Serialize};

use super::{HASHES, ManifestRef, Mode, Policy, PolicyError, Which};
use crate::hex;
use crate::manifest::Fault;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Source {
    name: String,
    version: u64,
    #[serde(default)]
    mode: SourceMode,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    manifests: Vec<SourceManifest>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    exclusions: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ima_keys: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    banks: Vec<Hash>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    digests: Vec<Hash>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stale_after: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min_key_strength: Option<u16>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    reasons: BTreeMap<String, Weight>,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SourceMode {
    #[default]
    Enforce,
    Monitor,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct SourceManifest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    /// `2026-12-24` (midnight UTC), or Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<Time>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Time {
    Seconds(u64),
    Date(String),
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Hash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Weight {
    Ignore,
    Warning,
    Untrusted,
}

/// The policy that this JSON describes. An error names line and column.
pub fn from_json(text: &[u8]) -> Result<Policy, PolicyError> {
    let source: Source = serde_json::from_slice(text).map_err(|e| Fault::Json(e.to_string()))?;
    let alg = |hash: &Hash| HASHES[*hash as usize].0;
    let ima_key = |id: &String| {
        hex::decode(id)
            .ok_or_else(|| PolicyError::from(Fault::BadPolicy("an IMA key id is hexadecimal")))
    };
    let weights = source.reasons.into_iter().map(|(token, weight)| {
        let weight = match weight {
            Weight::Ignore => Tier::None,
            Weight::Warning => Tier::Warning,
            Weight::Untrusted => Tier::Contraindicated,
        };
        (token, weight)
    });
    let manifests = source.manifests.into_iter().map(manifest);
    Policy {
        name: source.name,
        version: source.version,
        mode: match source.mode {
            SourceMode::Enforce => Mode::Enforce,
            SourceMode::Monitor => Mode::Monitor,
        },
        manifests: manifests.collect::<Result<_, _>>()?,
        exclusions: source.exclusions,
        ima_keys: source
            .ima_keys
            .iter()
            .map(ima_key)
            .collect::<Result<_, _>>()?,
        banks: source.banks.iter().map(alg).collect(),
        digests: source.digests.iter().map(alg).collect(),
        stale_after: source.stale_after,
        min_key_strength: source.min_key_strength,
        weights: weights.collect(),
    }
    .checked()
}

fn manifest(source: SourceManifest) -> Result<ManifestRef, PolicyError> {
    let which = match (source.name, source.version, source.digest) {
        (Some(name), version, None) => Which::Name(name, version),
        (None, None, Some(digest)) => {
            let bytes = hex::decode(&digest).and_then(|bytes| bytes.try_into().ok());
            let wrong = "a manifest's digest has 64 hexadecimal digits";
            Which::Digest(bytes.ok_or(PolicyError::from(Fault::BadPolicy(wrong)))?)
        }
        _ => {
            let wrong = "a manifest goes by name, by name and version, or by digest";
            return Err(Fault::BadPolicy(wrong).into());
        }
    };
    let expires = match source.expires {
        None => None,
        Some(Time::Seconds(at)) => Some(at),
        Some(Time::Date(date)) => {
            let wrong = "an expiry is a date such as \"2026-12-24\", or Unix seconds";
            Some(midnight(&date).ok_or(PolicyError::from(Fault::BadPolicy(wrong)))?)
        }
    };
    Ok(ManifestRef { which, expires })
}

/// Unix seconds of the beginning of this day in UTC (days from civil, in eras of 400 years).
fn midnight(date: &str) -> Option<u64> {
    let mut parts = date.split('-');
    let mut part = |digits: usize| {
        let text = parts.next()?;
        let sound = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
        sound.then(|| text.parse::<u64>().ok())?
    };
    let (year, month, day) = (part(4)?, part(2)?, part(2)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = [
        31,
        28 + u64::from(leap),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let longest = days.get(usize::try_from(month.checked_sub(1)?).ok()?)?;
    if parts.next().is_some() || year < 1970 || day == 0 || day > *longest {
        return None;
    }
    // The year begins in March, so that the leap day is its last.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400)
}

/// The same as JSON, for people and for [`from_json`].
pub fn to_json(policy: &Policy) -> serde_json::Value {
    let hashes = |algs: &[u16]| {
        let all = [Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512];
        let known = all.into_iter().zip(HASHES);
        known
            .filter(|(_, (id, _))| algs.contains(id))
            .map(|(hash, _)| hash)
            .collect()
    };
    let manifest = |reference: &ManifestRef| {
        let mut source = SourceManifest {
            expires: reference.expires.map(Time::Seconds),
            ..SourceManifest::default()
        };
        match &reference.which {
            Which::Name(name, version) => {
                source.name = Some(name.clone());
                source.version.clone_from(version);
            }
            Which::Digest(digest) => source.digest = Some(hex::encode(digest)),
        }
        source
    };
    let weight = |(token, weight): (&String, &Tier)| {
        let weight = match weight {
            Tier::None | Tier::Affirming => Weight::Ignore,
            Tier::Warning => Weight::Warning,
            Tier::Contraindicated => Weight::Untrusted,
        };
        (token.clone(), weight)
    };
    let source = Source {
        name: policy.name.clone(),
        version: policy.version,
        mode: match policy.mode {
            Mode::Enforce => SourceMode::Enforce,
            Mode::Monitor => SourceMode::Monitor,
        },
        manifests: policy.manifests.iter().map(manifest).collect(),
        exclusions: policy.exclusions.clone(),
        ima_keys: policy.ima_keys.iter().map(|id| hex::encode(id)).collect(),
        banks: hashes(&policy.banks),
        digests: hashes(&policy.digests),
        stale_after: policy.stale_after,
        min_key_strength: policy.min_key_strength,
        reasons: policy.weights.iter().map(weight).collect(),
    };
    // Strings and numbers only: nothing in it can fail to become JSON.
    serde_json::to_value(source).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_midnight_in_utc() {
        // date -u -d 2026-12-24 +%s
        assert_eq!(midnight("2026-12-24"), Some(1_798_070_400));
        assert_eq!(midnight("1970-01-01"), Some(0));
        assert_eq!(midnight("2000-02-29"), Some(951_782_400));
        for bad in [
            "2026-02-29",
            "2026-13-01",
            "2026-1-1",
            "1969-12-31",
            "2026-12-24-",
            "",
            "x",
        ] {
            assert_eq!(midnight(bad), None, "{bad}");
        }
    }
}
