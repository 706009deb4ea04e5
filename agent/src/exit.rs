//! Exit codes: what a script, a timer or an init system is to know.

use std::process::ExitCode;

/// How `mote-agent` ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The verifier trusts this device; or whatever else was asked for went well.
    Trusted = 0,
    /// The verifier does not.
    Untrusted = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// The verifier has not decided: it waits for an operator to admit the device, or for more of
    /// the measurement list.
    NoVerdict = 3,
    /// No answer from the verifier, or not from the pinned one.
    Unreachable = 4,
    /// The TPM failed.
    Tpm = 5,
    /// The measurement list could not be read.
    MeasurementLog = 6,
}

impl Exit {
    /// All of them, in order.
    pub const ALL: [Self; 7] = [
        Self::Trusted,
        Self::Untrusted,
        Self::Usage,
        Self::NoVerdict,
        Self::Unreachable,
        Self::Tpm,
        Self::MeasurementLog,
    ];

    /// The number that the parent process sees.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// A line for `--help`.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Trusted => "trusted (with --once), or done",
            Self::Untrusted => "untrusted (with --once)",
            Self::Usage => "wrong command line or configuration",
            Self::NoVerdict => "no verdict yet: not admitted, or the verifier still lacks evidence",
            Self::Unreachable => "no answer from the verifier; nothing is lost",
            Self::Tpm => "the TPM failed",
            Self::MeasurementLog => "the measurement list could not be read",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}
