//! Quotes: from bytes to [`VerifiedQuote`], and what its clock says about the boot it was made in.
//!
//! TPM 2.0 Library part 2, 10.12.12 (the structure), part 1, 36 (clock and counters) and 18.4 (quotes).
//! Everything before the signature check is the peer's word and used only to refuse.

use std::fmt;

use mote_schemas::reason::Reason;
use mote_schemas::tpm::{Attest, AttestError, ClockInfo, Digest, PcrSelection};

use crate::signature::{VerifyError, VerifyingKey};

/// Why a quote is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuoteError {
    /// Not the attestation structure of a quote.
    Malformed(AttestError),
    /// Made for another challenge: an old quote, or another conversation's.
    WrongNonce,
    /// The signature does not count.
    Signature(VerifyError),
    /// Signed by this key in another place than the endorsement hierarchy's top, where its clock
    /// would be obfuscated (part 1, 36.7).
    WrongSigner,
    /// Over other PCRs than were asked for.
    WrongSelection,
    /// `pcrDigest` is not as long as the key's hash.
    PcrDigestLength(usize),
}

impl QuoteError {
    /// The reason to give.
    pub fn reason(&self) -> Reason {
        match self {
            QuoteError::Malformed(AttestError::WrongMagic(_)) => Reason::QuoteWrongMagic,
            QuoteError::Malformed(AttestError::WrongType(_)) => Reason::QuoteWrongType,
            QuoteError::Malformed(_) | QuoteError::PcrDigestLength(_) => Reason::QuoteMalformed,
            QuoteError::WrongNonce => Reason::QuoteWrongNonce,
            QuoteError::Signature(error) => error.reason(),
            QuoteError::WrongSigner => Reason::QuoteWrongSigner,
            QuoteError::WrongSelection => Reason::QuotePcrSelection,
        }
    }
}

impl fmt::Display for QuoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QuoteError::Malformed(error) => error.fmt(f),
            QuoteError::WrongNonce => f.write_str("the quote answers another challenge"),
            QuoteError::Signature(error) => error.fmt(f),
            QuoteError::WrongSigner => f.write_str(
                "the quote's qualified signer is not a primary key of the endorsement hierarchy",
            ),
            QuoteError::WrongSelection => f.write_str("the quote is over other PCRs"),
            QuoteError::PcrDigestLength(len) => write!(f, "a pcrDigest of {len} bytes"),
        }
    }
}

impl std::error::Error for QuoteError {}

/// A quote that the key signed, for the expected challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedQuote {
    clock_info: ClockInfo,
    firmware_version: u64,
    selection: PcrSelection,
    pcr_digest: Digest,
}

impl VerifiedQuote {
    /// Checks `attest` (a whole `TPMS_ATTEST`) against `signature` (a whole `TPMT_SIGNATURE`), the
    /// challenge `extra_data`, and the PCRs asked for, if they were fixed.
    pub fn verify(
        attest: &[u8],
        signature: &[u8],
        key: &VerifyingKey,
        extra_data: &[u8],
        selection: Option<&PcrSelection>,
    ) -> Result<Self, QuoteError> {
        let parsed = Attest::parse(attest).map_err(QuoteError::Malformed)?;
        if parsed.extra_data != extra_data {
            return Err(QuoteError::WrongNonce);
        }
        key.verify(attest, signature)
            .map_err(QuoteError::Signature)?;
        if parsed.qualified_signer != key.qualified_name().as_bytes() {
            return Err(QuoteError::WrongSigner);
        }
        if selection.is_some_and(|expected| *expected != parsed.pcr_select) {
            return Err(QuoteError::WrongSelection);
        }
        let pcr_digest = Digest::new(key.hash(), parsed.pcr_digest)
            .ok_or(QuoteError::PcrDigestLength(parsed.pcr_digest.len()))?;
        Ok(VerifiedQuote {
            clock_info: parsed.clock_info,
            firmware_version: parsed.firmware_version,
            selection: parsed.pcr_select,
            pcr_digest,
        })
    }

    /// The TPM's clock and boot counters.
    pub fn clock_info(&self) -> &ClockInfo {
        &self.clock_info
    }

    /// The TPM's firmware version, as its vendor counts.
    pub fn firmware_version(&self) -> u64 {
        self.firmware_version
    }

    /// Which PCRs it covers.
    pub fn selection(&self) -> &PcrSelection {
        &self.selection
    }

    /// Digest over their values, with the key's hash.
    pub fn pcr_digest(&self) -> &Digest {
        &self.pcr_digest
    }

    /// How this quote follows `previous`, the clock of the last quote that was certified.
    pub fn continuity(&self, previous: &ClockInfo) -> Result<Continuity, ClockError> {
        continuity(previous, &self.clock_info)
    }
}

/// What happened to the device between two quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuity {
    /// Nothing: PCRs have only been extended.
    SameBoot,
    /// The TPM was started after an orderly `Shutdown(STATE)`. After `Startup(STATE)` (suspend to
    /// RAM) PCRs go on; after `Startup(CLEAR)` (hibernation) they have started over. The counters
    /// do not tell which; only a replay does.
    Resumed,
    /// A TPM reset: PCRs, and with them the log, have started over.
    Rebooted,
}

/// A clock or counter that no TPM turns back, turned back. `TPM2_Clear` sets them to zero, so a device
/// cleared on purpose shows this too and must be admitted anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockError {
    /// `clock`, in milliseconds: before and now.
    ClockWentBackwards(u64, u64),
    /// `resetCount`: before and now.
    ResetCountWentBackwards(u32, u32),
    /// `restartCount` within one reset: before and now.
    RestartCountWentBackwards(u32, u32),
}

impl ClockError {
    /// The reason to give.
    pub fn reason(&self) -> Reason {
        Reason::ClockWentBackwards
    }
}

impl fmt::Display for ClockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClockError::ClockWentBackwards(before, now) => {
                write!(f, "the TPM's clock went back from {before} to {now} ms")
            }
            ClockError::ResetCountWentBackwards(before, now) => {
                write!(f, "resetCount went back from {before} to {now}")
            }
            ClockError::RestartCountWentBackwards(before, now) => {
                write!(
                    f,
                    "restartCount went back from {before} to {now} without a reset"
                )
            }
        }
    }
}

impl std::error::Error for ClockError {}

/// How `now` follows `previous` (part 1, 36.3 to 36.6).
pub fn continuity(previous: &ClockInfo, now: &ClockInfo) -> Result<Continuity, ClockError> {
    let happened = if now.reset_count < previous.reset_count {
        return Err(ClockError::ResetCountWentBackwards(
            previous.reset_count,
            now.reset_count,
        ));
    } else if now.reset_count > previous.reset_count {
        // restartCount has started over at 0: it says nothing here.
        Continuity::Rebooted
    } else if now.restart_count < previous.restart_count {
        return Err(ClockError::RestartCountWentBackwards(
            previous.restart_count,
            now.restart_count,
        ));
    } else if now.restart_count > previous.restart_count {
        Continuity::Resumed
    } else {
        Continuity::SameBoot
    };
    // After a power cut the clock may restart from an older saved value, and then says so: it is not
    // `safe` until it has passed the next save (part 1, 36.3.2). libtpms 0.9 says so for seconds only and
    // restarts from the last orderly shutdown. resetCount has advanced and the nonce is fresh, so that it
    // proves nothing against the device. Within a boot nothing excuses it.
    let may_lag = match happened {
        Continuity::Rebooted => true,
        Continuity::Resumed => !now.safe,
        Continuity::SameBoot => false,
    };
    if now.clock < previous.clock && !may_lag {
        return Err(ClockError::ClockWentBackwards(previous.clock, now.clock));
    }
    Ok(happened)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::{recorded, unhex};
    use mote_schemas::tpm::{HashAlg, Public};

    const NONCE_1: &str = "00112233445566778899aabbccddeeff";
    const NONCE_2: &str = "ffeeddccbbaa99887766554433221100";

    fn key() -> VerifyingKey {
        VerifyingKey::new(&Public::parse(&recorded("ak.tpmt")).unwrap()).unwrap()
    }

    fn verify(attest: &[u8], signature: &[u8], nonce: &str) -> Result<VerifiedQuote, QuoteError> {
        // sha256:0-10,14
        let selection = PcrSelection::single(HashAlg::Sha256, 0x47ff).unwrap();
        VerifiedQuote::verify(attest, signature, &key(), &unhex(nonce), Some(&selection))
    }

    #[test]
    fn recorded_quotes_verify_and_follow_each_other() {
        let first = verify(&recorded("attest.1"), &recorded("sig.1"), NONCE_1).unwrap();
        let second = verify(&recorded("attest.2"), &recorded("sig.2"), NONCE_2).unwrap();
        assert_eq!(
            second.continuity(first.clock_info()),
            Ok(Continuity::SameBoot)
        );
        assert!(matches!(
            first.continuity(second.clock_info()),
            Err(ClockError::ClockWentBackwards(..))
        ));
    }

    #[test]
    fn each_fault_has_its_own_reason() {
        let (attest, signature) = (recorded("attest.1"), recorded("sig.1"));
        let refused = |attest: &[u8], signature: &[u8], nonce| {
            verify(attest, signature, nonce)
                .unwrap_err()
                .reason()
                .token()
        };
        assert_eq!(refused(&attest, &signature, NONCE_2), "quote-wrong-nonce");
        assert_eq!(
            refused(&attest, &recorded("sig.2"), NONCE_1),
            "quote-signature-invalid"
        );
        let mut changed = attest.clone();
        changed[0] ^= 1;
        assert_eq!(refused(&changed, &signature, NONCE_1), "quote-wrong-magic");
        let mut changed = attest.clone();
        changed[5] ^= 2;
        assert_eq!(refused(&changed, &signature, NONCE_1), "quote-wrong-type");
        assert_eq!(
            refused(&attest[..attest.len() - 1], &signature, NONCE_1),
            "quote-malformed"
        );
        assert_eq!(
            refused(&attest, &signature[..71], NONCE_1),
            "quote-signature-invalid"
        );
        let mut changed = signature.clone();
        changed[3] ^= 0x0b ^ 0x0c;
        assert_eq!(
            refused(&attest, &changed, NONCE_1),
            "quote-signature-invalid"
        );
        let other = PcrSelection::single(HashAlg::Sha256, 0x07ff).unwrap();
        assert_eq!(
            VerifiedQuote::verify(&attest, &signature, &key(), &unhex(NONCE_1), Some(&other)),
            Err(QuoteError::WrongSelection)
        );
    }

    #[test]
    fn each_fault_says_what_it_is() {
        let (attest, signature) = (recorded("attest.1"), recorded("sig.1"));
        let said = |at: usize, mask: u8| {
            let mut changed = attest.clone();
            changed[at] ^= mask;
            let error = verify(&changed, &signature, NONCE_1).unwrap_err();
            (error.to_string(), error.reason().token())
        };
        let magic = "not made by a TPM: magic is 0xfe544347";
        assert_eq!(said(0, 1), (magic.to_owned(), "quote-wrong-magic"));
        let kind = "not a quote: attestation type 0x801a";
        assert_eq!(said(5, 2), (kind.to_owned(), "quote-wrong-type"));
        let challenge = verify(&attest, &signature, NONCE_2).unwrap_err();
        assert_eq!(challenge.to_string(), "the quote answers another challenge");
        let other = verify(&attest, &recorded("sig.2"), NONCE_1).unwrap_err();
        assert_eq!(
            other.to_string(),
            "the attestation key did not sign these bytes"
        );
        for (error, text, token) in [
            (
                QuoteError::WrongSigner,
                "the quote's qualified signer is not a primary key of the endorsement hierarchy",
                "quote-wrong-signer",
            ),
            (
                QuoteError::WrongSelection,
                "the quote is over other PCRs",
                "quote-pcr-selection",
            ),
            (
                QuoteError::PcrDigestLength(20),
                "a pcrDigest of 20 bytes",
                "quote-malformed",
            ),
        ] {
            assert_eq!(
                (error.to_string().as_str(), error.reason().token()),
                (text, token)
            );
        }
        for (error, text) in [
            (
                ClockError::ClockWentBackwards(9, 8),
                "the TPM's clock went back from 9 to 8 ms",
            ),
            (
                ClockError::ResetCountWentBackwards(5, 4),
                "resetCount went back from 5 to 4",
            ),
            (
                ClockError::RestartCountWentBackwards(3, 2),
                "restartCount went back from 3 to 2 without a reset",
            ),
        ] {
            assert_eq!(error.to_string(), text);
            assert_eq!(error.reason().token(), "clock-went-backwards");
        }
    }

    #[test]
    fn any_changed_bit_of_quote_or_signature_is_refused() {
        let (attest, signature) = (recorded("attest.1"), recorded("sig.1"));
        for bit in 0..8 * attest.len() {
            let mut changed = attest.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(
                verify(&changed, &signature, NONCE_1).is_err(),
                "attest, bit {bit}"
            );
        }
        for bit in 0..8 * signature.len() {
            let mut changed = signature.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(
                verify(&attest, &changed, NONCE_1).is_err(),
                "signature, bit {bit}"
            );
        }
    }

    #[test]
    fn counters_say_what_happened() {
        let at = |reset_count, restart_count, clock, safe| ClockInfo {
            clock,
            reset_count,
            restart_count,
            safe,
        };
        let before = at(5, 3, 1000, true);
        for (now, expected) in [
            (at(5, 3, 1000, true), Ok(Continuity::SameBoot)),
            (at(5, 3, 2000, false), Ok(Continuity::SameBoot)),
            (at(5, 4, 2000, true), Ok(Continuity::Resumed)),
            (at(6, 0, 2000, true), Ok(Continuity::Rebooted)),
            (at(7, 9, 900, false), Ok(Continuity::Rebooted)),
            (at(6, 0, 999, true), Ok(Continuity::Rebooted)),
            (at(5, 4, 900, false), Ok(Continuity::Resumed)),
            (
                at(5, 3, 999, false),
                Err(ClockError::ClockWentBackwards(1000, 999)),
            ),
            (
                at(5, 4, 999, true),
                Err(ClockError::ClockWentBackwards(1000, 999)),
            ),
            (
                at(4, 9, 2000, true),
                Err(ClockError::ResetCountWentBackwards(5, 4)),
            ),
            (
                at(5, 2, 2000, true),
                Err(ClockError::RestartCountWentBackwards(3, 2)),
            ),
        ] {
            assert_eq!(continuity(&before, &now), expected, "{now:?}");
        }
    }
}
