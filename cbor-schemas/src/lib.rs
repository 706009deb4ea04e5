//! What a Mote attester and its verifier must agree on byte for byte, and nothing else.
//!
//! | module | what | source |
//! |---|---|---|
//! | [`limits`] | every bound on what a peer may send, with its reason | |
//! | [`cbor`] | deterministic CBOR: refuse anything that has a second spelling | RFC 8949, 4.2.1 |
//! | [`message`] | hello, open, log, beat and their replies | `cddl/mote.cddl` |
//! | [`bundle`] | evidence in a file | `cddl/evidence.cddl` |
//! | [`cmw`] | evidence of any kind, with its media type | RFC 9999 |
//! | [`eat`] | tokens of devices without a TPM | RFC 9711, `cddl/token.cddl` |
//! | [`reason`] | the registry of reason tokens | `cddl/reasons.cddl` |
//! | [`transcript`] | what binds keys and quotes to one conversation | DESIGN |
//! | [`cose`] | `COSE_Sign1` structure, without a signature algorithm | RFC 9052 |
//! | [`coap`] | messages, confirmable exchange, de-duplication; no sockets, no clock | RFC 7252 |
//! | [`oscore`] | end-to-end protection of CoAP | RFC 8613 |
//! | [`tpm`] | the TPM structures that evidence is made of | TPM 2.0 Library, part 2 |
//! | [`ima`] | the kernel's binary measurement list | Linux `security/integrity/ima` |
//! | [`bootlog`] | the firmware's boot event log | TCG PC Client Platform Firmware Profile |
//! | [`pcr`] | PCR banks, selections, replay, composite digest | TPM 2.0 Library, part 1 |
//!
//! The crate is `no_std`, allocates nothing and forbids unsafe code. Decoders borrow from their
//! input; encoders write into the caller's buffer. **Nothing here is trusted because it parsed**:
//! parsing says what a peer claims. Verification is the verifier's (`mote-verifier`), which is the
//! only place where claims become evidence.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod bootlog;
pub mod bundle;
pub mod cbor;
pub mod cmw;
pub mod coap;
pub mod cose;
pub mod eat;
pub mod ima;
pub mod limits;
pub mod message;
pub mod oscore;
pub mod pcr;
pub mod reason;
pub mod time;
pub mod tpm;
pub mod transcript;
