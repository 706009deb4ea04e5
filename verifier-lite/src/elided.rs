//! Elided quotes: rebuilt from what is known, then verified as any other.
//!
//! Everything that is put back is a guess until the signature over the rebuilt bytes holds:
//! [`VerifiedQuote::verify`] is the only judge here too. Where the peer does not say the pcrDigest, it
//! is that after all records, or, when the kernel was appending just then, after all but the last
//! few: at most [`MAX_CHECKS`] signatures are checked for one message.

use mote_schemas::limits::{MAX_TPMS_ATTEST, MAX_TPMT_SIGNATURE};
use mote_schemas::message::{Changes, ElidedQuote};
use mote_schemas::pcr::extend;
use mote_schemas::tpm::{Baseline, Digest, Elided, HashAlg, Hasher, PcrSelection};

use crate::log_entry::LogEntry;
use crate::prefix::LogState;
use crate::quote::VerifiedQuote;
use crate::signature::VerifyingKey;

/// Signatures checked for one elided quote before it is asked for in full.
pub const MAX_CHECKS: usize = 4;

/// A quote that was elided, whole again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// What it proves.
    pub verified: VerifiedQuote,
    /// Its `TPMS_ATTEST`.
    pub attest: Vec<u8>,
    /// Its `TPMT_SIGNATURE`.
    pub signature: Vec<u8>,
}

/// Rebuilds `quote` with each of `digests` in turn, the first [`MAX_CHECKS`] of them, until the
/// signature of `key` holds. A digest that came along is the only one tried.
pub fn rebuild(
    quote: &ElidedQuote<'_>,
    changes: &Changes<'_>,
    baseline: &Baseline,
    key: &VerifyingKey,
    extra_data: &[u8],
    digests: &[Digest],
) -> Option<Rebuilt> {
    let (signature, clock) = quote.split(key.signature_len())?;
    let signature = key.signature(signature)?;
    let mut buffer = [0; MAX_TPMT_SIGNATURE];
    let signature = signature.encode(&mut buffer).ok()?;
    let elided = Elided {
        clock,
        restart_count: changes.restart_count,
        safe: changes.safe,
    };
    let told = changes.pcr_digest.map(mote_schemas::cbor::Bytes::get);
    let guessed = digests.iter().map(Digest::as_bytes).take(match told {
        Some(_) => 0,
        None => MAX_CHECKS,
    });
    told.into_iter().chain(guessed).find_map(|digest| {
        let attest = elided.rebuild(baseline, extra_data, digest)?;
        let mut buffer = [0; MAX_TPMS_ATTEST];
        let attest = attest.encode(&mut buffer).ok()?;
        let selection = Some(&baseline.selection);
        let verified = VerifiedQuote::verify(attest, signature, key, extra_data, selection).ok()?;
        Some(Rebuilt {
            verified,
            attest: attest.to_vec(),
            signature: signature.to_vec(),
        })
    })
}

/// What a quote over `selection` digests, in `alg`, after all of `entries` and after each of up to
/// [`MAX_CHECKS`] - 1 prefixes before that, longest first. `start` is what was certified before
/// them. Nothing when the value of a selected PCR is not known.
pub fn last_digests<E: LogEntry>(
    start: &LogState,
    entries: &[E],
    selection: &PcrSelection,
    alg: HashAlg,
) -> Vec<Digest> {
    let mut values = Vec::with_capacity(selection.count());
    for (bank, pcr) in selection {
        let Some(value) = start.value(bank, pcr) else {
            return Vec::new();
        };
        values.push((pcr, *value));
    }
    let composite = |values: &[(u32, Digest)]| {
        let mut hasher = Hasher::new(alg);
        for (_, value) in values {
            hasher.update(value.as_bytes());
        }
        hasher.finish()
    };
    let first = (entries.len() + 1).saturating_sub(MAX_CHECKS);
    let mut digests = Vec::with_capacity(MAX_CHECKS);
    for replayed in 0..=entries.len() {
        if replayed >= first {
            digests.push(composite(&values));
        }
        let Some(entry) = entries.get(replayed) else {
            break;
        };
        for (pcr, value) in &mut values {
            if *pcr == entry.pcr()
                && let Ok(extended) = extend(value, &entry.extend_digest(value.alg()))
            {
                *value = extended;
            }
        }
    }
    digests.reverse();
    digests
}
