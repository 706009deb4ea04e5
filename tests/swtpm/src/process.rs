//! Processes under test: each with its log, none outliving its owner, none killed but our own.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Error, Result, during};

const POLL: Duration = Duration::from_millis(10);
/// How long a process may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);
/// Lines of a log that an error shows.
const TAIL: usize = 15;

/// Polls `condition` until it gives a value.
///
/// # Errors
/// [`Error::Timeout`], naming `what`.
pub fn wait_for<T>(
    what: &str,
    timeout: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> Result<T> {
    let until = Instant::now() + timeout;
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if Instant::now() >= until {
            return Err(Error::Timeout {
                what: what.to_owned(),
                after: timeout,
            });
        }
        thread::sleep(POLL);
    }
}

/// A child process that is killed when dropped. Output goes to a log file, appended across
/// restarts.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; `name` is for messages, `log` takes its output.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let out = during(
            log.display().to_string(),
            File::options().append(true).create(true).open(log),
        )?;
        let err = during("a second handle on the log", out.try_clone())?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        Ok(Self {
            child: during(format!("starting {name}"), command.spawn())?,
            name: name.to_owned(),
            log: log.to_owned(),
        })
    }

    /// The process identifier.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has printed so far.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for `condition` as long as the process lives.
    ///
    /// # Errors
    /// [`Error::Process`] when it ends first, [`Error::Timeout`]; both with the end of its log.
    pub fn wait_until<T>(
        &mut self,
        what: &str,
        timeout: Duration,
        mut condition: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        let outcome = wait_for(what, timeout, || {
            let alive = self.is_running();
            condition().map(Some).or((!alive).then_some(None))
        });
        match outcome {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(Error::Process(format!(
                "{} ended while waiting for: {what}\n{}",
                self.name,
                self.tail()
            ))),
            Err(_) => Err(Error::Timeout {
                what: format!("{what}\n{}", self.tail()),
                after: timeout,
            }),
        }
    }

    /// Waits for it to end by itself.
    pub fn wait_exit(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let what = format!("{} ends", self.name);
        let child = &mut self.child;
        wait_for(&what, timeout, || child.try_wait().ok().flatten()).map_err(|_| Error::Timeout {
            what: format!("{what}\n{}", self.tail()),
            after: timeout,
        })
    }

    /// SIGTERM, and SIGKILL if that is not enough.
    pub fn stop(mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        if self.wait_exit(GRACE).is_err() {
            self.kill()?;
        }
        Ok(())
    }

    /// Sends a signal, unless the process has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if !self.is_running() {
            return Ok(());
        }
        // Not reaped yet, so the identifier is still this child's.
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal)
            .map_err(|error| Error::Io(format!("{signal} to {}", self.name), error.into()))
    }

    /// SIGKILL, as a power cut or `kill -9` does.
    pub fn kill(&mut self) -> Result<()> {
        during(format!("killing {}", self.name), self.child.kill())?;
        during(format!("waiting for {}", self.name), self.child.wait())?;
        Ok(())
    }

    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(TAIL);
        format!("--- {}\n{}", self.log.display(), lines[from..].join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end and returns its standard output.
///
/// # Errors
/// [`Error::Process`] with everything it printed, when it fails.
pub fn run(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let Output {
        status,
        stdout,
        stderr,
    } = during(shown.clone(), command.stdin(Stdio::null()).output())?;
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    if status.success() {
        return Ok(stdout);
    }
    Err(Error::Process(format!(
        "{shown}: {status}\n{stdout}{}",
        String::from_utf8_lossy(&stderr)
    )))
}

/// A directory of its own, removed when dropped; kept, and named, when the test fails.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Creates `mote-NAME-PID-N` in the system's directory for such files.
    pub fn new(name: &str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mote-{name}-{}-{number}", std::process::id());
        let path = env::temp_dir().join(name);
        during(path.display().to_string(), fs::create_dir(&path))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file in it; returns its path.
    pub fn write(&self, name: impl AsRef<Path>, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.join(name);
        during(path.display().to_string(), fs::write(&path, bytes))?;
        Ok(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("kept for a look: {}", self.0.display());
        } else {
            // Left-overs in a directory for temporary files do no harm.
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ends_early_is_told_with_its_log() {
        let dir = TempDir::new("process").unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo the reason; exit 3"]);
        let mut process = Process::start("sh", &mut shell, &dir.join("log")).unwrap();
        let error = process
            .wait_until("doomsday", Duration::from_secs(10), || None::<()>)
            .unwrap_err();
        assert!(matches!(error, Error::Process(_)));
        assert!(error.to_string().contains("the reason"), "{error}");
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let dir = TempDir::new("process").unwrap();
        let mut sleep = Command::new("sleep");
        let process = Process::start("sleep", sleep.arg("60"), &dir.join("log")).unwrap();
        let proc = PathBuf::from(format!("/proc/{}", process.id()));
        assert!(proc.exists());
        drop(process);
        assert!(!proc.exists());
    }
}
