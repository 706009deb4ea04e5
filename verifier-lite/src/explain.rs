//! What each reason means to a person: what was seen, what usually causes it, what to do.
//!
//! One text for every token of the registry (`mote_schemas::reason`); the match is exhaustive within
//! this workspace, and a test holds it so. DEVICE in a text stands for the device it is about.

use mote_schemas::reason::Reason;

/// A reason in plain words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text {
    /// What was seen.
    pub meaning: &'static str,
    /// What usually causes it.
    pub cause: &'static str,
    /// What to do about it.
    pub action: &'static str,
}

/// What to say about a token that this version does not know: the store may hold newer ones.
pub const UNKNOWN: Text = Text {
    meaning: "This version has no words for this reason.",
    cause: "It was recorded by a newer verifier.",
    action: "Upgrade motectl.",
};

/// The text for a token, as it stands in the store.
pub fn text(token: &str) -> Text {
    Reason::from_token(token).map_or(UNKNOWN, explain)
}

/// The text for a reason.
#[rustfmt::skip]
#[allow(clippy::too_many_lines)] // A table.
pub fn explain(reason: Reason) -> Text {
    match reason {
        Reason::AdmissionPending => Text {
            meaning: "The device has said hello, and nobody has decided yet whether it may attest.",
            cause: "It is new, and neither on the allow list nor certified by a trusted maker.",
            action: "Compare the device id with the one printed by `mote-agent` on the device, then run \
                `motectl device admit DEVICE`.",
        },
        Reason::LogIncomplete => Text {
            meaning: "The quote covers log records that have not arrived yet, so nothing can be said.",
            cause: "A slow or lossy link; the device sends the rest in its next messages.",
            action: "Wait. If it stays so, look at the link and at the agent's messages on the device.",
        },
        Reason::QuoteOutstanding => Text {
            meaning: "No quote covers what has come of the device in this boot.",
            cause: "It is just starting, its TPM is slow, or its last quote was lost or has to be \
                repeated.",
            action: "Wait for one interval. If it stays so, look at the agent's messages on the device.",
        },
        Reason::MessageMalformed => Text {
            meaning: "A message was not what the protocol allows.",
            cause: "A damaged sender, another version, or someone probing the verifier.",
            action: "Check that agent and verifier are of matching versions. If they are, treat the \
                sender as hostile.",
        },
        Reason::VersionUnsupported => Text {
            meaning: "The agent speaks a protocol version that this verifier does not know.",
            cause: "One of the two was updated before the other.",
            action: "Update the verifier first, then the devices.",
        },
        Reason::DeviceUnknown => Text {
            meaning: "A device referred to an enrolment that this verifier does not have.",
            cause: "It was removed here, or it talks to the wrong verifier. It will enrol anew by \
                itself.",
            action: "Nothing, unless it keeps happening: then compare the verifier's address in the \
                agent's configuration.",
        },
        Reason::DeviceIdMismatch => Text {
            meaning: "The device id is not the one that follows from its keys.",
            cause: "A faulty agent, or someone claiming another device's identity.",
            action: "Find out what sent it. The enrolled device is not affected.",
        },
        Reason::AkMismatch => Text {
            meaning: "A known endorsement key came with another attestation key than the enrolled one.",
            cause: "The TPM was cleared or its owner changed the endorsement seed, the agent changed \
                its key type, or someone replays another device's public key.",
            action: "If the device was serviced, run `motectl device remove DEVICE` and admit it anew. \
                Otherwise find out who sent it.",
        },
        Reason::AkUnsuitable => Text {
            meaning: "The attestation key may sign things that no TPM made, or may leave its TPM.",
            cause: "The key was not made by `mote-agent`: it must be restricted, fixedTPM and \
                sensitiveDataOrigin.",
            action: "Remove whatever made the key; the agent makes its own at every start.",
        },
        Reason::EkUnsuitable => Text {
            meaning: "The endorsement key is not a restricted decryption key bound to its TPM.",
            cause: "The TPM does not follow TCG's EK templates, or the key was made in software.",
            action: "Check the TPM's make and firmware. Do not admit the device by hand before that is \
                understood.",
        },
        Reason::EkCertificateMismatch => Text {
            meaning: "The endorsement certificate certifies another key than the one presented.",
            cause: "The certificate was copied from another TPM, or the EK was made from another \
                template than the certified one.",
            action: "Compare `tpm2_getekcertificate` with `tpm2_createek` on the device. Do not admit \
                it before they agree.",
        },
        Reason::EkCertificateUntrusted => Text {
            meaning: "The device has proved that it holds its endorsement key, but its endorsement \
                certificate does not admit it.",
            cause: "The TPM maker's root (or an intermediate) is missing in the verifier's \
                configuration, or the certificate is forged, expired or not for an endorsement key.",
            action: "Get the maker's root from the maker, add it to the EK roots, restart the verifier, and \
                let the device enrol anew with `motectl device remove DEVICE`; or compare the device id \
                and run `motectl device admit DEVICE`.",
        },
        Reason::AdmissionRefused => Text {
            meaning: "An operator decided that the device must not attest.",
            cause: "`motectl device refuse` or `remove`.",
            action: "To change that, run `motectl device admit DEVICE`.",
        },
        Reason::SessionUnknown => Text {
            meaning: "A message came under a key id that the verifier does not know (any more).",
            cause: "The session was dropped, or the verifier's store was restored from an older copy. \
                The device says hello by itself.",
            action: "Nothing, unless it keeps happening.",
        },
        Reason::VerifierBusy => Text {
            meaning: "The verifier had no room for another session.",
            cause: "Many devices started at once.",
            action: "Wait; devices come back by themselves. If it stays so, raise the session limit.",
        },
        Reason::OscoreInvalid => Text {
            meaning: "A protected message does not decrypt.",
            cause: "It was damaged or forged on the way, or the two sides have different keys.",
            action: "Nothing, unless it keeps happening for one device: then restart its agent.",
        },
        Reason::OscoreReplayed => Text {
            meaning: "A protected message came twice.",
            cause: "The network duplicated it, or someone replays recorded traffic. It had no effect.",
            action: "Nothing, unless there are many.",
        },
        Reason::OutOfOrder => Text {
            meaning: "A message is not allowed at this point of the conversation.",
            cause: "A faulty agent, or messages delayed for very long.",
            action: "Restart the agent. If it stays so, compare versions.",
        },
        Reason::QuoteMalformed => Text {
            meaning: "The quote is not a structure that a TPM makes.",
            cause: "A faulty or forged agent.",
            action: "Treat the device as suspect: a TPM does not do this by accident.",
        },
        Reason::QuoteWrongMagic => Text {
            meaning: "The signed structure does not begin with TPM_GENERATED_VALUE: no TPM made it.",
            cause: "Someone signed it with a key outside the TPM.",
            action: "Take the device off the network and examine it.",
        },
        Reason::QuoteWrongType => Text {
            meaning: "The signed structure is genuine, but is no quote.",
            cause: "A faulty agent, or an attempt to pass off another signature.",
            action: "Compare the agent's version. If it is yours, examine the device.",
        },
        Reason::QuoteSignatureInvalid => Text {
            meaning: "The signature of the quote was not made by the enrolled attestation key.",
            cause: "The quote was changed on the way or made by another TPM.",
            action: "If the TPM or main board was replaced, remove and admit the device anew. Otherwise \
                examine it.",
        },
        Reason::QuoteWrongSigner => Text {
            meaning: "The quote names another key than the enrolled attestation key.",
            cause: "A second attestation key on the device, or a quote of another device.",
            action: "Restart the agent. If it stays so, examine the device.",
        },
        Reason::QuoteWrongNonce => Text {
            meaning: "The quote answers a challenge that this verifier did not set.",
            cause: "A recorded quote is being replayed, or a reply was lost and the agent answered an \
                older one.",
            action: "Once is harmless: the next heartbeat brings a fresh one. Repeatedly, someone \
                replays old evidence.",
        },
        Reason::NonceExpired => Text {
            meaning: "The quote is genuine, but answers a challenge that is no longer valid.",
            cause: "The device slept or was out of reach for longer than the nonce's lifetime.",
            action: "Nothing: the reply carried a new one. For devices that sleep long, raise the nonce \
                lifetime.",
        },
        Reason::QuotePcrSelection => Text {
            meaning: "The quote does not cover the PCRs that the verifier needs.",
            cause: "An agent of another version, or one that leaves something out on purpose.",
            action: "Update the agent. Check the PCR banks that the TPM has enabled (`tpm2_getcap \
                pcrs`).",
        },
        Reason::PcrDigestMismatch => Text {
            meaning: "The PCR values sent along are not those that were quoted.",
            cause: "PCRs changed between reading and quoting, or the values were forged.",
            action: "Once is harmless. If it stays so, examine the device.",
        },
        Reason::ClockWentBackwards => Text {
            meaning: "The TPM's counters or clock are behind what this TPM has shown before.",
            cause: "An old quote is being replayed, or the TPM (or the virtual machine it is part of) \
                was restored from a snapshot.",
            action: "If a snapshot was restored, remove the device and admit it anew. Otherwise someone \
                replays old evidence.",
        },
        Reason::LogDeleted => Text {
            meaning: "The device's measurement list begins with a record that this verifier has not \
                certified in this boot: what came before has been deleted from the kernel's memory.",
            cause: "The device was removed here, or this verifier's store was lost or restored, after the \
                device had deleted what it had sent (its setting delete_records). Or something else on \
                the device deletes records.",
            action: "Reboot the device: its list then starts over.",
        },
        Reason::RecordMalformed => Text {
            meaning: "A log record cannot be parsed.",
            cause: "A kernel with a log format that this version does not know, or forged records.",
            action: "Run `mote-agent --check-config` on the device and compare its kernel with the \
                supported ones.",
        },
        Reason::LogTooLong => Text {
            meaning: "More uncertified records arrived than the verifier keeps for one device.",
            cause: "The device's quotes fail while its log grows, or it floods the verifier.",
            action: "See the device's other reasons first.",
        },
        Reason::LogDoesNotReplay => Text {
            meaning: "The log does not lead to the PCR value that the TPM signed: records are missing, \
                changed or made up.",
            cause: "The log was tampered with. Without an attacker: another program extended the PCR, \
                or the kernel runs with an IMA template or bank that it announces wrongly.",
            action: "Take the device off the network and examine it. After a reboot, log and PCR begin \
                anew.",
        },
        Reason::ImaWithoutTpm => Text {
            meaning: "The log has records, but the TPM's PCR was never extended.",
            cause: "The kernel started IMA before its TPM driver was there (\"ima: No TPM chip \
                found\").",
            action: "Build the TPM driver into the kernel (not as a module) and reboot the device.",
        },
        Reason::BootAggregateMismatch => Text {
            meaning: "The first record, which sums up the boot PCRs, does not fit the quoted boot PCRs.",
            cause: "A log of another boot or another device, or boot PCRs extended after IMA had \
                started.",
            action: "Reboot the device. If it stays so, find out what extends PCR 0 to 9 after the \
                kernel's start.",
        },
        Reason::BootLogMismatch => Text {
            meaning: "The boot event log that the device sent is not the one whose digest it named.",
            cause: "Twice in this boot, so not another device's fault: a file that changes while it is \
                read, a broken agent, or an attacker on the device.",
            action: "Until the next boot the device counts as one without a log. Compare `sha256sum` of \
                its log, read twice; then look at it with `motectl bootlog show`.",
        },
        Reason::BootLogMalformed => Text {
            meaning: "The boot event log that the device sent cannot be parsed.",
            cause: "Firmware with a log format that this version does not know, or a forged log.",
            action: "Look at it with `motectl bootlog show`, which says where it goes wrong. Until then, \
                use static PCR values in the manifest (`--pcr`).",
        },
        Reason::BootLogDoesNotReplay => Text {
            meaning: "The boot event log does not lead to the PCR values that the TPM signed: events are \
                missing, changed or made up.",
            cause: "The log was tampered with, or it is of another boot. Without an attacker: firmware \
                that measures without logging.",
            action: "Reboot the device. If it stays so, compare with `motectl bootlog show FILE --pcrs \
                FILE`, which names the PCRs, and update the firmware or use static PCR values instead.",
        },
        Reason::BootLogMissing => Text {
            meaning: "A manifest says what the boot event log must show, and the device has none that a \
                quote certifies.",
            cause: "The board's firmware writes no log, or the kernel does not pass it on \
                (`/sys/kernel/security/tpm0`).",
            action: "Use static PCR values in the manifest (`--pcr`) for boards without a log; otherwise \
                see why the device does not send it.",
        },
        Reason::BootPcrUnexplained => Text {
            meaning: "A PCR above 10 holds more than the boot event log explains, so what the log says about \
                that PCR is not believed.",
            cause: "Usually the running system: systemd extends PCR 11, 12 and 15 after the kernel has \
                started.",
            action: "Nothing, unless a manifest expects something of that PCR: then turn those services off \
                (systemd-pcrphase, systemd-pcrmachine), or expect it of another PCR.",
        },
        Reason::SecureBootOff => Text {
            meaning: "UEFI Secure Boot was not on when the device booted.",
            cause: "It was turned off in the firmware's setup, or its keys were cleared.",
            action: "Turn it on in the firmware's setup and protect that with a password. Find out who \
                turned it off.",
        },
        Reason::SecureBootKeysUnexpected => Text {
            meaning: "The keys of UEFI Secure Boot are not those that the manifest names.",
            cause: "A firmware or dbx update (fwupd), another model of board, or someone enrolled a key of \
                their own.",
            action: "If it was an update, add the new value to the manifest: `motectl bootlog show` prints \
                it. Otherwise restore the keys in the firmware's setup.",
        },
        Reason::BootEventUnexpected => Text {
            meaning: "The firmware or a boot loader measured something that no manifest explains.",
            cause: "An updated boot loader or kernel whose manifest is not loaded, a boot from another \
                medium, or a boot kit.",
            action: "See the event in `motectl explain DEVICE`. If it was an update, load its manifest. \
                Otherwise take the device off the network and examine it.",
        },
        Reason::BootEventMissing => Text {
            meaning: "The boot event log shows none of the kernels, initrds or boot applications that the \
                manifest names.",
            cause: "Another image version was booted than the manifest is about, or the boot loader does \
                not measure it.",
            action: "Compare `motectl bootlog show` with the manifest; load the manifest of what was \
                booted.",
        },
        Reason::CmdlineUnexpected => Text {
            meaning: "The kernel was started with a command line that the manifest does not allow, or none \
                was measured.",
            cause: "Edited boot options, a recovery entry of the boot menu, or a boot loader that measures \
                only a hash of it.",
            action: "Compare the measured command line with the manifest's. A loader that measures a hash \
                needs the exact line, without `*`.",
        },
        Reason::PcrValueUnexpected => Text {
            meaning: "A boot PCR has a value that the manifest does not list.",
            cause: "A firmware, boot loader or setup change; a manifest of another board; or tampering.",
            action: "If the change was yours, add the new value (`motectl manifest build --pcr`). Otherwise \
                compare firmware and setup with a healthy device of the same kind.",
        },
        Reason::FileUnknown => Text {
            meaning: "A file was run or read that is not part of the image.",
            cause: "Something was installed or copied onto the device after the image was built, or a \
                manifest is missing.",
            action: "If you know the file, rebuild the manifest with it (or add an exclusion) and load \
                it. If you do not, take the device off the network, keep a copy of the file, and \
                reinstall the image.",
        },
        Reason::FileModified => Text {
            meaning: "A file of the image was run or read with other contents than the image build put \
                there.",
            cause: "An update whose manifest was not loaded, a changed configuration file, a damaged \
                disk, or tampering.",
            action: "If it was an update, load its manifest. Otherwise compare the file with the \
                image's, and reinstall it.",
        },
        Reason::FileSignatureInvalid => Text {
            meaning: "A file that no manifest lists carries a signature that is not over its contents.",
            cause: "The file was changed after it was signed, or the signature was copied from another \
                file.",
            action: "Treat the file as tampered with: keep a copy, and install it anew from its signed \
                package.",
        },
        Reason::FileSignerUnknown => Text {
            meaning: "A file that no manifest lists is signed, but by a key that is not an allowed one.",
            cause: "Software of somebody else was installed, or the key that signs your files was \
                changed and not told to the verifier.",
            action: "If the key is yours, give it to the verifier (`--ima-key FILE`). If it is not, treat \
                the file as unknown.",
        },
        Reason::DigestAlgorithmUnknown => Text {
            meaning: "A file was measured with a hash algorithm for which the manifest has no values.",
            cause: "The kernel runs with another `ima_hash=` than SHA-256.",
            action: "Put `ima_hash=sha256` on the kernel's command line and reboot the device.",
        },
        Reason::TemplateUnknown => Text {
            meaning: "The log has a record of a kind that this verifier cannot judge.",
            cause: "The device's IMA policy measures more than files, or uses a template of its own.",
            action: "Compare the device's IMA policy (`/sys/kernel/security/ima/policy`) and \
                `ima_template=` with the image's.",
        },
        Reason::BootAggregateMissing => Text {
            meaning: "The log does not begin with the kernel's boot_aggregate record.",
            cause: "The log was cut, or the kernel's IMA is not the usual one.",
            action: "Treat the device as tampered with until it has been rebooted and looks right again.",
        },
        Reason::BootAggregateUnchecked => Text {
            meaning: "The first log record ties the log to the boot PCRs, which the quote does not cover.",
            cause: "The agent quotes too few PCRs.",
            action: "Let the agent quote PCR 0 to 9 as well (`pcrs` in its configuration).",
        },
        Reason::TemplateOrder => Text {
            meaning: "A log record's template does not begin with digest and name, so bytes that anyone may \
                have written could pass for them. Nothing in it is believed.",
            cause: "The kernel was given an `ima_template_fmt=` of its own; or the record was relabelled, \
                to hide what was run.",
            action: "Use a template of the kernel (`ima_template=ima-sig`). If the image does, treat the \
                device as tampered with.",
        },
        Reason::TemplateMalformed => Text {
            meaning: "A log record does not hold what its template says it holds.",
            cause: "A kernel with changed IMA templates, or a forged template name.",
            action: "Compare the kernel with the image's. If it is the same, treat the device as tampered with.",
        },
        Reason::BufferUnknown => Text {
            meaning: "The kernel measured a buffer, such as a key or a command line, that no manifest has.",
            cause: "A key was added to a keyring, or a kernel was loaded by kexec.",
            action: "Look at the record. If it is expected, list it in the manifest (`motectl manifest build \
                --buffer`, or `--verity` for what the device mapper did).",
        },
        Reason::BufferModified => Text {
            meaning: "The kernel measured a buffer, such as a key or a command line, under a name that a \
                manifest lists with other contents.",
            cause: "An update whose manifest was not loaded, a key that nobody expected in a keyring, a \
                kernel loaded by kexec with another command line, or another device-mapper table.",
            action: "Look at the record. If it was an update, load its manifest. Otherwise treat the device \
                as tampered with.",
        },
        Reason::MeasurementViolation => Text {
            meaning: "A file was written to while it was being measured, so what ran is not known.",
            cause: "Usually harmless: a log or database file under an IMA policy that measures every \
                file read by root.",
            action: "Exclude files that change at run time in the IMA policy. If it is a program, treat \
                it as modified.",
        },
        Reason::ClockUnsafe => Text {
            meaning: "The TPM says that its clock may have gone back since it last shut down in order.",
            cause: "Power was cut. It heals by itself within about an hour of running.",
            action: "Nothing.",
        },
        Reason::NoReferenceValues => Text {
            meaning: "No manifest is allowed for the device, so nothing that was measured can be compared.",
            cause: "No manifest was added, those of the device's policy have expired or are not stored, or \
                the policy it is bound to is no longer signed by a trusted key.",
            action: "Look at `motectl policy list` and `motectl manifest list`; add the missing manifest \
                with `motectl manifest add`.",
        },
        Reason::PcrBankNotAllowed => Text {
            meaning: "None of the PCR banks that the device's policy allows vouches for its log.",
            cause: "The agent quotes another bank (SHA-1, usually), or the TPM has the allowed one disabled.",
            action: "Enable the bank in the firmware or with `tpm2_pcrallocate` and let the agent quote it, \
                or allow the quoted bank in the policy (`banks`).",
        },
        Reason::KeyTooWeak => Text {
            meaning: "The attestation key is weaker than the device's policy demands.",
            cause: "The TPM has no ECC, so the agent uses RSA-2048 (112 bits), or the policy demands more \
                than TPMs have.",
            action: "Lower `min-key-strength` in the policy for such devices, or replace their TPM.",
        },
        Reason::ResultStale => Text {
            meaning: "The last evidence is older than the device's policy lets a result be.",
            cause: "The device is off, asleep or out of reach, or its agent does not run.",
            action: "Find out why it is silent: that says nothing against the device. If it sleeps for long \
                on purpose, raise `stale-after` in its policy.",
        },
        Reason::TokenMalformed => Text {
            meaning: "What the device sent is not an entity attestation token that can be read.",
            cause: "Another format or algorithm than a CWT under ES256, or damaged bytes.",
            action: "Compare the device's encoder with `token.cddl`; the detail names the place.",
        },
        Reason::TokenSignatureInvalid => Text {
            meaning: "A token was not signed by the key that was endorsed for the device it names.",
            cause: "The device was given a new key, or somebody else speaks for it.",
            action: "If the device's key was changed on purpose, run `motectl device remove DEVICE` and endorse \
                the new one. Otherwise find out who sent it.",
        },
        Reason::TokenWrongNonce => Text {
            meaning: "A token answers a nonce that this verifier did not give to this device.",
            cause: "It was made for another verifier or another device, or the verifier's key was replaced.",
            action: "Nothing, if it stops by itself: the device asks for a new nonce. Otherwise treat the \
                sender as hostile.",
        },
        Reason::TokenReplayed => Text {
            meaning: "A token came once more, or one that is older than the last.",
            cause: "A reply was lost and the device sent again, or somebody replays what he has seen.",
            action: "Nothing: it changed nothing. The device asks for a new nonce.",
        },
        Reason::TokenExpired => Text {
            meaning: "A token says that it is not valid any more, or not yet.",
            cause: "The device's clock is wrong, or the token was kept for too long.",
            action: "Set the device's clock, or let it leave out exp and nbf: the nonce keeps tokens fresh.",
        },
        Reason::UeidMismatch => Text {
            meaning: "A token claims another UEID than the one that was endorsed with its key.",
            cause: "Keys or devices were mixed up when they were endorsed, or two devices share a key.",
            action: "Compare with `motectl device show DEVICE`, and endorse the device anew if it is ours.",
        },
        Reason::MediaTypeUnsupported => Text {
            meaning: "Evidence came of a kind that this verifier does not appraise.",
            cause: "A device of another make, or a newer one than this verifier.",
            action: "Let it send an EAT as CWT (application/eat+cwt), or upgrade the verifier.",
        },
        Reason::ComponentUnknown => Text {
            meaning: "The device measured a component that no manifest of its firmware names.",
            cause: "Another firmware, or a manifest that leaves the component out.",
            action: "Find out what it is. If it belongs there, add it to the manifest \
                (`motectl manifest build --component`).",
        },
        Reason::ComponentModified => Text {
            meaning: "A component of the device's firmware is not what the manifest says.",
            cause: "An update whose manifest is not stored yet, or tampering.",
            action: "If it is an update, add its manifest (`motectl manifest add`). Otherwise take the device \
                out of service.",
        },
        Reason::ComponentMissing => Text {
            meaning: "The manifest names a component that the device did not measure.",
            cause: "An older bootloader that does not measure it, or software that hides it.",
            action: "Find out why the device does not measure it; do not trust it until then.",
        },
        Reason::SoftwareVersionUnexpected => Text {
            meaning: "The device says that it runs another software or version than its manifest's.",
            cause: "The components are the same in both, or the device's claims are not kept up.",
            action: "Compare swname and swversion of the device with the manifest's name and version.",
        },
        Reason::DebugEnabled => Text {
            meaning: "The device says that it can be debugged, so whatever it says may be somebody's word.",
            cause: "A development device, or a debug port that was not locked.",
            action: "Lock the debug port. For development devices bind a policy that weighs this less.",
        },
        Reason::DebugStateUnknown => Text {
            meaning: "The device's token does not say whether it can be debugged.",
            cause: "Its firmware does not make the dbgstat claim.",
            action: "Add the claim, or let the policy ignore this reason.",
        },
        Reason::BootNotAuthorised => Text {
            meaning: "The device says that software has booted which its maker did not authorise (oemboot).",
            cause: "Secure boot is off or was bypassed.",
            action: "Turn secure boot on. If it was on, take the device out of service.",
        },
        Reason::ClaimsUnappraised => Text {
            meaning: "The token has measurements or submodules that cannot be compared with anything here.",
            cause: "A richer token than this verifier understands.",
            action: "Look at what they are; let the policy ignore this reason if they do not matter.",
        },
        _ => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_of_the_registry_has_words_of_its_own() {
        let mut meanings = Vec::new();
        for &reason in Reason::ALL {
            let text = explain(reason);
            assert_ne!(text, UNKNOWN, "{} has no text", reason.token());
            for sentence in [text.meaning, text.cause, text.action] {
                assert!(
                    sentence.ends_with(['.', ')']),
                    "{}: {sentence}",
                    reason.token()
                );
            }
            meanings.push(text.meaning);
        }
        meanings.sort_unstable();
        meanings.dedup();
        assert_eq!(
            meanings.len(),
            Reason::ALL.len(),
            "two reasons with the same meaning"
        );
        assert_eq!(text("no-such-token"), UNKNOWN);
    }
}
