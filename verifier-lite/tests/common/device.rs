//! A device whose TPM is a few lines of Rust: signs any PCR values, with the recorded key's template.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use mote_schemas::ima::{ListFormat, ListParser, Step};
use mote_schemas::pcr::initial;
use mote_schemas::tpm::{
    Attest, ClockInfo, Digest, HashAlg, PcrSelection, Public, Signature, hash,
};
use mote_verifier::log_entry::LogEntry;
use mote_verifier::prefix::LogState;
use mote_verifier::quote::VerifiedQuote;
use mote_verifier::signature::VerifyingKey;
use mote_verifier::store::Record as StoredRecord;

use crate::common::recorded;

/// PCR values by bank and number.
pub(crate) type Pcrs = BTreeMap<(HashAlg, u32), Digest>;

/// `sha256:0-10,14`, as recorded.
pub(crate) fn recorded_selection() -> PcrSelection {
    PcrSelection::single(HashAlg::Sha256, 0x47ff).unwrap()
}

/// The records of the recorded list.
pub(crate) fn recorded_list() -> Vec<StoredRecord> {
    records(&recorded("binary_runtime_measurements"))
}

/// The records of a binary list.
pub(crate) fn records(mut list: &[u8]) -> Vec<StoredRecord> {
    let mut parser = ListParser::new(ListFormat::LITTLE_SHA1);
    let mut records = Vec::new();
    while let Step::Record(record, len) = parser.next(list).unwrap() {
        records.push(StoredRecord::from(&record));
        list = &list[len..];
    }
    assert!(list.is_empty(), "the list ends inside a record");
    records
}

/// The recorded PCR values that belong to quote 1 or 2.
pub(crate) fn recorded_pcrs(number: u32) -> Pcrs {
    let bytes = recorded(&format!("pcrs.{number}"));
    recorded_selection()
        .iter()
        .zip(bytes.chunks(32))
        .map(|(pcr, value)| (pcr, Digest::new(HashAlg::Sha256, value).unwrap()))
        .collect()
}

/// A recorded quote, verified.
pub(crate) fn recorded_quote(number: u32) -> VerifiedQuote {
    let nonce: [u8; 16] = match number {
        1 => 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff_u128,
        _ => 0xffee_ddcc_bbaa_9988_7766_5544_3322_1100_u128,
    }
    .to_be_bytes();
    let key = VerifyingKey::new(&Public::parse(&recorded("ak.tpmt")).unwrap()).unwrap();
    VerifiedQuote::verify(
        &recorded(&format!("attest.{number}")),
        &recorded(&format!("sig.{number}")),
        &key,
        &nonce,
        Some(&recorded_selection()),
    )
    .unwrap()
}

/// A key and the PCRs it quotes.
pub(crate) struct Device {
    pair: EcdsaKeyPair,
    key: VerifyingKey,
    public: Vec<u8>,
    pub(crate) selection: PcrSelection,
    pub(crate) pcrs: Pcrs,
}

impl Device {
    /// Freshly booted, with these boot PCRs; quotes `selection`.
    pub(crate) fn new(selection: PcrSelection, boot: &Pcrs) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let mut public = recorded("ak.tpmt");
        // The recorded public area ends in x and y, 32 bytes each and each behind its length.
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let len = public.len();
        public[len - 66..len - 34].copy_from_slice(x);
        public[len - 32..].copy_from_slice(y);
        let key = VerifyingKey::new(&Public::parse(&public).unwrap()).unwrap();
        let mut pcrs: Pcrs = selection
            .iter()
            .map(|(bank, pcr)| ((bank, pcr), initial(bank, pcr)))
            .collect();
        pcrs.extend(boot.iter().filter(|((_, pcr), _)| *pcr != 10));
        Device {
            pair,
            key,
            public,
            selection,
            pcrs,
        }
    }

    /// Extends what the kernel would for this record.
    pub(crate) fn extend(&mut self, record: &StoredRecord) {
        for ((bank, pcr), value) in &mut self.pcrs {
            if *pcr == record.pcr {
                let digest = record.extend_digest(*bank);
                *value = hash(*bank, &[value.as_bytes(), digest.as_bytes()]);
            }
        }
    }

    /// `TPMT_PUBLIC` of its key.
    pub(crate) fn ak_public(&self) -> &[u8] {
        &self.public
    }

    /// A quote over the PCRs as they are.
    pub(crate) fn quote(&self) -> VerifiedQuote {
        let (attest, signature) = self.sign_quote(b"nonce");
        VerifiedQuote::verify(
            &attest,
            &signature,
            &self.key,
            b"nonce",
            Some(&self.selection),
        )
        .unwrap()
    }

    /// The same as bytes: `TPMS_ATTEST` and `TPMT_SIGNATURE`.
    pub(crate) fn sign_quote(&self, extra_data: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let values: Vec<&[u8]> = self
            .selection
            .iter()
            .map(|pcr| self.pcrs[&pcr].as_bytes())
            .collect();
        let pcr_digest = hash(HashAlg::Sha256, &values);
        let qualified_signer = self.key.qualified_name();
        let attest = Attest {
            qualified_signer: qualified_signer.as_bytes(),
            extra_data,
            clock_info: ClockInfo {
                safe: true,
                ..ClockInfo::default()
            },
            firmware_version: 1,
            pcr_select: self.selection,
            pcr_digest: pcr_digest.as_bytes(),
        };
        let (mut attest_buffer, mut signature_buffer) = ([0; 384], [0; 128]);
        let attest = attest.encode(&mut attest_buffer).unwrap();
        let raw = self.pair.sign(&SystemRandom::new(), attest).unwrap();
        let signature = Signature::from_ecdsa_fixed(HashAlg::Sha256, raw.as_ref()).unwrap();
        let signature = signature.encode(&mut signature_buffer).unwrap();
        (attest.to_vec(), signature.to_vec())
    }

    /// The log state that the verifier should have after `records` records.
    pub(crate) fn state(&self, records: usize) -> LogState {
        LogState {
            records: records as u64,
            log_pcrs: 1 << 10,
            padded: std::collections::BTreeSet::new(),
            values: self.pcrs.clone(),
        }
    }
}
