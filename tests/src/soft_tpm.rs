//! A TPM in memory: the device side of the protocol without a chip, and a TPM that can lie.
//!
//! It does what TPM 2.0 Library part 3 says of the commands that the agent uses, with ECC P-256 keys;
//! marshalling and key derivation are its own and not those of `mote-schemas` or the verifier, so
//! that a mistake shared by both would show. Deterministic: keys, randomness and signatures
//! (RFC 6979) follow from the seed. Time passes only in [`SoftTpm::advance`].
//!
//! Honest through [`Tpm`]; [`SoftTpm::attest`] and [`SoftTpm::sign`] let a test alter any field
//! before signing, which no real TPM would do with a restricted key.

mod structures;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::cipher::{AES_128, DecryptingKey, DecryptionContext, UnboundCipherKey};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use mote_agent::tpm::{HeldHandles, Identity, PcrSelection, Quote, Secret, Tpm, TpmError};
use mote_schemas::tpm::HashAlg;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use sha2::{Digest, Sha256};

pub use structures::hash;
use structures::{ecc_public, hmac_key, kdfa, name, sized, split_sized};

/// `TPM_GENERATED_VALUE`.
pub const MAGIC: u32 = 0xff54_4347;
/// `TPM_ST_ATTEST_QUOTE`.
pub const ATTEST_QUOTE: u16 = 0x8018;
/// `TPMA_OBJECT` of the TCG's endorsement key template L-2.
pub const EK_ATTRIBUTES: u32 = 0x0003_00b2;
/// `TPMA_OBJECT` of the agent's attestation key: fixedTPM, fixedParent, sensitiveDataOrigin,
/// userWithAuth, noDA, restricted, sign.
pub const AK_ATTRIBUTES: u32 = 0x0005_0472;
/// The `restricted` bit among them.
pub const RESTRICTED: u32 = 1 << 16;

/// `authPolicy` of the TCG's EK templates: PolicySecret(TPM_RH_ENDORSEMENT) (EK Credential Profile
/// 2.3, B.6.2).
const EK_POLICY: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24,
    0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];
const PCRS: usize = 24;

/// `TPMS_ATTEST` of a quote, every field free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attest {
    /// [`MAGIC`] in everything that a TPM makes.
    pub magic: u32,
    /// [`ATTEST_QUOTE`] in a quote.
    pub kind: u16,
    /// Qualified name of the signing key.
    pub qualified_signer: Vec<u8>,
    /// `qualifyingData` of the command.
    pub extra_data: Vec<u8>,
    /// Milliseconds powered.
    pub clock: u64,
    /// TPM resets.
    pub reset_count: u32,
    /// Restarts and resumes since the last reset.
    pub restart_count: u32,
    /// `TPMI_YES_NO`.
    pub safe: u8,
    /// Vendor's number.
    pub firmware_version: u64,
    /// Banks and PCRs.
    pub selection: Vec<PcrSelection>,
    /// SHA-256 over the selected values.
    pub pcr_digest: Vec<u8>,
}

impl Attest {
    /// The bytes to sign (part 2, 10.12.12).
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.magic.to_be_bytes().to_vec();
        out.extend(self.kind.to_be_bytes());
        out.extend(sized(&self.qualified_signer));
        out.extend(sized(&self.extra_data));
        out.extend(self.clock.to_be_bytes());
        out.extend(self.reset_count.to_be_bytes());
        out.extend(self.restart_count.to_be_bytes());
        out.push(self.safe);
        out.extend(self.firmware_version.to_be_bytes());
        out.extend((self.selection.len() as u32).to_be_bytes());
        for bank in &self.selection {
            out.extend(bank.bank.to_be_bytes());
            out.push(3);
            out.extend(&bank.mask.to_le_bytes()[..3]);
        }
        out.extend(sized(&self.pcr_digest));
        out
    }
}

/// The TPM.
#[derive(Clone)]
pub struct SoftTpm {
    ek: [u8; 32],
    ak: SigningKey,
    ek_public: Vec<u8>,
    ak_public: Vec<u8>,
    certificate: Option<Vec<u8>>,
    banks: BTreeMap<HashAlg, [Vec<u8>; PCRS]>,
    clock: u64,
    reset_count: u32,
    restart_count: u32,
    safe: bool,
    seed: [u8; 32],
    drawn: u64,
}

impl std::fmt::Debug for SoftTpm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SoftTpm")
            .field("clock", &self.clock)
            .field("reset_count", &self.reset_count)
            .field("restart_count", &self.restart_count)
            .finish_non_exhaustive()
    }
}

impl SoftTpm {
    /// A TPM with SHA-1 and SHA-256 banks, just switched on for the first time.
    pub fn new(seed: u64) -> Self {
        Self::with_banks(seed, &[HashAlg::Sha1, HashAlg::Sha256])
    }

    /// A TPM with these PCR banks.
    ///
    /// # Panics
    /// Never in practice: a P-256 scalar is out of range for 2^-32 of all seeds.
    pub fn with_banks(seed: u64, banks: &[HashAlg]) -> Self {
        let seed: [u8; 32] = Sha256::digest(seed.to_be_bytes()).into();
        let ek = draw(&seed, b"ek", 0);
        let ak = scalar(&draw(&seed, b"ak", 0));
        let mut tpm = Self {
            ek_public: ecc_public(EK_ATTRIBUTES, &EK_POLICY, true, &scalar(&ek)),
            ak_public: ecc_public(AK_ATTRIBUTES, &[], false, &ak),
            ek,
            ak,
            certificate: None,
            banks: BTreeMap::new(),
            clock: 1000,
            reset_count: 0,
            restart_count: 0,
            safe: true,
            seed,
            drawn: 0,
        };
        tpm.banks = banks.iter().map(|alg| (*alg, cleared(*alg))).collect();
        tpm
    }

    /// Puts an EK certificate (DER) into NV memory.
    #[must_use]
    pub fn with_certificate(mut self, der: &[u8]) -> Self {
        self.certificate = Some(der.to_vec());
        self
    }

    /// Replaces the attestation key by another one of the same TPM; `number` 0 is the first.
    #[must_use]
    pub fn with_other_ak(mut self, number: u64) -> Self {
        self.ak = scalar(&draw(&self.seed, b"ak", number));
        self.with_ak_attributes(AK_ATTRIBUTES)
    }

    /// Gives the attestation key other attributes; its Name changes with them.
    #[must_use]
    pub fn with_ak_attributes(mut self, attributes: u32) -> Self {
        self.ak_public = ecc_public(attributes, &[], false, &self.ak);
        self
    }

    /// Gives the endorsement key other attributes.
    #[must_use]
    pub fn with_ek_attributes(mut self, attributes: u32) -> Self {
        self.ek_public = ecc_public(attributes, &EK_POLICY, true, &scalar(&self.ek));
        self
    }

    /// `TPMT_PUBLIC` of the endorsement key.
    pub fn ek_public(&self) -> &[u8] {
        &self.ek_public
    }

    /// `TPMT_PUBLIC` of the attestation key.
    pub fn ak_public(&self) -> &[u8] {
        &self.ak_public
    }

    /// The EK certificate, if it has one.
    pub fn certificate(&self) -> Option<&[u8]> {
        self.certificate.as_deref()
    }

    /// Lets time pass, in milliseconds.
    pub fn advance(&mut self, millis: u64) {
        self.clock += millis;
    }

    /// Milliseconds on the TPM's clock.
    pub fn clock(&self) -> u64 {
        self.clock
    }

    /// TPM resets and restarts.
    pub fn counts(&self) -> (u32, u32) {
        (self.reset_count, self.restart_count)
    }

    /// Sets the clock, backwards too.
    pub fn set_clock(&mut self, clock: u64) {
        self.clock = clock;
    }

    /// Sets the counters, backwards too.
    pub fn set_counts(&mut self, reset_count: u32, restart_count: u32) {
        (self.reset_count, self.restart_count) = (reset_count, restart_count);
    }

    /// Sets `clockInfo.safe`: NO after a power cut, until the clock has passed the last stored value.
    pub fn set_safe(&mut self, safe: bool) {
        self.safe = safe;
    }

    /// TPM Reset (part 1, 12.2.3): PCRs start over, `resetCount` goes up, `restartCount` to 0.
    pub fn reboot(&mut self) {
        self.reset_count += 1;
        self.restart_count = 0;
        self.clear_pcrs();
    }

    /// TPM Restart (`Shutdown(STATE)`, then `Startup(CLEAR)`): PCRs start over, `restartCount` goes up.
    pub fn restart(&mut self) {
        self.restart_count += 1;
        self.clear_pcrs();
    }

    fn clear_pcrs(&mut self) {
        for (alg, values) in &mut self.banks {
            *values = cleared(*alg);
        }
    }

    /// TPM Resume: PCRs stay, `restartCount` goes up.
    pub fn resume(&mut self) {
        self.restart_count += 1;
    }

    /// `TPM2_PCR_Extend` in each bank that `digest` gives a value for.
    ///
    /// # Panics
    /// When `pcr` is not below 24.
    pub fn extend(&mut self, pcr: usize, digest: impl Fn(HashAlg) -> Option<Vec<u8>>) {
        for (alg, values) in &mut self.banks {
            if let Some(digest) = digest(*alg) {
                values[pcr] = hash(*alg, &[&values[pcr], &digest]);
            }
        }
    }

    /// The value of a PCR; `None` when the bank is not active.
    pub fn pcr(&self, alg: HashAlg, pcr: usize) -> Option<&[u8]> {
        Some(self.banks.get(&alg)?.get(pcr)?)
    }

    /// What `TPM2_Quote` is about to sign.
    ///
    /// # Errors
    /// [`TpmError::NoSuchPcr`] and [`TpmError::BadSelection`] as in [`Tpm::quote`].
    pub fn attest(
        &self,
        selection: &[PcrSelection],
        extra_data: &[u8],
    ) -> Result<Attest, TpmError> {
        let mut values = Vec::new();
        self.select(selection, &mut values)?;
        // Qualified name of a primary key in the endorsement hierarchy (part 1, 16).
        let name = name(&self.ak_public);
        let qualified = Sha256::digest([&0x4000_000b_u32.to_be_bytes()[..], &name].concat());
        Ok(Attest {
            magic: MAGIC,
            kind: ATTEST_QUOTE,
            qualified_signer: [&[0x00, 0x0b][..], &qualified].concat(),
            extra_data: extra_data.to_vec(),
            clock: self.clock,
            reset_count: self.reset_count,
            restart_count: self.restart_count,
            safe: u8::from(self.safe),
            firmware_version: 0x0020_2411_0000_0001,
            selection: selection.to_vec(),
            pcr_digest: Sha256::digest(&values).to_vec(),
        })
    }

    /// `TPMT_SIGNATURE` of the attestation key over any bytes.
    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let signature: Signature = self.ak.sign(bytes);
        let signature = signature.to_bytes();
        let (r, s) = signature.split_at(32);
        [&[0x00, 0x18, 0x00, 0x0b][..], &sized(r), &sized(s)].concat()
    }

    fn select(&self, selection: &[PcrSelection], out: &mut Vec<u8>) -> Result<(), TpmError> {
        if selection.is_empty()
            || selection
                .iter()
                .any(|bank| bank.mask.trailing_zeros() >= 24)
        {
            return Err(TpmError::BadSelection);
        }
        for PcrSelection { bank, mask } in selection.iter().copied() {
            let missing = TpmError::NoSuchPcr {
                bank,
                missing: mask,
            };
            let values = HashAlg::from_u16(bank).and_then(|alg| self.banks.get(&alg));
            let values = values.ok_or(missing)?;
            for (_, value) in values
                .iter()
                .enumerate()
                .filter(|(n, _)| mask >> n & 1 == 1)
            {
                out.extend(value);
            }
        }
        Ok(())
    }

    /// The seed that the credential's maker chose (part 1, C.6.4).
    fn decapsulate(&self, encrypted_secret: &[u8]) -> Option<[u8; 32]> {
        let (x, rest) = split_sized(encrypted_secret)?;
        let (y, rest) = split_sized(rest)?;
        if !rest.is_empty() || x.len() != 32 || y.len() != 32 {
            return None;
        }
        let point = [&[0x04], x, y].concat();
        let ours = PrivateKey::from_private_key(&ECDH_P256, &self.ek).ok()?;
        let public = ours.compute_public_key().ok()?;
        let our_x = &public.as_ref()[1..33];
        agree(&ours, UnparsedPublicKey::new(&ECDH_P256, &point), (), |z| {
            // KDFe (part 1, 11.4.10.3), one block.
            let parts = [&1u32.to_be_bytes()[..], z, b"IDENTITY\0", x, our_x];
            Ok(Sha256::digest(parts.concat()).into())
        })
        .ok()
    }
}

impl Tpm for SoftTpm {
    fn identity(&mut self) -> Result<Identity, TpmError> {
        Ok(Identity {
            ek: self.ek_public.iter().copied().collect(),
            ak: self.ak_public.iter().copied().collect(),
        })
    }

    fn ek_certificate(&mut self, out: &mut [u8]) -> Result<Option<usize>, TpmError> {
        let Some(der) = &self.certificate else {
            return Ok(None);
        };
        let limit = out.len();
        let room = out.get_mut(..der.len()).ok_or(TpmError::TooLarge {
            what: "the EK certificate",
            size: der.len(),
            limit,
        })?;
        room.copy_from_slice(der);
        Ok(Some(der.len()))
    }

    fn activate_credential(
        &mut self,
        credential_blob: &[u8],
        encrypted_secret: &[u8],
    ) -> Result<Secret, TpmError> {
        let malformed = || TpmError::MalformedCredential;
        let (integrity, identity) = split_sized(credential_blob).ok_or_else(malformed)?;
        let seed = self.decapsulate(encrypted_secret).ok_or_else(malformed)?;
        let name = name(&self.ak_public);
        let mut mac = hmac::Context::with_key(&hmac_key(&kdfa(&seed, b"INTEGRITY\0", &[], 256)));
        mac.update(identity);
        mac.update(&name);
        if mac.sign().as_ref() != integrity {
            return Err(TpmError::WrongCredential);
        }
        let key = kdfa(&seed, b"STORAGE\0", &name, 128);
        let mut plain = identity.to_vec();
        UnboundCipherKey::new(&AES_128, &key[..16])
            .and_then(DecryptingKey::cfb128)
            .and_then(|key| {
                let iv = DecryptionContext::Iv128(FixedLength::from([0; 16]));
                key.decrypt(&mut plain, iv).map(drop)
            })
            .map_err(|_| malformed())?;
        match split_sized(&plain) {
            Some((secret, [])) => Secret::new(secret).ok_or_else(malformed),
            _ => Err(malformed()),
        }
    }

    fn quote(
        &mut self,
        selection: &[PcrSelection],
        qualifying_data: &[u8; 32],
    ) -> Result<Quote, TpmError> {
        let attest = self.attest(selection, qualifying_data)?.encode();
        let signature = self.sign(&attest);
        Ok(Quote {
            attest: attest.into_iter().collect(),
            signature: signature.into_iter().collect(),
        })
    }

    fn read_pcrs(&mut self, selection: &[PcrSelection], out: &mut [u8]) -> Result<usize, TpmError> {
        let mut values = Vec::new();
        self.select(selection, &mut values)?;
        let limit = out.len();
        let room = out.get_mut(..values.len()).ok_or(TpmError::TooLarge {
            what: "the PCR values",
            size: values.len(),
            limit,
        })?;
        room.copy_from_slice(&values);
        Ok(values.len())
    }

    fn banks(
        &mut self,
    ) -> Result<heapless::Vec<PcrSelection, { mote_schemas::limits::MAX_PCR_BANKS }>, TpmError>
    {
        let all = |alg: &HashAlg| PcrSelection {
            bank: alg.to_u16(),
            mask: 0xff_ffff,
        };
        Ok(self.banks.keys().map(all).collect())
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), TpmError> {
        for chunk in out.chunks_mut(32) {
            let block = draw(&self.seed, b"random", self.drawn);
            self.drawn += 1;
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
        Ok(())
    }

    fn held_handles(&mut self) -> Result<HeldHandles, TpmError> {
        Ok(HeldHandles {
            objects: 1,
            sessions: 0,
        })
    }
}

/// PCR values after a TPM Reset (PC Client Platform TPM Profile, 4.6.2).
fn cleared(alg: HashAlg) -> [Vec<u8>; PCRS] {
    std::array::from_fn(|pcr| {
        let fill = if (17..=22).contains(&pcr) { 0xff } else { 0 };
        vec![fill; alg.digest_len()]
    })
}

fn draw(seed: &[u8; 32], label: &[u8], number: u64) -> [u8; 32] {
    Sha256::digest([seed, label, &number.to_be_bytes()].concat()).into()
}

fn scalar(bytes: &[u8; 32]) -> SigningKey {
    SigningKey::from_slice(bytes).unwrap_or_else(|_| panic!("a seed without a P-256 key"))
}
