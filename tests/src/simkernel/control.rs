//! Telling the kernel what runs: one line in, one line out, over a Unix socket.
//!
//! | line | what it does |
//! |---|---|
//! | `append N` | the next N records of the recorded list |
//! | `append-until N` | recorded records until the list holds N |
//! | `append-path PATH` | the next recorded record of PATH, out of turn |
//! | `append-file PATH DIGEST` | a file the recorded device never had; DIGEST is `[sha256:]HEX` |
//! | `violation PATH` | a violation |
//! | `delay MILLISECONDS` | time between list and TPM from now on |
//! | `shutdown` | `TPM2_Shutdown`, as before an orderly reboot |
//! | `status` | nothing |
//!
//! Every answer is `ok records=N violations=N left=N port=P pcr10.BANK=HEX...` or `error WHY`.
//! Paths may hold spaces: they are what stands between the command and, for `append-file`, the
//! last word.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Error, Kernel, Result, during};
use crate::hex;

/// Removes the socket that a killed kernel left, so that nobody takes it for this one's.
///
/// # Errors
/// [`Error::Refused`] when something other than a socket is there, or a kernel still answers.
pub fn remove_stale(path: &Path) -> Result<()> {
    let Ok(metadata) = path.symlink_metadata() else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() || UnixStream::connect(path).is_ok() {
        return Err(Error::Refused(format!("{} is in use", path.display())));
    }
    during("removing a stale socket", std::fs::remove_file(path))
}

/// Serves the socket at `path` until the process ends; `port` is what `status` reports.
pub fn serve(kernel: Kernel, port: u16, path: &Path) -> Result<()> {
    let listener = during(
        format!("listening on {}", path.display()),
        UnixListener::bind(path),
    )?;
    let kernel = Arc::new(Mutex::new(kernel));
    for client in listener.incoming() {
        let client = during("accepting", client)?;
        let kernel = Arc::clone(&kernel);
        thread::spawn(move || {
            if let Err(error) = converse(&client, &kernel, port) {
                log::warn!("control client: {error}");
            }
        });
    }
    Ok(())
}

/// Sends one line and returns the answer without its `ok`. Waits up to `patience` for the socket,
/// which is there once the kernel has booted.
///
/// # Errors
/// [`Error::Refused`] with the kernel's word; [`Error::Io`] when there is no kernel.
pub fn tell(path: &Path, line: &str, patience: Duration) -> Result<String> {
    let until = Instant::now() + patience;
    let mut stream = loop {
        match UnixStream::connect(path) {
            Err(_) if Instant::now() < until => thread::sleep(Duration::from_millis(20)),
            other => break during(format!("no kernel at {}", path.display()), other)?,
        }
    };
    during("telling the kernel", writeln!(stream, "{line}"))?;
    let mut answer = String::new();
    during(
        "the kernel's answer",
        BufReader::new(stream).read_line(&mut answer),
    )?;
    match answer.trim_end().split_once(' ') {
        Some(("ok", rest)) => Ok(rest.to_owned()),
        Some(("error", why)) => Err(Error::Refused(why.to_owned())),
        _ => Err(Error::Malformed(format!("the kernel answered '{answer}'"))),
    }
}

fn converse(client: &UnixStream, kernel: &Mutex<Kernel>, port: u16) -> Result<()> {
    let mut answers = client;
    for line in BufReader::new(client).lines() {
        let line = during("reading a line", line)?;
        let mut kernel = kernel.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = match obey(&mut kernel, &line).and_then(|()| status(&kernel, port)) {
            Ok(status) => format!("ok {status}"),
            Err(error) => format!("error {error}"),
        };
        during("answering", writeln!(answers, "{answer}"))?;
    }
    Ok(())
}

fn obey(kernel: &mut Kernel, line: &str) -> Result<()> {
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    match command {
        "append" => kernel.append(number(rest)?),
        "append-until" => kernel.append_until(number(rest)?),
        "append-path" => kernel.append_path(rest),
        "append-file" => {
            let (path, digest) = rest
                .rsplit_once(' ')
                .ok_or_else(|| Error::Refused("append-file takes a path and a digest".into()))?;
            kernel.append_file(path, digest)
        }
        "violation" => kernel.violation(rest),
        "delay" => {
            kernel.set_delay(Duration::from_millis(number(rest)? as u64));
            Ok(())
        }
        "shutdown" => kernel.shutdown(),
        "status" => Ok(()),
        _ => Err(Error::Refused(format!("unknown command '{command}'"))),
    }
}

fn number(text: &str) -> Result<usize> {
    text.parse()
        .map_err(|_| Error::Refused(format!("'{text}' is not a number")))
}

fn status(kernel: &Kernel, port: u16) -> Result<String> {
    let status = kernel.status()?;
    let mut line = format!(
        "records={} violations={} left={} port={port}",
        status.records, status.violations, status.left
    );
    for (bank, value) in status.pcr10 {
        // Writing to a String cannot fail.
        let _ = write!(line, " pcr10.{}={}", bank.name(), hex::encode(&value));
    }
    Ok(line)
}
