//! The admin socket: `admin.sock` in the state directory, for the verifier's own user.
//!
//! One connection carries one JSON request line and one JSON response line. Both are bounded, and
//! neither side waits for the other longer than [`PATIENCE`].

use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{ErrorCode, ErrorView, Request, Response};

/// Name of the socket in the state directory.
pub const FILE: &str = "admin.sock";

/// Longest request, in bytes: the largest manifest in base64, and room. Only the verifier's own user
/// can send one.
pub const MAX_REQUEST: u64 = (crate::manifest::MAX_MANIFEST as u64).div_ceil(3) * 4 + 4 * 1024;

/// Longest response, in bytes: 500 devices take about 250 kB; 200 deviations with paths of 4 kB that
/// are escaped byte for byte, 3.3 MB.
pub const MAX_RESPONSE: u64 = 8 * 1024 * 1024;

/// How long either side waits for the other.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Opens the socket in `directory` with mode 0600, in place of one that a killed verifier left.
///
/// Only for who has the store open: its lock is what keeps two verifiers from doing this.
pub fn listen(directory: &Path) -> io::Result<UnixListener> {
    let path = directory.join(FILE);
    // Under another name until its mode is right; a rename also replaces a stale socket.
    let temporary = directory.join(format!(".{FILE}.new"));
    remove(&temporary)?;
    let listener = UnixListener::bind(&temporary)?;
    fs::set_permissions(&temporary, PermissionsExt::from_mode(0o600))?;
    fs::rename(&temporary, path)?;
    Ok(listener)
}

/// Removes the socket. For an orderly end; a stale one does no harm.
pub fn unlink(directory: &Path) -> io::Result<()> {
    remove(&directory.join(FILE))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Serves one connection: reads a request, has it answered, writes the response.
///
/// An error is the client's doing or its going away; log it and go on.
pub fn serve(stream: &UnixStream, answer: &mut dyn FnMut(&Request) -> Response) -> io::Result<()> {
    // A listener that does not block may hand that on to what it accepts.
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let line = read_line(stream, MAX_REQUEST)?;
    let response = match serde_json::from_slice(&line) {
        Ok(request) => answer(&request),
        Err(error) => {
            let what = format!("not a request that this verifier knows: {error}");
            Response::Error(ErrorView::new(ErrorCode::BadRequest, what))
        }
    };
    write_line(stream, &response)
}

/// Why a verifier could not be asked.
#[derive(Debug)]
pub enum ClientError {
    /// No verifier listens there.
    NotRunning,
    /// Something listens, but talking to it failed.
    Io(PathBuf, io::Error),
    /// The response is not one that this version knows.
    BadResponse(PathBuf, String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning => f.write_str("no verifier is running"),
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::BadResponse(path, why) => write!(
                f,
                "{}: the verifier's response is not understood ({why}); \
                 are motectl and mote-verifier of the same version?",
                path.display()
            ),
        }
    }
}

impl std::error::Error for ClientError {}

/// Asks the verifier that runs on `directory`.
pub fn call(directory: &Path, request: &Request) -> Result<Response, ClientError> {
    let path = directory.join(FILE);
    let stream = match UnixStream::connect(&path) {
        Ok(stream) => stream,
        // The file is missing, or nobody listens on it any more.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Err(ClientError::NotRunning);
        }
        Err(error) => return Err(ClientError::Io(path, error)),
    };
    let exchanged = stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
        .and_then(|()| write_line(&stream, request))
        .and_then(|()| read_line(&stream, MAX_RESPONSE));
    match exchanged {
        Ok(line) => serde_json::from_slice(&line)
            .map_err(|error| ClientError::BadResponse(path, error.to_string())),
        Err(error) => Err(ClientError::Io(path, error)),
    }
}

fn read_line(stream: &UnixStream, max: u64) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    BufReader::new(stream.take(max)).read_until(b'\n', &mut line)?;
    if line.pop() == Some(b'\n') {
        return Ok(line);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        format!("no whole line of at most {max} bytes"),
    ))
}

fn write_line(mut stream: &UnixStream, message: &impl serde::Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line)
}
