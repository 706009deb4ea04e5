//! Deterministic CBOR of a policy, both ways (`cbor-schemas/cddl/policy.cddl`).
//!
//! As with manifests: sense is checked item by item, so that an error names the byte, then the spelling
//! as a whole (RFC 8949, 4.2.1).

use std::collections::BTreeMap;
use std::convert::Infallible;

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};
use mote_schemas::message::Tier;

use super::{ManifestRef, Mode, Policy, PolicyError, Which};
use crate::manifest::Fault;
use crate::manifest::codec::{Reader, check_spelling};

const FORMAT: u64 = 1;

mod key {
    pub(super) const FORMAT: u64 = 1;
    pub(super) const NAME: u64 = 2;
    pub(super) const VERSION: u64 = 3;
    pub(super) const MODE: u64 = 4;
    pub(super) const MANIFESTS: u64 = 5;
    pub(super) const EXCLUSIONS: u64 = 6;
    pub(super) const IMA_KEYS: u64 = 7;
    pub(super) const BANKS: u64 = 8;
    pub(super) const DIGESTS: u64 = 9;
    pub(super) const STALE_AFTER: u64 = 10;
    pub(super) const MIN_KEY_STRENGTH: u64 = 11;
    pub(super) const WEIGHTS: u64 = 12;
}

pub(super) fn encode(policy: &Policy) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    match write(&mut encoder, policy) {
        Ok(()) => encoder.into_writer(),
        // Writing to a Vec cannot fail, and nothing here reports a custom error.
        Err(error) => unreachable!("{error}"),
    }
}

fn write(e: &mut Encoder<Vec<u8>>, p: &Policy) -> Result<(), minicbor::encode::Error<Infallible>> {
    let optional = [
        !p.manifests.is_empty(),
        !p.exclusions.is_empty(),
        !p.ima_keys.is_empty(),
        !p.banks.is_empty(),
        !p.digests.is_empty(),
        p.stale_after.is_some(),
        p.min_key_strength.is_some(),
        !p.weights.is_empty(),
    ];
    let keys = 4 + optional.iter().filter(|present| **present).count();
    e.map(keys as u64)?;
    e.u64(key::FORMAT)?.u64(FORMAT)?;
    e.u64(key::NAME)?.str(&p.name)?;
    e.u64(key::VERSION)?.u64(p.version)?;
    e.u64(key::MODE)?.u8(u8::from(p.mode == Mode::Monitor))?;
    if !p.manifests.is_empty() {
        e.u64(key::MANIFESTS)?.array(p.manifests.len() as u64)?;
        for manifest in &p.manifests {
            write_manifest(e, manifest)?;
        }
    }
    if !p.exclusions.is_empty() {
        e.u64(key::EXCLUSIONS)?.array(p.exclusions.len() as u64)?;
        for glob in &p.exclusions {
            e.str(glob)?;
        }
    }
    if !p.ima_keys.is_empty() {
        e.u64(key::IMA_KEYS)?.array(p.ima_keys.len() as u64)?;
        for id in &p.ima_keys {
            e.bytes(id)?;
        }
    }
    for (key, algs) in [(key::BANKS, &p.banks), (key::DIGESTS, &p.digests)] {
        if !algs.is_empty() {
            e.u64(key)?.array(algs.len() as u64)?;
            for alg in algs {
                e.u16(*alg)?;
            }
        }
    }
    if let Some(seconds) = p.stale_after {
        e.u64(key::STALE_AFTER)?.u32(seconds)?;
    }
    if let Some(bits) = p.min_key_strength {
        e.u64(key::MIN_KEY_STRENGTH)?.u16(bits)?;
    }
    if !p.weights.is_empty() {
        e.u64(key::WEIGHTS)?.map(p.weights.len() as u64)?;
        // Bytewise order of the encoded keys: shorter ones first (RFC 8949, 4.2.1).
        let mut weights: Vec<_> = p.weights.iter().collect();
        weights.sort_by_key(|(token, _)| (token.len(), token.as_bytes()));
        for (token, weight) in weights {
            e.str(token)?.u8(code(*weight))?;
        }
    }
    Ok(())
}

fn write_manifest(
    e: &mut Encoder<Vec<u8>>,
    manifest: &ManifestRef,
) -> Result<(), minicbor::encode::Error<Infallible>> {
    e.array(3)?;
    match &manifest.which {
        Which::Name(name, version) => {
            e.str(name)?;
            match version {
                Some(version) => e.str(version)?,
                None => e.null()?,
            };
        }
        Which::Digest(digest) => {
            e.bytes(digest)?.null()?;
        }
    }
    match manifest.expires {
        Some(at) => e.u64(at)?,
        None => e.null()?,
    };
    Ok(())
}

fn code(weight: Tier) -> u8 {
    match weight {
        Tier::None | Tier::Affirming => 0,
        Tier::Warning => 32,
        Tier::Contraindicated => 96,
    }
}

pub(super) fn decode(bytes: &[u8]) -> Result<Policy, PolicyError> {
    let mut d = Reader(Decoder::new(bytes));
    let policy = read(&mut d)?;
    d.end()?;
    policy.check()?;
    // What was read must already be in canonical order, or it spells differently.
    check_spelling(bytes, &encode(&policy.clone().checked()?))?;
    Ok(policy)
}

fn read(d: &mut Reader<'_>) -> Result<Policy, PolicyError> {
    let mut policy = Policy::default();
    let (mut format, mut name, mut version, mut mode) = (None, None, None, None);
    let mut previous = None;
    for _ in 0..d.map("a policy (a map)")? {
        let offset = d.0.position();
        let key = d.key(previous)?;
        previous = Some(key);
        match key {
            key::FORMAT => format = Some(d.format()?),
            key::NAME => name = Some(d.text("a name (text)")?.to_owned()),
            key::VERSION => version = Some(d.item("a version (a number)", Decoder::u64)?),
            key::MODE => mode = Some(read_mode(d)?),
            key::MANIFESTS => policy.manifests = list(d, "manifests", read_manifest)?,
            key::EXCLUSIONS => policy.exclusions = d.exclusions()?,
            key::IMA_KEYS => {
                policy.ima_keys = list(d, "key ids", |d| Ok(d.bytes("a key id")?.to_vec()))?;
            }
            key::BANKS => policy.banks = list(d, "hash algorithms", read_alg)?,
            key::DIGESTS => policy.digests = list(d, "hash algorithms", read_alg)?,
            key::STALE_AFTER => policy.stale_after = Some(d.item("seconds", Decoder::u32)?),
            key::MIN_KEY_STRENGTH => {
                policy.min_key_strength = Some(d.item("bits of strength", Decoder::u16)?);
            }
            key::WEIGHTS => policy.weights = read_weights(d)?,
            _ => return Err(PolicyError::at(offset, Fault::UnknownKey(key))),
        }
    }
    let missing = |what| PolicyError::from(Fault::MissingKey(what));
    format.ok_or_else(|| missing("the format version"))?;
    policy.name = name.ok_or_else(|| missing("the name"))?;
    policy.version = version.ok_or_else(|| missing("the version"))?;
    policy.mode = mode.ok_or_else(|| missing("the mode"))?;
    Ok(policy)
}

fn list<'b, T>(
    d: &mut Reader<'b>,
    what: &'static str,
    item: impl Fn(&mut Reader<'b>) -> Result<T, PolicyError>,
) -> Result<Vec<T>, PolicyError> {
    let offset = d.0.position();
    let count = d.array(what)?;
    if count == 0 {
        // Absent says the same.
        return Err(PolicyError::at(offset, Fault::NotCanonical));
    }
    (0..count).map(|_| item(d)).collect()
}

fn read_mode(d: &mut Reader<'_>) -> Result<Mode, PolicyError> {
    let offset = d.0.position();
    match d.item("a mode", Decoder::u64)? {
        0 => Ok(Mode::Enforce),
        1 => Ok(Mode::Monitor),
        _ => Err(PolicyError::at(offset, Fault::Expected("mode 0 or 1"))),
    }
}

fn read_alg(d: &mut Reader<'_>) -> Result<u16, PolicyError> {
    d.item("a TPM_ALG_ID", Decoder::u16)
}

fn read_manifest(d: &mut Reader<'_>) -> Result<ManifestRef, PolicyError> {
    let offset = d.0.position();
    if d.array("a manifest (an array)")? != 3 {
        return Err(PolicyError::at(offset, Fault::Expected("an array of 3")));
    }
    let offset = d.0.position();
    let digest = match d.0.datatype() {
        Ok(Type::Bytes) => Some(
            d.bytes("a digest")?
                .try_into()
                .map_err(|_| PolicyError::at(offset, Fault::Expected("a digest of 32 bytes")))?,
        ),
        _ => None,
    };
    let which = if let Some(digest) = digest {
        d.item("null: a digest has no version", Decoder::null)?;
        Which::Digest(digest)
    } else {
        let name = d.text("a manifest's name or digest")?.to_owned();
        let version = if null(d)? {
            None
        } else {
            Some(d.text("a manifest's version")?.to_owned())
        };
        Which::Name(name, version)
    };
    let expires = if null(d)? {
        None
    } else {
        Some(d.item("a time", Decoder::u64)?)
    };
    Ok(ManifestRef { which, expires })
}

/// Passes over a null, if there is one.
fn null(d: &mut Reader<'_>) -> Result<bool, PolicyError> {
    if d.0.datatype().is_ok_and(|t| t == Type::Null) {
        d.item("null", Decoder::null)?;
        return Ok(true);
    }
    Ok(false)
}

fn read_weights(d: &mut Reader<'_>) -> Result<BTreeMap<String, Tier>, PolicyError> {
    let mut weights = BTreeMap::new();
    let offset = d.0.position();
    let count = d.map("weights (a map)")?;
    for _ in 0..count {
        let token = d.text("a reason")?.to_owned();
        let offset = d.0.position();
        let weight = match d.item("a weight", Decoder::u64)? {
            0 => Tier::None,
            32 => Tier::Warning,
            96 => Tier::Contraindicated,
            _ => {
                return Err(PolicyError::at(
                    offset,
                    Fault::Expected("a weight of 0, 32 or 96"),
                ));
            }
        };
        weights.insert(token, weight);
    }
    if weights.is_empty() {
        return Err(PolicyError::at(offset, Fault::NotCanonical));
    }
    Ok(weights)
}
