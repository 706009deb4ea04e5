//! What an operator may ask of a verifier, whether it runs (over a socket) or not (on its store).
//!
//! Requests and responses are plain data: one JSON line each way. [`handle`] is the only place that
//! acts on them; daemon and `motectl` share it. What the protocol engine must be told comes out as an
//! [`Effect`].
//!
//! Trusted: whoever can open the socket or the store's file, that is the verifier's own user.

use mote_schemas::reason::Reason;

use crate::engine::RefusedHello;
use crate::policy::Policies;
use crate::printable::printable;
use crate::signing_key::SigningKey;
use crate::store::{
    Admission, Change, DeviceId, DeviceRecord, Durability, Store, StoreError, Tier, VerdictRecord,
};
use crate::{explain, hex};

mod likely;
mod message;
mod objects;
mod results;
pub mod socket;
mod test;
mod tokens;
mod views;

pub use message::{
    AdmissionView, BootView, DeviationView, DeviceDetail, DeviceSummary, ErrorCode, ErrorView,
    ExpectedView, Explanation, ReasonView, RefusedView, Request, Response, ResultFormat, TokenView,
    VerdictView,
};
pub(crate) use views::deviation as deviation_view;
pub use views::{
    KeyView, ManifestView, PolicyDetail, PolicyView, ResultKeyView, ResultView, TestView,
};

/// What it takes to answer.
pub struct Office<'a> {
    /// Everything that is remembered.
    pub store: &'a mut (dyn Store + 'a),
    /// What is allowed.
    pub policies: &'a Policies,
    /// The verifier's key, for results; without it none is signed.
    pub key: Option<&'a SigningKey>,
    /// Hellos that a running verifier has refused.
    pub refused: &'a [RefusedHello],
}

/// Most devices in one response; more come page by page.
pub const PAGE: usize = 500;

/// Most deviations in one explanation. Nobody reads more; their number is told.
pub const MAX_EXPLAINED: usize = 200;

/// Most verdicts of its history in a device's details.
pub const MAX_HISTORY: usize = 20;

/// What a request changed that the engine holds a copy of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Read the device's admission again; a refused one loses its sessions.
    AdmissionChanged(DeviceId),
    /// The device, its sessions and everything else about it are gone.
    DeviceRemoved(DeviceId),
    /// The device's name changed.
    Renamed(DeviceId),
    /// What is allowed changed: go through the devices ([`crate::policy::Sweep`]).
    PolicyChanged,
}

/// Answers `request`. `now`: Unix milliseconds. Whatever it changed is durable when this returns.
pub fn handle(office: &mut Office<'_>, now: u64, request: &Request) -> (Response, Option<Effect>) {
    match try_handle(office, now, request) {
        Ok(answer) => answer,
        Err(error) => (Response::Error(error), None),
    }
}

fn try_handle(
    office: &mut Office<'_>,
    now: u64,
    request: &Request,
) -> Result<(Response, Option<Effect>), ErrorView> {
    let asked = |response: Response| Ok((response, None));
    match request {
        Request::Ping => asked(Response::Pong),
        Request::DeviceList { after } => asked(list(office, now, after.as_deref())?),
        Request::DeviceShow { device } => {
            let (id, record) = find_or_refused(office, device)?;
            asked(Response::Device(Box::new(detail(
                office, now, id, &record,
            )?)))
        }
        Request::Explain { device } => {
            let (id, record) = find_or_refused(office, device)?;
            let explained = explanation(office, now, id, &record)?;
            asked(Response::Explanation(Box::new(explained)))
        }
        Request::DeviceAdmit { device, by, name } => {
            let (id, mut record) = find(office.store, device)?;
            if let Some(name) = name {
                record.name = Some(free_name(office.store, id, name)?);
            }
            record.admission = Admission::Admitted {
                by: checked("who decided", by)?,
                at: now,
            };
            change(office, now, id, record, Effect::AdmissionChanged(id))
        }
        Request::DeviceEndorse {
            pem,
            ueid,
            by,
            name,
        } => tokens::endorse(office, now, pem, ueid.as_deref(), by, name.as_deref()),
        Request::DeviceRefuse { device, by } => {
            let (id, mut record) = find(office.store, device)?;
            record.admission = Admission::Refused {
                by: checked("who decided", by)?,
                at: now,
            };
            change(office, now, id, record, Effect::AdmissionChanged(id))
        }
        Request::DeviceRename { device, name } => {
            let (id, mut record) = find(office.store, device)?;
            record.name = Some(free_name(office.store, id, name)?);
            change(office, now, id, record, Effect::Renamed(id))
        }
        Request::DeviceRemove { device } => {
            let (id, record) = find(office.store, device)?;
            let summary = summary(office, now, id, &record)?;
            office
                .store
                .commit(&[Change::RemoveDevice(id)], Durability::Immediate)?;
            Ok((Response::Changed(summary), Some(Effect::DeviceRemoved(id))))
        }
        Request::DeviceLabel {
            device,
            add,
            remove,
        } => objects::label(office, now, device, add, remove),
        Request::KeyTrust {
            pem,
            manifests,
            policies,
        } => objects::trust(office, pem, *manifests, *policies),
        Request::KeyDistrust { key } => objects::distrust(office, key),
        Request::KeyList => asked(objects::keys(office)?),
        Request::ManifestAdd { data } => objects::add_manifest(office, data),
        Request::ManifestList => asked(objects::manifests(office)?),
        Request::ManifestRemove { manifest } => objects::remove_manifest(office, manifest),
        Request::PolicyAdd { data } => objects::add_policy(office, data),
        Request::PolicyList => asked(objects::policies(office)?),
        Request::PolicyShow { policy } => asked(objects::policy(office, now, policy)?),
        Request::PolicyBind { policy, to } => objects::bind(office, policy, to),
        Request::PolicyUnbind { policy, from } => objects::unbind(office, policy, from),
        Request::PolicyRemove { policy } => objects::remove_policy(office, policy),
        Request::PolicyTest {
            policy,
            device,
            after,
        } => asked(test::run(
            office,
            now,
            policy,
            device.as_deref(),
            after.as_deref(),
        )?),
        Request::Result {
            device,
            format,
            nonce,
        } => asked(results::result(
            office,
            now,
            device,
            *format,
            nonce.as_deref(),
        )?),
        Request::ResultKey => asked(results::key(office)?),
    }
}

fn change(
    office: &mut Office<'_>,
    now: u64,
    id: DeviceId,
    record: DeviceRecord,
    effect: Effect,
) -> Result<(Response, Option<Effect>), ErrorView> {
    let changed = summary(office, now, id, &record)?;
    let change = Change::PutDevice(id, record);
    office.store.commit(&[change], Durability::Immediate)?;
    Ok((Response::Changed(changed), Some(effect)))
}

fn list(office: &Office<'_>, now: u64, after: Option<&str>) -> Result<Response, ErrorView> {
    let after = after.map(parse_id).transpose()?;
    let mut page = office.store.devices(after.as_ref(), PAGE + 1)?;
    let more = page.len() > PAGE;
    page.truncate(PAGE);
    let devices = page
        .iter()
        .map(|(id, record)| summary(office, now, *id, record));
    Ok(Response::Devices {
        devices: devices.collect::<Result<_, _>>()?,
        more,
        refused: if more {
            Vec::new()
        } else {
            // The latest first.
            office.refused.iter().rev().map(refused_view).collect()
        },
    })
}

fn refused_view(refused: &RefusedHello) -> RefusedView {
    RefusedView {
        id: refused.device.to_string(),
        reason: refused.reason.token().to_owned(),
        detail: printable(refused.detail.as_bytes()),
        from: refused.from.to_string(),
        at: refused.at,
        count: refused.count,
    }
}

/// The same as [`find`]; of one that was refused at hello, why.
fn find_or_refused(
    office: &Office<'_>,
    wanted: &str,
) -> Result<(DeviceId, DeviceRecord), ErrorView> {
    let prefix = wanted.to_ascii_lowercase();
    find(office.store, wanted).map_err(|error| {
        let mut refused = office.refused.iter().rev();
        let known = refused.find(|known| known.device.to_string().starts_with(&prefix));
        match known.filter(|_| error.code == ErrorCode::NoSuchDevice) {
            Some(known) => {
                let view = refused_view(known);
                let text = explain::explain(known.reason);
                ErrorView::new(
                    ErrorCode::NoSuchDevice,
                    format!(
                        "device {} is not enrolled: its hello was refused ({}): {}. {} {}",
                        view.id, view.reason, view.detail, text.meaning, text.action
                    ),
                )
            }
            None => error,
        }
    })
}

fn parse_id(text: &str) -> Result<DeviceId, ErrorView> {
    let bytes = hex::decode(text).and_then(|bytes| bytes.try_into().ok());
    bytes
        .map(DeviceId)
        .ok_or_else(|| ErrorView::new(ErrorCode::BadRequest, "not a device id of 32 hex digits"))
}

/// Most devices named in an error about an ambiguous name.
const CANDIDATES: usize = 5;

/// The one device with this name, or whose id begins with these hex digits.
fn find(store: &dyn Store, wanted: &str) -> Result<(DeviceId, DeviceRecord), ErrorView> {
    if wanted.is_empty() {
        return Err(ErrorView::new(ErrorCode::BadRequest, "no device given"));
    }
    let prefix = wanted.to_ascii_lowercase();
    let mut by_id = Vec::new();
    let mut after = None;
    loop {
        let page = store.devices(after.as_ref(), PAGE)?;
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        for (id, record) in page {
            // Names are unique, and nobody gave one by accident.
            if record.name.as_deref() == Some(wanted) {
                return Ok((id, record));
            }
            if by_id.len() <= CANDIDATES && id.to_string().starts_with(&prefix) {
                by_id.push((id, record));
            }
        }
    }
    match by_id.len() {
        1 => Ok(by_id.remove(0)),
        0 => Err(ErrorView::new(
            ErrorCode::NoSuchDevice,
            format!(
                "no device has the name {wanted:?} or an id that begins so; \
                 `motectl device list` shows all"
            ),
        )),
        _ => {
            let mut ids: Vec<_> = by_id.iter().map(|(id, _)| id.to_string()).collect();
            if ids.len() > CANDIDATES {
                ids.truncate(CANDIDATES);
                ids.push("...".to_owned());
            }
            Err(ErrorView::new(
                ErrorCode::Ambiguous,
                format!(
                    "{wanted:?} fits several devices: {}; give more digits",
                    ids.join(", ")
                ),
            ))
        }
    }
}

/// Longest name of a device or an operator, in bytes.
const MAX_NAME: usize = 64;

/// `text`, if it is short and printable.
fn checked(what: &str, text: &str) -> Result<String, ErrorView> {
    if text.is_empty() || text.len() > MAX_NAME || printable(text.as_bytes()) != text {
        let what = format!("{what} has 1 to {MAX_NAME} bytes and no control characters");
        return Err(ErrorView::new(ErrorCode::BadRequest, what));
    }
    Ok(text.to_owned())
}

/// `name`, if it can name this device: printable, short, and no other's.
fn free_name(store: &dyn Store, id: DeviceId, name: &str) -> Result<String, ErrorView> {
    let name = checked("a device name", name)?;
    match find(store, &name) {
        Ok((other, record)) if other != id && record.name.as_ref() == Some(&name) => {
            let what = format!("device {other} has the name {name:?} already");
            Err(ErrorView::new(ErrorCode::NameTaken, what))
        }
        Err(error) if error.code == ErrorCode::Store => Err(error),
        // Nobody's name; what ids begin with it does not matter.
        _ => Ok(name),
    }
}

fn verdict_view(verdict: &VerdictRecord) -> VerdictView {
    VerdictView {
        at: verdict.at,
        boot: verdict.boot,
        verdict: verdict.tier.word().to_owned(),
        reasons: verdict.reasons.clone(),
    }
}

fn admission_view(admission: &Admission) -> AdmissionView {
    let (state, by, at) = match admission {
        Admission::Pending => ("pending", None, None),
        Admission::Admitted { by, at } => ("admitted", Some(by), Some(at)),
        Admission::Refused { by, at } => ("refused", Some(by), Some(at)),
    };
    AdmissionView {
        state: state.to_owned(),
        by: by.cloned(),
        at: at.copied(),
    }
}

fn summary(
    office: &Office<'_>,
    now: u64,
    id: DeviceId,
    record: &DeviceRecord,
) -> Result<DeviceSummary, StoreError> {
    let policy = office.policies.for_device(office.store, &id, now)?;
    let verdict = last_verdict(office.store, &id)?;
    let stale = verdict
        .as_ref()
        .is_some_and(|verdict| is_stale(record, verdict, policy.rules().stale_after, now));
    let mut view = verdict.as_ref().map(verdict_view);
    if let Some(view) = view.as_mut().filter(|_| stale) {
        "stale".clone_into(&mut view.verdict);
        view.reasons
            .insert(0, Reason::ResultStale.token().to_owned());
    }
    Ok(DeviceSummary {
        id: id.to_string(),
        name: record.name.clone(),
        admission: admission_view(&record.admission),
        verdict: view,
        enrolled_at: record.enrolled_at,
        last_seen: record.last_seen,
        quoted_at: record.evidence_at(),
        labels: office.policies.catalog(office.store)?.labels(&id).to_vec(),
        policies: policy.labels().to_vec(),
    })
}

fn last_verdict(store: &dyn Store, id: &DeviceId) -> Result<Option<VerdictRecord>, StoreError> {
    Ok(store.verdicts(id, 1)?.pop().map(|(_, verdict)| verdict))
}

/// Whether a verdict that speaks for a device rests on evidence that is too old. One that speaks against
/// it does not get better with time.
fn is_stale(record: &DeviceRecord, verdict: &VerdictRecord, limit: u32, now: u64) -> bool {
    let quoted = record.evidence_at().unwrap_or(0);
    let good = matches!(verdict.tier, Tier::Affirming | Tier::Warning);
    good && now.saturating_sub(quoted) > u64::from(limit) * 1000
}

fn detail(
    office: &Office<'_>,
    now: u64,
    id: DeviceId,
    record: &DeviceRecord,
) -> Result<DeviceDetail, StoreError> {
    let store = &*office.store;
    let boot = match &record.boot {
        None => None,
        Some(boot) => Some(BootView {
            number: boot.number,
            since: boot.since,
            quoted_at: boot.quoted_at,
            reset_count: boot.reset_count,
            restart_count: boot.restart_count,
            records: store.log_end(&id, boot.number)?,
            certified: boot.certified,
        }),
    };
    let history = store.verdicts(&id, MAX_HISTORY)?;
    Ok(DeviceDetail {
        summary: summary(office, now, id, record)?,
        software: record
            .software
            .as_ref()
            .map(|text| printable(text.as_bytes())),
        ek_digest: sha256(&record.ek_public),
        ak_digest: sha256(&record.ak_public),
        ek_certificate: record.ek_certificate.as_deref().map(sha256),
        certificate_fault: certificate_fault(record),
        boot,
        token: record.token.as_ref().map(tokens::view),
        deviations: store.deviation_count(&id)?,
        history: history
            .iter()
            .map(|(_, verdict)| verdict_view(verdict))
            .collect(),
    })
}

fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    hex::encode(digest.as_ref())
}

const UNTRUSTED: &str = Reason::EkCertificateUntrusted.token();

/// Some of the words are about what a peer's certificate says.
fn certificate_fault(record: &DeviceRecord) -> Option<String> {
    let fault = record.certificate_fault.as_ref()?;
    Some(printable(fault.as_bytes()))
}

fn explanation(
    office: &Office<'_>,
    now: u64,
    id: DeviceId,
    record: &DeviceRecord,
) -> Result<Explanation, StoreError> {
    let store = &*office.store;
    let summary = summary(office, now, id, record)?;
    let deviations = store.deviations(&id, MAX_EXPLAINED)?;
    let mut tokens: Vec<&str> = Vec::new();
    if record.admission == Admission::Pending {
        tokens.push(Reason::AdmissionPending.token());
        if record.certificate_fault.is_some() {
            tokens.push(UNTRUSTED);
        }
    }
    if matches!(record.admission, Admission::Refused { .. }) {
        tokens.push("admission-refused");
    }
    // A trusted device needs no explaining; a refused message does not change a verdict.
    if let Some(verdict) = summary
        .verdict
        .as_ref()
        .filter(|verdict| verdict.verdict != Tier::Affirming.word())
    {
        tokens.extend(verdict.reasons.iter().map(String::as_str));
    }
    tokens.extend(deviations.iter().map(|deviation| deviation.reason.as_str()));
    let sources = likely::Sources::new(office, &id, now, &deviations)?;
    let mut reasons: Vec<ReasonView> = Vec::new();
    for token in tokens {
        if reasons.iter().any(|reason| reason.reason == token) {
            continue;
        }
        let text = explain::text(token);
        reasons.push(ReasonView {
            reason: token.to_owned(),
            meaning: text.meaning.to_owned(),
            found: certificate_fault(record).filter(|_| token == UNTRUSTED),
            cause: text.cause.to_owned(),
            action: text.action.replace("DEVICE", &short(id)),
            deviations: deviations
                .iter()
                .filter(|deviation| deviation.reason == token)
                .map(|deviation| views::deviation(deviation, sources.likely(deviation)))
                .collect(),
        });
    }
    Ok(Explanation {
        device: summary,
        reasons,
        deviations: store.deviation_count(&id)?,
    })
}

/// Enough of an id to tell devices apart, for texts.
fn short(id: DeviceId) -> String {
    hex::encode(&id.0[..4])
}

#[cfg(test)]
mod tests;
