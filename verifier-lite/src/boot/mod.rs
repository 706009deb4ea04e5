//! Measured boot: what firmware and boot loaders did before the kernel's own log begins.
//!
//! ```text
//! bytes -> BootLog -> CertifiedBootLog (replay equals the quoted PCRs) -> appraisal
//! ```
//! | module | what |
//! |---|---|
//! | `certified` | the proof that a log is what was measured |
//! | `appraisal` | what of it is as manifests expect |
//! | `events` | expectations on a log, one by one |
//! | `keys` | of those, what Secure Boot's variables held |
//! | `command_line` | the kernel's command line, in all the ways in which it is measured |
//!
//! **Who may lie**: the device, in every byte of the log; after [`CertifiedBootLog`], still in each
//! event's type, and in its data unless the digest is that of the data. So expectations go by PCR and
//! digest alone. A PCR that nothing but listed digests may have gone into is called *closed*.
//! Devices without a log have static PCR values in their manifests.

mod appraisal;
mod certified;
mod command_line;
mod events;
mod keys;

pub use appraisal::{BootAppraisal, Deviation, appraise};
pub(crate) use keys::words as signature_in_words;

pub use certified::{BootLogMismatch, CertifiedBootLog};
