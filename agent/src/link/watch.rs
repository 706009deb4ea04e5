//! Waiting: for a socket, for a signal that asks to stop, for a deadline, by poll(2) and nothing else.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant as Clock;

use heapless::Vec;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Why a link did not do what it was asked to.
#[derive(Debug)]
pub enum Unfinished {
    /// SIGTERM or SIGINT.
    Signal,
    /// The time is up. Nothing is broken: the same may be asked again.
    Deadline,
    /// Something is.
    Broken(io::Error),
}

impl From<io::Error> for Unfinished {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal => f.write_str("stopped by a signal"),
            Self::Deadline => f.write_str("timed out"),
            Self::Broken(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Unfinished {}

/// What is watched beside the socket that is waited for.
#[derive(Debug)]
pub struct Watch {
    signals: Option<SignalFd>,
}

impl Watch {
    /// Blocks SIGTERM and SIGINT for the thread, the agent's only one, and from now on ends every wait
    /// with them, so that TPM objects are flushed on the way out.
    pub fn signals() -> io::Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGTERM);
        set.add(Signal::SIGINT);
        set.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Self {
            signals: Some(SignalFd::with_flags(&set, flags)?),
        })
    }

    /// Leaves signals as they are, for programs that are not the agent.
    pub fn nothing() -> Self {
        Self { signals: None }
    }

    /// Until something can be read from `socket`, the end of the stream included.
    pub fn readable(&self, socket: &impl AsFd, until: Clock) -> Result<(), Unfinished> {
        self.wait(Some((socket.as_fd(), PollFlags::POLLIN)), until)
    }

    /// Until `socket` takes something, or has failed.
    pub fn writable(&self, socket: &impl AsFd, until: Clock) -> Result<(), Unfinished> {
        self.wait(Some((socket.as_fd(), PollFlags::POLLOUT)), until)
    }

    /// Until `until`: ends with [`Unfinished::Deadline`].
    pub fn pause(&self, until: Clock) -> Unfinished {
        self.wait(None, until).err().unwrap_or(Unfinished::Deadline)
    }

    fn wait(
        &self,
        socket: Option<(BorrowedFd<'_>, PollFlags)>,
        until: Clock,
    ) -> Result<(), Unfinished> {
        loop {
            let mut fds = Vec::<PollFd<'_>, 2>::new();
            let signals = self.signals.as_ref().map(AsFd::as_fd);
            let signals = signals.map(|fd| (fd, PollFlags::POLLIN));
            for (fd, what) in signals.into_iter().chain(socket) {
                // Two at most.
                let _ = fds.push(PollFd::new(fd, what));
            }
            // Rounded up: woken early, it would only wait again.
            let left = until.saturating_duration_since(Clock::now());
            let left = left.as_nanos().div_ceil(1_000_000);
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(Unfinished::Broken(error.into())),
            }
            let mut ready = fds.iter().map(|fd| fd.any() == Some(true));
            if self.signals.is_some() && ready.next() == Some(true) {
                return Err(Unfinished::Signal);
            }
            if ready.next() == Some(true) {
                return Ok(());
            }
            if until <= Clock::now() {
                return Err(Unfinished::Deadline);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};
    use std::time::Duration;

    use nix::sys::signal::raise;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn socket() -> UdpSocket {
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
    }

    #[test]
    fn a_wait_ends_with_what_it_waits_for_and_not_before_its_deadline() {
        let (watch, socket) = (Watch::nothing(), socket());
        let until = Clock::now() + Duration::from_millis(20);
        let waited = watch.readable(&socket, until);
        assert!(matches!(waited, Err(Unfinished::Deadline)), "{waited:?}");
        assert!(Clock::now() >= until);
        watch.writable(&socket, Clock::now() + LONG).unwrap();
        socket.send_to(&[1], socket.local_addr().unwrap()).unwrap();
        watch.readable(&socket, Clock::now() + LONG).unwrap();
        // What is there counts, even too late.
        watch.readable(&socket, until).unwrap();
    }

    #[test]
    fn a_signal_ends_every_wait() {
        let (watch, socket) = (Watch::signals().unwrap(), socket());
        socket.send_to(&[1], socket.local_addr().unwrap()).unwrap();
        watch.readable(&socket, Clock::now() + LONG).unwrap();
        raise(Signal::SIGTERM).unwrap();
        let until = Clock::now() + LONG;
        for ended in [
            watch.readable(&socket, until).unwrap_err(),
            watch.writable(&socket, until).unwrap_err(),
            watch.pause(until),
        ] {
            assert!(matches!(ended, Unfinished::Signal), "{ended:?}");
        }
    }
}
