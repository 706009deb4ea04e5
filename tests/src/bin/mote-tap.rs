//! A UDP forwarder that counts what passes it; see `mote_tests::tap`. For the demo, which shows what
//! each step costs on the link.
//!
//! ```text
//! mote-tap LISTEN TARGET FILE
//! ```
//! FILE holds one line, renewed before each datagram goes on: bytes up, datagrams up, bytes down,
//! datagrams down. Prints the address where it listens, and runs until it is killed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io, thread};

use clap::Parser;
use mote_tests::tap::{Passed, Tap};

/// Forwards UDP datagrams and counts them.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 takes any
    listen: SocketAddr,
    /// Where to
    target: SocketAddr,
    /// What has passed: bytes up, datagrams up, bytes down, datagrams down
    file: PathBuf,
}

fn main() -> ExitCode {
    let Arguments {
        listen,
        target,
        file,
    } = Arguments::parse();
    let tap = write(&file, &Passed::default())
        .map_err(|error| format!("{}: {error}", file.display()))
        .and_then(|()| {
            let report = move |passed: &Passed| {
                if let Err(error) = write(&file, passed) {
                    eprintln!("mote-tap: {}: {error}", file.display());
                }
            };
            Tap::udp(listen, target, report).map_err(|error| error.to_string())
        });
    match tap {
        Ok(tap) => {
            println!("{}", tap.address());
            loop {
                thread::park();
            }
        }
        Err(error) => {
            eprintln!("mote-tap: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whole at any moment.
fn write(file: &Path, passed: &Passed) -> io::Result<()> {
    let new = file.with_extension("new");
    let Passed {
        up,
        up_datagrams,
        down,
        down_datagrams,
    } = passed;
    fs::write(
        &new,
        format!("{up} {up_datagrams} {down} {down_datagrams}\n"),
    )?;
    fs::rename(new, file)
}
