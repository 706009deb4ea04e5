//! A path that carries 64 bytes and no more: the largest keys, every PCR and a path of thousands of bytes
//! go through it all the same.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mote_tests::Verifier;

use super::{BOOTED, becomes, boot, enrolled};

/// Largest datagram that passes, in bytes.
const NARROW: usize = 64;

/// A middle box in front of `verifier`: drops what is too large, and counts it.
struct Path {
    address: SocketAddr,
    dropped: Arc<AtomicUsize>,
}

impl Path {
    fn to(verifier: SocketAddr) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").unwrap();
        let back = UdpSocket::bind("127.0.0.1:0").unwrap();
        back.connect(verifier).unwrap();
        let address = front.local_addr().unwrap();
        let dropped = Arc::new(AtomicUsize::new(0));
        // One agent: whoever spoke last gets the answers. The threads end with the test's process.
        let (up, down) = (front.try_clone().unwrap(), back.try_clone().unwrap());
        let (count_up, count_down) = (Arc::clone(&dropped), Arc::clone(&dropped));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((len, from)) = up.recv_from(&mut buffer) {
                if len > NARROW {
                    count_up.fetch_add(1, Ordering::Relaxed);
                } else {
                    up.connect(from).unwrap();
                    // An absent verifier is a lost datagram.
                    let _ = down.send(&buffer[..len]);
                }
            }
        });
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                match back.recv(&mut buffer) {
                    Ok(len) if len > NARROW => {
                        count_down.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(len) => {
                        let _ = front.send(&buffer[..len]);
                    }
                    // Nobody there for a moment.
                    Err(_) => {}
                }
            }
        });
        Path { address, dropped }
    }
}

#[test]
fn an_rsa_device_attests_all_of_its_state_over_a_path_of_64_bytes() {
    let verifier = Verifier::start(&["--interval", "1"]).unwrap();
    let path = Path::to(verifier.address().parse().unwrap());
    let mut device = mote_tests::Device::new("narrow").unwrap();
    let extra = format!(
        "ek = \"rsa\"\nak = \"rsa\"\ndatagram = {NARROW}\n\
         pcrs = \"sha1:0-10+sha256:0-10+sha384:0-10\"\n"
    );
    boot(&device, &verifier, &extra);
    let key = verifier.state().join("verifier.pub");
    let address = path.address.to_string();
    let extra = format!("start_jitter = 0\n{extra}");
    device
        .configure(&address, &key.display().to_string(), &extra)
        .unwrap();
    device.start_agent().unwrap();
    let id = enrolled(&verifier, 1).remove(0);
    verifier.motectl(&["device", "admit", &id]).unwrap();
    becomes(&verifier, &id, "trusted", BOOTED);

    // A record of 3.6 kB that nobody knows.
    let long = format!("/opt/{}intruder", "deep/".repeat(700));
    let digest = format!("sha256:{}", "5a".repeat(32));
    device.kernel().append_file(&long, &digest).unwrap();
    becomes(&verifier, &id, "untrusted", BOOTED + 1);
    let explained = verifier.motectl(&["explain", &id]).unwrap();
    assert!(explained.contains("/deep/intruder"), "{explained}");
    assert_eq!(path.dropped.load(Ordering::Relaxed), 0, "larger datagrams");
}
