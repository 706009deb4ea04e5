//! The registry of reason tokens (`cddl/reasons.cddl`).
//!
//! The same token stands on the wire, in logs, metrics, results and the CLI. Tokens are never
//! reused for another meaning. What to tell a person about each is the verifier's
//! (`mote_verifier::explain`).

macro_rules! registry {
    ($( $(#[doc = $doc:literal])+ $name:ident $token:literal $severity:ident ),+ $(,)?) => {
        /// Why a verifier refused a message, or would not affirm a device.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Reason {
            $( $(#[doc = $doc])+ $name, )+
        }

        impl Reason {
            /// All of them, in the order of the registry.
            pub const ALL: &'static [Reason] = &[ $( Reason::$name ),+ ];

            /// The token, as on the wire.
            pub const fn token(self) -> &'static str {
                match self { $( Reason::$name => $token ),+ }
            }

            /// How much it weighs.
            pub const fn severity(self) -> Severity {
                match self { $( Reason::$name => Severity::$severity ),+ }
            }

            /// The reason with this token.
            pub fn from_token(token: &str) -> Option<Reason> {
                match token { $( $token => Some(Reason::$name), )+ _ => None }
            }
        }
    };
}

/// What a reason does to a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is wrong; there is no verdict yet.
    Pending,
    /// Worth a look; does not by itself make a device untrusted.
    Warning,
    /// The message is refused and nothing that is stored changes; the device's verdict stays.
    Refused,
    /// The evidence is genuine and says that the device is not what it should be.
    Contraindicated,
}

registry! {
    /// The operator has not admitted the device yet.
    AdmissionPending "admission-pending" Pending,
    /// The verifier has not yet received every record that the quote covers.
    LogIncomplete "log-incomplete" Pending,
    /// No quote covers what has come of the device in this boot; another one is awaited.
    QuoteOutstanding "quote-outstanding" Pending,
    /// The last quote is older than the policy lets a result be.
    ResultStale "result-stale" Pending,

    /// The message is not deterministic CBOR of the expected shape.
    MessageMalformed "message-malformed" Refused,
    /// The message speaks a protocol version that this verifier does not.
    VersionUnsupported "version-unsupported" Refused,
    /// No device with this id is enrolled; say hello with keys.
    DeviceUnknown "device-unknown" Refused,
    /// The device id is not the one that the presented keys give.
    DeviceIdMismatch "device-id-mismatch" Refused,
    /// A device with this EK is enrolled with another AK.
    AkMismatch "ak-mismatch" Refused,
    /// The AK is not a restricted signing key that never left its TPM.
    AkUnsuitable "ak-unsuitable" Refused,
    /// The EK is not a restricted decryption key that never left its TPM.
    EkUnsuitable "ek-unsuitable" Refused,
    /// The EK certificate certifies another key.
    EkCertificateMismatch "ek-certificate-mismatch" Refused,
    /// The EK certificate does not chain to a root that this verifier trusts.
    EkCertificateUntrusted "ek-certificate-untrusted" Pending,
    /// The operator refused or removed the device.
    AdmissionRefused "admission-refused" Refused,
    /// No session has this kid; say hello again.
    SessionUnknown "session-unknown" Refused,
    /// The verifier has no room for another session just now.
    VerifierBusy "verifier-busy" Refused,
    /// The OSCORE message does not decrypt.
    OscoreInvalid "oscore-invalid" Refused,
    /// The OSCORE message was seen before.
    OscoreReplayed "oscore-replayed" Refused,
    /// This message is not allowed at this point of the conversation.
    OutOfOrder "out-of-order" Refused,

    /// The quote is not a TPMS_ATTEST.
    QuoteMalformed "quote-malformed" Refused,
    /// The signed structure was not made by a TPM (magic is not `TPM_GENERATED_VALUE`).
    QuoteWrongMagic "quote-wrong-magic" Refused,
    /// The signed structure is not a quote.
    QuoteWrongType "quote-wrong-type" Refused,
    /// The signature does not verify with the enrolled AK.
    QuoteSignatureInvalid "quote-signature-invalid" Refused,
    /// The quote was signed under another key's name.
    QuoteWrongSigner "quote-wrong-signer" Refused,
    /// The quote answers another nonce.
    QuoteWrongNonce "quote-wrong-nonce" Refused,
    /// The nonce that the quote answers has expired; the reply carries a new one.
    NonceExpired "nonce-expired" Refused,
    /// The quote does not cover the PCRs that the verifier needs.
    QuotePcrSelection "quote-pcr-selection" Refused,
    /// The PCR values sent along do not give the quoted digest.
    PcrDigestMismatch "pcr-digest-mismatch" Refused,
    /// resetCount, restartCount or clock ran backwards.
    ClockWentBackwards "clock-went-backwards" Refused,
    /// The device has deleted records from its list that the verifier does not have.
    LogDeleted "log-deleted" Refused,
    /// A record cannot be parsed.
    RecordMalformed "record-malformed" Refused,
    /// More uncertified records than the verifier keeps for one device.
    LogTooLong "log-too-long" Refused,
    /// The boot event log that was sent does not have the digest that open named.
    BootLogMismatch "boot-log-mismatch" Refused,
    /// The evidence is not an entity attestation token that can be read.
    TokenMalformed "token-malformed" Refused,
    /// The token's signature does not verify with the device's endorsed key.
    TokenSignatureInvalid "token-signature-invalid" Refused,
    /// The token answers a nonce that this verifier did not give to this device.
    TokenWrongNonce "token-wrong-nonce" Refused,
    /// The token answers a nonce that was answered before, or an older one than the last.
    TokenReplayed "token-replayed" Refused,
    /// The token says that it is not valid any more, or not yet.
    TokenExpired "token-expired" Refused,
    /// The token claims another UEID than the one that was endorsed with its key.
    UeidMismatch "ueid-mismatch" Refused,
    /// The evidence is of a kind that this verifier does not appraise.
    MediaTypeUnsupported "media-type-unsupported" Refused,

    /// The records do not lead to the quoted PCR value: log and TPM disagree.
    LogDoesNotReplay "log-does-not-replay" Contraindicated,
    /// The log has records, but the TPM's PCR was never extended: the kernel's IMA found no TPM.
    ImaWithoutTpm "ima-without-tpm" Contraindicated,
    /// The log's boot_aggregate is not what the quoted boot PCRs give.
    BootAggregateMismatch "boot-aggregate-mismatch" Contraindicated,
    /// The log does not begin with boot_aggregate.
    BootAggregateMissing "boot-aggregate-missing" Contraindicated,
    /// The quote does not cover the PCRs that boot_aggregate is made of.
    BootAggregateUnchecked "boot-aggregate-unchecked" Warning,
    /// The boot event log cannot be parsed.
    BootLogMalformed "boot-log-malformed" Warning,
    /// The boot event log does not lead to the quoted PCR values.
    BootLogDoesNotReplay "boot-log-does-not-replay" Contraindicated,
    /// A manifest expects something of the boot event log, and there is none that a quote certifies.
    BootLogMissing "boot-log-missing" Contraindicated,
    /// A PCR above 10 was extended after the boot event log ended.
    BootPcrUnexplained "boot-pcr-unexplained" Warning,
    /// UEFI Secure Boot was off, or the log does not show that it was on.
    SecureBootOff "secure-boot-off" Contraindicated,
    /// PK, KEK, db or dbx are not those of a manifest.
    SecureBootKeysUnexpected "secure-boot-keys-unexpected" Contraindicated,
    /// Something was measured while booting that no manifest explains.
    BootEventUnexpected "boot-event-unexpected" Contraindicated,
    /// Nothing that was measured while booting is the expected kernel, initrd or boot application.
    BootEventMissing "boot-event-missing" Contraindicated,
    /// The kernel's command line is none that a manifest allows.
    CmdlineUnexpected "cmdline-unexpected" Contraindicated,
    /// A boot PCR has none of the values that a manifest allows.
    PcrValueUnexpected "pcr-value-unexpected" Contraindicated,
    /// A file was measured that no manifest names.
    FileUnknown "file-unknown" Contraindicated,
    /// A file's content is not what the manifest says.
    FileModified "file-modified" Contraindicated,
    /// A file that no manifest names has a signature that is not over what was measured.
    FileSignatureInvalid "file-signature-invalid" Contraindicated,
    /// A file that no manifest names is signed by a key that is not allowed.
    FileSignerUnknown "file-signer-unknown" Contraindicated,
    /// The record's digest algorithm is one that the manifest has no values for.
    DigestAlgorithmUnknown "digest-algorithm-unknown" Contraindicated,
    /// A record of a template that the verifier cannot judge.
    TemplateUnknown "template-unknown" Contraindicated,
    /// The record's template does not begin with digest and name, so nothing says which bytes the
    /// kernel put there.
    TemplateOrder "template-order" Contraindicated,
    /// The record is not what its template says it is.
    TemplateMalformed "template-malformed" Contraindicated,
    /// A measured buffer (a key, a kernel command line) that no manifest has.
    BufferUnknown "buffer-unknown" Warning,
    /// A measured buffer is none of those that a manifest lists under its name.
    BufferModified "buffer-modified" Contraindicated,
    /// A file changed while it was measured (open writers, or time of measure, time of use).
    MeasurementViolation "measurement-violation" Warning,
    /// The TPM says that its clock may have lost time (`safe` is NO).
    ClockUnsafe "clock-unsafe" Warning,
    /// No manifest is allowed for the device, so nothing can be compared.
    NoReferenceValues "no-reference-values" Contraindicated,
    /// No PCR bank that the policy allows vouches for the log.
    PcrBankNotAllowed "pcr-bank-not-allowed" Contraindicated,
    /// The attestation key is weaker than the policy allows.
    KeyTooWeak "key-too-weak" Contraindicated,
    /// A component was measured that no manifest names.
    ComponentUnknown "component-unknown" Contraindicated,
    /// A component's digest is none that its manifest allows.
    ComponentModified "component-modified" Contraindicated,
    /// A component that the manifest names was not measured.
    ComponentMissing "component-missing" Contraindicated,
    /// The device says that it runs another software or version than the manifest's.
    SoftwareVersionUnexpected "software-version-unexpected" Contraindicated,
    /// The device says that it can be debugged.
    DebugEnabled "debug-enabled" Contraindicated,
    /// The token does not say whether the device can be debugged.
    DebugStateUnknown "debug-state-unknown" Warning,
    /// The device says that software has booted which its maker did not authorise.
    BootNotAuthorised "boot-not-authorised" Contraindicated,
    /// The token has measurements or submodules that cannot be compared with anything.
    ClaimsUnappraised "claims-unappraised" Warning,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cddl_registry_names_exactly_these_tokens() {
        let cddl = include_str!("../cddl/reasons.cddl");
        let mut listed = cddl
            .lines()
            .filter_map(|l| l.split(';').next()?.split('"').nth(1));
        for reason in Reason::ALL {
            assert_eq!(listed.next(), Some(reason.token()));
        }
        assert_eq!(listed.next(), None);
    }

    #[test]
    fn tokens_are_unique_and_found_again() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_token(reason.token()), Some(*reason));
        }
        assert_eq!(Reason::from_token("no-such-reason"), None);
    }
}
