//! The evidence of a TPM and its kernel as one piece: what `mote-agent evidence` writes.

use mote_schemas::bundle;

use super::{Appraise, Kind};
use crate::bundle::{AkTrust, Bundle, BundleError, VerifiedBundle};
use crate::policy::{EffectivePolicy, Settled};

/// See [`crate::bundle`].
#[derive(Clone, Copy, Debug)]
pub struct TpmIma;

impl Kind for TpmIma {
    const MEDIA_TYPE: &'static str = bundle::MEDIA_TYPE;
    const CONTENT_FORMAT: Option<u16> = None;
    type Trust<'t> = AkTrust<'t>;
    type Verified = VerifiedBundle;
    type Error = BundleError;

    fn verify(
        value: &[u8],
        nonce: &[u8],
        trust: AkTrust<'_>,
    ) -> Result<VerifiedBundle, BundleError> {
        Bundle::parse(value)?.verify(nonce, trust)
    }
}

impl Appraise for VerifiedBundle {
    fn appraise(&self, policy: &EffectivePolicy, now: u64) -> Settled {
        self.settle(policy, now)
    }
}
