//! What scenes are made of: devices that differ in one respect, and what a verifier says of them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use mote_agent::tpm::PcrSelection;
use mote_schemas::cbor;
use mote_schemas::coap::Message;
use mote_schemas::message::{DeviceId, ErrorReply, path};
use mote_schemas::reason::Reason;
use mote_schemas::tpm::{Key, MAX_ECC_UNCOMPRESSED, Public};
use mote_tests::evil::{self, Answer, Keys};
use mote_tests::process::run;
use mote_tests::simkernel::ima::Record;
use mote_tests::soft_boot::boot_log;
use mote_tests::soft_device::digest_of;
use mote_tests::soft_tpm::{Attest, SoftTpm};
use mote_tests::token_device::{TokenDevice, post};
use mote_tests::wire::Wire;
use mote_tests::{Evil, Lab, TempDir};
use mote_verifier::admin::{Request, Response};
use mote_verifier::admission::{AdmissionRules, EkId};
use mote_verifier::ear::AttestationResult;
use mote_verifier::engine::Settings;
use mote_verifier::ima_signature::Keyring;
use mote_verifier::manifest::BootExpectations;
use mote_verifier::policy::Policies;
use mote_verifier::store;

use super::Seen;

pub(crate) fn of(answer: &Answer) -> Seen {
    Seen::default().answer(answer)
}

pub(crate) fn trusted() -> (Lab, Evil) {
    let mut lab = Lab::new();
    let evil = Evil::trusted(&mut lab, 1);
    (lab, evil)
}

/// A trusted device runs something.
pub(crate) fn measured(record: Record) -> Seen {
    let (mut lab, mut evil) = trusted();
    evil.device.measure(record);
    of(&evil.beat(&mut lab))
}

/// A trusted device runs something, and its list calls it of another template.
pub(crate) fn labelled(truth: &Record, label: &str) -> Seen {
    let (mut lab, mut evil) = trusted();
    evil.device.measure(truth.clone());
    *evil.device.list.0.last_mut().unwrap() = truth.labelled(label);
    of(&evil.beat(&mut lab))
}

/// A trusted device's quote, altered before its TPM signs it.
pub(crate) fn quoted(alter: impl Fn(&mut Attest)) -> Seen {
    let (mut lab, mut evil) = trusted();
    let mut attest = evil.attest();
    alter(&mut attest);
    let quote = evil.signed(&attest);
    let payload = evil.beat_payload(&quote, 0, &evil.device.list.0);
    of(&evil.ask(&mut lab, "b", &payload))
}

/// A trusted device quotes other PCRs than usual: bit n is PCR n.
pub(crate) fn quoted_pcrs(mask: u32) -> Seen {
    let (mut lab, mut evil) = trusted();
    let extra_data = evil.attest().extra_data;
    let selection = [PcrSelection { bank: 0x000b, mask }];
    let attest = evil.device.tpm.attest(&selection, &extra_data).unwrap();
    let quote = evil.signed(&attest);
    let payload = evil.beat_payload(&quote, 0, &evil.device.list.0);
    of(&evil.ask(&mut lab, "b", &payload))
}

/// A device whose kernel measures this first.
pub(crate) fn booted_with(first: Record) -> Seen {
    let mut evil = Evil::new(3);
    evil.device.tpm.reboot();
    evil.device.list.0.clear();
    evil.device.measure(first);
    attested(&mut Lab::new(), &mut evil)
}

/// From hello to a verdict.
pub(crate) fn attested(lab: &mut Lab, evil: &mut Evil) -> Seen {
    evil.hello(lab);
    evil.open(lab);
    lab.admit(&evil.id());
    of(&evil.beat(lab))
}

/// What a knock with this hello gives.
pub(crate) fn knocked(tpm: SoftTpm) -> Seen {
    let mut evil = Evil::with_tpm(tpm, 5);
    let payload = evil.hello_payload(true);
    of(&evil.knock(&mut Lab::new(), &payload))
}

/// What a hello of a new device with this version, id and its own keys gives.
pub(crate) fn greeted(version: u8, id: impl Fn(DeviceId) -> [u8; 16]) -> Seen {
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
pub(crate) fn boots(alter: impl Fn(&mut Wire), boot: BootExpectations) -> Seen {
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
pub(crate) fn quotes(wire: &mut Wire, mask: u32) {
    wire.selection.clear();
    let selection = PcrSelection { bank: 0x000b, mask };
    wire.selection.push(selection).unwrap();
}

pub(crate) fn expecting(change: impl Fn(&mut BootExpectations)) -> Seen {
    let mut boot = BootExpectations::default();
    change(&mut boot);
    boots(|_| {}, boot)
}

/// A trusted device under this policy.
pub(crate) fn under(policy: &str) -> Seen {
    let (mut lab, mut evil) = trusted();
    lab.bind(policy);
    evil.device.run("/bin/5");
    of(&evil.beat(&mut lab))
}

pub(crate) fn certificate() -> Vec<u8> {
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
pub(crate) fn signed(signature: &[u8]) -> Seen {
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
pub(crate) fn sent(alter: impl Fn(&mut Vec<u8>), twice: bool) -> Seen {
    let (mut lab, mut evil) = trusted();
    let payload = evil.beat_payload(&evil.quote(), 0, &[]);
    let mut datagram = evil.protect("b", None, &payload);
    if twice {
        evil.send(&mut lab, &datagram);
    }
    alter(&mut datagram);
    of(&evil.send(&mut lab, &datagram))
}

pub(crate) fn asked(path: &str, payload: &[u8]) -> Seen {
    let (mut lab, mut evil) = trusted();
    of(&evil.ask(&mut lab, path, payload))
}

/// The first answer of all to a device whose TPM was restarted without a reset.
pub(crate) fn restarted() -> Seen {
    let (mut lab, mut evil) = trusted();
    evil.device.lose_power_in_suspend();
    evil.hello(&mut lab);
    of(&evil.open(&mut lab))
}

pub(crate) fn stale() -> Seen {
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

pub(crate) fn not_boot_log() -> Seen {
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
pub(crate) fn certified(tpm: &SoftTpm, extensions: &str) -> (Vec<u8>, Vec<u8>) {
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
pub(crate) fn waits(certificate: &[u8], root: Option<&[u8]>, later: u64) -> (Seen, String) {
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
pub(crate) fn token(make: impl Fn(&mut TokenDevice, &[u8]) -> Vec<u8>) -> Seen {
    token_after(|device, _, nonce| make(device, nonce))
}

/// The same, knowing the nonce of the first.
pub(crate) fn token_after(make: impl Fn(&mut TokenDevice, &[u8], &[u8]) -> Vec<u8>) -> Seen {
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
pub(crate) fn claimed(change: impl Fn(&mut TokenDevice)) -> Seen {
    token(|device, nonce| {
        change(device);
        device.wrapped(nonce)
    })
}
