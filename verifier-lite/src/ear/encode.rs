//! The claims in JSON and in CBOR (draft-ietf-rats-ear-04, 3 and 4; labels of RFC 9711 and RFC 8392).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use minicbor::Encoder;
use mote_schemas::message::Tier;
use serde_json::{Map, Value, json};

use super::{AttestationResult, BUILD, DEVELOPER, PROFILE};

/// CBOR labels.
mod label {
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
        let vector: Map<_, _> = self
            .vector
            .claims()
            .map(|(_, name, value)| (name.to_owned(), value.into()))
            .collect();
        let mut about = Map::new();
        about.insert(REASONS.to_owned(), self.reasons.clone().into());
        if let Some(at) = self.quoted_at {
            about.insert(QUOTED_AT.to_owned(), at.into());
        }
        if let Some(media_type) = self.evidence {
            about.insert(EVIDENCE.to_owned(), media_type.into());
        }
        let mut claims = json!({
            "eat_profile": PROFILE,
            "iat": self.issued,
            "ear_status": self.status.to_string(),
            "ear_verifier_id": { "developer": DEVELOPER, "build": BUILD },
            "submods": {
                self.device.to_string(): {
                    "ear_status": self.status.to_string(),
                    "ear_trustworthiness_vector": vector,
                    "ear_appraisal_policy_ids": self.policies,
                    "ear_verifier_claims": about,
                }
            },
        });
        if let Some(at) = self.expires {
            claims["exp"] = at.into();
        }
        if let Some(nonce) = &self.nonce {
            claims["eat_nonce"] = URL_SAFE_NO_PAD.encode(nonce).into();
        }
        claims
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

    fn write(
        &self,
        e: &mut Encoder<Vec<u8>>,
    ) -> Result<(), minicbor::encode::Error<std::convert::Infallible>> {
        let optional = [self.expires.is_some(), self.nonce.is_some()];
        e.map(5 + optional.iter().filter(|present| **present).count() as u64)?;
        if let Some(at) = self.expires {
            e.u64(label::EXP)?.u64(at)?;
        }
        e.u64(label::IAT)?.u64(self.issued)?;
        if let Some(nonce) = &self.nonce {
            e.u64(label::NONCE)?.bytes(nonce)?;
        }
        e.u64(label::PROFILE)?.str(PROFILE)?;
        e.u64(label::SUBMODS)?
            .map(1)?
            .str(&self.device.to_string())?;
        e.map(4)?.u64(label::STATUS)?.u8(code(self.status))?;
        e.u64(label::VECTOR)?
            .map(self.vector.claims().count() as u64)?;
        for (key, _, value) in self.vector.claims() {
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
        e.str(REASONS)?.array(self.reasons.len() as u64)?;
        for reason in &self.reasons {
            e.str(reason)?;
        }
        // Shorter keys first (RFC 8949, 4.2.1).
        if let Some(media_type) = self.evidence {
            e.str(EVIDENCE)?.str(media_type)?;
        }
        if let Some(at) = self.quoted_at {
            e.str(QUOTED_AT)?.u64(at)?;
        }
        e.u64(label::STATUS)?.u8(code(self.status))?;
        e.u64(label::VERIFIER_ID)?.map(2)?;
        e.u8(0)?.str(DEVELOPER)?.u8(1)?.str(BUILD)?.ok()
    }
}

/// AR4SI's number of a tier (draft-ietf-rats-ar4si, 3.2).
fn code(tier: Tier) -> u8 {
    match tier {
        Tier::None => 0,
        Tier::Affirming => 2,
        Tier::Warning => 32,
        Tier::Contraindicated => 96,
    }
}
