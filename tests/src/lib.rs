//! What Mote's end-to-end tests stand on: a real TPM (swtpm), a real kernel's measurements played
//! in front of it, and processes that never outlive their test.
//!
//! | module | what |
//! |---|---|
//! | [`simkernel`] | the kernel of a device: lends out the TPM, keeps the IMA list |
//! | [`device`] | TPM + kernel + agent |
//! | [`fleet`] | a verifier and the operator's tool |
//! | [`recorded`] | the real device in `data/` |
//! | [`wire`], [`tls_wire`] | agent and verifier, and the bytes between them |
//! | [`tap`] | a forwarder that counts |
//! | [`mote_swtpm`] | TPMs; children with logs, waiting, temporary directories, free ports |
//! | [`program`](mod@program) | this workspace's programs |
//! | [`soft_tpm`], [`soft_device`] | a TPM in memory that can also lie; a kernel that measures into it |
//! | [`lab`], [`evil`] | the verifier's engine without sockets; an agent that can say anything |
//! | [`token_device`] | a device without a TPM |
//! | [`attester`] | the agent's session without sockets |
//! | [`hex`] | hex digits |
//!
//! Where swtpm stands, nothing is mocked between the TPM and the verdict. Errors carry the end of the log of
//! whoever failed; unwrap them in tests.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod attester;
pub mod device;
pub mod evil;
pub mod fleet;
pub mod hex;
pub mod lab;
pub mod program;
pub mod recorded;
pub mod sim;
pub mod simkernel;
pub mod soft_boot;
pub mod soft_device;
pub mod soft_tpm;
pub mod tap;
pub mod tls_wire;
pub mod token_device;
pub mod wire;

pub use attester::Attester;
pub use device::{Device, SimKernel};
pub use evil::Evil;
pub use fleet::Verifier;
pub use lab::Lab;
pub use mote_swtpm::{
    Error, Manufacture, Process, Result, Swtpm, TempDir, error, ports, process, swtpm, wait_for,
};
