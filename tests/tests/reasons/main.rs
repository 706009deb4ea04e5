//! Every reason of the registry is one that the verifier gives: each is brought about here, and read from
//! what the verifier says or stores, not from what a test expects of it.

#![allow(clippy::unwrap_used)]

mod stage;

use std::collections::{BTreeMap, BTreeSet};

use mote_schemas::cbor;
use mote_schemas::cmw::{MediaType, write_evidence};
use mote_schemas::eat::DebugState;
use mote_schemas::message::{ErrorReply, Reasons, Reply};
use mote_schemas::reason::Reason;
use mote_schemas::tpm::{Digest, HashAlg};
use mote_tests::evil::{Answer, encode};
use mote_tests::simkernel::ima::Record;
use mote_tests::soft_boot::{boot_log, event};
use mote_tests::soft_device::{digest_of, record};
use mote_tests::soft_tpm::{AK_ATTRIBUTES, EK_ATTRIBUTES, RESTRICTED, SoftTpm};
use mote_tests::token_device::wrap;
use mote_tests::{Evil, Lab};
use mote_verifier::admission::AdmissionRules;
use mote_verifier::engine::Settings;
use mote_verifier::manifest::{BootExpectations, FileDigest, KeyVariable};

use stage::{
    asked, attested, booted_with, boots, certificate, certified, claimed, expecting, greeted,
    knocked, labelled, measured, not_boot_log, of, quoted, quoted_pcrs, quotes, restarted, sent,
    signed, stale, token, token_after, trusted, under, waits,
};

/// What the verifier said and stored in one scene.
#[derive(Default)]
struct Seen(BTreeSet<String>);

impl Seen {
    fn answer(mut self, answer: &Answer) -> Self {
        if let Ok(error) = cbor::decode::<ErrorReply<'_>>(&answer.payload) {
            self.0.insert(error.reason.get().to_owned());
        } else if let Ok(reply) = cbor::decode::<Reply<'_>>(&answer.payload) {
            let tokens = reply.reasons.iter().flat_map(Reasons::tokens);
            self.0.extend(tokens.map(ToOwned::to_owned));
        }
        self
    }

    fn stored(mut self, lab: &mut Lab) -> Self {
        let verdicts = lab.stored().verdicts;
        let reasons = verdicts.values().flatten().flat_map(|(_, v)| &v.reasons);
        self.0.extend(reasons.cloned());
        self
    }
}

#[allow(clippy::too_many_lines)] // A table.
fn scene(reason: Reason) -> Seen {
    match reason {
        Reason::TokenMalformed => token(|_, _| wrap(&[0; 64])),
        Reason::TokenSignatureInvalid => token(|device, nonce| {
            let mut token = device.token(nonce);
            *token.last_mut().unwrap() ^= 1;
            wrap(&token)
        }),
        Reason::TokenWrongNonce => token(|device, _| device.wrapped(&[0; 16])),
        Reason::TokenReplayed => token_after(|device, first, _| device.wrapped(first)),
        Reason::TokenExpired => claimed(|device| device.expires = Some(1)),
        Reason::UeidMismatch => claimed(|device| device.ueid = Some(vec![1; 17])),
        Reason::MediaTypeUnsupported => token(|device, nonce| {
            let mut other = minicbor::encode::write::Writer::new(Vec::new());
            let name = MediaType::Name("application/rim+cose");
            write_evidence(name, &device.token(nonce), &mut other).unwrap();
            other.into_inner()
        }),
        Reason::ComponentUnknown => {
            claimed(|device| device.components.push(("radio".into(), [0; 32])))
        }
        Reason::ComponentModified => claimed(|device| device.components[0].1 = [0; 32]),
        Reason::ComponentMissing => claimed(|device| device.components.truncate(1)),
        Reason::SoftwareVersionUnexpected => {
            claimed(|device| device.software = Some(("valve".into(), "1".into())))
        }
        Reason::DebugEnabled => claimed(|device| device.debug = Some(DebugState::Enabled)),
        Reason::DebugStateUnknown => claimed(|device| device.debug = None),
        Reason::BootNotAuthorised => claimed(|device| device.oem_boot = Some(false)),
        Reason::ClaimsUnappraised => claimed(|device| device.hash_alg = HashAlg::Sha384),
        Reason::AdmissionPending => {
            let mut lab = Lab::new();
            let mut evil = Evil::new(1);
            evil.hello(&mut lab);
            of(&evil.open(&mut lab))
        }
        Reason::LogIncomplete => {
            let (mut lab, mut evil) = trusted();
            evil.device.run("/bin/5");
            let payload = evil.beat_payload(&evil.quote(), 4, &evil.device.list.0[4..]);
            of(&evil.ask(&mut lab, "b", &payload))
        }
        Reason::QuoteOutstanding => restarted(),
        Reason::ResultStale => stale(),
        Reason::MessageMalformed => asked("b", &[0]),
        Reason::VersionUnsupported => greeted(2, |id| id.0),
        Reason::DeviceUnknown => {
            let mut evil = Evil::new(9);
            let payload = evil.hello_payload(false);
            of(&evil.knock(&mut Lab::new(), &payload))
        }
        Reason::DeviceIdMismatch => greeted(1, |id| id.0.map(|byte| !byte)),
        Reason::AkMismatch => {
            let (mut lab, known) = trusted();
            let mut twin = Evil::with_tpm(known.device.tpm.clone().with_other_ak(1), 4711);
            let payload = twin.hello_payload(true);
            of(&twin.knock(&mut lab, &payload))
        }
        Reason::AkUnsuitable => {
            knocked(SoftTpm::new(6).with_ak_attributes(AK_ATTRIBUTES & !RESTRICTED))
        }
        Reason::EkUnsuitable => {
            knocked(SoftTpm::new(6).with_ek_attributes(EK_ATTRIBUTES & !RESTRICTED))
        }
        Reason::EkCertificateMismatch => knocked(SoftTpm::new(5).with_certificate(&certificate())),
        Reason::EkCertificateUntrusted => waits(&[0x30, 0], None, 0).0,
        Reason::AdmissionRefused => {
            let (mut lab, mut evil) = trusted();
            lab.refuse(&evil.id());
            of(&evil.beat(&mut lab))
        }
        Reason::SessionUnknown => {
            let (mut lab, mut evil) = trusted();
            let payload = evil.beat_payload(&evil.quote(), 0, &[]);
            let datagram = evil.clear("b", None, &payload);
            of(&evil.send(&mut lab, &datagram))
        }
        Reason::VerifierBusy => {
            let settings = Settings {
                max_waiting: 0,
                ..Settings::default()
            };
            let mut lab = Lab::with(AdmissionRules::default(), settings);
            let mut evil = Evil::new(1);
            evil.hello(&mut lab);
            of(&evil.open(&mut lab))
        }
        Reason::OscoreInvalid => sent(|datagram| *datagram.last_mut().unwrap() ^= 1, false),
        Reason::OscoreReplayed => sent(|datagram| datagram[2] ^= 0x80, true),
        Reason::OutOfOrder => {
            let mut lab = Lab::new();
            let mut evil = Evil::new(1);
            evil.hello(&mut lab);
            of(&evil.beat(&mut lab))
        }
        Reason::QuoteMalformed => {
            let (mut lab, mut evil) = trusted();
            let (attest, _) = evil.quote();
            let cut = attest[..attest.len() - 1].to_vec();
            let signature = evil.device.tpm.sign(&cut);
            let payload = evil.beat_payload(&(cut, signature), 0, &[]);
            of(&evil.ask(&mut lab, "b", &payload))
        }
        Reason::QuoteWrongMagic => quoted(|attest| attest.magic = 0),
        Reason::QuoteWrongType => quoted(|attest| attest.kind = 0x8017),
        Reason::QuoteSignatureInvalid => {
            let (mut lab, mut evil) = trusted();
            let (attest, _) = evil.quote();
            let signature = SoftTpm::new(2).sign(&attest);
            let payload = evil.beat_payload(&(attest, signature), 0, &[]);
            of(&evil.ask(&mut lab, "b", &payload))
        }
        Reason::QuoteWrongSigner => quoted(|attest| attest.qualified_signer[5] ^= 1),
        Reason::QuoteWrongNonce => quoted(|attest| attest.extra_data[0] ^= 1),
        Reason::NonceExpired => {
            let (mut lab, mut evil) = trusted();
            lab.now += 1000 * 86_401;
            of(&evil.beat(&mut lab))
        }
        Reason::QuotePcrSelection => quoted_pcrs(0x3ff),
        Reason::PcrDigestMismatch => quoted(|attest| attest.pcr_digest[0] ^= 1),
        Reason::ClockWentBackwards => {
            let (mut lab, mut evil) = trusted();
            evil.device.tpm.set_counts(5, 0);
            evil.beat(&mut lab);
            evil.device.tpm.set_counts(4, 0);
            of(&evil.beat(&mut lab))
        }
        Reason::RecordMalformed => {
            let odd = encode(|e| {
                e.map(2)?
                    .u8(0)?
                    .u8(3)?
                    .u8(1)?
                    .array(1)?
                    .array(2)?
                    .u8(99)?
                    .bytes(b"")?
                    .ok()
            });
            asked("l", &odd)
        }
        Reason::LogTooLong => {
            let settings = Settings {
                max_uncertified: 5,
                ..Settings::default()
            };
            let mut lab = Lab::with(AdmissionRules::default(), settings);
            let mut evil = Evil::trusted(&mut lab, 1);
            let more = vec![evil.device.list.0[1].clone(); 6];
            of(&evil.log(&mut lab, 3, &more))
        }
        Reason::BootLogMismatch => not_boot_log(),
        Reason::LogDeleted => {
            let (mut lab, mut evil) = trusted();
            evil.hello(&mut lab);
            let mut payload = evil.open_payload(&evil.quote(), 4);
            // One more key: a list that begins with a record which nobody has.
            payload[0] += 1;
            payload.push(5);
            payload.extend(encode(|e| e.bytes(&[9; 8])?.ok()));
            of(&evil.ask(&mut lab, "o", &payload))
        }
        Reason::LogDoesNotReplay => {
            let (mut lab, mut evil) = trusted();
            evil.device.run("/bin/5");
            evil.device.list.0[3] = record("/bin/6", &digest_of("/bin/6"));
            of(&evil.beat(&mut lab))
        }
        Reason::ImaWithoutTpm => {
            let mut evil = Evil::new(4);
            evil.device.tpm.reboot();
            attested(&mut Lab::new(), &mut evil)
        }
        Reason::BootAggregateMismatch => booted_with(record("boot_aggregate", &[1; 32])),
        Reason::BootAggregateMissing => booted_with(record("/bin/5", &digest_of("/bin/5"))),
        Reason::BootAggregateUnchecked => {
            boots(|wire| quotes(wire, 1 << 10), BootExpectations::default())
        }
        Reason::BootLogMalformed => boots(
            |wire| wire.device.install(vec![0xff; 600]),
            BootExpectations::default(),
        ),
        Reason::BootLogDoesNotReplay => boots(
            |wire| wire.device.boot_log.bytes = boot_log(2, 3_000),
            BootExpectations::default(),
        ),
        Reason::BootLogMissing => boots(
            |wire| wire.device.install(Vec::new()),
            BootExpectations {
                secure_boot: true,
                ..BootExpectations::default()
            },
        ),
        Reason::BootPcrUnexplained => boots(
            |wire| {
                quotes(wire, 0x7ff | 1 << 12);
                let mut log = boot_log(1, 3_000);
                log.extend(event(12, 0x0d, &[3; 32], b"quiet")); // EV_IPL
                wire.device.install(log);
                wire.device
                    .tpm
                    .extend(12, |alg| Some(vec![1; alg.digest_len()]));
            },
            BootExpectations::default(),
        ),
        Reason::SecureBootOff => expecting(|boot| boot.secure_boot = true),
        Reason::SecureBootKeysUnexpected => expecting(|boot| {
            boot.keys = BTreeMap::from([(KeyVariable::Db, vec![FileDigest([1; 32])])]);
        }),
        Reason::BootEventUnexpected => expecting(|boot| boot.applications = vec![no_event()]),
        Reason::BootEventMissing => expecting(|boot| boot.kernels = vec![no_event()]),
        Reason::CmdlineUnexpected => expecting(|boot| boot.command_lines = vec!["quiet".into()]),
        Reason::PcrValueUnexpected => {
            let mut lab = Lab::new();
            let value = BTreeMap::from([(0, vec![vec![1; 32]])]);
            lab.expect_pcrs(BTreeMap::from([(HashAlg::Sha256.to_u16(), value)]));
            attested(&mut lab, &mut Evil::new(1))
        }
        Reason::FileUnknown => measured(record("/tmp/x", &digest_of("/tmp/x"))),
        Reason::FileModified => measured(record("/bin/5", &digest_of("/bin/6"))),
        Reason::FileSignatureInvalid => signed(b"\x03\x02\x04"),
        Reason::FileSignerUnknown => signed(&[3, 2, 4, 1, 2, 3, 4, 0, 1, 9]),
        Reason::DigestAlgorithmUnknown => {
            measured(Record::file("/bin/5", &format!("sha1:{}", "11".repeat(20))).unwrap())
        }
        Reason::TemplateUnknown => labelled(&record("/bin/5", &digest_of("/bin/5")), "novel"),
        Reason::TemplateOrder => labelled(&record("/bin/5", &digest_of("/bin/5")), "sig|n-ng|sig"),
        Reason::TemplateMalformed => labelled(&record("/bin/5", &digest_of("/bin/5")), "ima-ngv2"),
        Reason::BufferUnknown => measured(kexec_with("quiet")),
        Reason::BufferModified => {
            let (mut lab, mut evil) = trusted();
            lab.expect_buffer("kexec-cmdline", FileDigest(digest_of("ro")));
            evil.device.measure(kexec_with("quiet"));
            of(&evil.beat(&mut lab))
        }
        Reason::MeasurementViolation => measured(Record::violation("/bin/5").unwrap()),
        Reason::ClockUnsafe => {
            let (mut lab, mut evil) = trusted();
            evil.device.tpm.set_safe(false);
            evil.device.run("/bin/5");
            of(&evil.beat(&mut lab))
        }
        Reason::NoReferenceValues => {
            under(r#"{ "name": "p", "version": 1, "manifests": [{ "name": "gone" }] }"#)
        }
        Reason::PcrBankNotAllowed => under(r#"{ "name": "p", "version": 1, "banks": ["sha512"] }"#),
        Reason::KeyTooWeak => under(r#"{ "name": "p", "version": 1, "min-key-strength": 192 }"#),
        // The compiler does not know all of a registry that may grow; the test below does.
        other => panic!("no scene brings about {}", other.token()),
    }
}

fn no_event() -> Digest {
    Digest::new(HashAlg::Sha256, &[9; 32]).unwrap()
}

#[test]
fn every_reason_of_the_registry_is_given() {
    let mut missing = Vec::new();
    for reason in Reason::ALL {
        let Seen(seen) = scene(*reason);
        if !seen.contains(reason.token()) {
            missing.push(format!("{}: {seen:?}", reason.token()));
        }
    }
    assert!(
        missing.is_empty(),
        "not given, but:\n{}",
        missing.join("\n")
    );
}

#[test]
fn an_endorsement_certificate_that_does_not_admit_says_why() {
    const USAGE: &str = "extendedKeyUsage = 2.23.133.8.1\n";
    const DECADES: u64 = 20 * 366 * 86_400_000;
    let tpm = SoftTpm::new(1);
    let (good, root) = certified(&tpm, USAGE);
    let (unmarked, its_root) = certified(&tpm, "basicConstraints = critical, CA:FALSE\n");
    for (certificate, root, later, word) in [
        (&b"no DER"[..], Some(&root), 0, "is not a certificate"),
        (&good, None, 0, "leads to no given root"),
        // Both roots have the same name.
        (&good, Some(&its_root), 0, "has a wrong signature"),
        (&good, Some(&root), DECADES, "has expired"),
        (
            &unmarked,
            Some(&its_root),
            0,
            "usage 2.23.133.8.1 is missing",
        ),
    ] {
        let (Seen(seen), fault) = waits(certificate, root.map(Vec::as_slice), later);
        assert!(
            seen.contains("ek-certificate-untrusted"),
            "{word}: {seen:?}"
        );
        assert!(fault.contains(word), "{word}: {fault}");
    }
}

/// The kernel measures the command line of a kernel that is to be started by kexec.
fn kexec_with(command_line: &str) -> Record {
    let digest = [b"sha256:\0", &digest_of(command_line)[..]].concat();
    let fields: [&[u8]; 3] = [&digest, b"kexec-cmdline\0", command_line.as_bytes()];
    Record::of_fields("ima-buf", "kexec-cmdline", &fields)
}
