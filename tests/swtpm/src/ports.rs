//! Free ports for servers under test.
//!
//! Ports outside the range that Linux hands out to outgoing connections, tried in random order, so
//! that tests running at once seldom meet. A port found free may be taken a moment later: whoever
//! starts a server on one must notice that it failed, and try another.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{TcpListener, UdpSocket};

/// Below `net.ipv4.ip_local_port_range` of a default Linux (32768), above well-known services.
const FIRST: u64 = 15_000;
const COUNT: u64 = 16_000;
const TRIES: usize = 200;

/// Even ports in random order, some of them maybe taken.
pub fn candidates() -> impl Iterator<Item = u16> {
    let random = || {
        let value = RandomState::new().build_hasher().finish();
        (FIRST + value % COUNT) as u16 & !1
    };
    std::iter::repeat_with(random).take(TRIES)
}

/// A TCP port on 127.0.0.1 that is free together with the one after it.
///
/// # Panics
/// When none of the candidates is free.
pub fn free_pair() -> u16 {
    candidates()
        .find(|&port| {
            let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
            free(port) && free(port + 1)
        })
        .unwrap_or_else(|| panic!("none of {TRIES} port pairs is free"))
}

/// A UDP port on 127.0.0.1 that is free.
///
/// # Panics
/// When none of the candidates is free.
pub fn free_udp() -> u16 {
    candidates()
        .find(|&port| UdpSocket::bind(("127.0.0.1", port)).is_ok())
        .unwrap_or_else(|| panic!("none of {TRIES} UDP ports is free"))
}
