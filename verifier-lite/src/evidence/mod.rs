//! Evidence that comes whole, keyed by its media type: Conceptual Message Wrappers (RFC 9999), and what to do
//! with what is in them.
//!
//! ```text
//! bytes -> Wrapped (its kind) -> Kind::verify -> K::Verified -> Appraise::appraise -> Settled -> EAR
//!          who says what it is   key and nonce   the proof      reference values,    verdict, reasons,
//!                                                               policy               deviations
//! ```
//!
//! | kind | media type | proof | says |
//! |---|---|---|---|
//! | [`TpmIma`](tpm_ima::TpmIma) | [`bundle::MEDIA_TYPE`] | [`VerifiedBundle`](crate::bundle::VerifiedBundle) | what a TPM quoted, and the IMA list and boot log that it bears out |
//! | [`Token`](token::Token) | `application/eat+cwt` (263) | [`VerifiedToken`](token::VerifiedToken) | what a device without a TPM measured of its firmware (RFC 9711) |
//!
//! A kind is three things: a media type, a check that makes its proof, and an appraisal that takes nothing
//! but the proof. Everything after that is one for all kinds: a policy weighs reasons ([`crate::policy`]), the
//! store keeps verdicts and deviations, `motectl explain` and the results show them. The TPM's conversation
//! over CoAP ([`crate::engine`]) is the same kind in pieces: there a log of megabytes arrives over days, and each
//! quote certifies a prefix; it ends in the same [`Settled`].
//!
//! **Who may lie**: whoever made or carried the bytes, also about their media type: that only chooses which check
//! they must pass. After the check a TPM vouches for PCRs and clock, and a token's key for its claims as
//! far as the device's root of trust decides what is signed; a token of a device that may be debugged is
//! worth no more than its owner's word, and says so ([`Reason::DebugEnabled`]).
//!
//! **What it never does**: believe evidence because it was stored (a stored token is verified again whenever it
//! is used), or appraise part of a wrapper and keep silent about the rest.

use std::borrow::Cow;
use std::fmt;

use mote_schemas::bundle;
use mote_schemas::cmw::{Cmw, CmwError, MediaType, Record};
use mote_schemas::eat;
use mote_schemas::reason::Reason;

use crate::policy::{EffectivePolicy, Settled};

pub(crate) mod nonce;
pub mod token;
pub mod tpm_ima;

/// A kind of evidence.
pub trait Kind {
    /// Media type of its values.
    const MEDIA_TYPE: &'static str;
    /// The same as a CoAP Content-Format, where one is registered.
    const CONTENT_FORMAT: Option<u16>;
    /// What the verifier knows before: whose evidence it must be.
    type Trust<'t>;
    /// What the check proves.
    type Verified: Appraise;
    /// Why it proves nothing.
    type Error: fmt::Display;

    /// The only way to [`Kind::Verified`]: `value` is whole, by whom `trust` says, and answers `nonce`.
    ///
    /// # Errors
    /// Why it proves nothing.
    fn verify(
        value: &[u8],
        nonce: &[u8],
        trust: Self::Trust<'_>,
    ) -> Result<Self::Verified, Self::Error>;
}

/// What can be judged, since it has been verified.
pub trait Appraise {
    /// Compares it with what a policy allows; `now`: Unix milliseconds.
    fn appraise(&self, policy: &EffectivePolicy, now: u64) -> Settled;
}

/// The kinds that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KindId {
    /// [`tpm_ima::TpmIma`].
    TpmIma,
    /// [`token::Token`].
    Token,
}

impl KindId {
    const ALL: [(Self, &'static str, Option<u16>); 2] = [
        (
            Self::TpmIma,
            tpm_ima::TpmIma::MEDIA_TYPE,
            tpm_ima::TpmIma::CONTENT_FORMAT,
        ),
        (
            Self::Token,
            token::Token::MEDIA_TYPE,
            token::Token::CONTENT_FORMAT,
        ),
    ];

    /// The kind of this media type; parameters, such as `eat_profile`, do not make another kind.
    pub fn of(media_type: MediaType<'_>) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, name, format)| match media_type {
            MediaType::ContentFormat(number) => *format == Some(number),
            MediaType::Name(given) => given
                .split(';')
                .next()
                .is_some_and(|bare| bare.trim_end().eq_ignore_ascii_case(name)),
        });
        found.map(|(kind, ..)| *kind)
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        let known = Self::ALL.iter().find(|(kind, ..)| *kind == self);
        known.map_or("", |(_, name, _)| name)
    }
}

/// Evidence whose kind is known; nothing in it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped<'a> {
    /// How to check it.
    pub kind: KindId,
    /// What is to be checked.
    pub value: Cow<'a, [u8]>,
}

/// Why there is nothing to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WrapError {
    /// No wrapper, and nothing that is known without one.
    Cmw(CmwError),
    /// No evidence in it, or none of a kind that we know: what there is.
    Unsupported(String),
    /// Several pieces of evidence in one collection: which of them is meant?
    Several(usize),
}

impl WrapError {
    /// The reason to give.
    pub fn reason(&self) -> Reason {
        match self {
            WrapError::Cmw(_) => Reason::MessageMalformed,
            WrapError::Unsupported(_) | WrapError::Several(_) => Reason::MediaTypeUnsupported,
        }
    }
}

impl fmt::Display for WrapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WrapError::Cmw(error) => error.fmt(f),
            WrapError::Unsupported(what) => write!(f, "no evidence that is appraised here: {what}"),
            WrapError::Several(count) => {
                write!(
                    f,
                    "{count} pieces of evidence in one collection; send each by itself"
                )
            }
        }
    }
}

impl std::error::Error for WrapError {}

impl<'a> Wrapped<'a> {
    /// Opens a wrapper: a record, a tag, or a collection with one of these of a kind that we know. A bundle
    /// and a tagged token tell what they are without one.
    ///
    /// # Errors
    /// Why there is nothing to check.
    pub fn open(bytes: &'a [u8]) -> Result<Self, WrapError> {
        let bare = |kind| Wrapped {
            kind,
            value: Cow::Borrowed(bytes),
        };
        if bundle::looks_like(bytes) {
            return Ok(bare(KindId::TpmIma));
        }
        // Tag 61, or 18 alone: what no wrapper begins with.
        if matches!(bytes, [0xd8, 0x3d, ..] | [0xd2, ..]) && eat::Token::parse(bytes).is_ok() {
            return Ok(bare(KindId::Token));
        }
        match Cmw::parse(bytes).map_err(WrapError::Cmw)? {
            Cmw::Record(record) => Self::of(&record),
            Cmw::Collection(collection) => {
                let mut records = Vec::new();
                collection.records(&mut |record| records.push(record));
                let mut known: Vec<_> = records.iter().filter_map(|r| Self::of(r).ok()).collect();
                match (known.pop(), known.len(), records.len()) {
                    (Some(only), 0, _) => Ok(only),
                    (Some(_), others, _) => Err(WrapError::Several(others + 1)),
                    (None, _, all) => Err(WrapError::Unsupported(format!(
                        "a collection of {all} other messages"
                    ))),
                }
            }
        }
    }

    fn of(record: &Record<'a>) -> Result<Self, WrapError> {
        let unsupported = || WrapError::Unsupported(record.media_type.to_string());
        if record.is_other_than_evidence() {
            return Err(unsupported());
        }
        let kind = KindId::of(record.media_type).ok_or_else(unsupported)?;
        let value = match record.value.in_one_piece() {
            Some(piece) => Cow::Borrowed(piece),
            None => Cow::Owned(record.value.chunks().flatten().copied().collect()),
        };
        Ok(Wrapped { kind, value })
    }
}

#[cfg(test)]
mod tests;
