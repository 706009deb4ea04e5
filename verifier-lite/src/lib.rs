//! Mote's verifier: appraises TPM quotes and IMA logs against an image's reference values.
//!
//! The order of appraisal is held by types. Each has one constructor, and that constructor is the check:
//!
//! | type | proves | from |
//! |---|---|---|
//! | [`admission::Admission`] | somebody vouches for this endorsement key | allow list, certificate |
//! | [`credential::EndorsementKey`] | credentials can be made for this key | the device's word |
//! | [`signature::VerifyingKey`] | a restricted key bound to its TPM, once activated | the device's word |
//! | [`quote::VerifiedQuote`] | that key signed these PCRs and this clock for our challenge | bytes, [`signature::VerifyingKey`] |
//! | [`prefix::Certified`] | these records and PCR values were in the TPM | records, [`quote::VerifiedQuote`] |
//! | [`boot::CertifiedBootLog`] | these events were extended into quoted PCRs | boot event log, [`prefix::Certified`] |
//! | [`evidence::token::VerifiedToken`] | that key signed these claims for our nonce | bytes, [`evidence::token::Endorsement`] |
//! | [`policy::VerifiedPolicy`] | a key that the operator trusts signed this policy | bytes, keys |
//! | [`appraise::Appraisal`] | what of that is as it should be | [`prefix::Certified`], [`policy::EffectivePolicy`] |
//!
//! The TPM's evidence comes in a conversation ([`engine`]), for its log is long; evidence that comes whole, from
//! a file or a device without a TPM, goes by its media type ([`evidence`]).
//!
//! Nothing here panics on what a peer sends; every refusal is an enum with a reason token.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod admin;
pub mod admission;
pub mod appraise;
pub mod boot;
mod boot_aggregate;
pub mod bundle;
pub mod cli;
pub mod convert;
pub mod credential;
pub mod daemon;
mod der;
pub mod ear;
pub mod elided;
pub mod engine;
pub mod evidence;
pub mod explain;
pub mod hex;
pub mod ima_signature;
mod kdf;
pub mod known;
pub mod log_entry;
pub mod manifest;
mod pem;
pub mod policy;
pub mod prefix;
pub mod printable;
pub mod quote;
pub mod server;
pub mod signature;
pub mod signing_key;
pub mod store;
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod test_util;
mod wildcard;
