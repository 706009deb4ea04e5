//! From the library's error to ours: response codes of TPM 2.0 Library part 2, 6.6, in the layers
//! of the TSS 2.0 Overview, 3.5.

use std::error::Error as _;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use nix::unistd::{AccessFlags, access};
use tss_esapi::Error;
use tss_esapi::constants::response_code::Tss2ResponseCodeKind as Kind;

use crate::tpm::connection::Fault;
use crate::tpm::{TpmAddress, TpmError};

/// The TPM itself, directly or by the kernel's resource manager.
const LAYER_TPM: u32 = 0;
/// A resource manager answering in the TPM's place.
const LAYER_RESOURCE_MANAGER: u32 = 11;
/// The transport.
const LAYER_TCTI: u32 = 10;

/// For `map_err`: says which command failed.
pub(super) fn during(command: &'static str) -> impl Fn(Error) -> Fault {
    move |error| fault(command, error)
}

/// The TPM's own verdict on a command; `None` when the fault lies in the software between.
pub(super) fn tpm_kind(error: Error) -> Option<Kind> {
    match error {
        Error::Tss2Error(code) if matches!(layer(raw_code(error)), LAYER_TPM) => code.kind(),
        _ => None,
    }
}

fn fault(command: &'static str, error: Error) -> Fault {
    let code = raw_code(error);
    let response = |text: String| TpmError::Response {
        command,
        code,
        text,
    };
    let lost = Fault::lost;
    match layer(code) {
        LAYER_TCTI => lost(TpmError::Gone { command }),
        LAYER_TPM | LAYER_RESOURCE_MANAGER => match error {
            // The library refused its own input or the TPM's output: it may have lost a handle.
            Error::WrapperError(_) => lost(response(error.to_string())),
            Error::Tss2Error(code) => match code.kind() {
                Some(Kind::Lockout) => TpmError::Lockout.into(),
                Some(
                    Kind::Retry
                    | Kind::Yielded
                    | Kind::Testing
                    | Kind::Canceled
                    | Kind::NvRate
                    | Kind::NvUnavailable,
                ) => TpmError::Busy { command }.into(),
                Some(Kind::Initialize) => lost(TpmError::NotStarted),
                Some(Kind::Failure) => lost(TpmError::Failure),
                Some(
                    Kind::ObjectMemory
                    | Kind::SessionMemory
                    | Kind::Memory
                    | Kind::ObjectHandles
                    | Kind::SessionHandles,
                ) => TpmError::OutOfMemory { command }.into(),
                // Every handle we use is one we loaded: the TPM was reset since. But after a reset
                // an old handle may as well have come to mean a new object, with any error to show
                // for it; so whatever is not explained here gets a new connection too.
                Some(
                    Kind::ReferenceH0
                    | Kind::ReferenceH1
                    | Kind::ReferenceS0
                    | Kind::ReferenceS1
                    | Kind::Handle,
                ) => lost(TpmError::Gone { command }),
                Some(Kind::Hierarchy | Kind::BadAuth | Kind::AuthFail) => {
                    lost(TpmError::EndorsementLocked)
                }
                _ => lost(response(error.to_string())),
            },
        },
        _ => lost(response("tpm2-tss failed".to_owned())),
    }
}

/// Why no connection came about: asks the system what the library did not pass on.
pub(super) fn diagnose(address: &TpmAddress, error: Error) -> TpmError {
    let from_system = match address {
        TpmAddress::Device(path) => diagnose_device(path),
        TpmAddress::Swtpm { host, port } => diagnose_swtpm(host, *port),
    };
    if let Some(error) = from_system {
        return error;
    }
    let (library, package) = match address {
        TpmAddress::Device(_) => ("libtss2-tcti-device.so.0", "libtss2-tcti-device0"),
        TpmAddress::Swtpm { .. } => ("libtss2-tcti-swtpm.so.0", "libtss2-tcti-swtpm0"),
    };
    match fault("connecting", error).error {
        // The transport could not be loaded, and nothing is wrong with where it leads.
        TpmError::Gone { .. } => TpmError::NoTransport { library, package },
        other => other,
    }
}

fn diagnose_device(path: &Path) -> Option<TpmError> {
    use nix::errno::Errno;
    let node = path.display().to_string();
    match access(path, AccessFlags::R_OK | AccessFlags::W_OK) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Some(TpmError::NoDevice { path: node }),
        Err(Errno::EACCES | Errno::EPERM) => return Some(TpmError::NoPermission { path: node }),
        _ => {}
    }
    let is_device = |file: std::fs::File| Ok(file.metadata()?.file_type().is_char_device());
    match std::fs::File::open(path)
        .and_then(is_device)
        .map_err(|error| error.kind())
    {
        Err(ErrorKind::ResourceBusy) => Some(TpmError::InUse { path: node }),
        // Not a device, or one without a driver behind it (ENODEV, ENXIO).
        Err(_) | Ok(false) => Some(TpmError::NoDevice { path: node }),
        Ok(true) => None,
    }
}

fn diagnose_swtpm(host: &str, port: u16) -> Option<TpmError> {
    [port, port.saturating_add(1)]
        .into_iter()
        .any(|port| TcpStream::connect((host, port)).is_err())
        .then(|| TpmError::NoSimulator {
            host: host.to_owned(),
            port,
        })
}

/// The `TSS2_RC`. The library shows it only as the text of an error's source.
fn raw_code(error: Error) -> u32 {
    let Error::Tss2Error(code) = error else {
        return 0;
    };
    code.source()
        .map(ToString::to_string)
        .and_then(|text| {
            let (_, hex) = text.rsplit_once("0x")?;
            u32::from_str_radix(hex, 16).ok()
        })
        .unwrap_or(0)
}

fn layer(code: u32) -> u32 {
    code >> 16 & 0xFF
}
