//! TPM structures against a real TPM's output, and against arbitrary bytes.
#![allow(clippy::unwrap_used)]

mod attest;
mod elide;
mod public;
mod signature;
#[path = "../vectors/mod.rs"]
mod vectors;

use proptest::prelude::*;

/// Valid bytes with a few changed, cut or added: closer to the parsers' edges than noise.
pub(crate) fn mutated(seed: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (edits, any::<prop::sample::Index>(), any::<bool>()).prop_map(move |(edits, cut, do_cut)| {
        let mut bytes = seed.to_vec();
        for (at, v) in edits {
            let at = at.index(bytes.len());
            bytes[at] = v;
        }
        if do_cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        bytes
    })
}

pub(crate) fn noise() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..700)
}
