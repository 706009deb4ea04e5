//! The other side: a verifier with its directory, and the operator's tool.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::error::{Error, Result, during};
use crate::ports;
use crate::process::{Process, TempDir, run};
use crate::program::program;
use crate::recorded;

/// For a start, which a loaded machine may take its time for.
const START: Duration = Duration::from_secs(120);

/// Files that a manifest of the recorded device leaves out, because they change while it runs.
pub const EXCLUDED: [&str; 2] = ["/var/log/journal/**", "/var/lib/systemd/random-seed"];
/// Not part of the recorded root file system: the script that made the recording, run as the
/// device's one service (record 285). Its digest is the one in the recorded list.
const CAPTURE: &str =
    "6b3e278540adf0ae61b85923bbe63fb2e102a349378a71d8b9a74b2a650c6ae0  /capture.sh\n";

/// A verifier's directory, its manifest of the recorded device, and its process while it runs.
#[derive(Debug)]
pub struct Verifier {
    process: Option<Process>,
    port: u16,
    arguments: Vec<String>,
    dir: TempDir,
}

impl Verifier {
    /// Makes keys and a signed manifest of the recorded device, and starts a verifier with them.
    /// `arguments` are added to `mote-verifier`'s command line at every start.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        let dir = TempDir::new("verifier")?;
        let sums = dir.join("rootfs.sha256");
        during(sums.display().to_string(), fs::write(&sums, sha256sums()?))?;
        let key = dir.join("manifest.key");
        run(program("motectl")?.args(["key", "new", "-o"]).arg(&key))?;
        let mut build = program("motectl")?;
        build.args(["manifest", "build", "--sha256sums"]).arg(&sums);
        for glob in EXCLUDED {
            build.args(["--exclude", glob]);
        }
        run(build
            .arg("--sign")
            .arg(&key)
            .arg("-o")
            .arg(dir.join("manifest")))?;
        let mut verifier = Self {
            process: None,
            port: ports::free_udp(),
            arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
            dir,
        };
        verifier.launch()?;
        Ok(verifier)
    }

    /// Starts the process (again), at the same port, on what the directory holds.
    pub fn launch(&mut self) -> Result<()> {
        let mut command = program("mote-verifier")?;
        command
            .arg("--state")
            .arg(self.state())
            .arg("--listen")
            .arg(self.address())
            .arg("--manifest")
            .arg(self.dir.join("manifest"))
            .arg("--manifest-key")
            .arg(self.dir.join("manifest.key.pub"))
            .args(&self.arguments);
        let log = self.dir.join("verifier.log");
        // motectl would not tell: it reads the store itself while no verifier runs, which is before this one has
        // made its key.
        let starts = || {
            let said = fs::read_to_string(&log).unwrap_or_default();
            said.matches(", public key in ").count()
        };
        let before = starts();
        let mut process = Process::start("mote-verifier", &mut command, &log)?;
        let listens = || (starts() > before).then_some(());
        process.wait_until("the verifier says that it listens", START, listens)?;
        self.process = Some(process);
        Ok(())
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> Result<()> {
        self.process
            .take()
            .map_or(Ok(()), |mut process| process.kill())
    }

    /// Runs `motectl --state DIR WORDS...` and returns what it prints.
    pub fn motectl(&self, words: &[&str]) -> Result<String> {
        run(program("motectl")?
            .arg("--state")
            .arg(self.state())
            .args(words))
    }

    /// `127.0.0.1:PORT`, for the agent's configuration.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The verifier's state directory (`--state`).
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The directory with keys, manifest, log and state.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// Makes `NAME.key` and `NAME.crt` in `dir`: a self-signed certificate for this machine.
pub fn certificate(dir: &Path, name: &str) -> Result<()> {
    let mut openssl = Command::new("openssl");
    openssl
        .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "30"])
        .args(["-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-subj")
        .arg(format!("/CN={name}"))
        .arg("-keyout")
        .arg(dir.join(format!("{name}.key")))
        .arg("-out")
        .arg(dir.join(format!("{name}.crt")));
    run(&mut openssl).map(drop)
}

/// The reference values of the recorded device as `sha256sum` prints them.
pub fn sha256sums() -> Result<Vec<u8>> {
    let packed = recorded::read("rootfs.sha256.gz")?;
    let mut gzip = during(
        "starting gzip",
        Command::new("gzip")
            .arg("-dc")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn(),
    )?;
    let stdin = gzip.stdin.take();
    // Fed from a thread: gzip's output would fill the pipe before all input is taken.
    let feeder = std::thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&packed)));
    let output = during("gzip", gzip.wait_with_output())?;
    let fed = feeder.join();
    if !output.status.success() || !matches!(fed, Ok(Some(Ok(())))) {
        return Err(Error::Malformed(
            "rootfs.sha256.gz cannot be unpacked".into(),
        ));
    }
    let mut sums = output.stdout;
    sums.extend_from_slice(CAPTURE.as_bytes());
    Ok(sums)
}
