//! Template data, field by field.
//!
//! Each field is a u32 length and so many bytes. Which fields there are, a template's format
//! string says (`d-ng|n-ng|sig`); the list carries a template's name or that string itself.
//!
//! # Who may lie: the label
//!
//! A PCR covers template data, lengths included, and **not the name of the template**: whoever holds
//! the list may label true data as any other template, or with a format string of their own. Some
//! fields hold bytes that the writer of a file chooses (`xattrvalues`, `sig`, `modsig`), so a label
//! must never decide which bytes are the kernel's own digest:
//!
//! * A digest counts only as the **first** field, a name only as the **second**, as in every template
//!   of the kernel ([`TemplateData::is_anchored`]). The first field begins at byte 0 and its length is
//!   hashed, so where both end is not the label's to say.
//! * A buffer counts only as the third and **last** field, an appended signature's digest only in
//!   just the form `ima-modsig`. `evm-sig` (9 fields), where the third to sixth are free bytes, can
//!   then be labelled neither.
//! * `sig` and `evmsig` may stand anywhere: a signature proves itself, over the first field.
//!
//! What is left among the kernel's own templates:
//!
//! | true data | labelled | |
//! |---|---|---|
//! | `d-ng` first | `d-ngv2` first, and back | `sha256:` has one colon, `ima:sha256:` two; either is malformed as the other |
//! | lengths first | `ima` | its name would begin at byte 20 and hold the NULs of the next field's length: malformed |
//! | `ima` | any other | digest and lengths would be SHA-1 output, at least 96 bits of it prescribed, and the name's length needs NULs, which the name does not have |
//! | `ima-sig` | `ima-buf` | a signature begins with its type (3, 5 or 6): a buffer that does is judged as a file, by the appraisal |
//! | `ima-buf` | `ima-sig` | a buffer would have to be a signature over its own hash; and files weigh more |
//! | little-endian | big-endian, and back | a first field of 1 to 255 bytes would be one of 2^24 or more: truncated |
//!
//! Left to the operator: a kernel that was *told* (`ima_template_fmt`) to put a field of free bytes
//! first, or third and last. Such formats are not for attestation, and nothing in a list can show
//! that they are not in use.

use core::fmt;

use super::fields::{FieldKind, FieldValue, FileDigest};
use super::{Endian, IMA_DIGEST_SIZE, IMA_NAME_PADDED, IMA_TEMPLATE, Record, take};

/// Most fields of one template (`IMA_TEMPLATE_NUM_FIELDS_MAX`).
pub const MAX_FIELDS: usize = 15;

/// Longest field id (`IMA_TEMPLATE_FIELD_ID_MAX_LEN`).
pub const MAX_FIELD_ID: usize = 16;

/// The kernel's named templates and their format strings (`builtin_templates`).
pub const TEMPLATES: [(&str, &str); 8] = [
    (IMA_TEMPLATE, "d|n"),
    ("ima-ng", "d-ng|n-ng"),
    ("ima-sig", "d-ng|n-ng|sig"),
    ("ima-ngv2", "d-ngv2|n-ng"),
    ("ima-sigv2", "d-ngv2|n-ng|sig"),
    ("ima-buf", "d-ng|n-ng|buf"),
    ("ima-modsig", "d-ng|n-ng|sig|d-modsig|modsig"),
    (
        "evm-sig",
        "d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode",
    ),
];

/// The format string of the template with this name, which may be that string itself; `None` if it is
/// neither a [known template](TEMPLATES) nor has any known field.
pub fn format_of(template: &str) -> Option<&str> {
    let known = |id: &str| FieldKind::from_id(id) != FieldKind::Unknown;
    let named = TEMPLATES.iter().find(|(name, _)| *name == template);
    named
        .map(|(_, format)| *format)
        .or_else(|| template.split('|').any(known).then_some(template))
}

/// The kernel's template that this data would have, by its form alone: what to call a record that
/// came under a label that need not be true. `None`: of no template of the kernel, or of more than one.
///
/// ```
/// use mote_schemas::ima::{Endian, TemplateWriter, template_of};
///
/// let mut buf = [0; 128];
/// let mut w = TemplateWriter::new(Endian::Little, &mut buf);
/// w.digest("sha256", &[0xAB; 32])?;
/// w.text(b"/usr/bin/true")?;
/// assert_eq!(template_of(w.finish(), Endian::Little), Some("ima-ng"));
/// # Ok::<(), mote_schemas::ima::RecordError>(())
/// ```
pub fn template_of(data: &[u8], endian: Endian) -> Option<&'static str> {
    TEMPLATES.iter().map(|(name, _)| *name).find(|name| {
        TemplateData::parse(name, data, endian).is_ok_and(|parsed| {
            let third = parsed.fields().nth(2).map_or(&[][..], |field| field.raw);
            let signed = third.is_empty() || is_signature(third);
            match *name {
                // Nothing in it tells where a field ends.
                IMA_TEMPLATE => false,
                "ima-buf" => parsed.is_anchored() && !signed,
                "evm-sig" => parsed.is_anchored(),
                _ => parsed.is_anchored() && signed,
            }
        })
    })
}

/// Whether bytes may be those of a `sig` or `evmsig` field, which begin with their type: the kernel
/// puts no other attribute there (`ima_eventsig_init`).
pub fn is_signature(field: &[u8]) -> bool {
    // EVM_IMA_XATTR_DIGSIG, EVM_XATTR_PORTABLE_DIGSIG, IMA_VERITY_DIGSIG
    matches!(field.first(), Some(3 | 5 | 6))
}

/// What is wrong with template data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateFault {
    /// The data ends inside a field.
    Truncated,
    /// A field does not have the form that its id stands for.
    Malformed(FieldKind),
    /// More data than the format string has fields, or more fields than any template may have.
    TooManyFields,
    /// The format string has an empty field id, or one that is too long.
    FieldId,
}

/// Template data that does not fit its template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// Number of the field, counted from 0.
    pub field: usize,
    /// Offset of the field, in bytes from the start of the data.
    pub offset: usize,
    /// What is wrong.
    pub fault: TemplateFault,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "template data, field {} at offset {}: ",
            self.field, self.offset
        )?;
        match self.fault {
            TemplateFault::Truncated => f.write_str("data ends inside the field"),
            TemplateFault::Malformed(kind) => {
                write!(f, "not a {} field", kind.id().unwrap_or("known"))
            }
            TemplateFault::TooManyFields => f.write_str("more fields than the template has"),
            TemplateFault::FieldId => f.write_str("bad field id in the format string"),
        }
    }
}

impl core::error::Error for TemplateError {}

/// One field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its id in the format string; empty if the template is unknown.
    pub id: &'a str,
    /// What the id stands for.
    pub kind: FieldKind,
    /// Its bytes.
    pub raw: &'a [u8],
    /// What they say.
    pub value: FieldValue<'a>,
}

/// Template data of which every field was found and well-formed.
#[derive(Clone, Copy, Debug)]
pub struct TemplateData<'a> {
    format: Option<&'a str>,
    old_layout: bool,
    data: &'a [u8],
    endian: Endian,
}

impl<'a> TemplateData<'a> {
    /// Looks into a record of a list with this byte order.
    pub fn of(record: &Record<'a>, endian: Endian) -> Result<Self, TemplateError> {
        Self::parse(record.template_name, record.template_data, endian)
    }

    /// Looks into the data of the template with this name or format string.
    ///
    /// A name that is neither a [known template](TEMPLATES) nor a format string with at least one
    /// known field is no error: the fields are walked by their lengths and stay
    /// [`FieldKind::Unknown`], see [`Self::is_known`].
    pub fn parse(template: &'a str, data: &'a [u8], endian: Endian) -> Result<Self, TemplateError> {
        let parsed = Self {
            format: format_of(template),
            old_layout: template == IMA_TEMPLATE,
            data,
            endian,
        };
        let mut walk = parsed.walk();
        while walk.step()?.is_some() {}
        Ok(parsed)
    }

    /// Whether the template's fields are known. If not, nothing here tells a digest from a name.
    pub const fn is_known(&self) -> bool {
        self.format.is_some()
    }

    /// The format string, such as `d-ng|n-ng|sig`; `None` if the template is unknown.
    pub const fn format(&self) -> Option<&'a str> {
        self.format
    }

    /// The fields, in order.
    pub fn fields(&self) -> Fields<'a> {
        Fields(self.walk())
    }

    /// The first field of this kind, if the template has one.
    pub fn field(&self, kind: FieldKind) -> Option<Field<'a>> {
        self.fields().find(|field| field.kind == kind)
    }

    /// Whether the first field is a digest and the second a name. Otherwise neither is one, whatever
    /// the format string calls it: see the module's head.
    pub fn is_anchored(&self) -> bool {
        let mut kinds = self.fields().map(|field| field.kind);
        kinds.next().is_some_and(FieldKind::is_file_digest)
            && kinds.next().is_some_and(FieldKind::is_name)
    }

    /// Digest of the file, or of the buffer: `d-ng`, `d-ngv2` or `d`, if that is the first field.
    pub fn file_digest(&self) -> Option<FileDigest<'a>> {
        match self.fields().next()? {
            Field { kind, value, .. } if kind.is_file_digest() => value.digest(),
            _ => None,
        }
    }

    /// The path, or the name of what was measured, if that is the second field; without NUL, spaces
    /// turned into underscores.
    pub fn name(&self) -> Option<&'a [u8]> {
        match self.fields().nth(1)? {
            Field {
                kind,
                value: FieldValue::Text(name),
                ..
            } if kind.is_name() => Some(name),
            _ => None,
        }
    }

    /// The file's signature (`sig`), if there is one. Whoever wrote the file wrote it.
    pub fn signature(&self) -> Option<&'a [u8]> {
        self.bytes(FieldKind::Sig)
    }

    /// The measured buffer, if there is one: the field `buf`, third and last as in `ima-buf`.
    pub fn buffer(&self) -> Option<&'a [u8]> {
        let buffer = self.has_form(&[FieldKind::Buf]);
        self.bytes(FieldKind::Buf).filter(|_| buffer)
    }

    /// The appended signature (`modsig`, PKCS#7) and the digest that it covers (`d-modsig`), if there
    /// is one, in just the form of `ima-modsig`.
    pub fn appended_signature(&self) -> Option<(FileDigest<'a>, &'a [u8])> {
        let tail = [FieldKind::Sig, FieldKind::DigestModsig, FieldKind::Modsig];
        if !self.has_form(&tail) {
            return None;
        }
        let digest = self.field(FieldKind::DigestModsig)?.value.digest()?;
        Some((digest, self.bytes(FieldKind::Modsig)?))
    }

    /// Whether the fields are digest, name, and then just these.
    fn has_form(&self, tail: &[FieldKind]) -> bool {
        let kinds = self.fields().skip(2).map(|field| field.kind);
        self.is_anchored() && kinds.eq(tail.iter().copied())
    }

    fn bytes(&self, kind: FieldKind) -> Option<&'a [u8]> {
        self.field(kind)
            .map(|field| field.raw)
            .filter(|raw| !raw.is_empty())
    }

    fn walk(&self) -> Walk<'a> {
        Walk {
            known: self.format.is_some(),
            ids: self.format,
            old_layout: self.old_layout,
            rest: self.data,
            endian: self.endian,
            field: 0,
            offset: 0,
        }
    }
}

/// Fields of template data; see [`TemplateData::fields`].
#[derive(Clone, Debug)]
pub struct Fields<'a>(Walk<'a>);

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        // TemplateData exists only if the whole walk succeeds.
        self.0.step().ok().flatten()
    }
}

/// A walk along the fields; ends for good at the first fault.
#[derive(Clone, Debug)]
struct Walk<'a> {
    known: bool,
    old_layout: bool,
    // Ids that are still to come. None after the last, and throughout an unknown template.
    ids: Option<&'a str>,
    rest: &'a [u8],
    endian: Endian,
    field: usize,
    offset: usize,
}

impl<'a> Walk<'a> {
    fn step(&mut self) -> Result<Option<Field<'a>>, TemplateError> {
        let at = TemplateError {
            field: self.field,
            offset: self.offset,
            fault: TemplateFault::Truncated,
        };
        self.try_step()
            .map_err(|fault| TemplateError { fault, ..at })
    }

    fn try_step(&mut self) -> Result<Option<Field<'a>>, TemplateFault> {
        let id = match (self.known, self.ids) {
            (true, Some(ids)) => {
                let (id, rest) = match ids.split_once('|') {
                    Some((id, rest)) => (id, Some(rest)),
                    None => (ids, None),
                };
                if id.is_empty() || id.len() > MAX_FIELD_ID {
                    return Err(TemplateFault::FieldId);
                }
                self.ids = rest;
                id
            }
            _ if self.rest.is_empty() => return Ok(None),
            (true, None) => return Err(TemplateFault::TooManyFields),
            (false, _) => "",
        };
        if self.field == MAX_FIELDS {
            return Err(TemplateFault::TooManyFields);
        }
        let kind = FieldKind::from_id(id);
        let before = self.rest.len();
        let raw = self.take_raw().ok_or(TemplateFault::Truncated)?;
        let value = if self.old_layout && kind == FieldKind::Name {
            // The only string that the list shows without its NUL; `IMA_EVENT_NAME_LEN_MAX`.
            Some(FieldValue::Text(raw)).filter(|_| raw.len() < IMA_NAME_PADDED && !raw.contains(&0))
        } else {
            kind.read(raw, self.endian)
        };
        self.field += 1;
        self.offset += before - self.rest.len();
        Ok(Some(Field {
            id,
            kind,
            raw,
            value: value.ok_or(TemplateFault::Malformed(kind))?,
        }))
    }

    fn take_raw(&mut self) -> Option<&'a [u8]> {
        let len = if self.old_layout && self.field == 0 {
            IMA_DIGEST_SIZE
        } else {
            self.endian.u32(take(&mut self.rest)?) as usize
        };
        let (raw, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(raw)
    }
}
