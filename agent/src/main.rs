//! Wires configuration, TPM and session together; everything else is in the library.

#![forbid(unsafe_code)]

use std::io;
use std::process::ExitCode;

use mote_agent::cli::CommandLine;
use mote_agent::exit::Exit;
use mote_agent::{log_line, run, tpm};

fn main() -> ExitCode {
    #[cfg(feature = "esapi")]
    tpm::libraries::prepare();
    match attest() {
        Ok(exit) => exit.into(),
        Err(error) => {
            log::error!("{error}");
            Exit::Usage.into()
        }
    }
}

fn attest() -> io::Result<Exit> {
    let variable = |name: &str| std::env::var(name).ok();
    let line = match CommandLine::parse(std::env::args_os().skip(1), variable) {
        Ok(line) => line,
        Err(error) => {
            eprintln!("mote-agent: {error}");
            return Ok(Exit::Usage);
        }
    };
    log_line::start(line.draft.log_level());
    let config = match line.start(&mut io::stdout())? {
        Ok(config) => config,
        Err(exit) => return Ok(exit),
    };
    let mut tpm = match tpm::open(&config.tpm) {
        Ok(tpm) => tpm,
        Err(error) => {
            log::error!("{error}");
            return Ok(Exit::Tpm);
        }
    };
    let mut random = |bytes: &mut [u8]| {
        // Fails only on kernels older than Linux 3.17, which have no TPM resource manager either.
        getrandom::fill(bytes).expect("getrandom(2)");
    };
    run::run(&config, &mut *tpm, &mut random)
}
