//! The same conversation on every link: over TLS with certificates both ways, and through datagrams
//! of 64 bytes.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use mote_schemas::coap::{Block, Code, Message, option};
use mote_tests::fleet::certificate;
use mote_tests::{Device, Manufacture, TempDir, Verifier, ports, process};

const PATIENCE: Duration = Duration::from_secs(120);

fn device(name: &str) -> Device {
    let device = Device::manufactured(
        name,
        &Manufacture {
            ek_certificates: true,
            ..Manufacture::default()
        },
    )
    .unwrap();
    device.kernel().append_until(120).unwrap();
    device
}

/// What makes a verifier admit it.
fn vouched(device: &Device) -> [String; 4] {
    let ca = device.dir().join("ca");
    let path = |name: &str| ca.join(name).display().to_string();
    [
        "--ek-root".to_owned(),
        path("swtpm-localca-rootca-cert.pem"),
        "--ek-intermediate".to_owned(),
        path("issuercert.pem"),
    ]
}

fn verifier(device: &Device, further: &[&str]) -> Verifier {
    let vouched = vouched(device);
    let arguments: Vec<&str> = vouched
        .iter()
        .map(String::as_str)
        .chain(further.iter().copied())
        .collect();
    Verifier::start(&arguments).unwrap()
}

fn once(device: &Device, arguments: &[&str]) -> Output {
    let mut command = device.agent_command().unwrap();
    command.arg("--once").args(arguments).output().unwrap()
}

fn trusted(output: &Output) {
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && log.contains("trusted"), "{log}");
}

#[test]
fn a_device_attests_over_tls_and_again_after_the_verifier_was_killed() {
    let mut device = device("tls");
    let dir = TempDir::new("tls").unwrap();
    for name in ["server", "client", "stranger"] {
        certificate(dir.path(), name).unwrap();
    }
    let path = |name: &str| dir.join(name).display().to_string();
    let (server, key, client) = (path("server.crt"), path("server.key"), path("client.crt"));
    let address = format!("127.0.0.1:{}", ports::free_pair());
    let mut verifier = verifier(
        &device,
        &[
            "--listen-tls",
            &address,
            "--tls-cert",
            &server,
            "--tls-key",
            &key,
            "--tls-client-ca",
            &client,
            "--interval",
            "1",
        ],
    );
    let verifier_key = verifier.state().join("verifier.pub");
    let extra = format!(
        "tls_ca = \"{server}\"\ntls_cert = \"{client}\"\ntls_key = \"{}\"\nstart_jitter = 0\n",
        path("client.key")
    );
    let url = format!("coaps+tcp://{address}");
    device
        .configure(&url, &verifier_key.display().to_string(), &extra)
        .unwrap();
    trusted(&once(&device, &[]));

    // Neither a server that we do not know, nor a client that it does not know.
    let refused = once(&device, &["--tls-pin", &"00".repeat(32)]);
    let log = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && log.contains("invalid peer certificate"),
        "{log}"
    );
    let (crt, key) = (path("stranger.crt"), path("stranger.key"));
    let refused = once(&device, &["--tls-cert", &crt, "--tls-key", &key]);
    assert!(!refused.status.success());

    device.start_agent().unwrap();
    let verdicts = |device: &mut Device| {
        let agent = device.agent().unwrap();
        agent.log().matches("trusted").count()
    };
    process::wait_for("three verdicts", PATIENCE, || {
        (verdicts(&mut device) >= 3).then_some(())
    })
    .unwrap();
    verifier.kill().unwrap();
    process::wait_for("the loss is noticed", PATIENCE, || {
        let log = device.agent()?.log();
        (log.contains("connection lost") || log.contains("nothing is lost")).then_some(())
    })
    .unwrap();
    verifier.launch().unwrap();
    let before = verdicts(&mut device);
    process::wait_for("a further verdict", PATIENCE, || {
        (verdicts(&mut device) > before).then_some(())
    })
    .unwrap();
}

#[test]
fn a_server_may_show_its_key_alone() {
    let device = device("raw");
    let dir = TempDir::new("raw").unwrap();
    certificate(dir.path(), "server").unwrap();
    let key = dir.join("server.key").display().to_string();
    let address = format!("127.0.0.1:{}", ports::free_pair());
    let verifier = verifier(&device, &["--listen-tls", &address, "--tls-key", &key]);
    let digest = process::run(Command::new("sh").args(["-c", DIGEST, &key])).unwrap();
    let pin = format!("tls_pin = \"raw:{}\"\n", &digest[..64]);
    let verifier_key = verifier.state().join("verifier.pub");
    device
        .configure(
            &format!("coaps+tcp://{address}"),
            &verifier_key.display().to_string(),
            &pin,
        )
        .unwrap();
    trusted(&once(&device, &[]));
    // A device that wants a certificate gets none.
    assert!(
        !once(&device, &["--tls-pin", &digest[..64]])
            .status
            .success()
    );
    assert!(
        !once(&device, &["--tls-pin", &format!("raw:{}", "00".repeat(32))])
            .status
            .success()
    );
}

/// SHA-256 of the public half of the key in `$0`.
const DIGEST: &str = "openssl pkey -in \"$0\" -pubout -outform der | sha256sum";

/// What went through a narrow path.
#[derive(Default)]
struct Seen {
    /// Largest datagram of a hello or its answer.
    largest: AtomicUsize,
    blocks: [AtomicUsize; 2],
    lost: AtomicUsize,
}

/// A path that loses, repeats and swaps datagrams now and then, and looks into those in the clear.
fn narrow(verifier: SocketAddr, stop: Arc<AtomicBool>) -> (SocketAddr, Arc<Seen>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let seen = Arc::new(Seen::default());
    let report = Arc::clone(&seen);
    socket
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    thread::spawn(move || {
        let up: Mutex<HashMap<SocketAddr, UdpSocket>> = Mutex::default();
        let (mut buffer, mut count) = ([0; 4096], 0_u32);
        while !stop.load(Ordering::Relaxed) {
            let Ok((len, from)) = socket.recv_from(&mut buffer) else {
                continue;
            };
            let mut up = up.lock().unwrap();
            let far = up.entry(from).or_insert_with(|| {
                let far = UdpSocket::bind("127.0.0.1:0").unwrap();
                far.connect(verifier).unwrap();
                far.set_read_timeout(Some(Duration::from_millis(500)))
                    .unwrap();
                far
            });
            look(&buffer[..len], &report);
            count += 1;
            if count % 61 == 0 {
                report.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            far.send(&buffer[..len]).unwrap();
            if count % 5 == 0 {
                far.send(&buffer[..len]).unwrap();
            }
            let mut answer = [0; 4096];
            while let Ok(len) = far.recv(&mut answer) {
                look(&answer[..len], &report);
                count += 1;
                if count % 67 == 0 {
                    report.lost.fetch_add(1, Ordering::Relaxed);
                } else {
                    socket.send_to(&answer[..len], from).unwrap();
                }
                if count % 5 != 0 {
                    break;
                }
                // Once more, late: behind the next one.
                socket.send_to(&answer[..len], from).unwrap();
                far.set_read_timeout(Some(Duration::from_millis(5)))
                    .unwrap();
            }
            far.set_read_timeout(Some(Duration::from_millis(500)))
                .unwrap();
        }
    });
    (address, seen)
}

fn look(datagram: &[u8], seen: &Seen) {
    let Ok(message) = Message::parse(datagram) else {
        return;
    };
    if message.option(option::OSCORE).is_some() {
        return;
    }
    seen.largest.fetch_max(datagram.len(), Ordering::Relaxed);
    for (at, number) in [option::BLOCK1, option::BLOCK2].into_iter().enumerate() {
        let block = Block::of(&message.body(), number).unwrap();
        if block.is_some_and(|block| block.number > 0) && message.code() != Code::POST {
            seen.blocks[at].fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn hello_with_an_ek_certificate_passes_through_datagrams_of_64_bytes() {
    let device = device("narrow");
    let verifier = verifier(&device, &[]);
    let stop = Arc::new(AtomicBool::new(false));
    let (path, seen) = narrow(verifier.address().parse().unwrap(), Arc::clone(&stop));
    let key = verifier.state().join("verifier.pub");
    device
        .configure(
            &path.to_string(),
            &key.display().to_string(),
            // Each loss costs a second or more.
            "datagram = 64\nack_timeout = 1\n",
        )
        .unwrap();
    trusted(&once(&device, &[]));
    stop.store(true, Ordering::Relaxed);
    let largest = seen.largest.load(Ordering::Relaxed);
    assert!(largest <= 64, "a datagram of {largest} bytes");
    let [sent, received] = &seen.blocks;
    let (sent, received) = (
        sent.load(Ordering::Relaxed),
        received.load(Ordering::Relaxed),
    );
    assert!(sent >= 30 && received >= 10, "{sent} and {received} blocks");
    let lost = seen.lost.load(Ordering::Relaxed);
    assert!(lost >= 4, "{lost} datagrams lost");
}
