//! From response codes to errors (TPM 2.0 Library part 2, 6.6).

use crate::tpm::TpmError;
use crate::tpm::connection::Fault;

/// A response code without the number of the handle, session or parameter that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ResponseCode(u32);

/// `RC_FMT1`: the code says which handle, session or parameter it is about.
const FORMAT_1: u32 = 0x080;

impl ResponseCode {
    pub(super) const SUCCESS: Self = Self(0);
    pub(super) const INITIALIZE: Self = Self(0x100);
    pub(super) const FAILURE: Self = Self(0x101);
    pub(super) const NV_UNINITIALIZED: Self = Self(0x14A);
    pub(super) const VALUE: Self = Self(0x084);
    pub(super) const HIERARCHY: Self = Self(0x085);
    pub(super) const HANDLE: Self = Self(0x08B);
    pub(super) const AUTH_FAIL: Self = Self(0x08E);
    pub(super) const SIZE: Self = Self(0x095);
    pub(super) const INSUFFICIENT: Self = Self(0x09A);
    pub(super) const INTEGRITY: Self = Self(0x09F);
    pub(super) const BAD_AUTH: Self = Self(0x0A2);
    pub(super) const ECC_POINT: Self = Self(0x0A7);
    pub(super) const YIELDED: Self = Self(0x908);
    pub(super) const CANCELED: Self = Self(0x909);
    pub(super) const TESTING: Self = Self(0x90A);
    pub(super) const NV_RATE: Self = Self(0x920);
    pub(super) const LOCKOUT: Self = Self(0x921);
    pub(super) const RETRY: Self = Self(0x922);
    pub(super) const NV_UNAVAILABLE: Self = Self(0x923);

    /// Takes the layer off (a resource manager answers in the TPM's place) and the number.
    pub(super) const fn of(raw: u32) -> Self {
        let code = raw & 0xFFF;
        Self(if code & FORMAT_1 == 0 {
            code
        } else {
            code & (FORMAT_1 | 0x3F)
        })
    }

    /// The TPM did nothing and may be asked again at once.
    pub(super) fn wants_retry(self) -> bool {
        matches!(self, Self::YIELDED | Self::TESTING | Self::RETRY)
    }
}

/// What the response code `raw` of `command` means for the caller.
pub(super) fn fault(command: &'static str, raw: u32) -> Fault {
    let lost = Fault::lost;
    match ResponseCode::of(raw) {
        ResponseCode::LOCKOUT => TpmError::Lockout.into(),
        ResponseCode::RETRY
        | ResponseCode::YIELDED
        | ResponseCode::TESTING
        | ResponseCode::CANCELED
        | ResponseCode::NV_RATE
        | ResponseCode::NV_UNAVAILABLE => TpmError::Busy { command }.into(),
        ResponseCode::INITIALIZE => lost(TpmError::NotStarted),
        ResponseCode::FAILURE => lost(TpmError::Failure),
        // OBJECT_MEMORY, SESSION_MEMORY, MEMORY, SESSION_HANDLES, OBJECT_HANDLES
        ResponseCode(0x902..=0x906) => TpmError::OutOfMemory { command }.into(),
        // REFERENCE_H0 to REFERENCE_S6. Every handle we use is one we loaded: the TPM was reset. But
        // after a reset an old handle may as well have come to mean a new object, with any error to
        // show for it; so whatever is not explained here gets a new connection too.
        ResponseCode(0x910..=0x91E) | ResponseCode::HANDLE => lost(TpmError::Gone { command }),
        ResponseCode::HIERARCHY | ResponseCode::BAD_AUTH | ResponseCode::AUTH_FAIL => {
            lost(TpmError::EndorsementLocked)
        }
        _ => lost(TpmError::Response {
            command,
            code: raw,
            text: format!("TPM response code {raw:#x}"),
        }),
    }
}

/// The TPM went away during `command`.
pub(super) fn gone(command: &'static str) -> Fault {
    Fault::lost(TpmError::Gone { command })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tpm::connection::Connection;

    #[test]
    fn codes_lose_number_and_layer() {
        // Parameter 1, parameter 2, handle 1, session 1; and from the resource manager.
        for raw in [0x1D5, 0x2D5, 0x195, 0x995, 0x000B_01D5] {
            assert_eq!(ResponseCode::of(raw), ResponseCode::SIZE, "{raw:#x}");
        }
        assert_eq!(ResponseCode::of(0x902), ResponseCode(0x902));
        assert_eq!(ResponseCode::of(0x14A), ResponseCode::NV_UNINITIALIZED);
    }

    #[test]
    fn faults_say_what_to_do() {
        for (raw, error, connection) in [
            (0x921, TpmError::Lockout, Connection::Sound),
            (0x100, TpmError::NotStarted, Connection::Lost),
            (
                0x902,
                TpmError::OutOfMemory { command: "C" },
                Connection::Sound,
            ),
            (0x910, TpmError::Gone { command: "C" }, Connection::Lost),
            (0x18B, TpmError::Gone { command: "C" }, Connection::Lost),
            (0x9A2, TpmError::EndorsementLocked, Connection::Lost),
            (0x922, TpmError::Busy { command: "C" }, Connection::Sound),
        ] {
            let fault = fault("C", raw);
            assert_eq!((fault.error, fault.connection), (error, connection));
        }
    }
}
