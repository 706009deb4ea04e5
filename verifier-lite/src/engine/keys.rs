//! Attestation keys, parsed: those of devices heard of lately are kept.
//!
//! What a key is depends on its public area alone, and that is what it is found by: nothing that happens to
//! a device makes a kept key wrong.

use std::collections::HashMap;
use std::sync::Arc;

use mote_schemas::reason::Reason;
use mote_schemas::tpm::Public;

use super::outcome::Refusal;
use crate::signature::VerifyingKey;

/// Keys kept: about 2 kB each.
const MAX: usize = 8192;

/// The keys, by their `TPMT_PUBLIC`.
#[derive(Default)]
pub(super) struct AttestationKeys(HashMap<Vec<u8>, Arc<VerifyingKey>>);

impl AttestationKeys {
    /// The key of an enrolled device.
    pub(super) fn of(&mut self, ak_public: &[u8]) -> Result<Arc<VerifyingKey>, Refusal> {
        if let Some(key) = self.0.get(ak_public) {
            return Ok(Arc::clone(key));
        }
        let key = Arc::new(attestation_key(ak_public)?);
        if self.0.len() >= MAX {
            self.0.clear();
        }
        self.0.insert(ak_public.to_vec(), Arc::clone(&key));
        Ok(key)
    }
}

/// The key with this public area, if it is fit to attest.
pub(super) fn attestation_key(ak_public: &[u8]) -> Result<VerifyingKey, Refusal> {
    let ak = Public::parse(ak_public).map_err(|e| Refusal::new(Reason::AkUnsuitable, &e))?;
    VerifyingKey::new(&ak).map_err(|e| Refusal::new(e.reason(), &e))
}
