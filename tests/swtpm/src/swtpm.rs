//! A TPM: swtpm with a state directory that outlives power cycles.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::{Error, Result, during};
use crate::ports;
use crate::process::{Process, run, wait_for};

/// Within which a swtpm is up, on a machine with much else to do.
const START: Duration = Duration::from_secs(60);
/// `CMD_SHUTDOWN` of swtpm's control protocol (`swtpm_ioctl -s`).
const CMD_SHUTDOWN: u32 = 3;

/// How a TPM comes out of the factory.
#[derive(Clone, Debug, Default)]
pub struct Manufacture {
    /// EKs at 0x81010001 (RSA-2048) and 0x81010016 (ECC P-384), their certificates in NV, issued
    /// by a test CA in `ca/` beside the state (`issuercert.pem`, and its root `swtpm-localca-rootca-cert.pem`).
    pub ek_certificates: bool,
    /// The active PCR banks as tpm2-tools spells them (`sha256`); swtpm's own choice (all four) when empty.
    pub banks: Vec<&'static str>,
}

/// A running swtpm with its data port on 127.0.0.1 and its control port after it.
///
/// swtpm serves one data connection at a time: a simulated kernel takes it and lends the TPM on.
#[derive(Debug)]
pub struct Swtpm {
    process: Process,
    port: u16,
    dir: PathBuf,
}

impl Swtpm {
    /// Powers on the TPM whose state is in `dir/state`; the first time that makes a new TPM.
    pub fn start(dir: &Path) -> Result<Self> {
        let state = dir.join("state");
        during(state.display().to_string(), fs::create_dir_all(&state))?;
        // The port may be gone between look and use; swtpm then ends at once.
        let mut outcome = Self::start_at(dir, ports::free_pair());
        for _ in 0..4 {
            if outcome.is_ok() {
                break;
            }
            outcome = Self::start_at(dir, ports::free_pair());
        }
        outcome
    }

    /// Power cut: killed, with no chance to save anything.
    pub fn cut(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Power on after a [cut](Self::cut), on the same port.
    pub fn power_on(&mut self) -> Result<()> {
        // Another test may have the port for a while.
        let powered = wait_for("swtpm is back on its port", START, || {
            Self::start_at(&self.dir, self.port).ok()
        })?;
        *self = powered;
        Ok(())
    }

    /// A command for one of tpm2-tools, which works on this TPM and in its directory. swtpm serves one
    /// connection at a time: drop others first.
    pub fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.current_dir(&self.dir);
        command.env("TPM2TOOLS_TCTI", self.tcti());
        command
    }

    /// Makes a TPM as its vendor would, then powers it on.
    pub fn manufacture(dir: &Path, how: &Manufacture) -> Result<Self> {
        let (state, ca) = (dir.join("state"), dir.join("ca"));
        for made in [&state, &ca] {
            during(made.display().to_string(), fs::create_dir_all(made))?;
        }
        let mut setup = Command::new("swtpm_setup");
        setup.arg("--tpm2").arg("--tpmstate").arg(&state);
        if how.ek_certificates {
            setup.args(["--create-ek-cert", "--ecc"]);
            setup.arg("--config").arg(test_ca(dir, &ca)?);
        }
        if !how.banks.is_empty() {
            setup.arg("--pcr-banks").arg(how.banks.join(","));
        }
        run(&mut setup)?;
        Self::start(dir)
    }

    fn start_at(dir: &Path, port: u16) -> Result<Self> {
        // Written after both ports are bound: no other swtpm can be taken for this one.
        let pid_file = dir.join("swtpm.pid");
        if pid_file.exists() {
            during("removing an old pid file", fs::remove_file(&pid_file))?;
        }
        let control = port + 1;
        let mut command = Command::new("swtpm");
        command
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .arg("--tpmstate")
            .arg(format!("dir={}", dir.join("state").display()))
            .arg("--pid")
            .arg(format!("file={}", pid_file.display()))
            .arg("--server")
            .arg(format!("type=tcp,port={port},bindaddr=127.0.0.1"))
            .arg("--ctrl")
            .arg(format!("type=tcp,port={control},bindaddr=127.0.0.1"));
        let mut process = Process::start("swtpm", &mut command, &dir.join("swtpm.log"))?;
        let own = process.id().to_string();
        process.wait_until("swtpm listens", START, || {
            let written = fs::read_to_string(&pid_file).ok()?;
            (written.trim() == own).then_some(())
        })?;
        Ok(Self {
            process,
            port,
            dir: dir.to_owned(),
        })
    }

    /// The data port; the control port is the next one.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The TCTI for tpm2-tools and tpm2-tss, when nothing is in front.
    pub fn tcti(&self) -> String {
        tcti(self.port)
    }

    /// Where state, log and CA are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Power off: swtpm saves what a TPM keeps, and ends.
    pub fn stop(mut self) -> Result<()> {
        let mut control = during(
            "swtpm's control port",
            TcpStream::connect(("127.0.0.1", self.port + 1)),
        )?;
        during(
            "CMD_SHUTDOWN",
            control.write_all(&CMD_SHUTDOWN.to_be_bytes()),
        )?;
        let mut result = [0; 4];
        during("CMD_SHUTDOWN", control.read_exact(&mut result))?;
        if result != [0; 4] {
            return Err(Error::Process(format!("CMD_SHUTDOWN failed: {result:?}")));
        }
        drop(control);
        self.process.wait_exit(START).map(drop)
    }

    /// Power off and on again: a TPM reset. The port may change.
    pub fn restart(self) -> Result<Self> {
        let dir = self.dir.clone();
        self.stop()?;
        Self::start(&dir)
    }
}

/// How tpm2-tools and tpm2-tss name a TPM in swtpm's framing.
pub fn tcti(port: u16) -> String {
    format!("swtpm:host=127.0.0.1,port={port}")
}

/// Writes the configuration of a test CA in `ca`; returns the one that `swtpm_setup` takes.
fn test_ca(dir: &Path, ca: &Path) -> Result<PathBuf> {
    let ca = ca.display();
    let local = dir.join("localca.conf");
    let text = format!(
        "statedir = {ca}\nsigningkey = {ca}/signkey.pem\nissuercert = {ca}/issuercert.pem\n\
         certserial = {ca}/certserial\n"
    );
    during(local.display().to_string(), fs::write(&local, text))?;
    let setup = dir.join("setup.conf");
    let text = format!(
        "create_certs_tool = {}\ncreate_certs_tool_config = {}\n\
         create_certs_tool_options = /etc/swtpm-localca.options\n",
        swtpm_localca()?.display(),
        local.display()
    );
    during(setup.display().to_string(), fs::write(&setup, text))?;
    Ok(setup)
}

/// `swtpm_setup` wants an absolute path.
fn swtpm_localca() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join("swtpm_localca"))
        .find(|file| file.is_file())
        .ok_or_else(|| Error::Process("swtpm_localca is not installed (swtpm-tools)".into()))
}
