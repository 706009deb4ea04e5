//! The suite of `common/tpm_suite/`, without tpm2-tss.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/tpm_suite/mod.rs"]
mod suite;

use mote_agent::tpm::{DirectTpm, Tpm, TpmError, TpmOptions};

fn connect(options: TpmOptions) -> Result<Box<dyn Tpm>, TpmError> {
    Ok(Box::new(DirectTpm::new(options)?))
}
