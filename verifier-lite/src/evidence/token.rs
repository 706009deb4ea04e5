//! Entity Attestation Tokens (RFC 9711) of devices without a TPM.
//!
//! The device's key is endorsed when it is enrolled (`motectl device endorse`); from then on a token counts if
//! that key signed it for a nonce that this verifier gave to that device. What a token measured is compared with the
//! firmware of one manifest as a whole: parts of two versions do not make a third.
//!
//! **Who may lie**: everyone about the bytes, until [`VerifiedToken::verify`]. After that the device's root of
//! trust is believed, and through it the claims; nothing here proves that the key is where the operator believes
//! that it is.

use std::fmt;

use mote_schemas::eat::{self, Claims, DebugState, EatError, Measured};
use mote_schemas::message::DeviceId;
use mote_schemas::reason::Reason;
use mote_schemas::tpm::HashAlg;

use super::{Appraise, Kind};
use crate::manifest::FirmwareReference;
use crate::policy::{EffectivePolicy, Settled, weigh};
use crate::signing_key::PublicKey;
use crate::store::{Content, Deviation, Expected, TokenState};

/// Strength of P-256, in bits (NIST SP 800-57 part 1, table 2).
const STRENGTH: u16 = 128;

/// Seconds by which the clocks of device and verifier may differ.
const LEEWAY: u64 = 300;

/// Tokens, `application/eat+cwt`.
#[derive(Clone, Copy, Debug)]
pub struct Token;

/// Whose tokens: what the operator endorsed.
#[derive(Clone, Copy, Debug)]
pub struct Endorsement<'e> {
    /// The device's key.
    pub key: &'e PublicKey,
    /// The UEID that it must claim, if it claims one.
    pub ueid: Option<&'e [u8]>,
    /// When the token came, Unix seconds: it must be valid then.
    pub at: u64,
}

impl Kind for Token {
    const MEDIA_TYPE: &'static str = eat::MEDIA_TYPE;
    const CONTENT_FORMAT: Option<u16> = Some(eat::CONTENT_FORMAT);
    type Trust<'t> = Endorsement<'t>;
    type Verified = VerifiedToken;
    type Error = TokenError;

    fn verify(
        value: &[u8],
        nonce: &[u8],
        trust: Endorsement<'_>,
    ) -> Result<VerifiedToken, TokenError> {
        VerifiedToken::verify(value, nonce, trust)
    }
}

/// Why a token proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// None that can be read.
    Malformed(EatError),
    /// Not signed by the endorsed key.
    Signature,
    /// For another nonce.
    Nonce,
    /// Not valid any more since this time, Unix seconds.
    Expired(u64),
    /// Not valid before this time, Unix seconds.
    NotYet(u64),
    /// Of another device than was endorsed.
    Ueid,
}

impl TokenError {
    /// The reason to give.
    pub fn reason(&self) -> Reason {
        match self {
            TokenError::Malformed(_) => Reason::TokenMalformed,
            TokenError::Signature => Reason::TokenSignatureInvalid,
            TokenError::Nonce => Reason::TokenWrongNonce,
            TokenError::Expired(_) | TokenError::NotYet(_) => Reason::TokenExpired,
            TokenError::Ueid => Reason::UeidMismatch,
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenError::Malformed(error) => error.fmt(f),
            TokenError::Signature => f.write_str("not signed by the key that was endorsed"),
            TokenError::Nonce => f.write_str("made for another nonce than the one given"),
            TokenError::Expired(at) => write!(f, "not valid any more since {at} (Unix seconds)"),
            TokenError::NotYet(at) => write!(f, "not valid before {at} (Unix seconds)"),
            TokenError::Ueid => f.write_str("claims another UEID than the endorsed one"),
        }
    }
}

impl std::error::Error for TokenError {}

impl From<EatError> for TokenError {
    fn from(error: EatError) -> Self {
        TokenError::Malformed(error)
    }
}

/// What somebody claims who has not been checked yet: enough to look for the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hints<'t> {
    /// The device that it should be of, by its key id.
    pub device: Option<DeviceId>,
    /// The nonce that it should answer.
    pub nonce: &'t [u8],
}

impl<'t> Hints<'t> {
    /// Reads them.
    ///
    /// # Errors
    /// Where it is no token.
    pub fn of(token: &'t [u8]) -> Result<Self, TokenError> {
        let token = eat::Token::parse(token)?;
        Ok(Hints {
            device: token.kid.and_then(|kid| kid.try_into().ok()).map(DeviceId),
            nonce: Claims::parse(token.payload)?.nonce,
        })
    }
}

/// The last token of a device, verified again: nothing is believed because it was stored. `None`: there is none.
///
/// # Errors
/// Why it does not count any more.
pub fn verify_stored(state: &TokenState) -> Result<Option<VerifiedToken>, TokenError> {
    let Some(last) = &state.last else {
        return Ok(None);
    };
    verify_endorsed(state, &last.token, &last.nonce, last.at).map(Some)
}

/// A token of this device that came at `at`, Unix milliseconds.
///
/// # Errors
/// Why it proves nothing.
pub(crate) fn verify_endorsed(
    state: &TokenState,
    token: &[u8],
    nonce: &[u8],
    at: u64,
) -> Result<VerifiedToken, TokenError> {
    // What cannot be a key has signed nothing.
    let key = PublicKey::from_point(&state.key).map_err(|_| TokenError::Signature)?;
    let endorsement = Endorsement {
        key: &key,
        ueid: state.ueid.as_deref(),
        at: at / 1000,
    };
    VerifiedToken::verify(token, nonce, endorsement)
}

/// A component that a device measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeasuredComponent {
    /// Its name.
    pub name: String,
    /// Hash algorithm.
    pub alg: HashAlg,
    /// Its digest.
    pub digest: Vec<u8>,
}

/// Claims that an endorsed key signed for a nonce. Only [`VerifiedToken::verify`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedToken {
    ueid: Option<Vec<u8>>,
    oem_boot: Option<bool>,
    debug: Option<DebugState>,
    boot_count: Option<u64>,
    software: Option<String>,
    version: Option<String>,
    components: Vec<MeasuredComponent>,
    /// What cannot be compared with anything.
    unappraised: Vec<String>,
}

impl VerifiedToken {
    /// The check: signature first, then nonce, time and UEID.
    ///
    /// # Errors
    /// Why it proves nothing.
    pub fn verify(
        bytes: &[u8],
        nonce: &[u8],
        endorsement: Endorsement<'_>,
    ) -> Result<Self, TokenError> {
        let token = eat::Token::parse(bytes)?;
        let mut signed = minicbor::encode::write::Writer::new(Vec::new());
        // Writing to a Vec cannot fail.
        let _ = token.signed_bytes(&mut signed);
        if !endorsement
            .key
            .verify(&signed.into_inner(), token.signature)
        {
            return Err(TokenError::Signature);
        }
        let claims = Claims::parse(token.payload)?;
        if claims.nonce != nonce {
            return Err(TokenError::Nonce);
        }
        let at = endorsement.at;
        if let Some(end) = claims
            .expires
            .filter(|end| end.saturating_add(LEEWAY) <= at)
        {
            return Err(TokenError::Expired(end));
        }
        if let Some(start) = claims
            .not_before
            .filter(|start| start.saturating_sub(LEEWAY) > at)
        {
            return Err(TokenError::NotYet(start));
        }
        if let (Some(claimed), Some(endorsed)) = (claims.ueid, endorsement.ueid)
            && claimed != endorsed
        {
            return Err(TokenError::Ueid);
        }
        let (mut components, mut unappraised) = (Vec::new(), Vec::new());
        if let Some(measurements) = claims.measurements {
            measurements.each(&mut |measured| match measured {
                Measured::Component(component) => components.push(MeasuredComponent {
                    name: component.name.to_owned(),
                    alg: component.hash_alg,
                    digest: component.digest.to_vec(),
                }),
                Measured::Other(what) => unappraised.push(what.to_owned()),
            })?;
        }
        if claims.submodules > 0 {
            unappraised.push(format!("{} submodules", claims.submodules));
        }
        Ok(VerifiedToken {
            ueid: claims.ueid.map(<[u8]>::to_vec),
            oem_boot: claims.oem_boot,
            debug: claims.debug,
            boot_count: claims.boot_count,
            software: claims.software_name.map(ToOwned::to_owned),
            version: claims.software_version.map(ToOwned::to_owned),
            components,
            unappraised,
        })
    }

    /// Times that the device has booted, as it says.
    pub fn boot_count(&self) -> Option<u64> {
        self.boot_count
    }

    /// The UEID that it claims.
    pub fn ueid(&self) -> Option<&[u8]> {
        self.ueid.as_deref()
    }

    /// Name and version of the software, as it says.
    pub fn software(&self) -> Option<String> {
        let name = self.software.as_deref()?;
        Some(match &self.version {
            Some(version) => format!("{name} {version}"),
            None => name.to_owned(),
        })
    }

    /// What was measured.
    pub fn components(&self) -> &[MeasuredComponent] {
        &self.components
    }

    /// What is not as this firmware should be.
    fn compare(
        &self,
        reference: &FirmwareReference,
        policy: &EffectivePolicy,
        now: u64,
    ) -> Vec<Deviation> {
        let mut found = Vec::new();
        let mut add =
            |reason: Reason, name: &str, measured: Option<&[u8]>, expected: Vec<Vec<u8>>| {
                found.push(Deviation {
                    path: Some(name.as_bytes().to_vec()),
                    measured: measured.map(<[u8]>::to_vec),
                    expected: expected
                        .into_iter()
                        .map(|value| Expected {
                            value,
                            source: reference.manifest.clone(),
                        })
                        .collect(),
                    ..deviation(reason, now)
                });
            };
        for measured in &self.components {
            let digest = Some(&measured.digest[..]);
            let known = reference
                .components
                .iter()
                .find(|component| component.name == measured.name);
            let Some(known) = known else {
                add(Reason::ComponentUnknown, &measured.name, digest, Vec::new());
                continue;
            };
            let expected = known.digests.iter().map(|digest| digest.0.to_vec());
            if measured.alg != HashAlg::Sha256 || !policy.admits_digests_of(measured.alg) {
                let reason = Reason::DigestAlgorithmUnknown;
                add(reason, &measured.name, digest, expected.collect());
            } else if !known.digests.iter().any(|d| d.0[..] == measured.digest[..]) {
                add(
                    Reason::ComponentModified,
                    &measured.name,
                    digest,
                    expected.collect(),
                );
            }
        }
        for known in &reference.components {
            if !self
                .components
                .iter()
                .any(|measured| measured.name == known.name)
            {
                let expected = known.digests.iter().map(|digest| digest.0.to_vec());
                add(
                    Reason::ComponentMissing,
                    &known.name,
                    None,
                    expected.collect(),
                );
            }
        }
        let is =
            |claim: &Option<String>, wanted: &str| claim.as_deref().is_none_or(|c| c == wanted);
        if !is(&self.software, &reference.name) || !is(&self.version, &reference.version) {
            let says = self.software().or_else(|| self.version.clone());
            found.push(Deviation {
                note: Some(format!(
                    "the device says {:?}; the manifest is of {:?}",
                    says.unwrap_or_default(),
                    format!("{} {}", reference.name, reference.version)
                )),
                ..deviation(Reason::SoftwareVersionUnexpected, now)
            });
        }
        found
    }
}

impl Appraise for VerifiedToken {
    fn appraise(&self, policy: &EffectivePolicy, now: u64) -> Settled {
        let mut deviations = Vec::new();
        let mut add = |reason: Reason, note: String| {
            deviations.push(Deviation {
                note: Some(note),
                ..deviation(reason, now)
            });
        };
        match self.debug {
            Some(DebugState::Enabled) => add(Reason::DebugEnabled, "dbgstat is 0, enabled".into()),
            None => add(Reason::DebugStateUnknown, "the token has no dbgstat".into()),
            Some(_) => {}
        }
        if self.oem_boot == Some(false) {
            add(Reason::BootNotAuthorised, "oemboot is false".into());
        }
        for what in &self.unappraised {
            add(Reason::ClaimsUnappraised, what.clone());
        }
        // The firmware that fits, or else the one that fits best.
        let best = policy
            .firmware()
            .iter()
            .map(|reference| self.compare(reference, policy, now))
            .min_by_key(Vec::len);
        let mut of_device = Vec::new();
        match best {
            Some(found) => deviations.extend(found),
            None => of_device.push(Reason::NoReferenceValues),
        }
        if policy.rules().min_key_strength > STRENGTH {
            of_device.push(Reason::KeyTooWeak);
        }
        weigh(policy, Content::default(), deviations, of_device)
    }
}

fn deviation(reason: Reason, now: u64) -> Deviation {
    Deviation {
        reason: reason.token().to_owned(),
        since: now,
        record: None,
        pcr: None,
        path: None,
        measured: None,
        expected: Vec::new(),
        note: None,
    }
}
