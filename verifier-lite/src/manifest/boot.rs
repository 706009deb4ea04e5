//! What a manifest expects of the boot: the part of measured boot that an image build knows.
//!
//! Digests of events are compared in the bank that the quote certifies, so their length tells their
//! algorithm. Nothing here names an event's type, since no PCR covers that.

use std::collections::BTreeMap;

use mote_schemas::bootlog::Guid;
use mote_schemas::limits::PCR_COUNT;
use mote_schemas::tpm::{Digest, HashAlg};

use super::FileDigest;
use super::error::Fault;

/// Most values in any one list.
pub const MAX_BOOT_VALUES: usize = 4096;

/// Longest command line pattern, in bytes: `COMMAND_LINE_SIZE` of the largest architectures.
pub const MAX_COMMAND_LINE: usize = 4096;

/// A UEFI variable with keys of Secure Boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyVariable {
    /// Platform key: who may change the others.
    Pk,
    /// Key exchange keys: who may change `db` and `dbx`.
    Kek,
    /// What may run.
    Db,
    /// What must not.
    Dbx,
}

impl KeyVariable {
    /// All, in the order of their keys in the manifest.
    pub const ALL: [Self; 4] = [Self::Pk, Self::Kek, Self::Db, Self::Dbx];

    /// The variable's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pk => "PK",
            Self::Kek => "KEK",
            Self::Db => "db",
            Self::Dbx => "dbx",
        }
    }

    /// Who owns the name (UEFI 2.10, 32.3 and 32.6.1).
    pub const fn guid(self) -> Guid {
        match self {
            Self::Pk | Self::Kek => Guid::GLOBAL_VARIABLE,
            Self::Db | Self::Dbx => Guid::IMAGE_SECURITY_DATABASE,
        }
    }

    /// The variable with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }
}

/// Expectations on a boot event log. An empty list expects nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootExpectations {
    /// UEFI Secure Boot must have been on.
    pub secure_boot: bool,
    /// SHA-256 of what each of these variables may contain.
    pub keys: BTreeMap<KeyVariable, Vec<FileDigest>>,
    /// [Signatures](mote_schemas::bootlog::Signature::digest) of which these variables may hold any, and no
    /// other. None: the variable must be empty.
    pub allowed_signatures: BTreeMap<KeyVariable, Vec<FileDigest>>,
    /// Signatures that these variables must hold, whatever else they do.
    pub required_signatures: BTreeMap<KeyVariable, Vec<FileDigest>>,
    /// Authenticode digests of what the firmware may start. PCR 4 must hold nothing else.
    pub applications: Vec<Digest>,
    /// Digests of kernels of which one must have been loaded.
    pub kernels: Vec<Digest>,
    /// Digests of initrds of which one must have been loaded.
    pub initrds: Vec<Digest>,
    /// Command lines of which one must have been given; `*` stands for any characters, `?` for one.
    pub command_lines: Vec<String>,
    /// All that may be extended into a PCR, besides separators.
    pub events: BTreeMap<u8, Vec<Digest>>,
}

impl BootExpectations {
    /// Whether nothing is expected.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What either of the two allows, and what either demands.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.secure_boot |= other.secure_boot;
        for (mine, others) in [
            (&mut self.keys, other.keys),
            (&mut self.allowed_signatures, other.allowed_signatures),
            (&mut self.required_signatures, other.required_signatures),
        ] {
            for (key, digests) in others {
                mine.entry(key).or_default().extend(digests);
            }
        }
        self.applications.extend(other.applications);
        self.kernels.extend(other.kernels);
        self.initrds.extend(other.initrds);
        self.command_lines.extend(other.command_lines);
        for (pcr, digests) in other.events {
            self.events.entry(pcr).or_default().extend(digests);
        }
        self
    }

    /// Sorts all lists and takes out what is there twice.
    pub(super) fn sort(&mut self) {
        let digests = [&mut self.applications, &mut self.kernels, &mut self.initrds];
        for list in digests.into_iter().chain(self.events.values_mut()) {
            list.sort_unstable();
            list.dedup();
        }
        let of_variables = self
            .keys
            .values_mut()
            .chain(self.allowed_signatures.values_mut())
            .chain(self.required_signatures.values_mut());
        for list in of_variables {
            list.sort_unstable();
            list.dedup();
        }
        self.command_lines.sort_unstable();
        self.command_lines.dedup();
    }

    pub(super) fn check(&self) -> Result<(), Fault> {
        let lists = [&self.applications, &self.kernels, &self.initrds];
        let events = self.events.values();
        let of_variables = || {
            let signatures = self.allowed_signatures.values();
            self.keys
                .values()
                .chain(signatures)
                .chain(self.required_signatures.values())
        };
        let too_many = lists
            .into_iter()
            .chain(events)
            .map(Vec::len)
            .chain(of_variables().map(Vec::len))
            .any(|len| len > MAX_BOOT_VALUES);
        if too_many || self.command_lines.len() > MAX_BOOT_VALUES {
            return Err(Fault::TooMany("boot values"));
        }
        if self.keys.values().any(Vec::is_empty)
            || self.required_signatures.values().any(Vec::is_empty)
        {
            return Err(Fault::BadBoot("a list of Secure Boot keys is empty"));
        }
        let pcr_exists = |pcr: &u8| usize::from(*pcr) < PCR_COUNT;
        if !self.events.keys().all(pcr_exists) || self.events.values().any(Vec::is_empty) {
            return Err(Fault::BadBoot("events need PCR 0 to 23 and a digest each"));
        }
        let sound = |line: &String| {
            !line.is_empty()
                && line.len() <= MAX_COMMAND_LINE
                && !line.chars().any(char::is_control)
        };
        if !self.command_lines.iter().all(sound) {
            return Err(Fault::BadBoot(
                "a command line must have 1 to 4096 bytes and no control characters",
            ));
        }
        Ok(())
    }
}

/// The digest in these bytes: their number tells the algorithm.
pub(super) fn event_digest(bytes: &[u8]) -> Option<Digest> {
    HashAlg::ALL
        .into_iter()
        .find_map(|alg| Digest::new(alg, bytes))
}
