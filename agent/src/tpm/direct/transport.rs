//! Bytes to the TPM and back: the kernel's device node, or swtpm's data port. One command at a time,
//! one response to each (TPM 2.0 Library part 1, 18).

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::frame::HEADER;
use crate::tpm::{TpmAddress, TpmError};

/// An open way to a TPM.
#[derive(Debug)]
pub(super) enum Transport {
    /// `/dev/tpmrm0` or `/dev/tpm0`.
    Device(File),
    /// swtpm's data port. Its control port is for powering it on, which is not our business.
    Swtpm(TcpStream),
}

impl Transport {
    pub(super) fn open(address: &TpmAddress) -> Result<Self, TpmError> {
        match address {
            TpmAddress::Device(path) => open_device(path).map(Self::Device),
            TpmAddress::Swtpm { host, port } => TcpStream::connect((host.as_str(), *port))
                .and_then(|stream| stream.set_nodelay(true).map(|()| Self::Swtpm(stream)))
                .map_err(|_| TpmError::NoSimulator {
                    host: host.clone(),
                    port: *port,
                }),
        }
    }

    /// Sends the first `len` bytes of `buffer`, and puts the response in their place; returns its
    /// length. What a response says of its own length is for the caller to check.
    pub(super) fn exchange(&mut self, buffer: &mut [u8], len: usize) -> io::Result<usize> {
        match self {
            // One write is one command, and one read one response (tpm-dev-common.c): the kernel
            // blocks until the chip has answered.
            Self::Device(file) => {
                if file.write(&buffer[..len])? != len {
                    return Err(ErrorKind::WriteZero.into());
                }
                loop {
                    match file.read(buffer) {
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        read => return read,
                    }
                }
            }
            Self::Swtpm(stream) => {
                stream.write_all(&buffer[..len])?;
                let (header, rest) = buffer.split_at_mut(HEADER);
                stream.read_exact(header)?;
                let size = u32::from_be_bytes([header[2], header[3], header[4], header[5]]);
                let body = (size as usize)
                    .checked_sub(HEADER)
                    .and_then(|size| rest.get_mut(..size))
                    .ok_or(ErrorKind::InvalidData)?;
                stream.read_exact(body)?;
                Ok(HEADER + body.len())
            }
        }
    }
}

fn open_device(path: &Path) -> Result<File, TpmError> {
    let node = path.display().to_string();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => TpmError::NoPermission { path: node.clone() },
            ErrorKind::ResourceBusy => TpmError::InUse { path: node.clone() },
            // Absent, or without a driver behind it (ENODEV, ENXIO).
            _ => TpmError::NoDevice { path: node.clone() },
        })?;
    match file.metadata() {
        Ok(metadata) if metadata.file_type().is_char_device() => Ok(file),
        _ => Err(TpmError::NoDevice { path: node }),
    }
}
