//! The kernel's IMA measurement list (Linux `security/integrity/ima`; the layout is that of
//! `ima_measurements_show` in `ima_fs.c`).
//!
//! [`ListParser`] cuts the binary list into [`Record`]s as bytes arrive; [`TemplateData`] looks
//! into one record's data; [`TemplateWriter`] makes such data. What IMA extends into a PCR is not
//! what the list shows: see [`Record::extend_digest`].
//!
//! The list comes from a device that may be compromised. Until its records have been replayed to a
//! quoted PCR every byte here is the attacker's.

mod fields;
mod list;
mod record;
mod template;
mod writer;

pub use fields::{FieldKind, FieldValue, FileDigest};
pub use list::{
    Length, ListError, ListFault, ListFormat, ListParser, MAX_HEADER, MAX_RECORD, Step,
};
pub use record::{Record, RecordError};
pub use template::{
    Field, Fields, MAX_FIELD_ID, MAX_FIELDS, TEMPLATES, TemplateData, TemplateError, TemplateFault,
    format_of, is_signature, template_of,
};
pub use writer::TemplateWriter;

/// Byte order of the integers in a list.
///
/// Native to the device's kernel; little-endian wherever it was booted with `ima_canonical_fmt`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Endian {
    /// Little-endian.
    #[default]
    Little,
    /// Big-endian.
    Big,
}

impl Endian {
    /// Of the machine that this runs on.
    pub const NATIVE: Self = if cfg!(target_endian = "big") {
        Self::Big
    } else {
        Self::Little
    };

    /// Reads a 32-bit integer.
    pub const fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    /// Writes a 32-bit integer.
    pub const fn u32_bytes(self, v: u32) -> [u8; 4] {
        match self {
            Self::Little => v.to_le_bytes(),
            Self::Big => v.to_be_bytes(),
        }
    }
}

/// Name of the oldest template, whose data has no length of its own (`IMA_TEMPLATE_IMA_NAME`).
pub const IMA_TEMPLATE: &str = "ima";

/// Length of the file digest in the `ima` template: SHA-1, or MD5 padded (`IMA_DIGEST_SIZE`).
const IMA_DIGEST_SIZE: usize = 20;

/// What the `ima` template's name is padded to before it is hashed (`IMA_EVENT_NAME_LEN_MAX + 1`).
const IMA_NAME_PADDED: usize = 256;

/// Takes the first `N` bytes off `bytes`.
fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<[u8; N]> {
    let (head, tail): (&'a [u8; N], _) = bytes.split_first_chunk()?;
    *bytes = tail;
    Some(*head)
}
