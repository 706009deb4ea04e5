//! The agent opens no file for writing and changes none: strace says so.

use std::fs;
use std::path::Path;
use std::process::Command;

use mote_tests::{TempDir, Verifier};

use super::{BOOTED, UNKNOWN, booted, enrolled};

/// Calls that change a file system without opening a file.
const CHANGES: &[&str] = &[
    "creat",
    "truncate",
    "rename",
    "unlink",
    "link",
    "symlink",
    "mkdir",
    "rmdir",
    "mknod",
    "chmod",
    "fchmodat",
    "chown",
    "lchown",
    "fchownat",
    "utime",
    "setxattr",
    "lsetxattr",
    "removexattr",
];
const WRITING: &[&str] = &[
    "O_WRONLY",
    "O_RDWR",
    "O_CREAT",
    "O_TRUNC",
    "O_APPEND",
    "O_TMPFILE",
];

/// The command under strace; its trace goes to a file.
fn traced(command: &Command, trace: &Path) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", "trace=%file", "-o"]);
    strace.arg(trace).arg(command.get_program());
    strace.args(command.get_args());
    strace
}

/// Lines of a trace that wrote: opened for writing, or changed without opening.
fn writes(trace: &str) -> Vec<&str> {
    let call = |line: &str| -> String {
        let line = line.split_once(' ').map_or(line, |(_, call)| call).trim();
        line.split('(').next().unwrap_or_default().to_owned()
    };
    trace
        .lines()
        .filter(|line| !line.contains(" = -1 E"))
        .filter(|line| {
            let name = call(line);
            CHANGES.iter().any(|changing| name.starts_with(changing))
                || WRITING.iter().any(|flag| line.contains(flag))
        })
        .collect()
}

#[test]
fn the_agent_only_reads() {
    let verifier = Verifier::start(&["--interval", "1"]).unwrap();
    let device = booted("reads", &verifier, "");
    let dir = TempDir::new("strace").unwrap();
    let mut all = String::new();
    // Enrolled, trusted, untrusted: every step of the conversation, and its exit code.
    for (number, code) in [(0, 3), (1, 0), (2, 1)] {
        match number {
            1 => {
                let id = enrolled(&verifier, 1).remove(0);
                verifier.motectl(&["device", "admit", &id]).unwrap();
            }
            2 => device.kernel().append_path(UNKNOWN).unwrap(),
            _ => {}
        }
        let trace = dir.join(format!("trace.{number}"));
        let mut agent = device.agent_command().unwrap();
        let output = traced(agent.arg("--once"), &trace).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        all += &fs::read_to_string(trace).unwrap();
    }
    assert_eq!(device.kernel().records().unwrap(), BOOTED + 1);
    let list = format!("{}\", O_RDONLY", device.kernel().list().display());
    assert!(all.contains(&list), "strace did not see the list read");
    let written = writes(&all);
    assert!(written.is_empty(), "{}", written.join("\n"));
}

#[test]
fn the_check_sees_a_program_that_writes() {
    let dir = TempDir::new("strace").unwrap();
    let (trace, target) = (dir.join("trace"), dir.join("target"));
    let script = [
        ("echo > $0", 1),
        ("mkdir $0.d", 1),
        ("ln -s x $0.l", 1),
        ("cat < /dev/null", 0),
    ];
    for (script, expected) in script {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).arg(&target);
        assert!(traced(&shell, &trace).status().unwrap().success());
        let text = fs::read_to_string(&trace).unwrap();
        let written = writes(&text);
        assert_eq!(written.len(), expected, "{script}: {written:?}");
    }
}
