//! What tests need: recorded data, directories, tools, and a software TPM of their own.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mote_swtpm::Manufacture;

/// A directory of this test's own, removed when dropped.
pub(crate) struct TempDir(mote_swtpm::TempDir);

impl TempDir {
    pub(crate) fn new(label: &str) -> Self {
        TempDir(mote_swtpm::TempDir::new(label).unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
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

/// A running swtpm; tools work in its directory.
pub(crate) struct Swtpm {
    tpm: mote_swtpm::Swtpm,
    pub(crate) dir: TempDir,
}

impl Swtpm {
    /// A fresh TPM.
    pub(crate) fn start() -> Self {
        let dir = TempDir::new("swtpm");
        let tpm = mote_swtpm::Swtpm::start(dir.path()).unwrap();
        Self { tpm, dir }
    }

    /// A TPM as a factory leaves it: RSA-2048 and ECC P-384 EKs at 0x81010001 and 0x81010016, their
    /// certificates in NV (0x1c00002, 0x1c00016), and the maker's authority in `ca/`.
    pub(crate) fn manufactured() -> Self {
        let dir = TempDir::new("swtpm");
        let how = Manufacture {
            ek_certificates: true,
            ..Manufacture::default()
        };
        let tpm = mote_swtpm::Swtpm::manufacture(dir.path(), &how).unwrap();
        Self { tpm, dir }
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
            .arg(format!("127.0.0.1:{}", self.tpm.port() + 1))
            .arg("-i"));
        run(&mut self.command(startup));
    }

    fn command(&self, line: &str) -> Command {
        let mut words = line.split_whitespace();
        let mut command = self.tpm.tool(words.next().expect("a tool's name"));
        command.args(words);
        command
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.dir.file(name)).unwrap()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.dir.file(name), bytes).unwrap();
    }
}
