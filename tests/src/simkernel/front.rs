//! The TPM as the kernel lends it out: several clients, one command at a time, like `/dev/tpm0`.
//!
//! In swtpm's framing, so that libtss2-tcti-swtpm and tpm2-tools talk to it unchanged: raw TPM
//! commands on the data port, swtpm's control protocol on the port after it.

use std::io::{self, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use super::tpm::{Tpm, read_message};
use super::{Error, Result, during};
use crate::ports;

/// The bound pair of ports.
#[derive(Debug)]
pub struct Front {
    data: TcpListener,
    control: TcpListener,
}

impl Front {
    /// Binds `address` and the port after it; port 0 finds a free pair.
    pub fn bind(address: SocketAddr) -> Result<Self> {
        if address.port() != 0 {
            let pair = during(
                format!("listening on {address} and the port after it"),
                Self::pair(address.ip(), address.port()),
            )?;
            return Ok(pair);
        }
        ports::candidates()
            .find_map(|port| Self::pair(address.ip(), port).ok())
            .ok_or_else(|| Error::Refused("no free pair of ports found".into()))
    }

    fn pair(ip: IpAddr, port: u16) -> io::Result<Self> {
        Ok(Self {
            data: TcpListener::bind((ip, port))?,
            control: TcpListener::bind((ip, port.saturating_add(1)))?,
        })
    }

    /// The data port; the control port is the next one.
    pub fn port(&self) -> Result<u16> {
        Ok(during("own address", self.data.local_addr())?.port())
    }

    /// Serves clients in the background until the process ends.
    pub fn serve(self, tpm: Tpm, swtpm_control: SocketAddr) {
        accept(self.data, move |client| lend(client, &tpm));
        accept(self.control, move |client| pass(client, swtpm_control));
    }
}

fn accept(listener: TcpListener, serve: impl Fn(TcpStream) -> Result<()> + Clone + Send + 'static) {
    thread::spawn(move || {
        for client in listener.incoming() {
            let serve = serve.clone();
            match client {
                Ok(client) => drop(thread::spawn(move || {
                    if let Err(error) = serve(client) {
                        log::warn!("TPM client: {error}");
                    }
                })),
                Err(error) => log::warn!("accepting a TPM client: {error}"),
            }
        }
    });
}

/// One client's commands, each answered before the next is read.
fn lend(mut client: TcpStream, tpm: &Tpm) -> Result<()> {
    during("TCP_NODELAY", client.set_nodelay(true))?;
    loop {
        let command = match read_message(&mut client) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => during("reading a command", other)?,
        };
        let response = tpm.transact(&command)?;
        during("answering", client.write_all(&response))?;
    }
}

/// swtpm serves one control connection after the other; what it says is passed on as it is.
fn pass(client: TcpStream, swtpm_control: SocketAddr) -> Result<()> {
    let swtpm = during("swtpm's control port", TcpStream::connect(swtpm_control))?;
    let (mut from_client, mut from_swtpm) = (
        during("control client", client.try_clone())?,
        during("swtpm's control port", swtpm.try_clone())?,
    );
    let (mut to_client, mut to_swtpm) = (client, swtpm);
    let answers = thread::spawn(move || {
        let end = io::copy(&mut from_swtpm, &mut to_client);
        // The client may be gone already, which ends the connection just as well.
        let _ = to_client.shutdown(Shutdown::Both);
        end
    });
    let requests = io::copy(&mut from_client, &mut to_swtpm);
    let _ = to_swtpm.shutdown(Shutdown::Both);
    let answers = answers
        .join()
        .map_err(|_| Error::Refused("the control forwarder panicked".into()))?;
    during("control requests", requests)?;
    during("control answers", answers)?;
    Ok(())
}
