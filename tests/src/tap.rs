//! A forwarder that counts what passes it, both ways, at the socket: payloads of UDP datagrams, or
//! bytes of TCP connections (TLS records and handshake included; headers of UDP, TCP and IP are not).
//!
//! A byte is counted before it is passed on, so that whoever has seen its effect finds it counted.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use smol::{Async, LocalExecutor};

use crate::error::{Result, during};

/// Longest UDP datagram.
const DATAGRAM: usize = 65_536;

/// What has passed since the tap was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Bytes to the verifier.
    pub up: u64,
    /// Datagrams to the verifier; 0 on a connection.
    pub up_datagrams: u64,
    /// Bytes from the verifier.
    pub down: u64,
    /// Datagrams from the verifier; 0 on a connection.
    pub down_datagrams: u64,
}

/// Told of every new count, before what was counted goes on.
type Report = Box<dyn Fn(&Passed) + Send>;

/// An open tap: tasks on one thread, however many senders there are. It ends with the process.
#[derive(Clone)]
pub struct Tap {
    address: SocketAddr,
    counter: Arc<Mutex<(Passed, Report)>>,
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tap")
            .field("address", &self.address)
            .field("passed", &self.passed())
            .finish_non_exhaustive()
    }
}

impl Tap {
    /// Forwards datagrams that come to `listen` (port 0: any) to `target`, and answers back. Each
    /// sender gets a port of its own towards `target`, as from a NAT.
    pub fn udp(
        listen: SocketAddr,
        target: SocketAddr,
        report: impl Fn(&Passed) + Send + 'static,
    ) -> Result<Self> {
        let socket = during(format!("listening on {listen}"), UdpSocket::bind(listen))?;
        let tap = Self::new(
            during("own address", socket.local_addr())?,
            Box::new(report),
        );
        let socket = during("a tap's socket", Async::new(socket))?;
        tap.clone().start(async move |tap, tasks| {
            if let Err(error) = tap.forward_datagrams(&tasks, Rc::new(socket), target).await {
                log::error!("tap: {error}");
            }
        });
        Ok(tap)
    }

    /// Forwards connections to `target`.
    pub fn tcp(
        listen: SocketAddr,
        target: SocketAddr,
        report: impl Fn(&Passed) + Send + 'static,
    ) -> Result<Self> {
        let listener = during(format!("listening on {listen}"), TcpListener::bind(listen))?;
        let tap = Self::new(
            during("own address", listener.local_addr())?,
            Box::new(report),
        );
        let listener = during("a tap's socket", Async::new(listener))?;
        tap.clone().start(async move |tap, tasks| {
            loop {
                let forwarded = match listener.accept().await {
                    Ok((near, _)) => tap.forward_connection(&tasks, near, target).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = forwarded {
                    log::warn!("tap: {error}");
                }
            }
        });
        Ok(tap)
    }

    /// Runs `forward`, and what it spawns, on a thread of its own.
    fn start(self, forward: impl AsyncFnOnce(Self, Rc<LocalExecutor<'static>>) + Send + 'static) {
        thread::spawn(move || {
            let tasks = Rc::new(LocalExecutor::new());
            smol::block_on(tasks.run(forward(self, Rc::clone(&tasks))));
        });
    }

    fn new(address: SocketAddr, report: Report) -> Self {
        Self {
            address,
            counter: Arc::new(Mutex::new((Passed::default(), report))),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has passed so far.
    pub fn passed(&self) -> Passed {
        self.counter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    fn count(&self, add: impl FnOnce(&mut Passed)) {
        let mut counter = self.counter.lock().unwrap_or_else(PoisonError::into_inner);
        add(&mut counter.0);
        (counter.1)(&counter.0);
    }

    async fn forward_datagrams(
        &self,
        tasks: &LocalExecutor<'static>,
        near: Rc<Async<UdpSocket>>,
        target: SocketAddr,
    ) -> io::Result<()> {
        let mut far_ends: HashMap<SocketAddr, Rc<Async<UdpSocket>>> = HashMap::new();
        let mut datagram = vec![0; DATAGRAM];
        loop {
            let (len, from) = near.recv_from(&mut datagram).await?;
            let far = match far_ends.entry(from) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    let far = UdpSocket::bind(("127.0.0.1", 0))?;
                    far.connect(target)?;
                    let far = Rc::new(Async::new(far)?);
                    let (tap, near, back) = (self.clone(), Rc::clone(&near), Rc::clone(&far));
                    let returned = async move { tap.return_datagrams(&back, &near, from).await };
                    tasks.spawn(returned).detach();
                    entry.insert(far)
                }
            };
            self.count(|passed| {
                passed.up += len as u64;
                passed.up_datagrams += 1;
            });
            // Perhaps nobody listens there now: the datagram is lost, as on any link.
            let _ = far.send(&datagram[..len]).await;
        }
    }

    async fn return_datagrams(
        &self,
        far: &Async<UdpSocket>,
        near: &Async<UdpSocket>,
        to: SocketAddr,
    ) {
        let mut datagram = vec![0; DATAGRAM];
        loop {
            // An error is that of a datagram sent earlier.
            let Ok(len) = far.recv(&mut datagram).await else {
                continue;
            };
            self.count(|passed| {
                passed.down += len as u64;
                passed.down_datagrams += 1;
            });
            let _ = near.send_to(&datagram[..len], to).await;
        }
    }

    async fn forward_connection(
        &self,
        tasks: &LocalExecutor<'static>,
        near: Async<TcpStream>,
        target: SocketAddr,
    ) -> io::Result<()> {
        let far = Async::<TcpStream>::connect(target).await?;
        for stream in [&near, &far] {
            stream.get_ref().set_nodelay(true)?;
        }
        let (near, far) = (Rc::new(near), Rc::new(far));
        let (up, down) = (self.clone(), self.clone());
        let (near_back, far_back) = (Rc::clone(&near), Rc::clone(&far));
        tasks
            .spawn(
                async move { pump(&near, &far, |len| up.count(|passed| passed.up += len)).await },
            )
            .detach();
        tasks
            .spawn(async move {
                pump(&far_back, &near_back, |len| {
                    down.count(|passed| passed.down += len);
                })
                .await;
            })
            .detach();
        Ok(())
    }
}

/// Until either end is closed; the other one is told.
async fn pump(mut from: &Async<TcpStream>, mut to: &Async<TcpStream>, count: impl Fn(u64)) {
    let mut bytes = [0; 4096];
    while let Ok(len @ 1..) = from.read(&mut bytes).await {
        count(len as u64);
        if to.write_all(&bytes[..len]).await.is_err() {
            break;
        }
    }
    let _ = to.get_ref().shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn datagrams_are_counted_both_ways_and_arrive() {
        let far = UdpSocket::bind(ANY).unwrap();
        let tap = Tap::udp(ANY, far.local_addr().unwrap(), |_| {}).unwrap();
        let near = UdpSocket::bind(ANY).unwrap();
        near.send_to(&[1; 98], tap.address()).unwrap();
        let mut bytes = [0; 200];
        let (len, from) = far.recv_from(&mut bytes).unwrap();
        assert_eq!(&bytes[..len], [1; 98]);
        far.send_to(&[2; 56], from).unwrap();
        let len = near.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..len], [2; 56]);
        let passed = Passed {
            up: 98,
            up_datagrams: 1,
            down: 56,
            down_datagrams: 1,
        };
        assert_eq!(tap.passed(), passed);
    }

    #[test]
    fn a_connection_is_counted_both_ways_and_ends_with_either_end() {
        let listener = TcpListener::bind(ANY).unwrap();
        let tap = Tap::tcp(ANY, listener.local_addr().unwrap(), |_| {}).unwrap();
        let mut near = TcpStream::connect(tap.address()).unwrap();
        near.write_all(&[1; 1000]).unwrap();
        near.shutdown(Shutdown::Write).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        far.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [1; 1000]);
        far.write_all(&[2; 30]).unwrap();
        drop(far);
        let mut bytes = Vec::new();
        near.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [2; 30]);
        assert_eq!((tap.passed().up, tap.passed().down), (1000, 30));
    }
}
