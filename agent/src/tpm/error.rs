//! What can go wrong with a TPM, each with what to do about it.

use core::fmt;

use mote_schemas::tpm::HashAlg;

/// Why a [`Tpm`](super::Tpm) operation failed. `Display` is meant for the person who must fix it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TpmError {
    /// The device node does not exist.
    NoDevice {
        /// Path of the node.
        path: String,
    },
    /// The device node exists, but we may not open it.
    NoPermission {
        /// Path of the node.
        path: String,
    },
    /// Someone else has the device node open (only `/dev/tpm0`, which has no resource manager).
    InUse {
        /// Path of the node.
        path: String,
    },
    /// No software TPM listens there.
    NoSimulator {
        /// Host of the data port.
        host: String,
        /// Data port; the control port is the next one.
        port: u16,
    },
    /// tpm2-tss could not load its transport.
    NoTransport {
        /// File name of the shared library.
        library: &'static str,
        /// Debian package that has it.
        package: &'static str,
    },
    /// The TPM was there and stopped answering: removed, reset or crashed.
    Gone {
        /// Command during which this was noticed.
        command: &'static str,
    },
    /// The TPM is in dictionary-attack lockout.
    Lockout,
    /// The TPM is busy, testing itself, or asked to try again; it did nothing.
    Busy {
        /// Command that was refused.
        command: &'static str,
    },
    /// Firmware has not sent `TPM2_Startup`.
    NotStarted,
    /// The self test failed; the TPM only answers diagnostics.
    Failure,
    /// No free slot for an object or session.
    OutOfMemory {
        /// Command that was refused.
        command: &'static str,
    },
    /// The endorsement hierarchy has an authorization value or is disabled.
    EndorsementLocked,
    /// The TPM cannot do what the configuration asks for.
    Unsupported {
        /// What is missing, such as `ECC P-256`.
        what: &'static str,
        /// What to set instead.
        instead: &'static str,
    },
    /// The credential does not belong to this TPM's endorsement and attestation key, or was
    /// altered on the way.
    WrongCredential,
    /// The credential or encrypted secret is not well-formed.
    MalformedCredential,
    /// A bank or PCR that this TPM does not have.
    NoSuchPcr {
        /// `TPM_ALG_ID` of the bank.
        bank: u16,
        /// The PCRs of that bank that are missing, bit `n` for PCR `n`.
        missing: u32,
    },
    /// The same bank twice, no PCR at all, or more banks than
    /// [`MAX_PCR_BANKS`](mote_schemas::limits::MAX_PCR_BANKS).
    BadSelection,
    /// PCRs changed during each of several attempts to read them.
    PcrsMoving,
    /// A value exceeds its bound or the caller's buffer.
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The bound in bytes.
        limit: usize,
    },
    /// Any other response code (TPM 2.0 Library part 2, 6.6).
    Response {
        /// Command that failed.
        command: &'static str,
        /// The `TSS2_RC`, layer included; `tpm2_rc_decode` explains it. 0 when the fault is not the
        /// TPM's.
        code: u32,
        /// What the library says about it.
        text: String,
    },
}

impl fmt::Display for TpmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDevice { path } => write!(
                f,
                "no TPM at {path}: is tpm_tis or tpm_crb loaded, and does the firmware enable the TPM? \
                 see `ls /dev/tpm*` and `dmesg | grep -i tpm`"
            ),
            Self::NoPermission { path } => write!(
                f,
                "no permission to open {path}: run as root or add the user to the group that owns it \
                 (`usermod -aG tss USER`)"
            ),
            Self::InUse { path } => write!(
                f,
                "{path} is held by another process: use the resource manager, device:/dev/tpmrm0"
            ),
            Self::NoSimulator { host, port } => write!(
                f,
                "no swtpm answers at {host}:{port}: start `swtpm socket --tpm2 --server type=tcp,port={port} \
                 --ctrl type=tcp,port={}` (the control port must be the data port + 1)",
                port.saturating_add(1)
            ),
            Self::NoTransport { library, package } => write!(
                f,
                "tpm2-tss cannot load {library}: install the package {package} (Debian's name)"
            ),
            Self::Gone { command } => write!(
                f,
                "the TPM stopped answering during {command}: was it reset or removed, or did its driver \
                 or simulator stop? see `dmesg | grep -i tpm`"
            ),
            Self::Lockout => f.write_str(
                "the TPM is in dictionary-attack lockout: wait for its recovery time or run \
                 `tpm2_dictionarylockout --clear-lockout`",
            ),
            Self::Busy { command } => {
                write!(f, "the TPM was too busy for {command}: try again in a few seconds")
            }
            Self::NotStarted => f.write_str(
                "nobody started the TPM: firmware or kernel must send TPM2_Startup (`tpm2_startup -c`)",
            ),
            Self::Failure => f.write_str(
                "the TPM is in failure mode: power-cycle the device; if that does not help, see \
                 `tpm2_gettestresult`",
            ),
            Self::OutOfMemory { command } => write!(
                f,
                "the TPM has no room left for {command}: use the resource manager (device:/dev/tpmrm0), or \
                 flush what others left behind (`tpm2_flushcontext -t`)"
            ),
            Self::EndorsementLocked => f.write_str(
                "the endorsement hierarchy is disabled or has an authorization value: Mote needs it \
                 enabled with an empty one (`tpm2_changeauth -c endorsement -p OLD`)",
            ),
            Self::Unsupported { what, instead } => {
                write!(f, "this TPM has no {what}: set {instead}")
            }
            Self::WrongCredential => f.write_str(
                "the credential was not made for this TPM's endorsement and attestation key: the \
                 verifier knows this device by other keys, or the reply was altered",
            ),
            Self::MalformedCredential => {
                f.write_str("the verifier's credential is not a well-formed TPM structure")
            }
            Self::NoSuchPcr { bank, missing } => write!(
                f,
                "the TPM has no active {} bank with PCRs {}: choose another bank in `pcrs` (see `tpm2_pcrread`)",
                BankName(*bank),
                PcrList(*missing)
            ),
            Self::BadSelection => f.write_str(
                "the PCR selection is empty, names a bank twice, or names too many banks",
            ),
            Self::PcrsMoving => f.write_str(
                "PCRs changed each time they were read: too much is being measured just now, try again",
            ),
            Self::TooLarge { what, size, limit } => {
                write!(f, "{what} has {size} bytes, more than the {limit} there is room for")
            }
            Self::Response { command, code, text } => {
                write!(f, "{command} failed: {text}")?;
                if *code != 0 {
                    write!(f, " (`tpm2_rc_decode {code:#x}`)")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for TpmError {}

/// A bank's `TPM_ALG_ID` as tpm2-tools name it.
struct BankName(u16);

impl fmt::Display for BankName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match HashAlg::from_u16(self.0) {
            Some(alg) => alg.fmt(f),
            None => write!(f, "{:#06x}", self.0),
        }
    }
}

/// The set bits of a PCR mask, such as `0,1,10`.
struct PcrList(u32);

impl fmt::Display for PcrList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for pcr in (0..32).filter(|pcr| self.0 & (1 << pcr) != 0) {
            if !core::mem::take(&mut first) {
                f.write_str(",")?;
            }
            write!(f, "{pcr}")?;
        }
        Ok(())
    }
}
