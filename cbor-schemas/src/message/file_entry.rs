//! The record of a file in short: digest and path, without the template around them.
//!
//! Only for records that come back byte for byte: templates ima-ng and ima-sig, PCR 10, no
//! violation, integers little-endian, a path of at most 255 bytes. Everything else travels as it is.

use super::path_code::{self, PreviousPath};
use super::{Entry, EntryError, IMA_PCR};
use crate::ima::{Endian, TemplateWriter};
use crate::limits::MAX_IMA_TEMPLATE_DATA;

/// What a kind of file entry stands for. Its id on the wire is [`FIRST_KIND`] more than its index
/// here. Append only.
const KINDS: [(&str, &str, usize); 8] = [
    ("ima-ng", "sha256", 32),
    ("ima-sig", "sha256", 32),
    ("ima-ng", "sha1", 20),
    ("ima-sig", "sha1", 20),
    ("ima-ng", "sha384", 48),
    ("ima-sig", "sha384", 48),
    ("ima-ng", "sha512", 64),
    ("ima-sig", "sha512", 64),
];

/// Ids below are those of templates.
pub(super) const FIRST_KIND: u8 = 8;

/// Room for the body of a file entry: the longest digest, and a path of which every byte is escaped.
pub(super) const MAX_BODY: usize = 64 + 1 + 2 * path_code::MAX_CODED;

/// A file entry as it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileEntry<'a> {
    kind: u8,
    /// Digest; bytes shared with the path before; code of the rest.
    body: &'a [u8],
    /// The file's signature.
    signature: &'a [u8],
}

/// Takes a field of `ima_write_template_field_data` off `data`.
fn field<'a>(data: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, rest) = data.split_first_chunk()?;
    let (field, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    *data = rest;
    Some(field)
}

impl<'a> FileEntry<'a> {
    /// `entry` in short, its body written to `room`; `None` when it would not come back as it is.
    pub(super) fn of<'r>(
        entry: &Entry<'r>,
        previous: &PreviousPath,
        room: &'r mut [u8; MAX_BODY],
    ) -> Option<(FileEntry<'r>, &'r [u8])> {
        if entry.pcr != IMA_PCR || entry.violation {
            return None;
        }
        let mut data = entry.data;
        let digest = field(&mut data)?;
        let path = field(&mut data)?.strip_suffix(&[0])?;
        let signature = match entry.template {
            "ima-sig" => field(&mut data)?,
            _ => &[],
        };
        if !data.is_empty() || path.is_empty() || path.len() > path_code::MAX_CODED {
            return None;
        }
        let (kind, digest) = KINDS.iter().enumerate().find_map(|(kind, known)| {
            let (template, alg, len) = *known;
            let bytes = digest.strip_prefix(alg.as_bytes())?.strip_prefix(b":\0")?;
            (template == entry.template && bytes.len() == len).then_some((kind, bytes))
        })?;
        let shared = previous.shared(path);
        let (head, code) = room.split_at_mut(digest.len() + 1);
        head[..digest.len()].copy_from_slice(digest);
        head[digest.len()] = shared;
        let len = path_code::encode(&path[usize::from(shared)..], code)?;
        let file = FileEntry {
            kind: kind as u8,
            body: &room[..digest.len() + 1 + len],
            signature,
        };
        Some((file, path))
    }

    pub(super) fn from_parts(id: u8, body: &'a [u8], signature: &'a [u8]) -> Option<Self> {
        let kind = id.checked_sub(FIRST_KIND)?;
        let (template, _, digest_len) = KINDS.get(usize::from(kind))?;
        let fits = body.len() > *digest_len && (signature.is_empty() || *template == "ima-sig");
        fits.then_some(Self {
            kind,
            body,
            signature,
        })
    }

    pub(super) fn parts(&self) -> (u8, &'a [u8], &'a [u8]) {
        (self.kind + FIRST_KIND, self.body, self.signature)
    }

    /// The whole record, its template data written to `room` (64 kB are always enough). `previous` is
    /// the path of the last file entry of the message, and becomes this one's.
    pub fn expand<'r>(
        &self,
        previous: &mut PreviousPath,
        room: &'r mut [u8],
    ) -> Result<Entry<'r>, EntryError> {
        // `from_parts` has seen the kind and that the body holds digest and shared length.
        let (template, alg, digest_len) = KINDS[usize::from(self.kind)];
        let (digest, rest) = self.body.split_at(digest_len);
        let (shared, code) = rest.split_first().ok_or(EntryError::Path)?;
        let path = previous.follow(*shared, code).ok_or(EntryError::Path)?;
        let room_len = room.len().min(MAX_IMA_TEMPLATE_DATA);
        let mut writer = TemplateWriter::new(Endian::Little, &mut room[..room_len]);
        let written = writer
            .digest(alg, digest)
            .and_then(|()| writer.text(path))
            .and_then(|()| match template {
                "ima-sig" => writer.bytes(self.signature),
                _ => Ok(()),
            });
        written.map_err(|_| EntryError::TooLong)?;
        Ok(Entry {
            template,
            data: writer.finish(),
            pcr: IMA_PCR,
            violation: false,
        })
    }
}
