//! The harness's own promise: a device made of swtpm and the simulated kernel is, to everyone who
//! looks at its TPM and its list, the device that was recorded.

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::thread;

use mote_tests::process::run;
use mote_tests::simkernel::bank::Bank;
use mote_tests::simkernel::ima;
use mote_tests::{
    Device, Error, Manufacture, SimKernel, Swtpm, TempDir, fleet, hex, recorded, wait_for,
};

use super::PATIENCE;

const RECORDS: usize = 2390;
/// A SHA-256 that no recorded file has.
const UNKNOWN: &str = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";

/// What tpm2-tools say about a TPM.
fn tpm2(tcti: &str, words: &[&str]) -> String {
    let mut command = Command::new(format!("tpm2_{}", words[0]));
    run(command.args(&words[1..]).env("TPM2TOOLS_TCTI", tcti)).unwrap()
}

/// One PCR as `tpm2_pcrread` prints it, in lower-case hex.
fn pcr(tcti: &str, bank: &str, number: u8) -> String {
    let printed = tpm2(tcti, &["pcrread", &format!("{bank}:{number}")]);
    let value = printed.split("0x").nth(1).expect("a PCR value").trim();
    value.to_lowercase()
}

fn reset_count(tcti: &str) -> u32 {
    let clock = tpm2(tcti, &["readclock"]);
    let line = clock
        .lines()
        .find_map(|line| line.trim().strip_prefix("reset_count:"));
    line.expect("reset_count").trim().parse().expect("a number")
}

#[test]
fn after_all_recorded_records_the_pcrs_are_the_recorded_ones() {
    let device = Device::new("replay").unwrap();
    let kernel = device.kernel();
    assert_eq!(kernel.records().unwrap(), 1, "boot_aggregate only");
    kernel.append_until(RECORDS).unwrap();

    let list = fs::read(kernel.list()).unwrap();
    assert!(list == recorded::read("binary_runtime_measurements").unwrap());
    let expected = recorded::pcrs().unwrap();
    for bank in [Bank::Sha1, Bank::Sha256, Bank::Sha384] {
        for number in 0..=10 {
            assert_eq!(
                pcr(&kernel.tcti(), bank.name(), number),
                hex::encode(&expected[&(bank, number)]),
                "{} PCR {number}",
                bank.name()
            );
        }
    }
    let error = kernel.append(1).unwrap_err();
    assert!(error.to_string().contains("0 left"), "{error}");
    assert_eq!(kernel.records().unwrap(), RECORDS);
}

#[test]
fn two_clients_and_the_kernel_take_turns() {
    let device = Device::new("turns").unwrap();
    let kernel = device.kernel();
    let tcti = kernel.tcti();
    let client = |bytes: &'static str| {
        let tcti = tcti.clone();
        thread::spawn(move || {
            for _ in 0..15 {
                let random = tpm2(&tcti, &["getrandom", "--hex", bytes]);
                assert_eq!(random.trim().len(), 2 * bytes.parse::<usize>().unwrap());
            }
        })
    };
    let (one, other) = (client("8"), client("32"));
    let mut steps = 0;
    while !one.is_finished() || !other.is_finished() {
        kernel.append(1).unwrap();
        steps += 1;
    }
    one.join().unwrap();
    other.join().unwrap();
    assert!(
        steps > 2,
        "the kernel measured only {steps} files meanwhile"
    );

    // Whatever came between, the list still replays to the PCR.
    let list = fs::read(kernel.list()).unwrap();
    let records = ima::records(&list).unwrap();
    let bank = Bank::Sha256;
    let replayed = ima::replay(&records, bank);
    assert_eq!(pcr(&tcti, "sha256", 10), hex::encode(&replayed));
}

#[test]
fn a_record_is_in_the_list_before_it_is_in_the_tpm() {
    let device = Device::new("race").unwrap();
    let kernel = device.kernel();
    let tcti = kernel.tcti();
    // A loaded machine may take longer to look than the kernel holds back.
    for held_back in [1_000, 10_000, 60_000] {
        let before = fs::metadata(kernel.list()).unwrap().len();
        let old = pcr(&tcti, "sha256", 10);
        kernel.tell(&format!("delay {held_back}")).unwrap();
        let seen = thread::scope(|scope| {
            let append = scope.spawn(|| kernel.append(1));
            wait_for("the list grows", PATIENCE, || {
                (fs::metadata(kernel.list()).ok()?.len() > before).then_some(())
            })
            .unwrap();
            let meanwhile = pcr(&tcti, "sha256", 10);
            let in_time = !append.is_finished();
            append.join().unwrap().unwrap();
            in_time.then_some(meanwhile)
        });
        assert_ne!(pcr(&tcti, "sha256", 10), old);
        if let Some(meanwhile) = seen {
            assert_eq!(meanwhile, old);
            return;
        }
    }
    panic!("too slow to see the race");
}

#[test]
fn files_out_of_turn_unknown_files_and_violations_are_measured() {
    let device = Device::new("synthetic").unwrap();
    let kernel = device.kernel();
    kernel.append_path("/usr/local/bin/job1").unwrap();
    let again = kernel.append_path("/usr/local/bin/job1").unwrap_err();
    assert!(
        again
            .to_string()
            .contains("no record of /usr/local/bin/job1 left")
    );
    kernel.append_file("/tmp/not a known one", UNKNOWN).unwrap();
    kernel.violation("/var/log/wtmp").unwrap();

    let list = fs::read(kernel.list()).unwrap();
    let records = ima::records(&list).unwrap();
    let paths: Vec<&str> = records.iter().map(|record| record.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "boot_aggregate",
            "/usr/local/bin/job1",
            "/tmp/not a known one",
            "/var/log/wtmp"
        ]
    );
    for bank in [Bank::Sha1, Bank::Sha256] {
        let replayed = ima::replay(&records, bank);
        assert_eq!(pcr(&kernel.tcti(), bank.name(), 10), hex::encode(&replayed));
    }
}

#[test]
fn a_client_that_talks_nonsense_disturbs_nobody() {
    let device = Device::new("nonsense").unwrap();
    let port = device.kernel().port();
    for message in [
        &b"\x80\x01\xff\xff\xff\xff\0\0\x01\x44"[..], // a size that no command has
        b"\x80\x01\0\0\0\x09\0\0\x01\x44",            // shorter than its own header
        b"\x80\x01\0\0\0\x0c\0\0\x01\x7b",            // and then nothing more
    ] {
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.write_all(message).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // Closed, or reset because the kernel left bytes unread.
        let _ = client.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{message:x?} was answered: {answer:x?}");
    }
    let random = tpm2(&device.kernel().tcti(), &["getrandom", "--hex", "8"]);
    assert_eq!(random.trim().len(), 16);
}

#[test]
fn refused_commands_change_nothing() {
    let device = Device::new("refused").unwrap();
    let kernel = device.kernel();
    let before = kernel.tell("status").unwrap();
    for line in [
        "append 2390",
        "append -1",
        "append",
        "append-until 0",
        "append-path /nowhere",
        "append-file /a",
        "append-file /a 1234",
        "violation ",
        "halt",
        "",
    ] {
        let error = kernel.tell(line).unwrap_err();
        assert!(matches!(error, Error::Other(_)), "{line}: {error}");
    }
    assert_eq!(kernel.tell("status").unwrap(), before);
}

#[test]
fn a_reboot_counts_and_starts_the_list_over() {
    let mut device = Device::new("reboot").unwrap();
    device.kernel().append(20).unwrap();
    let (first, port) = (reset_count(&device.kernel().tcti()), device.kernel().port());
    device.reboot().unwrap();
    assert_eq!(
        device.kernel().port(),
        port,
        "clients find the TPM where it was"
    );
    assert_eq!(reset_count(&device.kernel().tcti()), first + 1);
    assert_eq!(device.kernel().records().unwrap(), 1);

    device.power_cut().unwrap();
    assert_eq!(reset_count(&device.kernel().tcti()), first + 2);
    let clock = tpm2(&device.kernel().tcti(), &["readclock"]);
    assert!(clock.contains("safe: no"), "after a power cut: {clock}");
}

#[test]
fn a_kernel_refuses_a_tpm_that_was_not_reset() {
    let dir = TempDir::new("stale").unwrap();
    let swtpm = Swtpm::start(dir.path()).unwrap();
    drop(SimKernel::boot(&swtpm, dir.path()).unwrap());
    let error = SimKernel::boot(&swtpm, dir.path()).unwrap_err();
    assert!(error.to_string().contains("restart swtpm first"), "{error}");
}

#[test]
fn a_manufactured_tpm_has_certificates_and_the_chosen_banks() {
    let how = Manufacture {
        ek_certificates: true,
        banks: vec!["sha256"],
    };
    let device = Device::manufactured("factory", &how).unwrap();
    let tcti = device.kernel().tcti();
    let status = device.kernel().tell("status").unwrap();
    assert!(
        status.contains("pcr10.sha256=") && !status.contains("sha1"),
        "{status}"
    );
    let handles = tpm2(&tcti, &["getcap", "handles-persistent"]);
    assert!(handles.contains("0x81010016"), "{handles}");
    let indices = tpm2(&tcti, &["getcap", "handles-nv-index"]);
    assert!(indices.contains("0x1C00016"), "{indices}");
    assert!(device.dir().join("ca/issuercert.pem").is_file());
}

#[test]
fn the_manifest_input_covers_every_recorded_file_but_the_jobs() {
    let sums = String::from_utf8(fleet::sha256sums().unwrap()).unwrap();
    let known: HashSet<&str> = sums.lines().collect();
    let list = recorded::read("binary_runtime_measurements").unwrap();
    let records = ima::records(&list).unwrap();
    let unknown: Vec<&str> = records
        .iter()
        .filter(|record| {
            let (_, digest) = record.file_digest().unwrap();
            !known.contains(format!("{}  {}", hex::encode(digest), record.path).as_str())
        })
        .map(|record| record.path.as_str())
        .collect();
    assert_eq!(
        unknown,
        [
            "boot_aggregate",
            "/var/lib/systemd/random-seed",
            "/var/log/journal/8b8017fc889346a08ccc1067e4e93a03/system.journal",
            "/usr/local/bin/job1",
            "/usr/local/bin/job2",
            "/usr/local/bin/job3",
            "/usr/local/bin/job4",
            "/usr/local/bin/job5",
            "/usr/local/bin/job6",
            "/usr/local/bin/job7",
        ]
    );
}
