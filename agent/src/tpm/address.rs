//! Where the TPM is: `device:/dev/tpmrm0` or `swtpm:HOST:PORT`.

use core::fmt;
use core::str::FromStr;
use std::path::PathBuf;

/// How to reach the TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TpmAddress {
    /// A device node of the kernel. `/dev/tpmrm0` has the kernel's resource manager, `/dev/tpm0`
    /// has none and can be held by one process only.
    Device(PathBuf),
    /// A swtpm that listens on TCP, with its control port next to its data port. For tests: the
    /// connection is neither authenticated nor encrypted.
    Swtpm {
        /// Host name or IP address (IPv6 without brackets).
        host: String,
        /// Data port.
        port: u16,
    },
}

impl Default for TpmAddress {
    fn default() -> Self {
        Self::Device(PathBuf::from("/dev/tpmrm0"))
    }
}

/// Text that is not a [`TpmAddress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressError;

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a TPM is `device:/dev/tpmrm0` or `swtpm:HOST:PORT`")
    }
}

impl std::error::Error for AddressError {}

impl FromStr for TpmAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text.split_once(':') {
            // The path goes through C and a `name:value` string: it must be absolute and printable.
            Some(("device", path)) if path.starts_with('/') && !path.contains(char::is_control) => {
                Ok(Self::Device(PathBuf::from(path)))
            }
            Some(("swtpm", rest)) => {
                let (host, port) = rest.rsplit_once(':').ok_or(AddressError)?;
                let host = host
                    .strip_prefix('[')
                    .and_then(|host| host.strip_suffix(']'))
                    .unwrap_or(host);
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
                if host.is_empty() || !host.chars().all(plain) {
                    return Err(AddressError);
                }
                match port.parse() {
                    Ok(port) if port != 0 && port != u16::MAX => Ok(Self::Swtpm {
                        host: host.to_owned(),
                        port,
                    }),
                    _ => Err(AddressError),
                }
            }
            _ => Err(AddressError),
        }
    }
}

impl fmt::Display for TpmAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) => write!(f, "device:{}", path.display()),
            Self::Swtpm { host, port } if host.contains(':') => write!(f, "swtpm:[{host}]:{port}"),
            Self::Swtpm { host, port } => write!(f, "swtpm:{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_printing() {
        for text in [
            "device:/dev/tpmrm0",
            "device:/dev/tpm1",
            "swtpm:127.0.0.1:2321",
            "swtpm:localhost:2321",
            "swtpm:[::1]:2321",
        ] {
            assert_eq!(text.parse::<TpmAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "/dev/tpmrm0",
            "device:",
            "device:tpmrm0",
            "device:/dev/\n",
            "mssim:host=localhost,port=2321",
            "swtpm:localhost",
            "swtpm::2321",
            "swtpm:localhost:0",
            "swtpm:localhost:65535", // no room for the control port
            "swtpm:localhost:65536",
            "swtpm:a,port=1:2321",
        ] {
            assert_eq!(text.parse::<TpmAddress>(), Err(AddressError), "{text:?}");
        }
    }
}
