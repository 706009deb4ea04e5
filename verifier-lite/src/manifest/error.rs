//! What can be wrong with a manifest or a policy, and where.

use std::fmt;
use std::path::{Path, PathBuf};

use bstr::BString;

/// Why a manifest or a policy was refused. It is always refused whole.
#[derive(Debug)]
#[non_exhaustive]
pub enum Fault {
    /// Could not be read at all.
    Io(std::io::Error),
    /// Ends in the middle of an item.
    Truncated,
    /// Goes on after its end.
    TrailingBytes,
    /// Larger than this many bytes.
    Oversize(usize),
    /// More items than a manifest may have.
    TooMany(&'static str),
    /// Well-formed, but not in the one deterministic encoding (RFC 8949, 4.2.1).
    NotCanonical,
    /// Something else where this should be.
    Expected(&'static str),
    /// A map key that this version does not know.
    UnknownKey(u64),
    /// A map key that must be there is not.
    MissingKey(&'static str),
    /// A map key occurs twice.
    DuplicateKey(u64),
    /// Made for another version of this software.
    UnsupportedFormat(u64),
    /// A hash algorithm that this version cannot compare.
    UnsupportedHash(i64),
    /// A `COSE_Sign1`, but of something else than this content type.
    AnotherKind(&'static str),
    /// Name or version is empty, too long, or has control characters.
    BadLabel(&'static str),
    /// A path occurs twice.
    DuplicatePath(BString),
    /// A path comes after one that sorts behind it.
    UnsortedPath(BString),
    /// Not a path that a kernel would log.
    BadPath(BString, &'static str),
    /// A digest that is not 32 bytes long.
    BadDigestLength(BString, usize),
    /// A file without a digest.
    NoDigest(BString),
    /// Digests of one file that are unsorted or occur twice.
    UnsortedDigests(BString),
    /// An exclusion that is no glob.
    BadGlob(String, String),
    /// PCR values that no TPM could have.
    BadPcr,
    /// Boot expectations that no boot could meet.
    BadBoot(&'static str),
    /// Expectations on buffers that no buffer could meet.
    BadBuffer(&'static str),
    /// Not the JSON of a policy: what, and in which line and column.
    Json(String),
    /// A policy that contradicts itself or says something out of range.
    BadPolicy(&'static str),
    /// A reason that a policy may not weigh, and why.
    BadWeight(String, &'static str),
    /// Signed by nobody that the caller trusts.
    UnknownSigner([u8; 8]),
    /// Claims a signer that did not sign these bytes.
    WrongSignature,
    /// The key could not sign.
    CannotSign,
}

/// A manifest or policy that was refused: which file, where in it, and why.
#[derive(Debug)]
pub struct ManifestError {
    file: Option<PathBuf>,
    offset: Option<u64>,
    fault: Fault,
}

impl ManifestError {
    pub(crate) fn at(offset: usize, fault: Fault) -> Self {
        Self {
            file: None,
            offset: Some(offset as u64),
            fault,
        }
    }

    /// The same error, `by` bytes further on: what was parsed lies inside something else.
    pub(crate) fn shifted(mut self, by: usize) -> Self {
        self.offset = self.offset.map(|offset| offset + by as u64);
        self
    }

    /// The same error, naming the file it is about.
    #[must_use]
    pub fn in_file(mut self, file: &Path) -> Self {
        self.file = Some(file.to_owned());
        self
    }

    /// What is wrong.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }

    /// Byte in the file at which it is wrong, where one byte can be named.
    pub fn offset(&self) -> Option<u64> {
        self.offset
    }
}

impl From<Fault> for ManifestError {
    fn from(fault: Fault) -> Self {
        Self {
            file: None,
            offset: None,
            fault,
        }
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}: ", file.display())?;
        }
        if let Some(offset) = self.offset {
            write!(f, "at byte {offset}: ")?;
        }
        write!(f, "{}", self.fault)
    }
}

impl std::error::Error for ManifestError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.fault {
            Fault::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Truncated => f.write_str("the file is truncated"),
            Self::TrailingBytes => f.write_str("bytes follow after its end"),
            Self::Oversize(max) => write!(f, "larger than {max} bytes"),
            Self::TooMany(what) => write!(f, "too many {what}"),
            Self::NotCanonical => {
                f.write_str("not in deterministic encoding (RFC 8949, section 4.2.1)")
            }
            Self::Expected(what) => write!(f, "expected {what}"),
            Self::UnknownKey(key) => write!(
                f,
                "key {key} is not known to this version: made by a newer motectl?"
            ),
            Self::MissingKey(what) => write!(f, "{what} is missing"),
            Self::DuplicateKey(key) => write!(f, "key {key} occurs twice"),
            Self::UnsupportedFormat(version) => write!(
                f,
                "format {version} is not known to this version (it knows 1): \
                 upgrade the verifier, or build the file with this motectl"
            ),
            Self::UnsupportedHash(alg) => write!(f, "hash algorithm {alg} is not supported"),
            Self::AnotherKind(kind) => write!(f, "a signed object, but not of type {kind}"),
            Self::Json(why) => f.write_str(why),
            Self::BadPolicy(why) => f.write_str(why),
            Self::BadWeight(token, why) => write!(f, "reason {token:?}: {why}"),
            Self::BadLabel(field) => write!(
                f,
                "{field} must have 1 to {} bytes and no control characters",
                super::MAX_LABEL
            ),
            Self::DuplicatePath(path) => write!(f, "{path:?} occurs twice"),
            Self::UnsortedPath(path) => write!(f, "{path:?} is out of order"),
            Self::BadPath(path, why) => write!(f, "path {path:?} {why}"),
            Self::BadDigestLength(path, length) => {
                write!(f, "a digest of {path:?} has {length} bytes instead of 32")
            }
            Self::NoDigest(path) => write!(f, "{path:?} has no digest"),
            Self::UnsortedDigests(path) => {
                write!(f, "the digests of {path:?} are out of order or repeated")
            }
            Self::BadGlob(glob, why) => write!(f, "exclusion {glob:?}: {why}"),
            Self::BadPcr => f.write_str(
                "static PCR values: need PCR 0 to 23, at least one value each, \
                 of the size of their bank",
            ),
            Self::BadBuffer(why) => write!(f, "measured buffers: {why}"),
            Self::BadBoot(why) => write!(f, "boot expectations: {why}"),
            Self::UnknownSigner(kid) => {
                f.write_str("signed by key ")?;
                crate::hex::write(f, kid)?;
                f.write_str(", which is none of the trusted keys")
            }
            Self::WrongSignature => {
                f.write_str("the signature does not fit: changed after it was signed")
            }
            Self::CannotSign => f.write_str("the key could not sign"),
        }
    }
}
