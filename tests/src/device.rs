//! A whole device: TPM, kernel and, where a test wants one, the agent.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::{Error, Result, during};
use crate::process::{Process, TempDir};
use crate::program::program;
use crate::recorded;
use crate::simkernel::control;
use crate::swtpm::{Manufacture, Swtpm, tcti};

const BOOT: Duration = Duration::from_secs(120);

/// A running `mote-simkernel`.
#[derive(Debug)]
pub struct SimKernel {
    process: Process,
    socket: PathBuf,
    list: PathBuf,
    port: u16,
}

impl SimKernel {
    /// Boots a kernel on a TPM that was just powered on; files go to `dir`. When this returns, the
    /// boot is measured and the list holds `boot_aggregate`.
    pub fn boot(swtpm: &Swtpm, dir: &Path) -> Result<Self> {
        Self::boot_at(swtpm, dir, 0)
    }

    /// The same, with the TPM lent out at `port` (and the one after it); 0 finds a free pair.
    pub fn boot_at(swtpm: &Swtpm, dir: &Path, port: u16) -> Result<Self> {
        let (socket, list) = (
            dir.join("kernel.sock"),
            dir.join("binary_runtime_measurements"),
        );
        let mut command = program("mote-simkernel")?;
        command
            .arg("run")
            .arg("--swtpm")
            .arg(format!("127.0.0.1:{}", swtpm.port()))
            .arg("--listen")
            .arg(format!("127.0.0.1:{port}"))
            .arg("--data")
            .arg(recorded::dir())
            .arg("--list")
            .arg(&list)
            .arg("--control")
            .arg(&socket);
        let log = dir.join("kernel.log");
        let mut process = Process::start("mote-simkernel", &mut command, &log)?;
        let status = process.wait_until("the kernel boots", BOOT, || {
            control::tell(&socket, "status", Duration::ZERO).ok()
        })?;
        let port = field(&status, "port")?
            .parse()
            .map_err(|_| Error::Malformed(status))?;
        Ok(Self {
            process,
            socket,
            list,
            port,
        })
    }

    /// Sends a line of the protocol in [`crate::simkernel::control`]; returns the status after it.
    pub fn tell(&self, line: &str) -> Result<String> {
        Ok(control::tell(&self.socket, line, Duration::ZERO)?)
    }

    /// Measures the next `count` recorded records.
    pub fn append(&self, count: usize) -> Result<()> {
        self.tell(&format!("append {count}")).map(drop)
    }

    /// Measures recorded records until the list holds `records`.
    pub fn append_until(&self, records: usize) -> Result<()> {
        self.tell(&format!("append-until {records}")).map(drop)
    }

    /// Measures the recorded record of `path`, out of turn.
    pub fn append_path(&self, path: &str) -> Result<()> {
        self.tell(&format!("append-path {path}")).map(drop)
    }

    /// Measures a file that the recorded device never had.
    pub fn append_file(&self, path: &str, digest: &str) -> Result<()> {
        self.tell(&format!("append-file {path} {digest}")).map(drop)
    }

    /// Records a violation.
    pub fn violation(&self, path: &str) -> Result<()> {
        self.tell(&format!("violation {path}")).map(drop)
    }

    /// Records in the list.
    pub fn records(&self) -> Result<usize> {
        let status = self.tell("status")?;
        let number = field(&status, "records")?.parse();
        number.map_err(|_| Error::Malformed(status))
    }

    /// The port where the TPM is lent out, in swtpm's framing.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The TCTI for tpm2-tools.
    pub fn tcti(&self) -> String {
        tcti(self.port)
    }

    /// The IMA list's file.
    pub fn list(&self) -> &Path {
        &self.list
    }

    /// The process, for its log or to kill it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// The value of `NAME=VALUE` in a status line.
fn field<'a>(status: &'a str, name: &str) -> Result<&'a str> {
    let value = status.split(' ').find_map(|word| {
        let (key, value) = word.split_once('=')?;
        (key == name).then_some(value)
    });
    value.ok_or_else(|| Error::Malformed(format!("no {name} in '{status}'")))
}

/// A TPM with a booted kernel on it, in a directory of its own.
#[derive(Debug)]
pub struct Device {
    // Dropped in this order: the agent before the kernel before the TPM before their files.
    agent: Option<Process>,
    kernel: Option<SimKernel>,
    swtpm: Option<Swtpm>,
    dir: TempDir,
}

impl Device {
    /// A new device with a TPM as swtpm makes it, switched on.
    pub fn new(name: &str) -> Result<Self> {
        Self::with(name, Swtpm::start)
    }

    /// A new device whose TPM comes from a factory, switched on.
    pub fn manufactured(name: &str, how: &Manufacture) -> Result<Self> {
        Self::with(name, |dir| Swtpm::manufacture(dir, how))
    }

    fn with(name: &str, tpm: impl FnOnce(&Path) -> Result<Swtpm>) -> Result<Self> {
        let dir = TempDir::new(name)?;
        let swtpm = tpm(dir.path())?;
        let kernel = SimKernel::boot(&swtpm, dir.path())?;
        Ok(Self {
            agent: None,
            kernel: Some(kernel),
            swtpm: Some(swtpm),
            dir,
        })
    }

    /// The kernel.
    ///
    /// # Panics
    /// When a failed [`Device::reboot`] left the device switched off.
    pub fn kernel(&self) -> &SimKernel {
        self.kernel
            .as_ref()
            .unwrap_or_else(|| panic!("the device is off"))
    }

    /// The device's directory: logs, TPM state, list, agent configuration.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes the agent's configuration and returns its path. `extra` is further TOML.
    pub fn configure(&self, verifier: &str, verifier_key: &str, extra: &str) -> Result<PathBuf> {
        let kernel = self.kernel();
        let path = self.dir.join("agent.toml");
        let text = format!(
            "verifier = \"{verifier}\"\nverifier_key = \"{verifier_key}\"\n\
             tpm = \"swtpm:127.0.0.1:{}\"\nima_log = \"{}\"\n{extra}",
            kernel.port(),
            kernel.list().display()
        );
        during(path.display().to_string(), fs::write(&path, text))?;
        Ok(path)
    }

    /// The agent with the configuration that [`Device::configure`] wrote; add arguments, then run.
    pub fn agent_command(&self) -> Result<Command> {
        let mut command = program("mote-agent")?;
        command.arg("--config").arg(self.dir.join("agent.toml"));
        Ok(command)
    }

    /// Starts the agent as a daemon; it ends with the device or at the next reboot. One that runs
    /// already is stopped first, in an orderly way: killed, it would leave its key in the TPM, which
    /// has no resource manager here.
    pub fn start_agent(&mut self) -> Result<()> {
        if let Some(agent) = self.agent.take() {
            agent.stop()?;
        }
        let mut command = self.agent_command()?;
        let log = self.dir.join("agent.log");
        self.agent = Some(Process::start("mote-agent", &mut command, &log)?);
        Ok(())
    }

    /// The agent, if it was started.
    pub fn agent(&mut self) -> Option<&mut Process> {
        self.agent.as_mut()
    }

    /// Restarts the device in an orderly way: agent stopped, `TPM2_Shutdown`, power off and on. The
    /// list starts over. The agent must be started anew; its configuration still holds.
    pub fn reboot(&mut self) -> Result<()> {
        if let Some(agent) = self.agent.take() {
            agent.stop()?;
        }
        self.kernel().tell("shutdown")?;
        self.power_cycle()
    }

    /// Cuts the power without warning and restores it.
    pub fn power_cut(&mut self) -> Result<()> {
        self.agent = None;
        self.power_cycle()
    }

    fn power_cycle(&mut self) -> Result<()> {
        let port = self.kernel().port();
        self.kernel = None;
        if let Some(swtpm) = self.swtpm.take() {
            let swtpm = swtpm.restart()?;
            self.kernel = Some(SimKernel::boot_at(&swtpm, self.dir.path(), port)?);
            self.swtpm = Some(swtpm);
        }
        Ok(())
    }
}
