//! The claims in JSON and in CBOR (draft-ietf-rats-ear-04, 3 and 4; labels of RFC 9711 and RFC 8392).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use minicbor::Encoder;
use mote_schemas::message::Tier;
use serde_json::{Map, Value, json};

use super::{AttestationResult, BUILD, DEVELOPER, Module, PROFILE};

/// CBOR labels.
mod label {
    pub(super) const SUB: u64 = 2;
    pub(super) const EXP: u64 = 4;
    pub(super) const IAT: u64 = 6;
    pub(super) const NONCE: u64 = 10;
    pub(super) const PROFILE: u64 = 265;
    pub(super) const SUBMODS: u64 = 266;
    pub(super) const STATUS: u64 = 1000;
    pub(super) const VECTOR: u64 = 1001;
    pub(super) const POLICY_IDS: u64 = 1003;
    pub(super) const VERIFIER_ID: u64 = 1004;
    pub(super) const VERIFIER_CLAIMS: u64 = 1006;
}

const REASONS: &str = "mote.reasons";
const QUOTED_AT: &str = "mote.quoted-at";
const EVIDENCE: &str = "mote.evidence";

impl AttestationResult {
    /// The claims set, as in a JWT.
    pub fn to_json(&self) -> Value {
        let submods: Map<_, _> = self
            .modules
            .iter()
            .map(|module| (module.id.label().to_owned(), self.module_json(module)))
            .collect();
        let mut claims = json!({
            "eat_profile": PROFILE,
            "sub": self.device.to_string(),
            "iat": self.issued,
            "ear_status": self.status.to_string(),
            "ear_verifier_id": { "developer": DEVELOPER, "build": BUILD },
            "submods": submods,
        });
        if let Some(at) = self.expires {
            claims["exp"] = at.into();
        }
        if let Some(nonce) = &self.nonce {
            claims["eat_nonce"] = URL_SAFE_NO_PAD.encode(nonce).into();
        }
        claims
    }

    fn module_json(&self, module: &Module) -> Value {
        let vector: Map<_, _> = module
            .vector
            .claims()
            .map(|(_, name, value)| (name.to_owned(), value.into()))
            .collect();
        let mut about = Map::new();
        about.insert(REASONS.to_owned(), module.reasons.clone().into());
        if let Some(at) = self.quoted_at {
            about.insert(QUOTED_AT.to_owned(), at.into());
        }
        if let Some(media_type) = self.evidence {
            about.insert(EVIDENCE.to_owned(), media_type.into());
        }
        json!({
            "ear_status": module.status().to_string(),
            "ear_trustworthiness_vector": vector,
            "ear_appraisal_policy_ids": self.policies,
            "ear_verifier_claims": about,
        })
    }

    /// The claims set, as in a CWT. Deterministic (RFC 8949, 4.2.1).
    pub fn to_cbor(&self) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new());
        match self.write(&mut encoder) {
            Ok(()) => encoder.into_writer(),
            // Writing to a Vec cannot fail, and nothing here reports a custom error.
            Err(error) => unreachable!("{error}"),
        }
    }

    fn write(&self, e: &mut Encoder<Vec<u8>>) -> Written {
        let optional = [self.expires.is_some(), self.nonce.is_some()];
        e.map(6 + optional.iter().filter(|present| **present).count() as u64)?;
        e.u64(label::SUB)?.str(&self.device.to_string())?;
        if let Some(at) = self.expires {
            e.u64(label::EXP)?.u64(at)?;
        }
        e.u64(label::IAT)?.u64(self.issued)?;
        if let Some(nonce) = &self.nonce {
            e.u64(label::NONCE)?.bytes(nonce)?;
        }
        e.u64(label::PROFILE)?.str(PROFILE)?;
        // Shorter keys first (RFC 8949, 4.2.1): `ima` before `boot`.
        let mut modules: Vec<&Module> = self.modules.iter().collect();
        modules.sort_by_key(|module| (module.id.label().len(), module.id.label()));
        e.u64(label::SUBMODS)?.map(modules.len() as u64)?;
        for module in modules {
            e.str(module.id.label())?;
            self.write_module(module, e)?;
        }
        e.u64(label::STATUS)?.u8(code(self.status))?;
        e.u64(label::VERIFIER_ID)?.map(2)?;
        e.u8(0)?.str(DEVELOPER)?.u8(1)?.str(BUILD)?.ok()
    }

    fn write_module(&self, module: &Module, e: &mut Encoder<Vec<u8>>) -> Written {
        e.map(4)?.u64(label::STATUS)?.u8(code(module.status()))?;
        e.u64(label::VECTOR)?
            .map(module.vector.claims().count() as u64)?;
        for (key, _, value) in module.vector.claims() {
            e.u8(key)?.i8(value)?;
        }
        e.u64(label::POLICY_IDS)?
            .array(self.policies.len() as u64)?;
        for policy in &self.policies {
            e.str(policy)?;
        }
        e.u64(label::VERIFIER_CLAIMS)?;
        let optional = [self.quoted_at.is_some(), self.evidence.is_some()];
        e.map(1 + optional.iter().filter(|present| **present).count() as u64)?;
        e.str(REASONS)?.array(module.reasons.len() as u64)?;
        for reason in &module.reasons {
            e.str(reason)?;
        }
        // Shorter keys first.
        if let Some(media_type) = self.evidence {
            e.str(EVIDENCE)?.str(media_type)?;
        }
        if let Some(at) = self.quoted_at {
            e.str(QUOTED_AT)?.u64(at)?;
        }
        Ok(())
    }
}

type Written = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

/// AR4SI's number of a tier (draft-ietf-rats-ar4si, 3.2).
fn code(tier: Tier) -> u8 {
    match tier {
        Tier::None => 0,
        Tier::Affirming => 2,
        Tier::Warning => 32,
        Tier::Contraindicated => 96,
    }
}
