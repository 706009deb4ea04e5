//! What event data looks like (PC Client Platform Firmware Profile 1.06, 10.2.4 to 10.4.5; UEFI 2.10,
//! 5.3 for the partition table; Linux `drivers/firmware/efi/libstub/efi-stub-helper.c` for its tags).

use core::fmt;

use super::replay::startup_locality;
use super::text::ascii;
use super::{EventType, Utf16};

/// Where in memory the bytes of a GUID's text are.
const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];

/// A GUID, as in memory: the first three fields little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// `EFI_GLOBAL_VARIABLE`: `SecureBoot`, `PK`, `KEK`, boot options.
    pub const GLOBAL_VARIABLE: Self = Self([
        0x61, 0xDF, 0xE4, 0x8B, 0xCA, 0x93, 0xD2, 0x11, 0xAA, 0x0D, 0x00, 0xE0, 0x98, 0x03, 0x2B,
        0x8C,
    ]);

    /// `EFI_IMAGE_SECURITY_DATABASE_GUID`: `db`, `dbx`.
    pub const IMAGE_SECURITY_DATABASE: Self = Self([
        0xCB, 0xB2, 0x19, 0xD7, 0x3A, 0x3D, 0x96, 0x45, 0xA3, 0xBC, 0xDA, 0xD0, 0x0E, 0x67, 0x65,
        0x6F,
    ]);

    /// `EFI_CERT_X509_GUID`: a certificate, in DER.
    pub const CERT_X509: Self = Self([
        0xA1, 0x59, 0xC0, 0xA5, 0xE4, 0x94, 0xA7, 0x4A, 0x87, 0xB5, 0xAB, 0x15, 0x5C, 0x2B, 0xF0,
        0x72,
    ]);

    /// `EFI_CERT_SHA256_GUID`: the Authenticode digest of an image.
    pub const CERT_SHA256: Self = Self([
        0x26, 0x16, 0xC4, 0xC1, 0x4C, 0x50, 0x92, 0x40, 0xAC, 0xA9, 0x41, 0xF9, 0x36, 0x93, 0x43,
        0x28,
    ]);

    /// Of its text: five groups of hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let (mut guid, mut groups) = ([0; 16], text.split('-'));
        for field in [
            &ORDER[..4],
            &ORDER[4..6],
            &ORDER[6..8],
            &ORDER[8..10],
            &ORDER[10..],
        ] {
            let group = groups.next()?;
            let digits = group.bytes().all(|digit| digit.is_ascii_hexdigit());
            (digits && group.len() == 2 * field.len()).then_some(())?;
            for (n, at) in field.iter().enumerate() {
                guid[*at] = u8::from_str_radix(&group[2 * n..2 * n + 2], 16).ok()?;
            }
        }
        groups.next().is_none().then_some(Self(guid))
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, at) in ORDER.into_iter().enumerate() {
            if matches!(n, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{:02x}", self.0[at])?;
        }
        Ok(())
    }
}

/// `UEFI_VARIABLE_DATA`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable<'a> {
    /// Who owns the name.
    pub guid: Guid,
    /// Its name.
    pub name: Utf16<'a>,
    /// Its value.
    pub value: &'a [u8],
}

impl<'a> Variable<'a> {
    /// Reads event data as a variable: all of it.
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        let mut rest = data;
        let guid = Guid(take(&mut rest)?);
        let name_len = usize::try_from(u64::from_le_bytes(take(&mut rest)?)).ok()?;
        let value_len = usize::try_from(u64::from_le_bytes(take(&mut rest)?)).ok()?;
        let (name, value) = rest.split_at_checked(name_len.checked_mul(2)?)?;
        (value.len() == value_len).then_some(())?;
        Some(Self {
            guid,
            name: Utf16::new(name)?,
            value,
        })
    }
}

/// `UEFI_IMAGE_LOAD_EVENT`. Its digest is the image's Authenticode digest, so none of this is covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLoad<'a> {
    /// Where in memory.
    pub location: u64,
    /// Length in memory, in bytes.
    pub length: u64,
    /// `EFI_DEVICE_PATH_PROTOCOL`.
    pub device_path: &'a [u8],
}

impl<'a> ImageLoad<'a> {
    fn parse(data: &'a [u8]) -> Option<Self> {
        let mut rest = data;
        let location = u64::from_le_bytes(take(&mut rest)?);
        let length = u64::from_le_bytes(take(&mut rest)?);
        let _link_time = u64::from_le_bytes(take(&mut rest)?);
        let path_len = usize::try_from(u64::from_le_bytes(take(&mut rest)?)).ok()?;
        (rest.len() == path_len).then_some(Self {
            location,
            length,
            device_path: rest,
        })
    }

    /// The file, if the device path names one (UEFI 2.10, 10.3.5.4: media, file path).
    pub fn file(&self) -> Option<Utf16<'a>> {
        let mut rest = self.device_path;
        let mut file = None;
        while let &[kind, subtype, low, high, ..] = rest {
            let len = usize::from(u16::from_le_bytes([low, high]));
            let (node, tail) = rest.split_at_checked(len.max(4))?;
            if (kind, subtype) == (4, 4) {
                file = Utf16::new(&node[4..]);
            }
            rest = tail;
        }
        file
    }
}

/// `TCG_PCClientTaggedEvent`. Linux's EFI stub tags what it loads, and the digest is of *that*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaggedEvent<'a> {
    /// The tag.
    pub id: u32,
    /// What it tags.
    pub data: &'a [u8],
}

impl TaggedEvent<'_> {
    /// Linux's EFI stub: the initrd (`INITRD_EVENT_TAG_ID`).
    pub const LINUX_INITRD: u32 = 0x8F3B_22EC;
    /// Linux's EFI stub: the command line, UTF-16 with its NUL (`LOAD_OPTIONS_EVENT_TAG_ID`).
    pub const LINUX_LOAD_OPTIONS: u32 = 0x8F3B_22ED;
}

/// `UEFI_GPT_DATA`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gpt<'a> {
    /// The disk.
    pub disk: Guid,
    entries: &'a [u8],
    entry_len: usize,
}

/// Bytes of `EFI_PARTITION_TABLE_HEADER`.
const GPT_HEADER: usize = 92;
/// Bytes of an `EFI_PARTITION_ENTRY` in front of its name.
const GPT_ENTRY_FIXED: usize = 56;

impl<'a> Gpt<'a> {
    fn parse(data: &'a [u8]) -> Option<Self> {
        let (header, rest) = data.split_at_checked(GPT_HEADER)?;
        header.starts_with(b"EFI PART").then_some(())?;
        let entry_len = u32::from_le_bytes(header[84..88].try_into().ok()?) as usize;
        let (count, entries) = rest.split_first_chunk()?;
        let count = usize::try_from(u64::from_le_bytes(*count)).ok()?;
        let whole = entry_len > GPT_ENTRY_FIXED && count.checked_mul(entry_len)? == entries.len();
        whole.then_some(Self {
            disk: Guid(header[56..72].try_into().ok()?),
            entries,
            entry_len,
        })
    }

    /// The partitions.
    pub fn partitions(&self) -> impl Iterator<Item = GptPartition<'a>> {
        self.entries
            .chunks_exact(self.entry_len)
            .filter_map(GptPartition::parse)
    }
}

/// `EFI_PARTITION_ENTRY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GptPartition<'a> {
    /// What kind of partition.
    pub kind: Guid,
    /// Which one.
    pub id: Guid,
    /// First block.
    pub first: u64,
    /// Last block.
    pub last: u64,
    /// Its name.
    pub name: Utf16<'a>,
}

impl<'a> GptPartition<'a> {
    fn parse(entry: &'a [u8]) -> Option<Self> {
        let mut rest = entry;
        let kind = Guid(take(&mut rest)?);
        let id = Guid(take(&mut rest)?);
        let first = u64::from_le_bytes(take(&mut rest)?);
        let last = u64::from_le_bytes(take(&mut rest)?);
        let _attributes: [u8; 8] = take(&mut rest)?;
        Some(Self {
            kind,
            id,
            first,
            last,
            name: Utf16::new(&rest[..rest.len() & !1])?,
        })
    }
}

/// A reading of event data. Only that: the type that chose it is nobody's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventData<'a> {
    /// The header of a crypto-agile log.
    SpecId,
    /// The locality that the TPM was started from.
    StartupLocality(u8),
    /// 0: the firmware is done; all ones: it failed (10.4.1, `EV_SEPARATOR`).
    Separator(u32),
    /// A UEFI variable, or the entry of one that let an image run.
    Variable(Variable<'a>),
    /// An image that was started.
    ImageLoad(ImageLoad<'a>),
    /// Something with a tag.
    Tagged(TaggedEvent<'a>),
    /// The partition table.
    Gpt(Gpt<'a>),
    /// Part of the firmware: where in memory, and its length.
    FirmwareBlob(u64, u64),
    /// ASCII text.
    Text(&'a str),
    /// UTF-16 text.
    Text16(Utf16<'a>),
    /// Anything else.
    Bytes(&'a [u8]),
}

impl<'a> EventData<'a> {
    pub(super) fn of(event_type: EventType, data: &'a [u8]) -> Self {
        let by_type = match event_type {
            EventType::NO_ACTION if data.starts_with(b"Spec ID Event") => Some(Self::SpecId),
            EventType::NO_ACTION => startup_locality(data).map(Self::StartupLocality),
            EventType::SEPARATOR => data
                .try_into()
                .ok()
                .map(|value| Self::Separator(u32::from_le_bytes(value))),
            EventType::EFI_VARIABLE_DRIVER_CONFIG
            | EventType::EFI_VARIABLE_BOOT
            | EventType::EFI_VARIABLE_BOOT2
            | EventType::EFI_VARIABLE_AUTHORITY => Variable::parse(data).map(Self::Variable),
            EventType::EFI_BOOT_SERVICES_APPLICATION
            | EventType::EFI_BOOT_SERVICES_DRIVER
            | EventType::EFI_RUNTIME_SERVICES_DRIVER => ImageLoad::parse(data).map(Self::ImageLoad),
            EventType::EVENT_TAG => tagged(data).map(Self::Tagged),
            EventType::EFI_GPT_EVENT => Gpt::parse(data).map(Self::Gpt),
            EventType::EFI_PLATFORM_FIRMWARE_BLOB => blob(data),
            EventType::S_CRTM_VERSION => Utf16::new(data).filter(Utf16::is_text).map(Self::Text16),
            _ => None,
        };
        by_type.unwrap_or_else(|| Self::of_any(data))
    }

    fn of_any(data: &'a [u8]) -> Self {
        // ASCII first: two letters of it are one printable CJK character.
        if let Some(text) = ascii(data) {
            return Self::Text(text);
        }
        let whole = |text: &Utf16<'_>| text.is_text() && text.as_bytes().len() + 2 >= data.len();
        match Utf16::new(data).filter(whole) {
            Some(text) => Self::Text16(text),
            None => Self::Bytes(data),
        }
    }
}

fn tagged(data: &[u8]) -> Option<TaggedEvent<'_>> {
    let mut rest = data;
    let id = u32::from_le_bytes(take(&mut rest)?);
    let len = u32::from_le_bytes(take(&mut rest)?) as usize;
    (rest.len() == len).then_some(TaggedEvent { id, data: rest })
}

fn blob(data: &[u8]) -> Option<EventData<'_>> {
    let mut rest = data;
    let base = u64::from_le_bytes(take(&mut rest)?);
    let len = u64::from_le_bytes(take(&mut rest)?);
    rest.is_empty()
        .then_some(EventData::FirmwareBlob(base, len))
}

pub(super) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = bytes.split_first_chunk()?;
    *bytes = tail;
    Some(*head)
}
