//! Evidence in a file (`cddl/evidence.cddl`), inside a wrapper ([`crate::cmw`]): a CBOR sequence, so that a device writes it as it reads its
//! logs and never holds one.
//!
//! All of it is the device's claim, as a message's is: the quote says what is true, once the verifier has
//! checked it against the nonce that it gave.

use minicbor::data::Type;
use minicbor::{Decode, Decoder, Encode, Encoder};
use sha2::{Digest, Sha256};

use crate::cbor::{Bytes, Text};
use crate::ima::Endian;
use crate::message::{DeviceKeys, FullQuote, PcrBanks};

/// Media type of an evidence file, as in a wrapper (`crate::cmw`).
pub const MEDIA_TYPE: &str = "application/vnd.mote.evidence+cbor-seq";

/// Shortest nonce, in bytes: what nobody has quoted by chance before.
pub const MIN_NONCE: usize = 8;

/// Longest nonce, in bytes: the longest hash.
pub const MAX_NONCE: usize = 64;

/// Most bytes of a log in one chunk. One record of the measurement list always fits.
pub const MAX_CHUNK: usize = 128 * 1024;

const _: () = assert!(MAX_CHUNK >= crate::ima::MAX_RECORD);

/// First field of the header: what the file is.
const MAGIC: &str = "mote-evidence";

/// The version that this crate writes and reads.
pub const VERSION: u8 = 1;

/// extraData of the quote (TPM2_Quote's qualifyingData) that answers this nonce in a file.
pub fn qualifying_data(nonce: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"mote/1 evidence");
    hash.update(nonce);
    hash.finalize().into()
}

/// First item: everything but the logs.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Header<'a> {
    /// What the file is.
    #[n(0)]
    pub magic: Magic,
    /// [`VERSION`].
    #[n(1)]
    pub version: u8,
    /// What the quote answers, by [`qualifying_data`].
    #[b(2)]
    pub nonce: Bytes<'a, MIN_NONCE, MAX_NONCE>,
    /// Whose evidence it is.
    #[b(3)]
    pub keys: DeviceKeys<'a>,
    /// The quote.
    #[b(4)]
    pub quote: FullQuote<'a>,
    /// The quoted PCR values, read after the quote.
    #[b(5)]
    pub pcrs: PcrBanks<'a>,
    /// Byte order of the measurement list.
    #[n(6)]
    pub endian: ListEndian,
    /// Name and version of the agent.
    #[b(7)]
    pub software: Option<Text<'a, 64>>,
}

/// The text that an evidence file begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Magic;

impl<C> Encode<C> for Magic {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(MAGIC)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Magic {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let at = d.position();
        if d.str()? == MAGIC {
            Ok(Self)
        } else {
            Err(minicbor::decode::Error::message("not an evidence file").at(at))
        }
    }
}

/// Byte order of the measurement list, as it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum ListEndian {
    /// Little-endian.
    #[n(0)]
    Little,
    /// Big-endian.
    #[n(1)]
    Big,
}

impl From<Endian> for ListEndian {
    fn from(endian: Endian) -> Self {
        match endian {
            Endian::Little => Self::Little,
            Endian::Big => Self::Big,
        }
    }
}

impl From<ListEndian> for Endian {
    fn from(endian: ListEndian) -> Self {
        match endian {
            ListEndian::Little => Self::Little,
            ListEndian::Big => Self::Big,
        }
    }
}

/// Any item after the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// The next bytes of the kernel's measurement list.
    Ima(Bytes<'a, 1, MAX_CHUNK>),
    /// The next bytes of the boot event log.
    Boot(Bytes<'a, 1, MAX_CHUNK>),
    /// The end, with the length of each log in bytes.
    End {
        /// Of the measurement list.
        ima: u64,
        /// Of the boot event log; 0 where the device has none.
        boot: u64,
    },
}

const END: u8 = 0;
const IMA: u8 = 1;
const BOOT: u8 = 2;

impl<C> Encode<C> for Item<'_> {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        match self {
            Self::Ima(data) => e.array(2)?.u8(IMA)?.bytes(data.get())?.ok(),
            Self::Boot(data) => e.array(2)?.u8(BOOT)?.bytes(data.get())?.ok(),
            Self::End { ima, boot } => e.array(3)?.u8(END)?.u64(*ima)?.u64(*boot)?.ok(),
        }
    }
}

impl<'b, C> Decode<'b, C> for Item<'b> {
    fn decode(d: &mut Decoder<'b>, c: &mut C) -> Result<Self, minicbor::decode::Error> {
        let at = d.position();
        let wrong = || minicbor::decode::Error::message("not an item of an evidence file").at(at);
        let len = d.array()?;
        let kind = d.u8()?;
        match (kind, len) {
            (IMA, Some(2)) => Ok(Self::Ima(Bytes::decode(d, c)?)),
            (BOOT, Some(2)) => Ok(Self::Boot(Bytes::decode(d, c)?)),
            (END, Some(3)) => Ok(Self::End {
                ima: d.u64()?,
                boot: d.u64()?,
            }),
            _ => Err(wrong()),
        }
    }
}

/// Whether these may be the first bytes of an evidence file: to tell a wrong file from a damaged one.
pub fn looks_like(bytes: &[u8]) -> bool {
    let mut d = Decoder::new(bytes);
    let map = matches!(d.datatype(), Ok(Type::Map)) && d.map().is_ok();
    map && matches!(d.u8(), Ok(0)) && Magic::decode(&mut d, &mut ()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cbor;

    #[test]
    fn a_quote_of_a_file_answers_no_conversation() {
        let nonce = [7; 16];
        let conversation = crate::transcript::Transcript::from_bytes([0; 32]);
        assert_ne!(
            qualifying_data(&nonce),
            conversation.qualifying_data(&nonce)
        );
        assert_ne!(qualifying_data(&nonce), qualifying_data(&nonce[1..]));
    }

    #[test]
    fn items_read_back_and_others_are_refused() {
        let data = [9; 300];
        for item in [
            Item::Ima(Bytes::new(&data).unwrap()),
            Item::Boot(Bytes::new(&data[..1]).unwrap()),
            Item::End { ima: 300, boot: 0 },
        ] {
            let mut buffer = [0; 320];
            let len = cbor::encode(&item, &mut buffer).unwrap();
            assert_eq!(cbor::decode::<Item<'_>>(&buffer[..len]), Ok(item));
            assert_eq!(cbor::item_len(&buffer[..len]), Ok(len));
            for cut in 0..len {
                assert!(cbor::decode::<Item<'_>>(&buffer[..cut]).is_err(), "{cut}");
            }
        }
        for other in [
            &[0x82, 1, 0x40][..],
            &[0x82, 3, 0x41, 0],
            &[0x83, 1, 0x41, 0, 0],
            &[0x82, 0, 1],
            &[0x41, 0],
        ] {
            let fault = cbor::decode::<Item<'_>>(other).unwrap_err().fault;
            assert_eq!(fault, cbor::Fault::Schema, "{other:02x?}");
        }
    }
}
