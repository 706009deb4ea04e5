//! One command after another: sends a frame, waits, and says what the response code means.

use core::time::Duration;

use mote_schemas::tpm::{EncodeError, Writer};

use super::fault::{ResponseCode, fault, gone};
use super::frame::{Authorization, Frame, Response};
use super::transport::Transport;
use crate::tpm::connection::{Fault, nonsense};
use crate::tpm::{TpmAddress, TpmError};

/// How often a TPM may say "try again" to one command, and the pause before that is done.
const RETRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// A command of TPM 2.0 Library part 3.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) name: &'static str,
    /// `TPM_CC`.
    pub(super) code: u32,
    /// Its response starts with a handle.
    pub(super) makes_handle: bool,
}

pub(super) const fn command(name: &'static str, code: u32) -> Command {
    Command {
        name,
        code,
        makes_handle: false,
    }
}

const FLUSH_CONTEXT: Command = command("TPM2_FlushContext", 0x165);

/// Why a command did not succeed, before that is an error: some codes are answers.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The TPM said so.
    Code(u32),
    /// Anything else.
    Fault(Fault),
}

impl Refusal {
    /// For codes that are no answer to `command`.
    pub(super) fn during(self, command: &Command) -> Fault {
        match self {
            Self::Code(raw) => fault(command.name, raw),
            Self::Fault(fault) => fault,
        }
    }

    pub(super) fn is(&self, code: ResponseCode) -> bool {
        matches!(self, Self::Code(raw) if ResponseCode::of(*raw) == code)
    }
}

/// A TPM with the buffer to talk to it.
#[derive(Debug)]
pub(super) struct Chip {
    transport: Transport,
    pub(super) frame: Frame,
}

impl Chip {
    pub(super) fn open(address: &TpmAddress) -> Result<Self, TpmError> {
        Ok(Self {
            transport: Transport::open(address)?,
            frame: Frame::new(),
        })
    }

    /// Writes a command into the frame.
    pub(super) fn write(
        &mut self,
        command: &Command,
        handles: &[u32],
        authorization: Authorization,
        parameters: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
    ) -> Result<(), Fault> {
        self.frame
            .command(command.code, handles, authorization, parameters)
            .map_err(|error| nonsense(command.name, &error.to_string()))
    }

    /// Sends the command in the frame, and takes its response apart.
    pub(super) fn send(&mut self, command: &Command) -> Result<Response<'_>, Refusal> {
        let len = self.frame.len;
        let mut tries = 0;
        loop {
            // The response lands where the command was. A refusal is only a header, so that what is
            // behind the command's own is still there when it must be sent again.
            let mut header = [0; super::frame::HEADER];
            header.copy_from_slice(&self.frame.buffer[..super::frame::HEADER]);
            self.frame.len = self
                .transport
                .exchange(&mut self.frame.buffer, len)
                .map_err(|error| {
                    log::debug!("{}: {error}", command.name);
                    Refusal::Fault(gone(command.name))
                })?;
            let code = self
                .frame
                .response_code()
                .map_err(|error| Refusal::Fault(nonsense(command.name, &error.to_string())))?;
            if ResponseCode::of(code) == ResponseCode::SUCCESS {
                break;
            }
            let again = ResponseCode::of(code).wants_retry() && self.frame.len == header.len();
            if !again || tries == RETRIES {
                return Err(Refusal::Code(code));
            }
            tries += 1;
            std::thread::sleep(PAUSE);
            self.frame.buffer[..header.len()].copy_from_slice(&header);
        }
        self.frame
            .response(command.makes_handle)
            .map_err(|error| Refusal::Fault(nonsense(command.name, &error.to_string())))
    }

    /// [`Self::write`] and [`Self::send`] for commands of which every refusal is an error.
    pub(super) fn run(
        &mut self,
        command: &Command,
        handles: &[u32],
        authorization: Authorization,
        parameters: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
    ) -> Result<Response<'_>, Fault> {
        self.write(command, handles, authorization, parameters)?;
        self.send(command)
            .map_err(|refusal| refusal.during(command))
    }

    /// Unloads an object or session. Fails only when the TPM is gone, and then the handle is too.
    pub(super) fn flush(&mut self, handle: u32) {
        let flushed = self.run(&FLUSH_CONTEXT, &[], Authorization::None, |out| {
            out.u32(handle)
        });
        if let Err(fault) = flushed {
            log::debug!("flushing a handle: {}", fault.error);
        }
    }
}
