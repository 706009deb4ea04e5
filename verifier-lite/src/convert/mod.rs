//! Reference values in other people's formats, into a manifest and out of one.
//!
//! | module | format | in | out |
//! |---|---|---|---|
//! | [`keylime`] | Keylime runtime policy, JSON | yes | yes |
//! | [`refstate`] | Keylime measured-boot reference state, JSON | yes | |
//! | [`sbom`] | SPDX 2.3, SPDX 3 and CycloneDX, JSON: digests of files | yes | |
//! | [`corim`] | CoRIM (draft-ietf-rats-corim), CBOR: reference triples | yes | yes |
//!
//! A file that is not understood is refused whole, and the error says where in it. What is understood
//! but has no place in a manifest is left out and named ([`Imported::left_out`]), as is a member of a policy
//! or reference state that is not known here. Of files, appraisal only gets stricter by that, since what no
//! manifest lists is unknown; of what is expected of a boot, less is asked than the file does.
//!
//! **Who may lie**: whoever wrote the file. None of these formats is believed by a verifier; a person
//! converts one, and signs the manifest that comes of it.

use std::fmt;

use bstr::{BString, ByteSlice};

use crate::hex;
use crate::manifest::{BootExpectations, BufferExpectations, FileDigest, FileEntry, StaticPcrs};

pub mod corim;
mod device_mapper;
pub mod keylime;
pub mod refstate;
pub mod sbom;

/// Reference values that were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Name of the image, if the file has one.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Files with their SHA-256 digests, in any order.
    pub files: Vec<FileEntry>,
    /// Globs of paths that are not judged.
    pub exclusions: Vec<String>,
    /// Values that boot PCRs may have.
    pub pcrs: StaticPcrs,
    /// What the boot event log must show.
    pub boot: BootExpectations,
    /// Measured buffers.
    pub buffers: BufferExpectations,
    /// What the manifest cannot say, in words.
    pub left_out: Vec<String>,
}

impl Imported {
    /// Notes how many of something were left out, if any were.
    fn leave_out(&mut self, count: usize, what: &str) {
        if count > 0 {
            self.left_out.push(format!("{count} {what}"));
        }
    }

    /// Names the members of `place` that are not among `known`; nothing, if it is no object.
    fn leave_out_unknown(&mut self, place: &Place<'_>, known: &[&str]) {
        let members = place.value.as_object().into_iter().flatten();
        for (name, value) in members {
            if !known.contains(&name.as_str()) && !value.is_null() {
                self.left_out
                    .push(format!("{}.{name}, which is not known here", place.at));
            }
        }
    }

    /// Something must have come of it: a file of another kind has none of what we look for.
    fn not_empty(self, at: &str) -> Result<Self, ConvertError> {
        let none = self.files.is_empty() && self.exclusions.is_empty() && self.pcrs.is_empty();
        if none && self.buffers.is_empty() {
            return Err(ConvertError::new(
                at,
                "no file with a SHA-256 digest, so there is nothing to convert",
            ));
        }
        Ok(self)
    }
}

/// Where a file is not what it should be, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvertError {
    /// A path such as `$.files[3].checksums`, `line 7, column 2`, or `offset 91`.
    pub at: String,
    /// What is wrong there.
    pub what: String,
}

impl ConvertError {
    fn new(at: impl Into<String>, what: impl Into<String>) -> Self {
        ConvertError {
            at: at.into(),
            what: what.into(),
        }
    }
}

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)
    }
}

impl std::error::Error for ConvertError {}

/// A place in a JSON document, with the path that leads there.
#[derive(Clone)]
struct Place<'v> {
    value: &'v serde_json::Value,
    at: String,
}

fn parse_json(bytes: &[u8]) -> Result<serde_json::Value, ConvertError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let at = format!("line {}, column {}", error.line(), error.column());
        ConvertError::new(at, format!("not JSON: {error}"))
    })
}

impl<'v> Place<'v> {
    fn root(value: &'v serde_json::Value) -> Self {
        Place {
            value,
            at: "$".to_owned(),
        }
    }

    fn wrong(&self, what: &str) -> ConvertError {
        ConvertError::new(self.at.clone(), what)
    }

    /// The member called `name`; one that is `null` is as good as absent.
    fn get(&self, name: &str) -> Option<Place<'v>> {
        let value = self.value.get(name).filter(|value| !value.is_null())?;
        Some(Place {
            value,
            at: format!("{}.{name}", self.at),
        })
    }

    fn must(&self, name: &str) -> Result<Place<'v>, ConvertError> {
        self.get(name)
            .ok_or_else(|| self.wrong(&format!("has no \"{name}\"")))
    }

    fn text(&self) -> Result<&'v str, ConvertError> {
        self.value
            .as_str()
            .ok_or_else(|| self.wrong("is not a string"))
    }

    fn items(&self) -> Result<Vec<Place<'v>>, ConvertError> {
        let array = self.value.as_array();
        let array = array.ok_or_else(|| self.wrong("is not an array"))?;
        Ok((0..)
            .zip(array)
            .map(|(index, value): (usize, _)| Place {
                value,
                at: format!("{}[{index}]", self.at),
            })
            .collect())
    }

    fn members(&self) -> Result<Vec<(&'v str, Place<'v>)>, ConvertError> {
        let object = self.value.as_object();
        let object = object.ok_or_else(|| self.wrong("is not an object"))?;
        Ok(object
            .iter()
            .map(|(name, value)| {
                let at = format!("{}[{name:?}]", self.at);
                (name.as_str(), Place { value, at })
            })
            .collect())
    }

    /// SHA-256 in hexadecimal.
    fn sha256(&self) -> Result<FileDigest, ConvertError> {
        digest(self.text()?).ok_or_else(|| self.wrong("is not a SHA-256 of 64 hex digits"))
    }
}

fn digest(hex: &str) -> Option<FileDigest> {
    hex::decode(hex)?.try_into().ok().map(FileDigest)
}

/// A path inside the image, however it is written: `./usr/bin/ls`, `usr/bin/ls`, `/usr/bin/ls`.
fn absolute(name: &str) -> Option<BString> {
    crate::manifest::sums::absolute(name.as_bytes()).ok()
}

/// A path as text, if it is.
fn path_text(path: &BString) -> Option<&str> {
    path.to_str().ok()
}

#[cfg(test)]
mod tests;
