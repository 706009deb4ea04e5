//! Elided quotes: rebuilt from what is known, then verified as any other.
//!
//! Everything that is put back is a guess until the signature over the rebuilt bytes holds:
//! [`VerifiedQuote::verify`] is the only judge here too. Where the peer does not say the pcrDigest, it
//! is that after all records, or, when the kernel was appending just then, after all but the last
//! few: at most [`MAX_CHECKS`] signatures are checked for one message.

use mote_schemas::cbor::Bytes;
use mote_schemas::limits::{MAX_TPMS_ATTEST, MAX_TPMT_SIGNATURE};
use mote_schemas::message::{Changes, ElidedQuote};
use mote_schemas::pcr::extend;
use mote_schemas::tpm::{Baseline, Digest, Elided, HashAlg, Hasher, PcrSelection};

use crate::log_entry::LogEntry;
use crate::prefix::LogState;
use crate::quote::VerifiedQuote;
use crate::signature::VerifyingKey;

/// Signatures checked for one elided quote before it is asked for in full.
pub const MAX_CHECKS: usize = 4;

/// A quote that was elided, whole again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// What it proves.
    pub verified: VerifiedQuote,
    /// Its `TPMS_ATTEST`.
    pub attest: Vec<u8>,
    /// Its `TPMT_SIGNATURE`.
    pub signature: Vec<u8>,
}

/// Rebuilds `quote` with each of `digests` in turn, the first [`MAX_CHECKS`] of them, until the
/// signature of `key` holds. A digest that came along is the only one tried.
pub fn rebuild(
    quote: &ElidedQuote<'_>,
    changes: &Changes<'_>,
    baseline: &Baseline,
    key: &VerifyingKey,
    extra_data: &[u8],
    digests: &[Digest],
) -> Option<Rebuilt> {
    let (signature, clock) = quote.split(key.signature_len())?;
    let signature = key.signature(signature)?;
    let mut buffer = [0; MAX_TPMT_SIGNATURE];
    let signature = signature.encode(&mut buffer).ok()?;
    let elided = Elided {
        clock,
        restart_count: changes.restart_count,
        safe: changes.safe,
    };
    let told = changes.pcr_digest.map(Bytes::get);
    let guessed = digests.iter().map(Digest::as_bytes).take(match told {
        Some(_) => 0,
        None => MAX_CHECKS,
    });
    told.into_iter().chain(guessed).find_map(|digest| {
        let attest = elided.rebuild(baseline, extra_data, digest)?;
        let mut buffer = [0; MAX_TPMS_ATTEST];
        let attest = attest.encode(&mut buffer).ok()?;
        let selection = Some(&baseline.selection);
        let verified = VerifiedQuote::verify(attest, signature, key, extra_data, selection).ok()?;
        Some(Rebuilt {
            verified,
            attest: attest.to_vec(),
            signature: signature.to_vec(),
        })
    })
}

/// What a quote over `selection` digests, in `alg`, after all of `entries` and after each of up to
/// [`MAX_CHECKS`] - 1 prefixes before that, longest first. `start` is what was certified before
/// them. Nothing when the value of a selected PCR is not known.
pub fn last_digests<E: LogEntry>(
    start: &LogState,
    entries: &[E],
    selection: &PcrSelection,
    alg: HashAlg,
) -> Vec<Digest> {
    let mut values = Vec::with_capacity(selection.count());
    for (bank, pcr) in selection {
        let Some(value) = start.value(bank, pcr) else {
            return Vec::new();
        };
        values.push((pcr, *value));
    }
    let composite = |values: &[(u32, Digest)]| {
        let mut hasher = Hasher::new(alg);
        for (_, value) in values {
            hasher.update(value.as_bytes());
        }
        hasher.finish()
    };
    let first = (entries.len() + 1).saturating_sub(MAX_CHECKS);
    let mut digests = Vec::with_capacity(MAX_CHECKS);
    for replayed in 0..=entries.len() {
        if replayed >= first {
            digests.push(composite(&values));
        }
        let Some(entry) = entries.get(replayed) else {
            break;
        };
        for (pcr, value) in &mut values {
            if *pcr != entry.pcr() {
                continue;
            }
            let bank = value.alg();
            let digest = if start.padded.contains(&bank) {
                entry.extend_digest_padded(bank, true)
            } else {
                entry.extend_digest(bank)
            };
            if let Ok(extended) = extend(value, &digest) {
                *value = extended;
            }
        }
    }
    digests.reverse();
    digests
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store;
    use crate::test_util::{recorded, unhex};
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
    use mote_schemas::cbor::Bytes;
    use mote_schemas::ima::{ListFormat, ListParser, Step};
    use mote_schemas::tpm::{Attest, ClockInfo, EccCurve, Public, Signature, elide};

    const NONCE: &str = "ffeeddccbbaa99887766554433221100";

    /// The second recorded quote, elided against the first.
    struct Recorded {
        key: VerifyingKey,
        baseline: Baseline,
        elided: Elided,
        signature: Vec<u8>,
        digest: Digest,
    }

    fn recorded_pair() -> Recorded {
        let key = VerifyingKey::new(&Public::parse(&recorded("ak.tpmt")).unwrap()).unwrap();
        let (first, second) = (recorded("attest.1"), recorded("attest.2"));
        let baseline = Baseline::of(&Attest::parse(&first).unwrap()).unwrap();
        let attest = Attest::parse(&second).unwrap();
        let elided = elide(&attest, &baseline, &unhex(NONCE)).unwrap();
        let mut fixed = [0; 96];
        let signature = recorded("sig.2");
        let signature = Signature::parse(&signature).unwrap();
        let signature = signature.ecdsa_fixed(EccCurve::P256, &mut fixed).unwrap();
        let digest = Digest::new(HashAlg::Sha256, attest.pcr_digest).unwrap();
        Recorded {
            key,
            baseline,
            elided,
            signature: signature.to_vec(),
            digest,
        }
    }

    #[test]
    fn a_recorded_quote_comes_back_whole_and_with_any_changed_bit_not_at_all() {
        let r = recorded_pair();
        let mut room = [0; 520];
        let extra = unhex(NONCE);
        let none = Changes::default();
        let quote = ElidedQuote::new(&r.signature, &r.elided.clock, &mut room).unwrap();
        let whole = rebuild(&quote, &none, &r.baseline, &r.key, &extra, &[r.digest]).unwrap();
        assert_eq!(whole.attest, recorded("attest.2"));
        assert_eq!(whole.signature, recorded("sig.2"));

        let sent = [&r.signature[..], r.elided.clock.as_bytes()].concat();
        for bit in 0..8 * sent.len() {
            let mut bad = sent.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let clock = mote_schemas::tpm::LowClock::new(&bad[64..]).unwrap();
            let mut room = [0; 520];
            let quote = ElidedQuote::new(&bad[..64], &clock, &mut room).unwrap();
            let got = rebuild(&quote, &none, &r.baseline, &r.key, &extra, &[r.digest]);
            assert_eq!(got, None, "bit {bit}");
        }
        for bit in 0..256 {
            let mut bad = r.digest.as_bytes().to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            let bad = Digest::new(HashAlg::Sha256, &bad).unwrap();
            assert_eq!(
                rebuild(&quote, &none, &r.baseline, &r.key, &extra, &[bad]),
                None
            );
        }
        let told = |restart_count, safe, digest: Option<&'static [u8]>| Changes {
            restart_count,
            safe,
            pcr_digest: digest.map(|d| Bytes::new(d).unwrap()),
        };
        let clock = &r.baseline.clock_info;
        for changes in [
            told(Some(clock.restart_count ^ 1), None, None),
            told(None, Some(!clock.safe), None),
            told(None, None, Some(&[7; 32])),
            told(None, None, Some(&[7; 20])),
        ] {
            let got = rebuild(&quote, &changes, &r.baseline, &r.key, &extra, &[r.digest]);
            assert_eq!(got, None, "{changes:?}");
        }
    }

    #[test]
    fn no_more_than_four_signatures_are_checked() {
        let r = recorded_pair();
        let mut room = [0; 520];
        let quote = ElidedQuote::new(&r.signature, &r.elided.clock, &mut room).unwrap();
        let wrong = Digest::zero(HashAlg::Sha256);
        for (before, found) in [(0, true), (3, true), (4, false)] {
            let mut digests = vec![wrong; before];
            digests.push(r.digest);
            let none = Changes::default();
            let got = rebuild(&quote, &none, &r.baseline, &r.key, &unhex(NONCE), &digests);
            assert_eq!(got.is_some(), found, "behind {before} others");
        }
    }

    /// What the second recorded quote digests is among what is tried, given what the first certified.
    #[test]
    fn the_digest_after_new_records_is_found_and_after_too_many_is_not() {
        let r = recorded_pair();
        let (list, mut records) = (recorded("binary_runtime_measurements"), Vec::new());
        let mut parser = ListParser::new(ListFormat::LITTLE_SHA1);
        let mut rest = &list[..];
        while let Step::Record(record, len) = parser.next(rest).unwrap() {
            records.push(store::Record::from(&record));
            rest = &rest[len..];
        }
        let selection = r.baseline.selection;
        let pcrs = recorded("pcrs.1");
        let values = selection.iter().zip(pcrs.chunks(32));
        let start = LogState {
            records: 2383,
            log_pcrs: 1 << 10,
            values: values
                .map(|(pcr, value)| (pcr, Digest::new(HashAlg::Sha256, value).unwrap()))
                .collect(),
            ..LogState::at_boot()
        };
        let new = &records[2383..];
        let digests = last_digests(&start, new, &selection, HashAlg::Sha256);
        assert_eq!((digests.len(), digests[0]), (MAX_CHECKS, r.digest));
        // The quote was made before the last of them were in the list, up to a few.
        for more in [1, MAX_CHECKS - 1, MAX_CHECKS] {
            let mut ahead = new.to_vec();
            ahead.extend(records[..more].iter().cloned());
            let digests = last_digests(&start, &ahead, &selection, HashAlg::Sha256);
            let at = digests.iter().position(|digest| *digest == r.digest);
            assert_eq!(at, (more < MAX_CHECKS).then_some(more));
        }
        let none = last_digests::<store::Record>(&start, &[], &selection, HashAlg::Sha256);
        assert_eq!(none.len(), 1, "nothing new, one digest");
        // Another reading of the bank gives another digest.
        let padded = LogState {
            padded: [HashAlg::Sha256].into(),
            ..start.clone()
        };
        let digests = last_digests(&padded, new, &selection, HashAlg::Sha256);
        assert!(!digests.contains(&r.digest));
        let unknown = last_digests(&LogState::at_boot(), new, &selection, HashAlg::Sha256);
        assert_eq!(unknown, []);
    }

    #[test]
    fn an_rsa_key_signs_too() {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        // TPMT_PUBLIC: RSA, nameAlg SHA-256, a restricted signing key, RSASSA with SHA-256.
        let attributes = Public::parse(&recorded("ak.tpmt"))
            .unwrap()
            .attributes()
            .bits();
        let mut public = vec![0, 1, 0, 0x0b];
        public.extend(attributes.to_be_bytes());
        public.extend([0, 0, 0, 0x10, 0, 0x14, 0, 0x0b, 8, 0, 0, 0, 0, 0, 1, 0]);
        // RSAPublicKey (RFC 8017, A.1.1): 9 bytes of heads and a leading zero, then the modulus.
        public.extend(&pair.public_key().as_ref()[9..265]);
        let key = VerifyingKey::new(&Public::parse(&public).unwrap()).unwrap();
        let signer = key.qualified_name();
        let selection = PcrSelection::single(HashAlg::Sha384, 0x0400).unwrap();
        let digest = Digest::ones(HashAlg::Sha256);
        let attest = |clock| Attest {
            qualified_signer: signer.as_bytes(),
            extra_data: b"nonce",
            clock_info: ClockInfo {
                clock,
                ..ClockInfo::default()
            },
            firmware_version: 7,
            pcr_select: selection,
            pcr_digest: digest.as_bytes(),
        };
        let baseline = Baseline::of(&attest(1000)).unwrap();
        let attest = attest(301_000);
        let mut buffer = [0; 384];
        let bytes = attest.encode(&mut buffer).unwrap();
        let mut signature = vec![0; 256];
        pair.sign(
            &RSA_PKCS1_SHA256,
            &SystemRandom::new(),
            bytes,
            &mut signature,
        )
        .unwrap();
        let elided = elide(&attest, &baseline, b"nonce").unwrap();
        let mut room = [0; 520];
        let quote = ElidedQuote::new(&signature, &elided.clock, &mut room).unwrap();
        let none = Changes::default();
        let whole = rebuild(&quote, &none, &baseline, &key, b"nonce", &[digest]).unwrap();
        assert_eq!(whole.attest, bytes);
        assert_eq!(
            rebuild(&quote, &none, &baseline, &key, b"nonci", &[digest]),
            None
        );
    }
}
