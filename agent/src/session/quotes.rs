//! What a heartbeat may leave out of its quote: whatever follows from the last one that the verifier
//! has accepted in this session ([`mote_schemas::tpm::elide`]). Leaving out too much costs one more
//! exchange, in which the verifier asks for the whole quote; it never costs evidence.

use heapless::Vec;
use mote_schemas::cbor::Bytes;
use mote_schemas::message::{Changes, ElidedQuote};
use mote_schemas::tpm::{
    Attest, Baseline, Key, MAX_DIGEST, MAX_ECDSA_FIXED, Public, Signature, elide,
};

use crate::tpm::Quote;

/// A quote that both sides know.
#[derive(Clone, Debug)]
struct Known {
    baseline: Baseline,
    pcr_digest: Vec<u8, MAX_DIGEST>,
    /// The list had the same length before and after it.
    still: bool,
}

/// The last quote sent, and the last one that the verifier accepted.
#[derive(Debug, Default)]
pub(super) struct Quotes {
    accepted: Option<Known>,
    sent: Option<Known>,
    /// The last one was sent elided.
    elided: bool,
}

impl Quotes {
    /// Remembers what goes out, until the verifier has answered.
    pub(super) fn sending(&mut self, quote: &Quote, still: bool, elided: bool) {
        self.elided = elided;
        self.sent = Attest::parse(&quote.attest).ok().and_then(|attest| {
            Some(Known {
                baseline: Baseline::of(&attest)?,
                pcr_digest: Vec::from_slice(attest.pcr_digest).ok()?,
                still,
            })
        });
    }

    /// The verifier accepted what was sent last.
    pub(super) fn accept(&mut self) {
        if let Some(sent) = self.sent.take() {
            self.accepted = Some(sent);
        }
    }

    /// The verifier did not take what was sent last; whether that was for being elided.
    pub(super) fn refuse(&mut self) -> bool {
        self.sent = None;
        self.elided
    }

    /// Whether what was sent last was elided.
    pub(super) fn is_elided(&self) -> bool {
        self.elided
    }

    /// With nothing new in a list that stands still, another digest means that a PCR outside the
    /// list has changed.
    pub(super) fn other_pcrs_changed(&self, quote: &Quote) -> bool {
        let attest = Attest::parse(&quote.attest);
        self.accepted.as_ref().is_some_and(|known| {
            known.still && attest.is_ok_and(|attest| attest.pcr_digest != known.pcr_digest)
        })
    }

    /// `quote` without what the verifier knows, put together in `buffer`. `None` when it must travel
    /// in full.
    pub(super) fn elide<'b>(
        &self,
        quote: &'b Quote,
        ak_public: &[u8],
        extra_data: &[u8],
        buffer: &'b mut [u8],
    ) -> Option<(ElidedQuote<'b>, Changes<'b>)> {
        let baseline = &self.accepted.as_ref()?.baseline;
        let attest = Attest::parse(&quote.attest).ok()?;
        let elided = elide(&attest, baseline, extra_data)?;
        let signature = Signature::parse(&quote.signature).ok()?;
        let mut fixed = [0; MAX_ECDSA_FIXED];
        let signature = match (signature, Public::parse(ak_public).ok()?.key()) {
            (Signature::Ecdsa { .. }, Key::Ecc(point)) => {
                signature.ecdsa_fixed(point.curve, &mut fixed).ok()?
            }
            (Signature::RsaSsa { sig, .. } | Signature::RsaPss { sig, .. }, Key::Rsa { .. }) => sig,
            _ => return None,
        };
        let changes = Changes {
            restart_count: elided.restart_count,
            safe: elided.safe,
            pcr_digest: Some(Bytes::new(attest.pcr_digest)?),
        };
        let quote = ElidedQuote::new(signature, &elided.clock, buffer)?;
        Some((quote, changes))
    }
}
