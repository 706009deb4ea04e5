//! Attestation results for relying parties, signed with the verifier's key.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{
    ErrorCode, ErrorView, Office, Response, ResultFormat, ResultKeyView, ResultView, find,
    last_verdict,
};
use crate::ear::{self, AttestationResult};
use crate::hex;
use crate::signing_key::{KeyError, SigningKey};

pub(super) fn result(
    office: &Office<'_>,
    now: u64,
    device: &str,
    format: ResultFormat,
    nonce: Option<&str>,
) -> Result<Response, ErrorView> {
    let nonce = nonce.map(parse_nonce).transpose()?;
    let (id, record) = find(office.store, device)?;
    let policy = office.policies.for_device(office.store, &id, now)?;
    let verdict = last_verdict(office.store, &id)?;
    let result = AttestationResult::new(id, &record, verdict.as_ref(), &policy, now, nonce);
    let failed = |error: KeyError| ErrorView::new(ErrorCode::Store, error.to_string());
    let token = match format {
        ResultFormat::Json => None,
        ResultFormat::Jwt => Some(ear::jwt(&result, signing_key(office)?).map_err(failed)?),
        ResultFormat::Cwt => {
            let cwt = ear::cwt(&result, signing_key(office)?).map_err(failed)?;
            Some(URL_SAFE_NO_PAD.encode(cwt))
        }
    };
    Ok(Response::Result(Box::new(ResultView {
        device: id.to_string(),
        status: result.status.to_string(),
        claims: result.to_json(),
        token,
    })))
}

fn parse_nonce(text: &str) -> Result<Vec<u8>, ErrorView> {
    let nonce = hex::decode(text).filter(|nonce| ear::NONCE.contains(&nonce.len()));
    nonce.ok_or_else(|| {
        let what = "a nonce has 8 to 64 bytes, in hexadecimal";
        ErrorView::new(ErrorCode::BadRequest, what)
    })
}

pub(super) fn key(office: &Office<'_>) -> Result<Response, ErrorView> {
    let key = signing_key(office)?.public_key();
    let pem = key
        .to_pem()
        .map_err(|error| ErrorView::new(ErrorCode::Store, error.to_string()))?;
    Ok(Response::ResultKey(ResultKeyView {
        key_id: hex::encode(&key.key_id()),
        pem,
        jwk: ear::jwk(key),
    }))
}

fn signing_key<'o>(office: &'o Office<'_>) -> Result<&'o SigningKey, ErrorView> {
    office.key.ok_or_else(|| {
        let what = "the verifier has no key yet; start mote-verifier once";
        ErrorView::new(ErrorCode::NotFound, what)
    })
}
