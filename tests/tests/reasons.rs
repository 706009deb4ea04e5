//! Every reason of the registry is one that the verifier gives: each is brought about here, and read from
//! what the verifier says or stores, not from what a test expects of it.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use mote_agent::tpm::PcrSelection;
use mote_schemas::cbor;
use mote_schemas::cmw::{MediaType, write_evidence};
use mote_schemas::coap::Message;
use mote_schemas::eat::DebugState;
use mote_schemas::message::{DeviceId, ErrorReply, Reasons, Reply, path};
use mote_schemas::reason::Reason;
use mote_schemas::tpm::{Digest, HashAlg, Key, MAX_ECC_UNCOMPRESSED, Public};
use mote_tests::evil::{self, Answer, Keys, encode};
use mote_tests::process::run;
use mote_tests::simkernel::ima::Record;
use mote_tests::soft_boot::{boot_log, event};
use mote_tests::soft_device::{digest_of, record};
use mote_tests::soft_tpm::{AK_ATTRIBUTES, Attest, EK_ATTRIBUTES, RESTRICTED, SoftTpm};
use mote_tests::token_device::{TokenDevice, post, wrap};
use mote_tests::wire::Wire;
use mote_tests::{Evil, Lab, TempDir};
use mote_verifier::admin::{Request, Response};
use mote_verifier::admission::{AdmissionRules, EkId};
use mote_verifier::ear::AttestationResult;
use mote_verifier::engine::Settings;
use mote_verifier::ima_signature::Keyring;
use mote_verifier::manifest::{BootExpectations, FileDigest, KeyVariable};
use mote_verifier::policy::Policies;
use mote_verifier::store;

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

fn of(answer: &Answer) -> Seen {
    Seen::default().answer(answer)
}

fn trusted() -> (Lab, Evil) {
    let mut lab = Lab::new();
    let evil = Evil::trusted(&mut lab, 1);
    (lab, evil)
}

/// A trusted device runs something.
fn measured(record: Record) -> Seen {
    let (mut lab, mut evil) = trusted();
    evil.device.measure(record);
    of(&evil.beat(&mut lab))
}

/// A trusted device runs something, and its list calls it of another template.
fn labelled(truth: &Record, label: &str) -> Seen {
    let (mut lab, mut evil) = trusted();
    evil.device.measure(truth.clone());
    *evil.device.list.0.last_mut().unwrap() = truth.labelled(label);
    of(&evil.beat(&mut lab))
}

/// A trusted device's quote, altered before its TPM signs it.
fn quoted(alter: impl Fn(&mut Attest)) -> Seen {
    let (mut lab, mut evil) = trusted();
    let mut attest = evil.attest();
    alter(&mut attest);
    let quote = evil.signed(&attest);
    let payload = evil.beat_payload(&quote, 0, &evil.device.list.0);
    of(&evil.ask(&mut lab, "b", &payload))
}

/// A trusted device quotes other PCRs than usual: bit n is PCR n.
fn quoted_pcrs(mask: u32) -> Seen {
    let (mut lab, mut evil) = trusted();
    let extra_data = evil.attest().extra_data;
    let selection = [PcrSelection { bank: 0x000b, mask }];
    let attest = evil.device.tpm.attest(&selection, &extra_data).unwrap();
    let quote = evil.signed(&attest);
    let payload = evil.beat_payload(&quote, 0, &evil.device.list.0);
    of(&evil.ask(&mut lab, "b", &payload))
}

/// A device whose kernel measures this first.
fn booted_with(first: Record) -> Seen {
    let mut evil = Evil::new(3);
    evil.device.tpm.reboot();
    evil.device.list.0.clear();
    evil.device.measure(first);
    attested(&mut Lab::new(), &mut evil)
}

/// From hello to a verdict.
fn attested(lab: &mut Lab, evil: &mut Evil) -> Seen {
    evil.hello(lab);
    evil.open(lab);
    lab.admit(&evil.id());
    of(&evil.beat(lab))
}

/// What a knock with this hello gives.
fn knocked(tpm: SoftTpm) -> Seen {
    let mut evil = Evil::with_tpm(tpm, 5);
    let payload = evil.hello_payload(true);
    of(&evil.knock(&mut Lab::new(), &payload))
}

/// What a hello of a new device with this version, id and its own keys gives.
fn greeted(version: u8, id: impl Fn(DeviceId) -> [u8; 16]) -> Seen {
    let mut evil = Evil::new(8);
    let keys = Keys {
        ek: evil.device.tpm.ek_public().to_vec(),
        ak: evil.device.tpm.ak_public().to_vec(),
        certificate: None,
    };
    let payload = evil::hello_payload(version, &[0; 16], &id(evil.id()), Some(&keys));
    of(&evil.knock(&mut Lab::new(), &payload))
}

/// A device with this boot log and PCRs, judged by a verifier that expects this of it.
fn boots(alter: impl Fn(&mut Wire), boot: BootExpectations) -> Seen {
    let mut wire = Wire::new(1);
    wire.device.install(boot_log(1, 8_000));
    alter(&mut wire);
    let mut rules = AdmissionRules::default();
    let ek = Public::parse(wire.device.tpm.ek_public()).unwrap();
    rules.allow(EkId::of(&ek));
    let mut lab = Lab::expecting(Vec::new(), boot, rules, Settings::default());
    wire.until_appraised(&mut lab).unwrap();
    Seen::default().stored(&mut lab)
}

/// Lets it quote these PCRs of the SHA-256 bank: bit n is PCR n.
fn quotes(wire: &mut Wire, mask: u32) {
    wire.selection.clear();
    let selection = PcrSelection { bank: 0x000b, mask };
    wire.selection.push(selection).unwrap();
}

fn expecting(change: impl Fn(&mut BootExpectations)) -> Seen {
    let mut boot = BootExpectations::default();
    change(&mut boot);
    boots(|_| {}, boot)
}

/// A trusted device under this policy.
fn under(policy: &str) -> Seen {
    let (mut lab, mut evil) = trusted();
    lab.bind(policy);
    evil.device.run("/bin/5");
    of(&evil.beat(&mut lab))
}

fn certificate() -> Vec<u8> {
    let dir = TempDir::new("certificate").unwrap();
    let line = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
                -subj /CN=another -outform DER -keyout key -out der";
    run(Command::new("openssl")
        .args(line.split_whitespace())
        .current_dir(dir.path()))
    .unwrap();
    std::fs::read(dir.join("der")).unwrap()
}

/// A file that no manifest lists runs, with this signature, under a verifier that has another key.
fn signed(signature: &[u8]) -> Seen {
    let dir = TempDir::new("ima-key").unwrap();
    std::fs::write(dir.join("key.der"), certificate()).unwrap();
    let mut keyring = Keyring::default();
    keyring.add_file(&dir.join("key.der")).unwrap();
    let (mut lab, mut evil) = trusted();
    lab.allow_ima_keys(&keyring);
    let digest = [b"sha256:\0", &digest_of("/opt/x")[..]].concat();
    let fields: [&[u8]; 3] = [&digest, b"/opt/x\0", signature];
    let file = Record::of_fields("ima-sig", "/opt/x", &fields);
    evil.device.measure(file);
    of(&evil.beat(&mut lab))
}

/// A protected request, altered on its way.
fn sent(alter: impl Fn(&mut Vec<u8>), twice: bool) -> Seen {
    let (mut lab, mut evil) = trusted();
    let payload = evil.beat_payload(&evil.quote(), 0, &[]);
    let mut datagram = evil.protect("b", None, &payload);
    if twice {
        evil.send(&mut lab, &datagram);
    }
    alter(&mut datagram);
    of(&evil.send(&mut lab, &datagram))
}

fn asked(path: &str, payload: &[u8]) -> Seen {
    let (mut lab, mut evil) = trusted();
    of(&evil.ask(&mut lab, path, payload))
}

/// The first answer of all to a device whose TPM was restarted without a reset.
fn restarted() -> Seen {
    let (mut lab, mut evil) = trusted();
    evil.device.lose_power_in_suspend();
    evil.hello(&mut lab);
    of(&evil.open(&mut lab))
}

fn stale() -> Seen {
    let (mut lab, evil) = trusted();
    let later = lab.now().unix + 1000 * 86_401;
    let stored = lab.stored();
    let id = evil.id();
    let (device, verdict) = (&stored.devices[&id], &stored.verdicts[&id][0].1);
    let policies = Policies::default();
    let policy = policies.for_device(lab.engine().store(), &id, later);
    let policy = policy.unwrap();
    let result = AttestationResult::new(id, device, Some(verdict), &policy, later, None);
    Seen(result.reasons.into_iter().collect())
}

fn not_boot_log() -> Seen {
    let mut wire = Wire::new(7);
    wire.device.install(boot_log(1, 3_000));
    wire.device.boot_log.named = Some([7; 32]);
    let mut rules = AdmissionRules::default();
    let ek = Public::parse(wire.device.tpm.ek_public()).unwrap();
    rules.allow(EkId::of(&ek));
    let mut lab = Lab::with(rules, Settings::default());
    // What the agent was told: the session's event holds the verifier's token.
    let told = wire.until_appraised(&mut lab).unwrap_err().to_string();
    let tokens = Reason::ALL.iter().map(|reason| reason.token());
    Seen(
        tokens
            .filter(|token| told.contains(&format!("\"{token}\"")))
            .map(Into::into)
            .collect(),
    )
}

/// A certificate (DER) for this TPM's endorsement key with these extensions, good for ten years, and the root
/// (PEM) above it.
fn certified(tpm: &SoftTpm, extensions: &str) -> (Vec<u8>, Vec<u8>) {
    // SubjectPublicKeyInfo of a P-256 key, up to its point.
    const SPKI: &[u8] =
        b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\
                          \x3d\x03\x01\x07\x03\x42\x00";
    let ek = Public::parse(tpm.ek_public()).unwrap();
    let Key::Ecc(point) = ek.key() else {
        panic!("no P-256 key");
    };
    let mut room = [0; MAX_ECC_UNCOMPRESSED];
    let dir = TempDir::new("certified").unwrap();
    let spki = [SPKI, point.uncompressed(&mut room)].concat();
    std::fs::write(dir.join("ek.der"), spki).unwrap();
    std::fs::write(dir.join("extensions"), extensions).unwrap();
    for line in [
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=root \
         -keyout root.key -out root.pem",
        "pkey -pubin -inform DER -in ek.der -out ek.pem",
        "x509 -new -force_pubkey ek.pem -subj /CN=tpm -days 3650 -CA root.pem -CAkey root.key \
         -extfile extensions -outform DER -out ek.crt",
    ] {
        let mut openssl = Command::new("openssl");
        run(openssl
            .args(line.split_whitespace())
            .current_dir(dir.path()))
        .unwrap();
    }
    let read = |name| std::fs::read(dir.join(name)).unwrap();
    (read("ek.crt"), read("root.pem"))
}

/// What the operator is told of a new device with this certificate, and the words for it. It has to wait, as
/// one without a certificate has to; and before it has proved to hold its keys, nothing of it is stored.
fn waits(certificate: &[u8], root: Option<&[u8]>, later: u64) -> (Seen, String) {
    let mut rules = AdmissionRules::default();
    if let Some(root) = root {
        rules.trust_roots(root).unwrap();
    }
    let mut lab = Lab::with(rules, Settings::default());
    lab.now += later;
    let mut evil = Evil::with_tpm(SoftTpm::new(1).with_certificate(certificate), 5);
    let nothing = lab.stored();
    evil.hello(&mut lab);
    assert_eq!(lab.stored(), nothing, "stored before any proof");
    let Seen(answered) = of(&evil.open(&mut lab));
    assert_eq!(answered, BTreeSet::from(["admission-pending".to_owned()]));

    let id = evil.id();
    let stored = lab.stored();
    let record = &stored.devices[&id];
    assert_eq!(record.admission, store::Admission::Pending);
    assert_eq!(record.boot, None);
    assert!(stored.verdicts[&id].is_empty() && stored.logs[&id].is_empty());
    let fault = record.certificate_fault.clone().unwrap_or_default();

    let device = id.to_string();
    let shown = lab.ask(&Request::DeviceShow { device });
    let Response::Device(shown) = shown else {
        panic!("{shown:?}");
    };
    assert_eq!(shown.certificate_fault.unwrap_or_default(), fault);
    let device = id.to_string();
    let explained = lab.ask(&Request::Explain { device });
    let Response::Explanation(explained) = explained else {
        panic!("{explained:?}");
    };
    assert_eq!(explained.reasons[0].reason, "admission-pending");
    assert_eq!(explained.reasons[0].found, None);
    assert_eq!(explained.reasons[1].found.as_ref(), Some(&fault));
    let tokens = explained.reasons.into_iter().map(|reason| reason.reason);
    (Seen(tokens.collect()), fault)
}

/// What the verifier says to the wrapper that `make` makes of a device without a TPM, its second after a good one,
/// and of the nonce for it; and what it stores.
fn token(make: impl Fn(&mut TokenDevice, &[u8]) -> Vec<u8>) -> Seen {
    token_after(|device, _, nonce| make(device, nonce))
}

/// The same, knowing the nonce of the first.
fn token_after(make: impl Fn(&mut TokenDevice, &[u8], &[u8]) -> Vec<u8>) -> Seen {
    const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4711);
    let mut lab = Lab::new();
    lab.add_firmware("2.1", &["bootloader", "app"]);
    let mut device = TokenDevice::new(&[0x11; 32]);
    lab.endorse(&device, None);
    let (mut answer, mut first) = (None, Vec::new());
    for id in [10, 20] {
        lab.now += 1;
        let asked = post(path::NONCE, id, &device.nonce_request());
        let reply = lab.handle(PEER, &asked).unwrap();
        let reply = Message::parse(&reply).unwrap();
        let nonce = TokenDevice::nonce_of(reply.payload()).unwrap();
        let wrapper = match id {
            10 => device.wrapped(&nonce),
            _ => make(&mut device, &first, &nonce),
        };
        first = nonce;
        answer = lab.handle(PEER, &post(path::EVIDENCE, id + 1, &wrapper));
    }
    let answer = answer.unwrap();
    let message = Message::parse(&answer).unwrap();
    let mut seen = Seen::default().stored(&mut lab);
    if let Ok(error) = cbor::decode::<ErrorReply<'_>>(message.payload()) {
        seen.0.insert(error.reason.get().to_owned());
    }
    seen
}

/// The same for a token that only claims other things.
fn claimed(change: impl Fn(&mut TokenDevice)) -> Seen {
    token(|device, nonce| {
        change(device);
        device.wrapped(nonce)
    })
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
        Reason::BufferUnknown => {
            let digest = [b"sha256:\0", &digest_of("quiet")[..]].concat();
            let fields: [&[u8]; 3] = [&digest, b"kexec-cmdline\0", b"quiet"];
            measured(Record::of_fields("ima-buf", "kexec-cmdline", &fields))
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
