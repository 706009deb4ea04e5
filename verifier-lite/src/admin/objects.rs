//! Keys, manifests, policies, bindings and labels: what the operator stores.
//!
//! A file is refused whole if it cannot be parsed or is signed by nobody trusted; what is in force stays.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{
    Effect, ErrorCode, ErrorView, Office, PolicyDetail, PolicyView, Response, checked, find,
    summary,
};
use crate::hex;
use crate::manifest::{SignedManifest, VerifiedManifest};
use crate::policy::{
    self, Catalog, SignedPolicy, Target, TrustedKey, Uses, VerifiedPolicy, binding_bytes,
    labels_bytes, policy_object_name,
};
use crate::signing_key::PublicKey;
use crate::store::{Change, Durability, ObjectKind};

type Answer = Result<(Response, Option<Effect>), ErrorView>;

/// Most labels of a device, and policies in a binding.
const MAX_MEMBERS: usize = 32;

fn commit(office: &mut Office<'_>, what: String, changes: &[Change]) -> Answer {
    office.store.commit(changes, Durability::Immediate)?;
    let stored = Response::Stored {
        what,
        appraised: 0,
        changed: 0,
        done: false,
    };
    Ok((stored, Some(Effect::PolicyChanged)))
}

fn refused(why: impl Into<String>) -> ErrorView {
    ErrorView::new(ErrorCode::Refused, why)
}

fn not_found(what: String) -> ErrorView {
    ErrorView::new(ErrorCode::NotFound, what)
}

fn decode(data: &str) -> Result<Vec<u8>, ErrorView> {
    STANDARD
        .decode(data)
        .map_err(|error| ErrorView::new(ErrorCode::BadRequest, format!("base64: {error}")))
}

pub(super) fn label(
    office: &mut Office<'_>,
    now: u64,
    device: &str,
    add: &[String],
    remove: &[String],
) -> Answer {
    let (id, record) = find(office.store, device)?;
    let catalog = office.policies.catalog(office.store)?;
    let mut labels = catalog.labels(&id).to_vec();
    labels.retain(|label| !remove.contains(label));
    for label in add {
        labels.push(checked("a label", label)?);
    }
    labels.sort_unstable();
    labels.dedup();
    if labels.len() > MAX_MEMBERS {
        let what = format!("a device has at most {MAX_MEMBERS} labels");
        return Err(ErrorView::new(ErrorCode::BadRequest, what));
    }
    if !add.is_empty() || !remove.is_empty() {
        let name = id.to_string();
        let change = if labels.is_empty() {
            Change::RemoveObject(ObjectKind::Labels, name)
        } else {
            Change::PutObject(ObjectKind::Labels, name, labels_bytes(&labels))
        };
        office.store.commit(&[change], Durability::Immediate)?;
    }
    let changed = summary(office, now, id, &record)?;
    Ok((Response::Changed(changed), Some(Effect::PolicyChanged)))
}

pub(super) fn trust(office: &mut Office<'_>, pem: &str, manifests: bool, policies: bool) -> Answer {
    if !manifests && !policies {
        let what = "a key is trusted for manifests, for policies, or for both";
        return Err(ErrorView::new(ErrorCode::BadRequest, what));
    }
    let key = PublicKey::from_pem(pem).map_err(|error| refused(error.to_string()))?;
    let id = hex::encode(&key.key_id());
    let trusted = TrustedKey {
        key,
        uses: Uses {
            manifests,
            policies,
        },
    };
    let change = Change::PutObject(ObjectKind::Key, id.clone(), trusted.to_bytes());
    commit(office, format!("trusted key {id}"), &[change])
}

pub(super) fn distrust(office: &mut Office<'_>, wanted: &str) -> Answer {
    let catalog = office.policies.catalog(office.store)?;
    let ids = office.store.object_names(ObjectKind::Key)?;
    let id = one_of(&ids, wanted, |id| id.starts_with(wanted), "key")?.clone();
    let signed = catalog
        .policies()
        .find(|policy| hex::encode(&policy.key_id()) == id);
    if let Some(policy) = signed {
        let what = format!(
            "key {id} signed policy {}: remove that, or have it signed anew, first",
            policy.policy().label()
        );
        return Err(ErrorView::new(ErrorCode::InUse, what));
    }
    let signed = catalog
        .manifests()
        .iter()
        .filter(|info| hex::encode(&info.key_id) == id)
        .count();
    let what = match signed {
        0 => format!("key {id} is no longer trusted"),
        n => format!("key {id} is no longer trusted, nor are {n} manifests that it signed"),
    };
    commit(office, what, &[Change::RemoveObject(ObjectKind::Key, id)])
}

/// The one that fits.
fn one_of<'a, T>(
    all: &'a [T],
    wanted: &str,
    fits: impl Fn(&&T) -> bool,
    kind: &str,
) -> Result<&'a T, ErrorView> {
    let mut fitting = all.iter().filter(fits);
    match (fitting.next(), fitting.next()) {
        (Some(one), None) if !wanted.is_empty() => Ok(one),
        (None, _) => Err(not_found(format!(
            "no {kind} {wanted:?}; `motectl {kind} list` shows all"
        ))),
        _ => {
            let what = format!("{wanted:?} fits more than one {kind}; give more digits");
            Err(ErrorView::new(ErrorCode::Ambiguous, what))
        }
    }
}

pub(super) fn keys(office: &Office<'_>) -> Result<Response, ErrorView> {
    let catalog = office.policies.catalog(office.store)?;
    Ok(Response::Keys(
        catalog.keys().iter().map(Into::into).collect(),
    ))
}

pub(super) fn add_manifest(office: &mut Office<'_>, data: &str) -> Answer {
    let bytes = decode(data)?;
    let (verified, change) = manifest_change(office, bytes)?;
    let what = format!(
        "manifest {} ({} files)",
        verified.manifest().label(),
        verified.manifest().files().len()
    );
    commit(office, what, &[change])
}

/// A manifest that a trusted key signed, as a change that stores it.
fn manifest_change(
    office: &Office<'_>,
    bytes: Vec<u8>,
) -> Result<(VerifiedManifest, Change), ErrorView> {
    let catalog = office.policies.catalog(office.store)?;
    let keys: Vec<_> = catalog.manifest_keys().cloned().collect();
    let verified = SignedManifest::parse(&bytes)
        .and_then(|signed| signed.verify(&keys))
        .map_err(|error| refused(with_hint(&error)))?;
    let name = hex::encode(&verified.digest());
    let change = Change::PutObject(ObjectKind::Manifest, name, bytes);
    Ok((verified, change))
}

fn with_hint(error: &policy::PolicyError) -> String {
    match error.fault() {
        crate::manifest::Fault::UnknownSigner(_) => {
            format!("{error}; `motectl key trust KEY.pub` makes it one")
        }
        _ => error.to_string(),
    }
}

pub(super) fn manifests(office: &Office<'_>) -> Result<Response, ErrorView> {
    let catalog = office.policies.catalog(office.store)?;
    let manifests = catalog.manifests().iter().map(Into::into);
    Ok(Response::Manifests(manifests.collect()))
}

pub(super) fn remove_manifest(office: &mut Office<'_>, wanted: &str) -> Answer {
    let catalog = office.policies.catalog(office.store)?;
    let fits = |info: &&policy::ManifestInfo| {
        info.label() == wanted || hex::encode(&info.digest).starts_with(wanted)
    };
    let info = one_of(catalog.manifests(), wanted, fits, "manifest")?;
    let change = Change::RemoveObject(ObjectKind::Manifest, hex::encode(&info.digest));
    commit(
        office,
        format!("removed manifest {}", info.label()),
        &[change],
    )
}

pub(super) fn add_policy(office: &mut Office<'_>, data: &str) -> Answer {
    let bytes = decode(data)?;
    let catalog = office.policies.catalog(office.store)?;
    let verified = SignedPolicy::parse(&bytes)
        .and_then(|signed| signed.verify(catalog.policy_keys()))
        .map_err(|error| refused(with_hint(&error)))?;
    let policy = verified.policy();
    if let Some(known) = catalog.policy(&policy.name) {
        let known = known.policy();
        if policy.version < known.version || (policy.version == known.version && policy != known) {
            return Err(refused(format!(
                "policy {} is stored already, and {} is not newer: raise its version",
                known.label(),
                policy.label()
            )));
        }
    }
    let change = Change::PutObject(ObjectKind::Policy, policy_object_name(policy), bytes);
    commit(office, format!("policy {}", policy.label()), &[change])
}

fn view(catalog: &Catalog, verified: &VerifiedPolicy) -> PolicyView {
    let policy = verified.policy();
    let in_force = catalog
        .policy(&policy.name)
        .is_some_and(|newest| newest.policy().version == policy.version);
    let bound = catalog.bindings().iter();
    let bound = bound.filter(|(_, names)| in_force && names.contains(&policy.name));
    PolicyView {
        name: policy.name.clone(),
        version: policy.version,
        in_force,
        mode: match policy.mode {
            policy::Mode::Enforce => "enforce",
            policy::Mode::Monitor => "monitor",
        }
        .to_owned(),
        key_id: hex::encode(&verified.key_id()),
        digest: hex::encode(&verified.digest()),
        bound_to: bound.map(|(target, _)| target.clone()).collect(),
    }
}

pub(super) fn policies(office: &Office<'_>) -> Result<Response, ErrorView> {
    let catalog = office.policies.catalog(office.store)?;
    let views = catalog.policies().map(|policy| view(&catalog, policy));
    Ok(Response::Policies(views.collect()))
}

/// `name`, or `name@version`.
fn find_policy<'c>(catalog: &'c Catalog, wanted: &str) -> Result<&'c VerifiedPolicy, ErrorView> {
    let found = match wanted.split_once('@') {
        None => catalog.policy(wanted),
        Some((name, version)) => version
            .parse()
            .ok()
            .and_then(|version| catalog.policy_version(name, version)),
    };
    found.map(AsRef::as_ref).ok_or_else(|| {
        not_found(format!(
            "no policy {wanted:?}; `motectl policy list` shows all"
        ))
    })
}

pub(super) fn policy(office: &Office<'_>, now: u64, wanted: &str) -> Result<Response, ErrorView> {
    let catalog = office.policies.catalog(office.store)?;
    let verified = find_policy(&catalog, wanted)?;
    let effective = office.policies.of(office.store, &[verified], now)?;
    Ok(Response::Policy(Box::new(PolicyDetail {
        summary: view(&catalog, verified),
        policy: policy::to_json(verified.policy()),
        allows: effective.manifests().to_vec(),
    })))
}

/// `all`, `group:LABEL`, or a device by name or id.
fn target(office: &Office<'_>, text: &str) -> Result<Target, ErrorView> {
    if let Some(label) = text.strip_prefix("group:") {
        return Ok(Target::Group(checked("a label", label)?));
    }
    if text == "all" {
        return Ok(Target::All);
    }
    let device = text.strip_prefix("device:").unwrap_or(text);
    Ok(Target::Device(find(office.store, device)?.0))
}

pub(super) fn bind(office: &mut Office<'_>, name: &str, to: &str) -> Answer {
    let catalog = office.policies.catalog(office.store)?;
    if name.contains('@') {
        let what = "bind a policy by name: its highest version is in force";
        return Err(ErrorView::new(ErrorCode::BadRequest, what));
    }
    find_policy(&catalog, name)?;
    let target = target(office, to)?.to_string();
    let mut names = catalog.bindings().get(&target).cloned().unwrap_or_default();
    names.push(name.to_owned());
    names.sort_unstable();
    names.dedup();
    if names.len() > MAX_MEMBERS {
        let what = format!("{target} has {MAX_MEMBERS} policies already");
        return Err(ErrorView::new(ErrorCode::BadRequest, what));
    }
    let what = format!("bound policy {name} to {target}");
    let change = Change::PutObject(ObjectKind::Binding, target, binding_bytes(&names));
    commit(office, what, &[change])
}

pub(super) fn unbind(office: &mut Office<'_>, name: &str, from: &str) -> Answer {
    let catalog = office.policies.catalog(office.store)?;
    let target = target(office, from)?.to_string();
    let mut names = catalog.bindings().get(&target).cloned().unwrap_or_default();
    let before = names.len();
    names.retain(|bound| bound != name);
    if names.len() == before {
        return Err(not_found(format!(
            "policy {name:?} is not bound to {target}"
        )));
    }
    let what = format!("unbound policy {name} from {target}");
    let change = if names.is_empty() {
        Change::RemoveObject(ObjectKind::Binding, target)
    } else {
        Change::PutObject(ObjectKind::Binding, target, binding_bytes(&names))
    };
    commit(office, what, &[change])
}

pub(super) fn remove_policy(office: &mut Office<'_>, wanted: &str) -> Answer {
    let catalog = office.policies.catalog(office.store)?;
    let verified = find_policy(&catalog, wanted)?;
    let name = &verified.policy().name;
    let going: Vec<_> = catalog
        .policies()
        .map(|policy| policy.policy())
        .filter(|policy| policy.name == *name)
        .filter(|policy| !wanted.contains('@') || policy.version == verified.policy().version)
        .collect();
    let versions = catalog.policies().filter(|p| p.policy().name == *name);
    let bound = catalog
        .bindings()
        .iter()
        .find(|(_, names)| names.contains(name));
    if let Some((target, _)) = bound
        && versions.count() == going.len()
    {
        let what = format!("policy {name} is bound to {target}: `motectl policy unbind` it first");
        return Err(ErrorView::new(ErrorCode::InUse, what));
    }
    let changes: Vec<_> = going
        .iter()
        .map(|policy| Change::RemoveObject(ObjectKind::Policy, policy_object_name(policy)))
        .collect();
    commit(office, format!("removed policy {wanted}"), &changes)
}
