//! Evidence in a file: what is believed of it, and what any change makes of it.

use crate::common::recorded;
use crate::device::{Device, recorded_list, recorded_pcrs, recorded_selection, records};
use cddl_cat::validate_cbor_bytes;
use mote_schemas::bundle::{Header, Item, ListEndian, MEDIA_TYPE, Magic, VERSION, qualifying_data};
use mote_schemas::cbor::{self, Bytes, Text};
use mote_schemas::cmw::{self, MediaType};
use mote_schemas::ima::{Endian, ListFormat, ListParser, Step};
use mote_schemas::message::{DeviceKeys, FullQuote, PcrBank, PcrBanks, Tier};
use mote_schemas::tpm::{Digest, HashAlg};
use mote_verifier::appraise::{KnownFile, ReferenceLookup};
use mote_verifier::bundle::{AkTrust, Bundle, BundleError, Verdict};
use mote_verifier::prefix::PrefixError;
use mote_verifier::quote::QuoteError;
use mote_verifier::signature::VerifyError;
use proptest::prelude::*;

const NONCE: [u8; 16] = *b"sixteen octets!!";

/// Allows every file but one.
struct AllBut(&'static [u8]);

impl ReferenceLookup for AllBut {
    fn allows(&self, path: &[u8], _: &Digest) -> bool {
        path != self.0
    }

    fn with_path(&self, _: &[u8]) -> Vec<KnownFile> {
        Vec::new()
    }

    fn with_digest(&self, _: &Digest) -> Vec<KnownFile> {
        Vec::new()
    }

    fn is_excluded(&self, _: &[u8]) -> bool {
        false
    }
}

/// The first `count` recorded records as bytes.
fn list(count: usize) -> Vec<u8> {
    let list = recorded("binary_runtime_measurements");
    let mut parser = ListParser::new(ListFormat::LITTLE_SHA1);
    for _ in 0..count {
        let Step::Record(_, _) = parser.next(&list[parser.offset() as usize..]).unwrap() else {
            panic!("the recorded list is longer");
        };
    }
    list[..parser.offset() as usize].to_vec()
}

/// A device in the recorded boot that has extended this list.
fn device(list: &[u8]) -> Device {
    let mut device = Device::new(recorded_selection(), &recorded_pcrs(1));
    for record in records(list) {
        device.extend(&record);
    }
    device
}

/// What an evidence file is made of.
struct Parts {
    nonce: Vec<u8>,
    ak: Vec<u8>,
    attest: Vec<u8>,
    signature: Vec<u8>,
    values: Vec<u8>,
    version: u8,
    endian: ListEndian,
    list: Vec<u8>,
}

impl Parts {
    fn of(device: &Device, list: &[u8]) -> Self {
        let (attest, signature) = device.sign_quote(&qualifying_data(&NONCE));
        let values = device
            .selection
            .iter()
            .flat_map(|pcr| device.pcrs[&pcr].as_bytes().to_vec())
            .collect();
        Parts {
            nonce: NONCE.to_vec(),
            ak: device.ak_public().to_vec(),
            attest,
            signature,
            values,
            version: VERSION,
            endian: ListEndian::Little,
            list: list.to_vec(),
        }
    }

    fn header(&self) -> Vec<u8> {
        let header = Header {
            magic: Magic,
            version: self.version,
            nonce: Bytes::new(&self.nonce).unwrap(),
            keys: DeviceKeys {
                ek_public: Bytes::new(b"an EK").unwrap(),
                ak_public: Bytes::new(&self.ak).unwrap(),
                ek_certificate: None,
            },
            quote: FullQuote {
                attest: Bytes::new(&self.attest).unwrap(),
                signature: Bytes::new(&self.signature).unwrap(),
            },
            pcrs: PcrBanks::new([PcrBank {
                hash_alg: HashAlg::Sha256.to_u16(),
                mask: 0x47ff,
                values: Bytes::new(&self.values).unwrap(),
            }])
            .unwrap(),
            endian: self.endian,
            software: Some(Text::truncated("test 1")),
        };
        encode(&header)
    }

    /// The file, with the list in chunks of this size.
    fn file(&self, chunk: usize) -> Vec<u8> {
        let mut file = self.header();
        for data in self.list.chunks(chunk) {
            file.extend(encode(&Item::Ima(Bytes::new(data).unwrap())));
        }
        let boot = recorded("binary_bios_measurements");
        file.extend(encode(&Item::Boot(Bytes::new(&boot).unwrap())));
        file.extend(encode(&Item::End {
            ima: self.list.len() as u64,
            boot: boot.len() as u64,
        }));
        file
    }
}

fn encode<T: minicbor::Encode<()>>(value: &T) -> Vec<u8> {
    let mut buffer = vec![0; 140_000];
    let len = cbor::encode(value, &mut buffer).unwrap();
    buffer.truncate(len);
    buffer
}

fn verify(file: &[u8], ak: AkTrust<'_>) -> Result<Verdict, BundleError> {
    Bundle::parse(file)?.appraise(&NONCE, ak, &AllBut(b"/nothing"))
}

fn refused(parts: &Parts) -> BundleError {
    verify(&parts.file(4000), AkTrust::FirstUse).unwrap_err()
}

#[test]
fn a_good_file_is_affirmed_however_it_is_cut_into_chunks() {
    let list = list(40);
    let device = device(&list);
    let parts = Parts::of(&device, &list);
    for chunk in [1, 77, 4096, 131_072] {
        let file = parts.file(chunk);
        let verdict = verify(&file, AkTrust::Known(device.ak_public())).unwrap();
        assert_eq!((verdict.tier, verdict.records), (Tier::Affirming, 40));
        assert_eq!(verdict.records_after, 0);
        assert!(verdict.boot_log > 0 && verdict.boot_deviations.is_empty());
        assert!(verdict.is_trusted() && verdict.reasons.is_empty());
        assert_eq!(verdict.software.as_deref(), Some("test 1"));
    }
    // One file that may not be there is enough.
    let bundle = parts.file(4096);
    let bundle = Bundle::parse(&bundle).unwrap();
    let path: &[u8] = b"/etc/ld.so.cache";
    let listed = recorded_list();
    assert!(
        listed[..40]
            .iter()
            .any(|record| { record.data.windows(path.len()).any(|window| window == path) })
    );
    let verdict = bundle
        .appraise(&NONCE, AkTrust::FirstUse, &AllBut(b"/etc/ld.so.cache"))
        .unwrap();
    assert_eq!(verdict.tier, Tier::Contraindicated);
    assert!(!verdict.is_trusted());
    assert_eq!(verdict.reasons[0].token(), "file-unknown");
}

#[test]
fn a_boot_log_that_the_pcrs_do_not_bear_out_is_held_against_the_device() {
    let list = list(5);
    let parts = Parts::of(&device(&list), &list);
    let mut boot = recorded("binary_bios_measurements");
    // A separator's SHA-256.
    let separator = mote_schemas::tpm::hash(HashAlg::Sha256, &[&[0xff; 4]]);
    let is_separator = |window: &[u8]| window == separator.as_bytes();
    let at = boot.windows(32).position(is_separator).unwrap();
    boot[at] ^= 1;
    let mut file = parts.header();
    file.extend(encode(&Item::Ima(Bytes::new(&parts.list).unwrap())));
    for (log, token) in [
        (&boot[..], "boot-log-does-not-replay"),
        (b"no log", "boot-log-malformed"),
    ] {
        let mut file = file.clone();
        file.extend(encode(&Item::Boot(Bytes::new(log).unwrap())));
        file.extend(encode(&Item::End {
            ima: parts.list.len() as u64,
            boot: log.len() as u64,
        }));
        let verdict = verify(&file, AkTrust::FirstUse).unwrap();
        let reason = verdict.reasons.first().map_or("", |reason| reason.token());
        assert_eq!(reason, token);
        // A log that cannot be read proves nothing, and here no manifest asks for one.
        let replays_not = token == "boot-log-does-not-replay";
        assert_eq!(verdict.is_trusted(), !replays_not, "{reason}");
    }
}

#[test]
fn records_after_the_quote_are_neither_judged_nor_held_against_it() {
    let device = device(&list(30));
    let mut parts = Parts::of(&device, &list(35));
    let verdict = verify(&parts.file(4096), AkTrust::FirstUse).unwrap();
    assert_eq!((verdict.records, verdict.records_after), (30, 5));
    // PCRs that were read when the log had gone on already.
    let later = self::device(&list(35));
    parts.values = Parts::of(&later, &[]).values;
    let verdict = verify(&parts.file(4096), AkTrust::FirstUse).unwrap();
    assert_eq!((verdict.records, verdict.records_after), (30, 5));
}

#[test]
fn every_part_that_was_tampered_with_is_named() {
    let list = list(30);
    let device = device(&list);
    let other = self::device(&list);
    let parts = |change: fn(&mut Parts)| {
        let mut parts = Parts::of(&device, &list);
        change(&mut parts);
        refused(&parts)
    };
    assert_eq!(parts(|p| p.nonce[0] ^= 1), BundleError::Nonce);
    assert_eq!(
        parts(|p| p.attest = Vec::from(b"\xffTCG")).reason().token(),
        "quote-malformed"
    );
    assert_eq!(
        parts(|p| *p.signature.last_mut().unwrap() ^= 1),
        BundleError::Quote(QuoteError::Signature(VerifyError::Invalid))
    );
    // A boot PCR.
    assert_eq!(
        parts(|p| p.values[0] ^= 1).reason().token(),
        "pcr-digest-mismatch"
    );
    // The last record left out; changed; the first.
    assert_eq!(
        parts(|p| p.list = self::list(29)),
        BundleError::Prefix(PrefixError::DoesNotReplay { records: 29 })
    );
    assert_eq!(
        parts(|p| {
            let at = p.list.len() - 2;
            p.list[at] ^= 1;
        })
        .reason()
        .token(),
        "log-does-not-replay"
    );
    assert!(matches!(
        parts(|p| p.list.truncate(100)),
        BundleError::ListEnds(_)
    ));
    assert!(matches!(
        parts(|p| p.endian = ListEndian::Big),
        BundleError::List(_)
    ));
    assert_eq!(parts(|p| p.version = 2), BundleError::Version(2));
    assert_eq!(
        parts(|p| p.ak[1] = 9),
        BundleError::PublicArea("attestation")
    );
    // objectAttributes without `restricted`: such a key signs anything.
    assert!(matches!(parts(|p| p.ak[5] ^= 1), BundleError::Ak(_)));

    // Another device's key, and another device's whole file.
    let mut swapped = Parts::of(&device, &list);
    swapped.ak = other.ak_public().to_vec();
    assert_eq!(
        refused(&swapped).reason().token(),
        "quote-signature-invalid"
    );
    let file = Parts::of(&other, &list).file(4096);
    assert_eq!(
        verify(&file, AkTrust::Known(device.ak_public())).unwrap_err(),
        BundleError::OtherAk
    );
    // A quote made in a conversation, for the same nonce.
    let mut conversation = Parts::of(&device, &list);
    let transcript = mote_schemas::transcript::Transcript::from_bytes([1; 32]);
    (conversation.attest, conversation.signature) =
        device.sign_quote(&transcript.qualifying_data(&NONCE));
    assert_eq!(
        refused(&conversation),
        BundleError::Quote(QuoteError::WrongNonce)
    );
}

#[test]
fn a_file_that_was_cut_off_or_glued_is_refused_as_such() {
    let list = list(10);
    let good = Parts::of(&device(&list), &list).file(900);
    for len in 17..good.len() {
        assert_eq!(
            Bundle::parse(&good[..len]).unwrap_err(),
            BundleError::CutOff,
            "{len}"
        );
    }
    for other in [&b""[..], b"\x7fELF", b"{\"quote\": 1}", &good[1..]] {
        assert_eq!(Bundle::parse(other).unwrap_err(), BundleError::NotEvidence);
    }
    let glued = [&good[..], &[0]].concat();
    assert_eq!(
        Bundle::parse(&glued).unwrap_err(),
        BundleError::Trailing(good.len())
    );
    let header = Parts::of(&device(&list), &list).header();
    let end = encode(&Item::End { ima: 1, boot: 0 });
    assert_eq!(
        Bundle::parse(&[header.clone(), end].concat()).unwrap_err(),
        BundleError::Length
    );
    match Bundle::parse(&[&header[..], &[0x18, 0]].concat()).unwrap_err() {
        BundleError::Cbor(error) => assert_eq!(error.offset, header.len()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_written_is_what_the_cddl_says() {
    let cddl = concat!(
        include_str!("../../../cbor-schemas/cddl/evidence.cddl"),
        include_str!("../../../cbor-schemas/cddl/mote.cddl"),
        include_str!("../../../cbor-schemas/cddl/reasons.cddl")
    );
    let list = list(3);
    let parts = Parts::of(&device(&list), &list);
    let accepts = |rule: &str, bytes: &[u8]| validate_cbor_bytes(rule, cddl, bytes);
    accepts("evidence-header", &parts.header()).unwrap();
    let mut wrapper = minicbor::encode::write::Writer::new(Vec::new());
    let media_type = MediaType::Name(MEDIA_TYPE);
    cmw::write_evidence(media_type, &parts.file(900), &mut wrapper).unwrap();
    accepts("evidence-file", &wrapper.into_inner()).unwrap();
    let chunk = encode(&Item::Ima(Bytes::new(&parts.list).unwrap()));
    let end = encode(&Item::End { ima: 7, boot: 0 });
    accepts("evidence-chunk", &chunk).unwrap();
    accepts("evidence-end", &end).unwrap();
    for (rule, bytes) in [
        ("evidence-chunk", &end),
        ("evidence-end", &chunk),
        ("evidence-header", &end),
    ] {
        assert!(accepts(rule, bytes).is_err(), "{rule}");
    }
    assert_eq!(Endian::from(ListEndian::Big), Endian::Big);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Any one bit: refused, or in a part that no signature covers and that can only make it worse
    /// (a template's name), or that proves nothing (the EK, the agent's name, the boot log).
    #[test]
    fn a_flipped_bit_never_makes_a_better_verdict(position in any::<prop::sample::Index>(), bit in 0u8..8) {
        let list = list(12);
        let device = device(&list);
        let mut file = Parts::of(&device, &list).file(700);
        let known = device.ak_public().to_vec();
        let judge = |file: &[u8], reference: &AllBut| {
            Bundle::parse(file)?.appraise(&NONCE, AkTrust::Known(&known), reference)
        };
        let unknown = judge(&file, &AllBut(b"boot_aggregate")).unwrap();
        prop_assert_eq!(unknown.tier, Tier::Affirming);
        let path = b"/etc/ld.so.cache";
        let bad = judge(&file, &AllBut(path)).unwrap();
        prop_assert_eq!(bad.deviations.len(), 1);
        let at = position.index(file.len());
        file[at] ^= 1 << bit;
        if let Ok(verdict) = judge(&file, &AllBut(path)) {
            prop_assert_eq!(verdict.tier, Tier::Contraindicated);
            prop_assert!(verdict.deviations.len() >= bad.deviations.len());
            prop_assert_eq!(verdict.records, bad.records);
            prop_assert_eq!(verdict.clock, bad.clock);
            prop_assert_eq!(verdict.ak_name, bad.ak_name);
        }
    }
}
