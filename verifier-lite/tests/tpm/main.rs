//! What a TPM says and what it is asked, with swtpm and its manufacturer's certificates.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

mod admission;
mod make_credential;
mod quotes;
