//! Mote's attester: quotes a TPM 2.0 and reads the kernel's measurement list, so that a verifier
//! can tell what this device runs.
//!
//! | module | what | touches |
//! |---|---|---|
//! | [`tpm`] | the TPM behind the trait [`tpm::Tpm`] | `/dev/tpmrm0` or a swtpm |
//! | [`measurement_log`] | the IMA list behind [`measurement_log::MeasurementLog`] | securityfs, read-only |
//! | [`boot_log`] | the firmware's log behind [`boot_log::BootLog`] | securityfs, read-only |
//! | [`session`] | the conversation, sans-IO | nothing |
//! | [`verifier_key`] | the pinned key of the verifier | nothing |
//! | [`cli`], [`exit`] | the command line and the exit codes | standard output and error |
//! | [`config`] | command line, environment and file | one file, read-only |
//! | [`evidence_file`] | evidence for `motectl verify` | the file that the user names |
//! | [`account`] | giving up root | `/etc/passwd`, `/etc/group`, read-only |
//! | [`status`] | how it stands, for the device itself | a memfd, systemd's socket |
//! | [`log_line`] | log lines | standard error |
//! | [`run`] | events to log lines and exit codes | standard error |
//! | [`link`] | sockets, clock and signals around a session | UDP, TLS |
//!
//! Only [`evidence_file`] opens a file for writing, when told to: keys live in RAM, and the kernel's list is
//! the queue.
#![cfg_attr(not(feature = "esapi"), forbid(unsafe_code))]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod account;
pub mod boot_log;
pub mod cli;
pub mod config;
pub mod evidence_file;
pub mod exit;
pub mod link;
pub mod log_line;
pub mod measurement_log;
mod probe;
pub mod run;
pub mod session;
pub mod status;
pub mod tpm;
pub mod verifier_key;
