//! Stands between the agent and a swtpm and slips in commands of its own, as a kernel does that
//! measures files while the agent is at work.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use mote_agent::tpm::TpmAddress;

/// Given a command, says what to send before it.
pub type Hook = dyn FnMut(&[u8]) -> Vec<Vec<u8>> + Send;

/// Command code of a TPM command.
pub fn command_code(command: &[u8]) -> u32 {
    u32::from_be_bytes(command[6..10].try_into().unwrap())
}

/// `TPM2_PCR_Extend` of the SHA-256 bank (TPM 2.0 Library part 3, 22.2), with an empty password.
pub fn pcr_extend(pcr: u8, digest: [u8; 32]) -> Vec<u8> {
    let mut command = vec![0x80, 0x02, 0, 0, 0, 65, 0, 0, 0x01, 0x82, 0, 0, 0, pcr];
    command.extend([0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0]);
    command.extend([0, 0, 0, 1, 0, 0x0B]);
    command.extend(digest);
    command
}

/// Serves for as long as the test process lives; returns where, and all bytes that cross the bus.
pub fn interpose(swtpm: &TpmAddress, mut hook: Box<Hook>) -> (TpmAddress, Arc<Mutex<Vec<u8>>>) {
    let bus = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&bus);
    let TpmAddress::Swtpm { port, .. } = *swtpm else {
        panic!("only before a swtpm");
    };
    let (data, control) = loop {
        let own = mote_swtpm::ports::free_pair();
        let bind = |port| TcpListener::bind(("127.0.0.1", port));
        if let (Ok(data), Ok(control)) = (bind(own), bind(own + 1)) {
            break (data, control);
        }
    };
    let own = data.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in control.incoming().flatten() {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port + 1)) else {
                continue;
            };
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
            let (mut from, mut to) = (server, client);
            thread::spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    thread::spawn(move || {
        for mut client in data.incoming().flatten() {
            let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)) else {
                continue;
            };
            while let Ok(command) = read_packet(&mut client) {
                for own in hook(&command) {
                    server.write_all(&own).unwrap();
                    let response = read_packet(&mut server).unwrap();
                    assert_eq!(command_code(&response), 0, "our own command failed");
                }
                server.write_all(&command).unwrap();
                let response = read_packet(&mut server).unwrap();
                heard
                    .lock()
                    .unwrap()
                    .extend([&command[..], &response].concat());
                if client.write_all(&response).is_err() {
                    break;
                }
            }
        }
    });
    let address = format!("swtpm:127.0.0.1:{own}").parse().unwrap();
    (address, bus)
}

/// A command or response: the size is in its header (part 1, 18).
fn read_packet(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut packet = vec![0; 10];
    stream.read_exact(&mut packet)?;
    let size = u32::from_be_bytes(packet[2..6].try_into().unwrap());
    packet.resize(size as usize, 0);
    stream.read_exact(&mut packet[10..])?;
    Ok(packet)
}
