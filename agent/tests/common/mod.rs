//! A swtpm of its own for each test, and tpm2-tools to check our work with.
// Each test binary compiles its own copy and uses part of it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod interposer;

use std::ffi::OsStr;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mote_agent::tpm::TpmAddress;

/// A directory below the system's temporary one, removed when dropped.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "mote-agent-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running swtpm; killed when dropped. Its state outlives it, in `dir`.
pub struct Swtpm {
    pub dir: Dir,
    port: u16,
    child: Option<Child>,
}

impl Swtpm {
    /// A TPM fresh from the factory.
    pub fn start() -> Self {
        Self::with_state(Dir::new())
    }

    /// A TPM whose state somebody has put into `dir`.
    pub fn with_state(dir: Dir) -> Self {
        let mut swtpm = Self {
            dir,
            port: 0,
            child: None,
        };
        for _ in 0..20 {
            swtpm.port = free_port_pair();
            if swtpm.power_on() {
                return swtpm;
            }
        }
        panic!("swtpm does not start");
    }

    pub fn address(&self) -> TpmAddress {
        format!("swtpm:127.0.0.1:{}", self.port).parse().unwrap()
    }

    /// Kills it, as a power cut does.
    pub fn power_off(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Power off and on again: a TPM reset.
    pub fn restart(&mut self) {
        self.power_off();
        for _ in 0..50 {
            if self.power_on() {
                return;
            }
        }
        panic!("swtpm does not start again on its port");
    }

    fn power_on(&mut self) -> bool {
        let channel = |port: u16| format!("type=tcp,port={port},bindaddr=127.0.0.1");
        let mut child = Command::new("swtpm")
            .args(["socket", "--tpm2", "--tpmstate"])
            .arg(format!("dir={}", self.dir.path().display()))
            .args(["--flags", "not-need-init,startup-clear", "--server"])
            .arg(channel(self.port))
            .arg("--ctrl")
            .arg(channel(self.port + 1))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("swtpm is installed (package swtpm)");
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            if TcpStream::connect(("127.0.0.1", self.port + 1)).is_ok() {
                self.child = Some(child);
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
        false
    }

    /// Runs one of tpm2-tools on this TPM. It serves one connection at a time: drop ours first.
    pub fn tool<A: AsRef<OsStr>>(&self, name: &str, args: &[A]) -> Vec<u8> {
        let tcti = format!("swtpm:host=127.0.0.1,port={}", self.port);
        run(Command::new(name).args(args).env("TPM2TOOLS_TCTI", tcti))
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        self.power_off();
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

/// A free TCP port whose successor is free too. swtpm's control port must be the data port + 1.
fn free_port_pair() -> u16 {
    loop {
        let Ok(first) = TcpListener::bind(("127.0.0.1", 0)) else {
            continue;
        };
        let port = first.local_addr().unwrap().port();
        if port < u16::MAX - 1 && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
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
