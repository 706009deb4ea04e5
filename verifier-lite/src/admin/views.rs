//! Keys, manifests, policies and results, as they go over the admin socket and out of `--json`.

use serde::{Deserialize, Serialize};

use super::message::{DeviationView, ExpectedView, VerdictView};
use crate::hex;
use crate::policy::{ManifestInfo, TrustedKey};
use crate::printable::printable;
use crate::store::Deviation;

/// A trusted key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    /// 16 hex digits.
    pub key_id: String,
    /// May sign manifests.
    pub manifests: bool,
    /// May sign policies.
    pub policies: bool,
}

impl From<&TrustedKey> for KeyView {
    fn from(key: &TrustedKey) -> Self {
        KeyView {
            key_id: hex::encode(&key.key.key_id()),
            manifests: key.uses.manifests,
            policies: key.uses.policies,
        }
    }
}

/// A stored manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestView {
    /// Name of the image.
    pub name: String,
    /// Version of the image.
    pub version: String,
    /// Number of files.
    pub files: usize,
    /// Key id of who signed it.
    pub key_id: String,
    /// SHA-256 of its file.
    pub digest: String,
}

impl From<&ManifestInfo> for ManifestView {
    fn from(info: &ManifestInfo) -> Self {
        ManifestView {
            name: info.name.clone(),
            version: info.version.clone(),
            files: info.files,
            key_id: hex::encode(&info.key_id),
            digest: hex::encode(&info.digest),
        }
    }
}

/// A stored policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyView {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// Whether it is the highest version of that name.
    pub in_force: bool,
    /// `enforce` or `monitor`.
    pub mode: String,
    /// Key id of who signed it.
    pub key_id: String,
    /// SHA-256 of its file.
    pub digest: String,
    /// `all`, `group:LABEL` and `device:ID` that it is bound to.
    pub bound_to: Vec<String>,
}

/// `policy show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyDetail {
    /// As in `policy list`.
    #[serde(flatten)]
    pub summary: PolicyView,
    /// What it says, in the JSON that `policy build` takes.
    pub policy: serde_json::Value,
    /// `name-version` of the stored manifests that it allows now.
    pub allows: Vec<String>,
}

/// What would become of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestView {
    /// Full id in hex.
    pub id: String,
    /// The operator's name for it.
    pub name: Option<String>,
    /// Its verdict as it is.
    pub now: Option<VerdictView>,
    /// `trusted`, `warning` or `untrusted`; none: nothing of it is certified.
    pub would_be: Option<String>,
    /// Reason tokens it would have.
    pub reasons: Vec<String>,
    /// The first deviations it would have.
    pub deviations: Vec<DeviationView>,
    /// Number of deviations it would have.
    pub count: u64,
}

/// An attestation result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultView {
    /// Full id of the device in hex.
    pub device: String,
    /// `none`, `affirming`, `warning` or `contraindicated`.
    pub status: String,
    /// The EAR claims in JSON (draft-ietf-rats-ear).
    pub claims: serde_json::Value,
    /// A JWT, or a CWT in base64url; none for the claims alone.
    pub token: Option<String>,
}

/// The key that signs results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultKeyView {
    /// 16 hex digits: `kid` of every result.
    pub key_id: String,
    /// SPKI.
    pub pem: String,
    /// RFC 7517.
    pub jwk: serde_json::Value,
}

pub(crate) fn deviation(deviation: &Deviation, likely: Option<String>) -> DeviationView {
    DeviationView {
        path: deviation.path.as_deref().map(printable),
        measured: deviation.measured.as_deref().map(hex::encode),
        expected: deviation
            .expected
            .iter()
            .map(|expected| ExpectedView {
                value: hex::encode(&expected.value),
                source: expected.source.clone(),
            })
            .collect(),
        since: deviation.since,
        record: deviation.record,
        pcr: deviation.pcr,
        note: deviation.note.clone(),
        likely,
    }
}
