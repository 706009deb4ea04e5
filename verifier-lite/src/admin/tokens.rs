//! Devices without a TPM: their keys are endorsed by whoever enrols them.

use mote_schemas::eat;

use super::{
    Effect, ErrorCode, ErrorView, Office, Response, TokenView, change, checked, free_name, sha256,
};
use crate::evidence::token::{VerifiedToken, verify_stored};
use crate::hex;
use crate::signing_key::{P256_SPKI_PREFIX, PublicKey};
use crate::store::{Admission, DeviceRecord, TokenState};

/// Shortest and longest UEID, in bytes (RFC 9711, 4.2.1).
const UEID: std::ops::RangeInclusive<usize> = 7..=33;

pub(super) fn endorse(
    office: &mut Office<'_>,
    now: u64,
    pem: &str,
    ueid: Option<&str>,
    by: &str,
    name: Option<&str>,
) -> Result<(Response, Option<Effect>), ErrorView> {
    let bad = |what: &str| ErrorView::new(ErrorCode::BadRequest, what);
    let key = PublicKey::from_pem(pem).map_err(|error| bad(&error.to_string()))?;
    let ueid = match ueid {
        None => None,
        Some(text) => {
            let ueid = hex::decode(text).filter(|ueid| UEID.contains(&ueid.len()));
            Some(ueid.ok_or_else(|| bad("a UEID has 7 to 33 bytes, in hexadecimal"))?)
        }
    };
    let id = eat::device_id(key.point());
    if office.store.device(&id)?.is_some() {
        let what = format!("this key is endorsed already, for device {id}; remove that first");
        return Err(ErrorView::new(ErrorCode::InUse, what));
    }
    let name = match name {
        Some(name) => Some(free_name(office.store, id, name)?),
        None => None,
    };
    let record = DeviceRecord {
        name,
        admission: Admission::Admitted {
            by: checked("who decided", by)?,
            at: now,
        },
        token: Some(TokenState {
            key: key.point().to_vec(),
            ueid,
            last: None,
        }),
        ..DeviceRecord::new(Vec::new(), Vec::new(), now)
    };
    change(office, now, id, record, Effect::AdmissionChanged(id))
}

pub(super) fn view(state: &TokenState) -> TokenView {
    let verified = verify_stored(state).ok().flatten();
    let components = verified.iter().flat_map(VerifiedToken::components);
    TokenView {
        key_digest: sha256(&[P256_SPKI_PREFIX, &state.key].concat()),
        ueid: state.ueid.as_deref().map(hex::encode),
        boot: state.last.as_ref().map(|last| last.boot),
        since: state.last.as_ref().map(|last| last.since),
        boot_count: verified.as_ref().and_then(VerifiedToken::boot_count),
        components: components
            .map(|component| {
                let name = crate::printable::printable(component.name.as_bytes());
                (name, hex::encode(&component.digest))
            })
            .collect(),
    }
}
