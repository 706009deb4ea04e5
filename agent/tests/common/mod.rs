//! A swtpm of its own for each test, and tpm2-tools to check our work with.
// Each test binary compiles its own copy and uses part of it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod interposer;

use std::ffi::OsStr;
use std::process::Command;

use mote_agent::tpm::TpmAddress;
pub use mote_swtpm::{Manufacture, TempDir};

/// A running swtpm; killed when dropped.
pub struct Swtpm {
    tpm: mote_swtpm::Swtpm,
    pub dir: TempDir,
}

impl Swtpm {
    /// A TPM fresh from the factory, where nobody put anything into it.
    pub fn start() -> Self {
        let dir = TempDir::new("agent").unwrap();
        let tpm = mote_swtpm::Swtpm::start(dir.path()).unwrap();
        Self { tpm, dir }
    }

    /// A TPM with certificates of its endorsement keys.
    pub fn manufactured() -> Self {
        let how = Manufacture {
            ek_certificates: true,
            banks: vec!["sha256"],
        };
        let dir = TempDir::new("agent").unwrap();
        let tpm = mote_swtpm::Swtpm::manufacture(dir.path(), &how).unwrap();
        Self { tpm, dir }
    }

    pub fn address(&self) -> TpmAddress {
        format!("swtpm:127.0.0.1:{}", self.tpm.port())
            .parse()
            .unwrap()
    }

    /// Kills it, as a power cut does.
    pub fn power_off(&mut self) {
        self.tpm.cut().unwrap();
    }

    pub fn power_on(&mut self) {
        self.tpm.power_on().unwrap();
    }

    /// Power off and on again: a TPM reset.
    pub fn restart(&mut self) {
        self.power_off();
        self.power_on();
    }

    /// Runs one of tpm2-tools on this TPM. It serves one connection at a time: drop ours first.
    pub fn tool<A: AsRef<OsStr>>(&self, name: &str, args: &[A]) -> Vec<u8> {
        run(self.tpm.tool(name).args(args))
    }
}

/// Runs a command that must succeed; returns its output.
pub fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("the tool is installed");
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// `TPM2B_*`: a size in front.
pub fn tpm2b(bytes: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

/// Splits a `TPM2B_*` off the front; returns its content and the rest.
pub fn split_tpm2b(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (size, rest) = bytes.split_at(2);
    rest.split_at(usize::from(u16::from_be_bytes([size[0], size[1]])))
}
