//! What goes over the admin socket, and out of `motectl --json`. Times are Unix milliseconds, bytes
//! are hexadecimal.

use serde::{Deserialize, Serialize};

use super::views::{
    KeyView, ManifestView, PolicyDetail, PolicyView, ResultKeyView, ResultView, TestView,
};
use crate::store::StoreError;

/// A device in a request: its name, or the first digits of its id.
type Selector = String;

/// A question or an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Request {
    /// Is anybody there?
    Ping,
    /// The devices after this id.
    DeviceList {
        /// Full id in hex; none: from the beginning.
        after: Option<String>,
    },
    /// Everything about a device.
    DeviceShow {
        /// Which.
        device: Selector,
    },
    /// Let a device attest.
    DeviceAdmit {
        /// Which.
        device: Selector,
        /// Who decided.
        by: String,
        /// And call it so.
        name: Option<String>,
    },
    /// Enrol a device without a TPM by the key that signs its tokens.
    DeviceEndorse {
        /// The public key, PEM.
        pem: String,
        /// The UEID that goes with it, hex.
        ueid: Option<String>,
        /// Who decided.
        by: String,
        /// And call it so.
        name: Option<String>,
    },
    /// Stop a device from attesting, and keep what is known about it.
    DeviceRefuse {
        /// Which.
        device: Selector,
        /// Who decided.
        by: String,
    },
    /// Name a device.
    DeviceRename {
        /// Which.
        device: Selector,
        /// What to call it.
        name: String,
    },
    /// Forget a device.
    DeviceRemove {
        /// Which.
        device: Selector,
    },
    /// Why is a device not trusted?
    Explain {
        /// Which.
        device: Selector,
    },
    /// Change the labels of a device.
    DeviceLabel {
        /// Which.
        device: Selector,
        /// Labels to give it.
        add: Vec<String>,
        /// Labels to take from it.
        remove: Vec<String>,
    },
    /// Trust what a key signs.
    KeyTrust {
        /// The public key, PEM.
        pem: String,
        /// For manifests.
        manifests: bool,
        /// For policies.
        policies: bool,
    },
    /// Trust a key no longer.
    KeyDistrust {
        /// Its key id, or the first digits.
        key: String,
    },
    /// The trusted keys.
    KeyList,
    /// Store a signed manifest.
    ManifestAdd {
        /// The file, base64.
        data: String,
    },
    /// The stored manifests.
    ManifestList,
    /// Forget a manifest.
    ManifestRemove {
        /// `name-version`, or the first digits of its digest.
        manifest: String,
    },
    /// Store a signed policy.
    PolicyAdd {
        /// The file, base64.
        data: String,
    },
    /// The stored policies.
    PolicyList,
    /// Everything about a policy.
    PolicyShow {
        /// `name`, or `name@version`.
        policy: String,
    },
    /// Bind a policy.
    PolicyBind {
        /// Its name.
        policy: String,
        /// `all`, `group:LABEL`, or a device.
        to: String,
    },
    /// Undo that.
    PolicyUnbind {
        /// Its name.
        policy: String,
        /// `all`, `group:LABEL`, or a device.
        from: String,
    },
    /// Forget a policy that is bound to nobody, or one version of it.
    PolicyRemove {
        /// `name`, or `name@version`.
        policy: String,
    },
    /// What would become of devices under this policy?
    PolicyTest {
        /// The policy in JSON, unsigned.
        policy: serde_json::Value,
        /// Which; none: those after `after`.
        device: Option<Selector>,
        /// Full id in hex; none: from the beginning.
        after: Option<String>,
    },
    /// A signed attestation result.
    Result {
        /// Of which device.
        device: Selector,
        /// In which form.
        format: ResultFormat,
        /// To be echoed in it, hex: 8 to 64 bytes.
        nonce: Option<String>,
    },
    /// The key that signs results.
    ResultKey,
}

/// The form of an attestation result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResultFormat {
    /// The claims alone, unsigned.
    Json,
    /// RFC 7519, ES256.
    Jwt,
    /// RFC 8392: `COSE_Sign1`, ES256.
    Cwt,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Response {
    /// To a ping.
    Pong,
    /// Some devices.
    Devices {
        /// In the order of their ids.
        devices: Vec<DeviceSummary>,
        /// Whether to ask again after the last.
        more: bool,
        /// After the last: hellos that were refused since the verifier started, the latest first.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        refused: Vec<RefusedView>,
    },
    /// One device.
    Device(Box<DeviceDetail>),
    /// A device that was changed or removed, as it is now (or was).
    Changed(DeviceSummary),
    /// Why.
    Explanation(Box<Explanation>),
    /// An object was stored, removed or bound.
    Stored {
        /// What was done, in words.
        what: String,
        /// Devices appraised anew because of it, so far.
        appraised: u64,
        /// Of these, how many have another verdict now.
        changed: u64,
        /// Whether there are no more devices to look at.
        done: bool,
    },
    /// The trusted keys.
    Keys(Vec<KeyView>),
    /// The stored manifests.
    Manifests(Vec<ManifestView>),
    /// The stored policies, and bindings of policies.
    Policies(Vec<PolicyView>),
    /// One policy.
    Policy(Box<PolicyDetail>),
    /// What would become of some devices.
    Tested {
        /// In the order of their ids.
        devices: Vec<TestView>,
        /// Whether to ask again after the last.
        more: bool,
    },
    /// An attestation result.
    Result(Box<ResultView>),
    /// The key that signs results.
    ResultKey(ResultKeyView),
    /// It did not work, and nothing was changed.
    Error(ErrorView),
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorView {
    /// For machines.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
}

impl ErrorView {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message }
    }
}

impl From<StoreError> for ErrorView {
    fn from(error: StoreError) -> Self {
        Self::new(ErrorCode::Store, error.to_string())
    }
}

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// The request makes no sense.
    BadRequest,
    /// No device fits.
    NoSuchDevice,
    /// Several devices fit.
    Ambiguous,
    /// Another device has the name.
    NameTaken,
    /// No such key, manifest or policy.
    NotFound,
    /// Not believed, or not well-formed: refused whole.
    Refused,
    /// Something else still needs it.
    InUse,
    /// The store failed.
    Store,
}

/// Whether a device may attest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmissionView {
    /// `pending`, `admitted` or `refused`.
    pub state: String,
    /// Who decided.
    pub by: Option<String>,
    /// When.
    pub at: Option<u64>,
}

/// A verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictView {
    /// Since when.
    pub at: u64,
    /// In which boot.
    pub boot: u64,
    /// `trusted`, `warning`, `untrusted`, `unknown`; or `stale`: trusted once, but its evidence is too
    /// old.
    pub verdict: String,
    /// Reason tokens.
    pub reasons: Vec<String>,
}

/// A line of `device list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSummary {
    /// 32 hex digits.
    pub id: String,
    /// The operator's name for it.
    pub name: Option<String>,
    /// Whether it may attest.
    pub admission: AdmissionView,
    /// The last verdict; none before the first attestation.
    pub verdict: Option<VerdictView>,
    /// First hello.
    pub enrolled_at: u64,
    /// Last authentic message.
    pub last_seen: Option<u64>,
    /// Last appraised quote: how fresh the verdict is.
    pub quoted_at: Option<u64>,
    /// Labels: the groups it is in.
    #[serde(default)]
    pub labels: Vec<String>,
    /// `name@version` of its policies; none: the default policy.
    #[serde(default)]
    pub policies: Vec<String>,
}

/// Hellos that were refused to whoever claimed to be this device. Nothing of them is proven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedView {
    /// 32 hex digits, as claimed.
    pub id: String,
    /// Token of the reason registry.
    pub reason: String,
    /// The same in words.
    pub detail: String,
    /// Where the last came from.
    pub from: String,
    /// When the last came.
    pub at: u64,
    /// How many came.
    pub count: u64,
}

/// The boot a device is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootView {
    /// Counts the boots seen, from 1.
    pub number: u64,
    /// When it was first heard of.
    pub since: u64,
    /// Last appraised quote; 0 if there is none yet.
    pub quoted_at: u64,
    /// The TPM's reset counter.
    pub reset_count: u32,
    /// The TPM's restart counter.
    pub restart_count: u32,
    /// Log records received.
    pub records: u64,
    /// Of these, covered by a quote.
    pub certified: u64,
}

/// A device without a TPM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// SHA-256 of its endorsed key's SPKI.
    pub key_digest: String,
    /// The endorsed UEID, hex.
    pub ueid: Option<String>,
    /// Boots that were seen, from 1; none before its first token.
    pub boot: Option<u64>,
    /// When the current one was first heard of.
    pub since: Option<u64>,
    /// `bootcount`, as it says.
    pub boot_count: Option<u64>,
    /// Component -> digest, as it measured them.
    pub components: Vec<(String, String)>,
}

/// `device show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceDetail {
    /// As in `device list`.
    #[serde(flatten)]
    pub summary: DeviceSummary,
    /// Name and version of its agent, as it says.
    pub software: Option<String>,
    /// SHA-256 of the endorsement key's `TPMT_PUBLIC`.
    pub ek_digest: String,
    /// SHA-256 of the attestation key's `TPMT_PUBLIC`.
    pub ak_digest: String,
    /// SHA-256 of the endorsement certificate, if it sent one.
    pub ek_certificate: Option<String>,
    /// Why that did not admit it, in words.
    #[serde(default)]
    pub certificate_fault: Option<String>,
    /// The boot it is in; none before the first attestation.
    pub boot: Option<BootView>,
    /// Its tokens, if it has no TPM.
    #[serde(default)]
    pub token: Option<TokenView>,
    /// Number of deviations in this boot.
    pub deviations: u64,
    /// The last verdicts, newest first.
    pub history: Vec<VerdictView>,
}

/// A value that would have been right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedView {
    /// Hex.
    pub value: String,
    /// Who says so.
    pub source: String,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviationView {
    /// Path, printable: other bytes as `\xNN`, a backslash as `\\`.
    pub path: Option<String>,
    /// What was measured, hex.
    pub measured: Option<String>,
    /// What would have been right; empty: nothing.
    pub expected: Vec<ExpectedView>,
    /// When it was first seen.
    pub since: u64,
    /// Absolute number of the log record that shows it.
    pub record: Option<u64>,
    /// PCR that shows it.
    pub pcr: Option<u8>,
    /// One more sentence.
    pub note: Option<String>,
    /// What it probably comes from, where the stored manifests tell.
    #[serde(default)]
    pub likely: Option<String>,
}

/// A reason, in words, with what gave rise to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonView {
    /// Token.
    pub reason: String,
    /// What was seen.
    pub meaning: String,
    /// What was found here, where the token says too little.
    #[serde(default)]
    pub found: Option<String>,
    /// What usually causes it.
    pub cause: String,
    /// What to do.
    pub action: String,
    /// Where it was seen; at most [`MAX_EXPLAINED`](super::MAX_EXPLAINED) for all reasons together.
    pub deviations: Vec<DeviationView>,
}

/// `explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// As in `device list`.
    pub device: DeviceSummary,
    /// Why it is not trusted, or not admitted. Empty: nothing to explain.
    pub reasons: Vec<ReasonView>,
    /// Number of deviations in this boot, also those not shown.
    pub deviations: u64,
}
