//! Which reasons are a policy's to weigh.
//!
//! A policy decides what may run on a device. It cannot decide that a log which the TPM does not vouch
//! for is one after all: such reasons keep their weight, whatever a policy says. Nor that a template is
//! to be believed of which the log's holder alone says that it is one: whichever a policy named, a
//! compromised device could label its records so.

use mote_schemas::reason::{Reason, Severity};

/// Whether the reason is about what certified records say, or about the device as a policy sees it: these
/// are found again at every appraisal. All others are about the evidence as such.
pub fn reason_is_of_content(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::BootAggregateMismatch
            | Reason::BootAggregateMissing
            | Reason::BootAggregateUnchecked
            | Reason::TemplateOrder
            | Reason::TemplateMalformed
            | Reason::BootLogDoesNotReplay
    ) || is_weighable(reason)
}

/// Whether a policy may say what this reason weighs.
pub fn is_weighable(reason: Reason) -> bool {
    let judged = matches!(
        reason.severity(),
        Severity::Warning | Severity::Contraindicated
    );
    judged
        && !matches!(
            reason,
            Reason::LogDoesNotReplay
                | Reason::ImaWithoutTpm
                | Reason::BootAggregateMismatch
                | Reason::BootAggregateMissing
                | Reason::BootAggregateUnchecked
                | Reason::TemplateOrder
                | Reason::TemplateMalformed
                | Reason::BootLogDoesNotReplay
        )
}
