//! What tests need: recorded data, directories, tools, and a software TPM of their own.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A directory of this test's own, removed when dropped.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new(label: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let path = std::env::temp_dir().join(format!(
            "mote-{label}-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        fs::create_dir(&path).unwrap();
        TempDir(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Bytes of a hexadecimal string.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "odd number of digits: {text}");
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
        .collect()
}

/// A file recorded from a real kernel; `README.md` beside it says where from.
pub(crate) fn recorded(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/data/debian12-amd64-6.1")
        .join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs a command to its end; panics with its output when it fails.
pub(crate) fn run(command: &mut Command) -> Vec<u8> {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}: is it installed?"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// A running swtpm.
pub(crate) struct Swtpm {
    process: Child,
    port: u16,
    pub(crate) dir: TempDir,
}

impl Swtpm {
    /// A fresh TPM.
    pub(crate) fn start() -> Self {
        Self::start_in(TempDir::new("swtpm"))
    }

    /// A TPM as a factory leaves it: RSA-2048 and ECC P-384 EKs at 0x81010001 and 0x81010016, their
    /// certificates in NV (0x1c00002, 0x1c00016), and the maker's authority in `ca/`.
    pub(crate) fn manufactured() -> Self {
        let dir = TempDir::new("swtpm");
        let path = dir.path().display();
        fs::create_dir(dir.file("ca")).unwrap();
        fs::write(
            dir.file("localca.conf"),
            format!(
                "statedir = {path}/ca\nsigningkey = {path}/ca/signkey.pem\n\
                 issuercert = {path}/ca/issuercert.pem\ncertserial = {path}/ca/certserial\n"
            ),
        )
        .unwrap();
        fs::write(
            dir.file("setup.conf"),
            format!(
                "create_certs_tool = /usr/bin/swtpm_localca\n\
                 create_certs_tool_config = {path}/localca.conf\n\
                 create_certs_tool_options = /etc/swtpm-localca.options\n"
            ),
        )
        .unwrap();
        run(Command::new("swtpm_setup")
            .args(["--tpm2", "--create-ek-cert", "--ecc", "--overwrite"])
            .arg("--tpmstate")
            .arg(dir.path())
            .arg("--config")
            .arg(dir.file("setup.conf")));
        Self::start_in(dir)
    }

    fn start_in(dir: TempDir) -> Self {
        // Another process may take the ports between our look and swtpm's: then it ends at once.
        for _ in 0..20 {
            let port = free_port_pair();
            let mut process = Command::new("swtpm")
                .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
                .arg("--tpmstate")
                .arg(format!("dir={}", dir.path().display()))
                .arg("--server")
                .arg(format!("type=tcp,port={port},bindaddr=127.0.0.1"))
                .arg("--ctrl")
                .arg(format!("type=tcp,port={},bindaddr=127.0.0.1", port + 1))
                .spawn()
                .expect("swtpm is installed");
            let deadline = Instant::now() + Duration::from_secs(10);
            while Instant::now() < deadline && process.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port + 1)).is_ok() {
                    return Swtpm { process, port, dir };
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = process.kill();
            let _ = process.wait();
        }
        panic!("swtpm did not start");
    }

    /// Runs a tool of tpm2-tools in the TPM's directory; words are split at blanks. Then flushes
    /// transient objects, of which the TPM holds three.
    pub(crate) fn tool(&self, line: &str) {
        run(&mut self.command(line));
        run(&mut self.command("tpm2_flushcontext -t"));
    }

    /// Whether such a tool ends well.
    pub(crate) fn tool_succeeds(&self, line: &str) -> bool {
        let done = self.command(line).output().unwrap().status.success();
        run(&mut self.command("tpm2_flushcontext -t"));
        done
    }

    /// Power off and on again, with these commands before and after.
    pub(crate) fn power_cycle(&self, shutdown: &str, startup: &str) {
        run(&mut self.command(shutdown));
        run(Command::new("swtpm_ioctl")
            .arg("--tcp")
            .arg(format!("127.0.0.1:{}", self.port + 1))
            .arg("-i"));
        run(&mut self.command(startup));
    }

    fn command(&self, line: &str) -> Command {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().expect("a tool's name"));
        command.args(words).current_dir(self.dir.path()).env(
            "TPM2TOOLS_TCTI",
            format!("swtpm:host=127.0.0.1,port={}", self.port),
        );
        command
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.dir.file(name)).unwrap()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.dir.file(name), bytes).unwrap();
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A free port whose successor is free too: the TCTI for swtpm insists on that pair.
fn free_port_pair() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}
