//! From a quote and what comes with it to what is right and wrong with it: on recordings of a real device, and on
//! devices whose TPM is a few lines of Rust.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/device.rs"]
mod device;
#[path = "../common/makers.rs"]
mod makers;

mod bench;
mod boot;
mod certification;
mod evidence_file;
mod file_signatures;
mod records;
mod whole_logs;
