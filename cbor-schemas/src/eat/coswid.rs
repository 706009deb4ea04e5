//! Measured components, as CoSWID evidence in the `measurements` claim (RFC 9711, 4.2.16; RFC 9393, 2.9.4).

use minicbor::data::Type;
use minicbor::encode::Write;
use minicbor::{Decoder, Encode, Encoder};

use super::{EatError, Wanted};
use crate::tpm::HashAlg;

/// CoAP Content-Format of `application/swid+cbor`.
const CONTENT_FORMAT: u64 = 258;

/// CoSWID items (RFC 9393, 6.1).
mod item {
    pub(super) const TAG_ID: u64 = 0;
    pub(super) const SOFTWARE_NAME: u64 = 1;
    pub(super) const ENTITY: u64 = 2;
    pub(super) const EVIDENCE: u64 = 3;
    pub(super) const HASH: u64 = 7;
    pub(super) const TAG_VERSION: u64 = 12;
    pub(super) const SOFTWARE_VERSION: u64 = 13;
    pub(super) const DIRECTORY: u64 = 16;
    pub(super) const FILE: u64 = 17;
    pub(super) const RESOURCE: u64 = 19;
    pub(super) const FS_NAME: u64 = 24;
    pub(super) const ENTITY_NAME: u64 = 31;
    pub(super) const ROLE: u64 = 33;
}

/// Role of who made the tag (RFC 9393, 4.2).
const TAG_CREATOR: u8 = 1;

/// One thing that was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component<'a> {
    /// Its name, such as `bootloader`.
    pub name: &'a str,
    /// Hash algorithm.
    pub hash_alg: HashAlg,
    /// Digest of its content.
    pub digest: &'a [u8],
}

/// What a device measured of its software.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Firmware<'a> {
    /// Name of the software, such as `valve`.
    pub name: &'a str,
    /// Its version.
    pub version: Option<&'a str>,
    /// Who made this list, such as the bootloader's name.
    pub maker: &'a str,
    /// One or more.
    pub components: &'a [Component<'a>],
}

impl<C> Encode<C> for Firmware<'_> {
    /// The value of the claim: one CoSWID.
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let mut count = Count(0);
        // Counting does not fail.
        let _ = self.write(&mut Encoder::new(&mut count));
        e.array(1)?.array(2)?.u64(CONTENT_FORMAT)?;
        e.bytes_len(count.0)?;
        self.write(e)
    }
}

impl Firmware<'_> {
    fn write<W: Write>(&self, e: &mut Encoder<W>) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.map(5 + u64::from(self.version.is_some()))?;
        e.u64(item::TAG_ID)?.str(self.name)?;
        e.u64(item::SOFTWARE_NAME)?.str(self.name)?;
        e.u64(item::ENTITY)?.map(2)?;
        e.u64(item::ENTITY_NAME)?.str(self.maker)?;
        e.u64(item::ROLE)?.u8(TAG_CREATOR)?;
        e.u64(item::EVIDENCE)?.map(1)?.u64(item::FILE)?;
        if self.components.len() != 1 {
            e.array(self.components.len() as u64)?;
        }
        for component in self.components {
            e.map(2)?.u64(item::HASH)?.array(2)?;
            e.u8(hash_id(component.hash_alg))?.bytes(component.digest)?;
            e.u64(item::FS_NAME)?.str(component.name)?;
        }
        e.u64(item::TAG_VERSION)?.u8(0)?;
        if let Some(version) = self.version {
            e.u64(item::SOFTWARE_VERSION)?.str(version)?;
        }
        Ok(())
    }
}

/// Number of bytes written.
struct Count(u64);

impl Write for &mut Count {
    type Error = core::convert::Infallible;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        self.0 += bytes.len() as u64;
        Ok(())
    }
}

/// Id in the registry "Named Information Hash Algorithm" (RFC 9393, 2.9.1).
fn hash_id(alg: HashAlg) -> u8 {
    match alg {
        // Not in the registry: none of ours is ever written with it.
        HashAlg::Sha1 => 0,
        HashAlg::Sha256 => 1,
        HashAlg::Sha384 => 7,
        HashAlg::Sha512 => 8,
    }
}

fn hash_of_id(id: i64) -> Option<HashAlg> {
    match id {
        1 => Some(HashAlg::Sha256),
        7 => Some(HashAlg::Sha384),
        8 => Some(HashAlg::Sha512),
        _ => None,
    }
}

/// Something in a `measurements` claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measured<'a> {
    /// A component with its digest.
    Component(Component<'a>),
    /// Something that cannot be compared with reference values, and what.
    Other(&'static str),
}

/// The `measurements` claim, not read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measurements<'a>(&'a [u8]);

impl<'a> Measurements<'a> {
    pub(super) fn read(d: &mut Decoder<'a>) -> Result<Self, EatError> {
        let at = d.position();
        d.skip().wanted("measurements, an array", at)?;
        let claim = Self(&d.input()[at..d.position()]);
        // What is not well-formed is refused now, not found out later.
        claim.each(&mut |_| {})?;
        Ok(claim)
    }

    /// Calls `found` with everything that was measured, in order.
    ///
    /// # Errors
    /// Where the claim is none; offsets are those in the claim. Not after [`super::Claims::parse`].
    pub fn each(self, found: &mut dyn FnMut(Measured<'a>)) -> Result<(), EatError> {
        let mut d = Decoder::new(self.0);
        let wanted = "measurements, [+ [content format, bytes]]";
        let count = d.array().wanted(wanted, 0)?;
        for _ in 0..count.ok_or(EatError { offset: 0, wanted })? {
            let at = d.position();
            if d.array().wanted(wanted, at)? != Some(2) {
                return Err(EatError { offset: at, wanted });
            }
            let format = d.u64().wanted(wanted, at)?;
            if format == CONTENT_FORMAT {
                coswid(d.bytes().wanted("a CoSWID, in bytes", at)?, found)?;
            } else {
                d.skip().wanted(wanted, at)?;
                found(Measured::Other("measurements of a kind that is not known"));
            }
        }
        Ok(())
    }
}

fn coswid<'a>(bytes: &'a [u8], found: &mut dyn FnMut(Measured<'a>)) -> Result<(), EatError> {
    let mut d = Decoder::new(bytes);
    let mut evidence = false;
    each_item(&mut d, "a CoSWID, a map", &mut |d, key| {
        if key == item::EVIDENCE {
            evidence = true;
            return each_item(d, "CoSWID evidence, a map", &mut |d, key| match key {
                item::FILE => files(d, found),
                // From processes to hardware: nothing that a manifest has values for.
                item::DIRECTORY..=item::RESOURCE => {
                    found(Measured::Other("CoSWID evidence other than files"));
                    skip(d)
                }
                _ => skip(d),
            });
        }
        skip(d)
    })?;
    if !evidence {
        // RFC 9711, 4.2.16: what only says what should be there is no measurement.
        found(Measured::Other("a CoSWID without evidence"));
    }
    if d.position() < bytes.len() {
        return Err(EatError {
            offset: d.position(),
            wanted: "the end of the CoSWID",
        });
    }
    Ok(())
}

fn skip(d: &mut Decoder<'_>) -> Result<(), EatError> {
    let at = d.position();
    d.skip().wanted("CBOR", at)
}

/// Calls `each` with every numbered item of a map, which it must read.
fn each_item<'a>(
    d: &mut Decoder<'a>,
    wanted: &'static str,
    each: &mut dyn FnMut(&mut Decoder<'a>, u64) -> Result<(), EatError>,
) -> Result<(), EatError> {
    let at = d.position();
    let count = d.map().wanted(wanted, at)?;
    for _ in 0..count.ok_or(EatError { offset: at, wanted })? {
        if let Ok(Type::U8 | Type::U16 | Type::U32 | Type::U64) = d.datatype() {
            let key = d.u64().wanted(wanted, at)?;
            each(d, key)?;
        } else {
            skip(d)?;
            skip(d)?;
        }
    }
    Ok(())
}

/// One file, or several.
fn files<'a>(d: &mut Decoder<'a>, found: &mut dyn FnMut(Measured<'a>)) -> Result<(), EatError> {
    let at = d.position();
    let wanted = "CoSWID files of definite length";
    let count = if d.datatype().is_ok_and(|t| t == Type::Map) {
        1
    } else {
        let count = d.array().wanted(wanted, at)?;
        count.ok_or(EatError { offset: at, wanted })?
    };
    for _ in 0..count {
        let (mut name, mut hash) = (None, None);
        each_item(d, "a CoSWID file, a map", &mut |d, key| {
            let at = d.position();
            match key {
                item::FS_NAME => name = Some(d.str().wanted("a file's name", at)?),
                item::HASH => {
                    let wanted = "a hash, [algorithm, bytes]";
                    if d.array().wanted(wanted, at)? != Some(2) {
                        return Err(EatError { offset: at, wanted });
                    }
                    let alg = hash_of_id(d.i64().wanted(wanted, at)?);
                    let digest = d.bytes().wanted(wanted, at)?;
                    hash = alg
                        .filter(|alg| alg.digest_len() == digest.len())
                        .map(|alg| (alg, digest));
                }
                _ => skip(d)?,
            }
            Ok(())
        })?;
        found(match (name, hash) {
            (Some(name), Some((hash_alg, digest))) => Measured::Component(Component {
                name,
                hash_alg,
                digest,
            }),
            _ => Measured::Other("a file without a name, or without a digest that is known"),
        });
    }
    Ok(())
}
