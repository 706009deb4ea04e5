//! The few TPM commands that firmware and kernel send themselves, as plain bytes.
//!
//! Source: TPM 2.0 Library, part 3 (commands), part 2 (structures); all integers big-endian. The
//! TPM is real and trusted here; its answers are still length-checked, so that a mistake shows as
//! an error and not as a wrong value.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use super::bank::Bank;
use super::{Error, Result, during};

/// Command and response header: tag, size, code.
pub const HEADER: usize = 10;
/// The most that libtpms accepts or sends in one command (`TPM2_PT_MAX_COMMAND_SIZE`).
pub const MAX_MESSAGE: usize = 4096;

const ST_NO_SESSIONS: u16 = 0x8001;
const ST_SESSIONS: u16 = 0x8002;
const CC_SHUTDOWN: u32 = 0x0145;
const CC_GET_CAPABILITY: u32 = 0x017a;
const CC_PCR_READ: u32 = 0x017e;
const CC_PCR_EXTEND: u32 = 0x0182;
const CAP_PCRS: u32 = 0x0005;
const SU_CLEAR: u16 = 0x0000;
/// Password session, empty nonce, no attributes, empty auth: handle, 2 sizes, 1 byte.
const EMPTY_PASSWORD: [u8; 9] = [0x40, 0x00, 0x00, 0x09, 0, 0, 0, 0, 0];

/// The one connection to swtpm's data port. Clones share it; each command has it to itself.
#[derive(Clone, Debug)]
pub struct Tpm {
    stream: Arc<Mutex<TcpStream>>,
}

impl Tpm {
    /// Connects to swtpm's data port.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let stream = during(
            format!("no swtpm at {address}"),
            TcpStream::connect(address),
        )?;
        during("TCP_NODELAY", stream.set_nodelay(true))?;
        Ok(Self {
            stream: Arc::new(Mutex::new(stream)),
        })
    }

    /// Sends one command and waits for its response, header included. No other command comes
    /// between the two.
    pub fn transact(&self, command: &[u8]) -> Result<Vec<u8>> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        during("sending to swtpm", stream.write_all(command))?;
        during("swtpm is gone", read_message(&mut *stream))
    }

    /// The PCR banks that are active, that is, have PCRs allocated.
    pub fn banks(&self) -> Result<Vec<Bank>> {
        let body = [
            CAP_PCRS.to_be_bytes(),
            0u32.to_be_bytes(),
            1u32.to_be_bytes(),
        ]
        .concat();
        let response = self.call("TPM2_GetCapability", CC_GET_CAPABILITY, &body)?;
        let mut fields = Fields(&response);
        fields.take(1)?; // moreData
        fields.u32()?; // capability
        let mut banks = Vec::new();
        for _ in 0..fields.u32()? {
            let alg = fields.u16()?;
            let select = fields.u8()?;
            if fields.take(select.into())?.iter().all(|&byte| byte == 0) {
                continue;
            }
            banks.push(Bank::from_alg(alg).ok_or_else(|| {
                Error::Inconsistent(format!("the TPM has a PCR bank {alg:#06x}, unknown here"))
            })?);
        }
        Ok(banks)
    }

    /// Reads one PCR.
    pub fn pcr_read(&self, bank: Bank, pcr: u8) -> Result<Vec<u8>> {
        let mut select = [0u8; 3];
        *select
            .get_mut(usize::from(pcr / 8))
            .ok_or_else(|| Error::Refused(format!("there is no PCR {pcr}")))? = 1 << (pcr % 8);
        let mut body = 1u32.to_be_bytes().to_vec();
        body.extend(bank.alg().to_be_bytes());
        body.push(3);
        body.extend(select);
        let response = self.call("TPM2_PCR_Read", CC_PCR_READ, &body)?;
        let mut fields = Fields(&response);
        fields.u32()?; // pcrUpdateCounter
        fields.take(4 + 2 + 1 + 3)?; // pcrSelectionOut, one selection
        if fields.u32()? != 1 {
            return Err(Error::Malformed(format!(
                "TPM2_PCR_Read of {pcr}: no value"
            )));
        }
        let size = fields.u16()?;
        Ok(fields.take(size.into())?.to_vec())
    }

    /// Extends one PCR in all banks given, in one command, as the kernel does.
    pub fn pcr_extend(&self, pcr: u8, digests: &[(Bank, Vec<u8>)]) -> Result<()> {
        let mut body = u32::from(pcr).to_be_bytes().to_vec();
        body.extend((EMPTY_PASSWORD.len() as u32).to_be_bytes());
        body.extend(EMPTY_PASSWORD);
        body.extend((digests.len() as u32).to_be_bytes());
        for (bank, digest) in digests {
            if digest.len() != bank.size() {
                return Err(Error::Malformed(format!(
                    "a digest of {} bytes for bank {}",
                    digest.len(),
                    bank.name()
                )));
            }
            body.extend(bank.alg().to_be_bytes());
            body.extend(digest);
        }
        let command = message(ST_SESSIONS, CC_PCR_EXTEND, &body);
        succeeded("TPM2_PCR_Extend", &self.transact(&command)?)
    }

    /// `TPM2_Shutdown(CLEAR)`: what a kernel sends before an orderly reboot.
    pub fn shutdown(&self) -> Result<()> {
        self.call("TPM2_Shutdown", CC_SHUTDOWN, &SU_CLEAR.to_be_bytes())
            .map(drop)
    }

    /// A command without sessions; its response's parameters.
    fn call(&self, name: &'static str, code: u32, body: &[u8]) -> Result<Vec<u8>> {
        let response = self.transact(&message(ST_NO_SESSIONS, code, body))?;
        succeeded(name, &response)?;
        Ok(response[HEADER..].to_vec())
    }
}

/// Reads one command or response: the size is in its header (TPM 2.0 part 1, 18.2).
pub fn read_message(stream: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; HEADER];
    stream.read_exact(&mut bytes)?;
    let size = u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]) as usize;
    if !(HEADER..=MAX_MESSAGE).contains(&size) {
        return Err(std::io::Error::other(format!(
            "a TPM message of {size} bytes; {HEADER} to {MAX_MESSAGE} are possible"
        )));
    }
    bytes.resize(size, 0);
    stream.read_exact(&mut bytes[HEADER..])?;
    Ok(bytes)
}

fn message(tag: u16, code: u32, body: &[u8]) -> Vec<u8> {
    let size = (HEADER + body.len()) as u32;
    let mut bytes = tag.to_be_bytes().to_vec();
    bytes.extend(size.to_be_bytes());
    bytes.extend(code.to_be_bytes());
    bytes.extend(body);
    bytes
}

fn succeeded(command: &'static str, response: &[u8]) -> Result<()> {
    let mut fields = Fields(response);
    fields.take(6)?;
    match fields.u32()? {
        0 => Ok(()),
        code => Err(Error::Tpm { command, code }),
    }
}

/// What is left of a response.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let (head, rest) = self
            .0
            .split_at_checked(n)
            .ok_or_else(|| Error::Malformed("a TPM response ends early".into()))?;
        self.0 = rest;
        Ok(head)
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self) -> Result<u32> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_impossible_size_are_refused() {
        for size in [0u32, 9, 4097, u32::MAX] {
            let mut bytes = ST_NO_SESSIONS.to_be_bytes().to_vec();
            bytes.extend(size.to_be_bytes());
            bytes.extend([0; 4100]);
            let error = read_message(&mut bytes.as_slice()).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::Other, "size {size}");
        }
    }

    #[test]
    fn a_failing_response_code_is_reported() {
        let response = message(ST_NO_SESSIONS, 0x101, &[]);
        let error = succeeded("TPM2_PCR_Read", &response).unwrap_err();
        assert!(matches!(error, Error::Tpm { code: 0x101, .. }), "{error}");
    }
}
