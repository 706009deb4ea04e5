//! `mote-agent evidence`: evidence in a file, for devices without a network and for firmware CI
//! (`cddl/evidence.cddl`).
//!
//! It is one Conceptual Message Wrapper (`mote_schemas::cmw`), whose value comes in chunks as it is made.
//!
//! The quote comes first and the logs after it, for reading a log may itself be measured: they may hold
//! more than the quote covers, never less. The file is written as the logs are read; no more of them
//! than one chunk is held. It is the only file that the agent ever writes, and only this command does.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use heapless::Vec as Bounded;
use minicbor::encode::write::Cursor;
use mote_schemas::bundle::{
    self, Header, Item, MAX_CHUNK, MAX_NONCE, MIN_NONCE, Magic, qualifying_data,
};
use mote_schemas::cbor::{self, Bytes, Text};
use mote_schemas::cmw::{self, MediaType};
use mote_schemas::limits::{MAX_EK_CERTIFICATE, MAX_PCR_BANKS, PCR_COUNT};
use mote_schemas::message::{DeviceKeys, FullQuote, PcrBank, PcrBanks};
use mote_schemas::tpm::HashAlg;

use crate::config::LocalConfig;
use crate::exit::Exit;
use crate::measurement_log::{FileLog, LogError, MeasurementLog, NATIVE_FORMAT};
use crate::tpm::{PcrSelection, Tpm, TpmError};

/// The boot event log of the first TPM (`drivers/char/tpm/eventlog`). Many small boards have none.
pub const BOOT_LOG: &str = crate::boot_log::DEFAULT_PATH;

/// Room for the header: keys, certificate, quote and PCR values of four banks are below 16 kB.
const MAX_HEADER: usize = 16 * 1024;

/// PCR values of every bank that may be quoted, SHA-512 in the worst case.
const MAX_PCR_VALUES: usize = MAX_PCR_BANKS * PCR_COUNT * 64;

/// What the command line says besides the settings.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Where to write; `-` is standard output.
    pub output: Option<PathBuf>,
    /// What to quote.
    pub nonce: Bounded<u8, MAX_NONCE>,
    /// The boot event log; [`BOOT_LOG`], if there is one, unless named.
    pub boot_log: Option<PathBuf>,
}

impl Request {
    /// Takes the nonce in hexadecimal.
    ///
    /// # Errors
    /// A line for the user.
    pub fn set_nonce(&mut self, hex: &str) -> Result<(), String> {
        let wrong = || {
            format!(
                "--nonce: {MIN_NONCE} to {MAX_NONCE} bytes in hexadecimal, not {hex:?}; make one with \
                 `openssl rand -hex 16` where the evidence will be verified"
            )
        };
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        let mut nonce = Bounded::new();
        for pair in hex.as_bytes().chunks(2) {
            let byte = match *pair {
                [high, low] => digit(high)
                    .zip(digit(low))
                    .map(|(high, low)| high << 4 | low),
                _ => None,
            };
            nonce.push(byte.ok_or_else(wrong)?).map_err(|_| wrong())?;
        }
        if nonce.len() < MIN_NONCE {
            return Err(wrong());
        }
        self.nonce = nonce;
        Ok(())
    }
}

/// Why there is no evidence. What was written by then has no end, and is refused by who reads it.
#[derive(Debug)]
pub enum EvidenceError {
    /// The TPM failed.
    Tpm(TpmError),
    /// The measurement list could not be read.
    Log(LogError),
    /// The boot event log could not be read.
    BootLog(PathBuf, io::Error),
    /// The file could not be written.
    Output(io::Error),
    /// More PCR values or larger keys than evidence may have.
    TooLarge,
}

impl EvidenceError {
    /// The exit code that it deserves.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Tpm(_) => Exit::Tpm,
            Self::Log(_) | Self::BootLog(..) => Exit::MeasurementLog,
            Self::Output(_) | Self::TooLarge => Exit::Usage,
        }
    }
}

impl fmt::Display for EvidenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tpm(error) => error.fmt(f),
            Self::Log(error) => error.fmt(f),
            Self::BootLog(path, error) => {
                write!(f, "boot event log {}: {error}", path.display())
            }
            Self::Output(error) => write!(f, "the evidence was not written: {error}"),
            Self::TooLarge => {
                f.write_str("too many PCRs for one evidence file: quote fewer (--pcrs)")
            }
        }
    }
}

impl std::error::Error for EvidenceError {}

impl From<TpmError> for EvidenceError {
    fn from(error: TpmError) -> Self {
        Self::Tpm(error)
    }
}

impl From<LogError> for EvidenceError {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

/// Does what the command line says.
pub fn run(config: &LocalConfig, request: &Request) -> Exit {
    let Some(output) = &request.output else {
        log::error!("evidence: where to? give -o FILE, or -o - for standard output");
        return Exit::Usage;
    };
    if request.nonce.is_empty() {
        log::error!("evidence: what for? give --nonce HEX, chosen where it will be verified");
        return Exit::Usage;
    }
    let written = create(output).and_then(|mut out| {
        let mut tpm = crate::tpm::open(&config.tpm)?;
        let written = write(config, request, &mut *tpm, &mut out)?;
        out.flush().map_err(EvidenceError::Output)?;
        Ok(written)
    });
    match written {
        Ok((ima, boot)) => {
            log::info!(
                "{}: {ima} bytes of measurement list, {boot} of boot log",
                output.display()
            );
            Exit::Trusted
        }
        Err(error) => {
            log::error!("{}: {error}", output.display());
            error.exit()
        }
    }
}

fn create(output: &Path) -> Result<Box<dyn Write>, EvidenceError> {
    if output == Path::new("-") {
        return Ok(Box::new(BufWriter::new(io::stdout())));
    }
    let file = File::create(output).map_err(EvidenceError::Output)?;
    Ok(Box::new(BufWriter::new(file)))
}

/// Quotes, and writes the whole evidence; returns the bytes of measurement list and boot log in it.
///
/// # Errors
/// Whatever failed first. `out` may have been written to.
pub fn write(
    config: &LocalConfig,
    request: &Request,
    tpm: &mut dyn Tpm,
    out: &mut dyn Write,
) -> Result<(u64, u64), EvidenceError> {
    let header = header(config, &request.nonce, tpm)?;
    let mut writer = Writer {
        out,
        item: vec![0; MAX_CHUNK + 16],
    };
    writer.wrapper(|out| cmw::begin_chunks(MediaType::Name(bundle::MEDIA_TYPE), out))?;
    writer.chunk(&header)?;
    let ima = writer.measurement_list(&config.ima_log)?;
    let boot = match &request.boot_log {
        Some(path) => writer.boot_log(path)?,
        None if Path::new(BOOT_LOG).exists() => writer.boot_log(BOOT_LOG.as_ref())?,
        None => 0,
    };
    writer.item(&Item::End { ima, boot })?;
    writer.wrapper(|out| cmw::end_chunks(out))?;
    Ok((ima, boot))
}

/// The quote and all that belongs to it.
fn header(config: &LocalConfig, nonce: &[u8], tpm: &mut dyn Tpm) -> Result<Vec<u8>, EvidenceError> {
    let too_large = || EvidenceError::TooLarge;
    let identity = tpm.identity()?;
    let mut certificate = [0; MAX_EK_CERTIFICATE];
    let certificate = match tpm.ek_certificate(&mut certificate) {
        Ok(len) => len.and_then(|len| Bytes::new(&certificate[..len])),
        Err(TpmError::TooLarge { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let quote = tpm.quote(&config.pcrs, &qualifying_data(nonce))?;
    let mut values = [0; MAX_PCR_VALUES];
    let len = tpm.read_pcrs(&config.pcrs, &mut values)?;
    let header = Header {
        magic: Magic,
        version: bundle::VERSION,
        nonce: Bytes::new(nonce).ok_or_else(too_large)?,
        keys: DeviceKeys {
            ek_public: Bytes::new(&identity.ek).ok_or_else(too_large)?,
            ak_public: Bytes::new(&identity.ak).ok_or_else(too_large)?,
            ek_certificate: certificate,
        },
        quote: FullQuote {
            attest: Bytes::new(&quote.attest).ok_or_else(too_large)?,
            signature: Bytes::new(&quote.signature).ok_or_else(too_large)?,
        },
        pcrs: by_bank(&config.pcrs, &values[..len]).ok_or_else(too_large)?,
        endian: NATIVE_FORMAT.endian.into(),
        software: Some(Text::truncated(concat!(
            "mote-agent ",
            env!("CARGO_PKG_VERSION")
        ))),
    };
    let mut buffer = vec![0; MAX_HEADER];
    let len = cbor::encode(&header, &mut buffer).map_err(|_| EvidenceError::TooLarge)?;
    buffer.truncate(len);
    Ok(buffer)
}

/// PCR values as read, split by bank.
fn by_bank<'v>(selection: &[PcrSelection], mut values: &'v [u8]) -> Option<PcrBanks<'v>> {
    PcrBanks::new(selection.iter().map_while(|bank| {
        let digest_len = HashAlg::from_u16(bank.bank)?.digest_len();
        let own = values.split_off(..digest_len * bank.mask.count_ones() as usize)?;
        Some(PcrBank {
            hash_alg: bank.bank,
            mask: bank.mask,
            values: Bytes::new(own)?,
        })
    }))
}

struct Writer<'o> {
    out: &'o mut dyn Write,
    item: Vec<u8>,
}

impl Writer<'_> {
    fn item(&mut self, item: &Item<'_>) -> Result<(), EvidenceError> {
        let len = cbor::encode(item, &mut self.item).map_err(|_| EvidenceError::TooLarge)?;
        chunk(self.out, &self.item[..len])
    }

    fn chunk(&mut self, bytes: &[u8]) -> Result<(), EvidenceError> {
        chunk(self.out, bytes)
    }

    /// A piece of the wrapper itself.
    fn wrapper<E>(
        &mut self,
        write: impl FnOnce(&mut Cursor<&mut [u8]>) -> Result<(), E>,
    ) -> Result<(), EvidenceError> {
        let mut piece = Cursor::new(&mut self.item[..]);
        write(&mut piece).map_err(|_| EvidenceError::TooLarge)?;
        let len = piece.position();
        self.out
            .write_all(&self.item[..len])
            .map_err(EvidenceError::Output)
    }

    /// Whole records, as they stand in the kernel's list.
    fn measurement_list(&mut self, path: &Path) -> Result<u64, EvidenceError> {
        let mut log = FileLog::new(path, NATIVE_FORMAT);
        let mut buffer = vec![0; MAX_CHUNK];
        let (mut records, mut bytes) = (0, 0);
        loop {
            let chunk = log.read(records, &mut buffer)?;
            let Some(data) = Bytes::new(&buffer[..chunk.bytes]) else {
                return Ok(bytes);
            };
            self.item(&Item::Ima(data))?;
            records += u64::from(chunk.records);
            bytes += chunk.bytes as u64;
            if !chunk.more {
                return Ok(bytes);
            }
        }
    }

    fn boot_log(&mut self, path: &Path) -> Result<u64, EvidenceError> {
        let failed = |error| EvidenceError::BootLog(path.to_owned(), error);
        let mut file = File::open(path).map_err(failed)?;
        let mut buffer = vec![0; MAX_CHUNK];
        let mut bytes = 0;
        loop {
            let len = match file.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(failed)?,
            };
            let Some(data) = Bytes::new(&buffer[..len]) else {
                return Ok(bytes);
            };
            self.item(&Item::Boot(data))?;
            bytes += len as u64;
        }
    }
}

/// The next bytes of the wrapper's value.
fn chunk(out: &mut dyn Write, bytes: &[u8]) -> Result<(), EvidenceError> {
    let mut head = [0; 9];
    let mut cursor = Cursor::new(&mut head[..]);
    minicbor::Encoder::new(&mut cursor)
        .bytes_len(bytes.len() as u64)
        .map_err(|_| EvidenceError::TooLarge)?;
    let len = cursor.position();
    out.write_all(&head[..len])
        .and_then(|()| out.write_all(bytes))
        .map_err(EvidenceError::Output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_8_to_64_bytes_of_hexadecimal() {
        let mut request = Request::default();
        request.set_nonce("00112233445566Ff").unwrap();
        assert_eq!(request.nonce, [0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0xff]);
        request.set_nonce(&"ab".repeat(64)).unwrap();
        let before = request.nonce.clone();
        for wrong in [
            "",
            "001122334455",
            "0011223344556",
            "zz112233445566778",
            "ä0112233445566",
        ] {
            assert!(request.set_nonce(wrong).is_err(), "{wrong:?}");
        }
        assert!(request.set_nonce(&"ab".repeat(65)).is_err());
        assert_eq!(request.nonce, before);
    }
}
