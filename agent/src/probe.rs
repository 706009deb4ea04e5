//! `--probe`: tries what an attestation needs of this device, without a verifier.

use std::io::{self, Write};
use std::time::Instant;

use mote_schemas::limits::MAX_EK_CERTIFICATE;
use mote_schemas::tpm::HashAlg;

use crate::config::Config;
use crate::exit::Exit;
use crate::measurement_log::{FileLog, LogError, MeasurementLog, NATIVE_FORMAT};
use crate::tpm::{Tpm, TpmError};

/// Tries the TPM and the measurement list and says how it went.
pub(crate) fn probe(config: &Config, out: &mut dyn Write) -> io::Result<Exit> {
    let mut log = FileLog::new(&config.ima_log, NATIVE_FORMAT);
    let tpm = crate::tpm::open(&config.tpm).map(|mut tpm| try_tpm(config, &mut *tpm));
    let mut exit = Exit::Trusted;
    match tpm.and_then(|report| report) {
        Ok(report) => writeln!(out, "{report}")?,
        Err(error) => {
            writeln!(out, "TPM: {error}")?;
            exit = Exit::Tpm;
        }
    }
    match try_log(&mut log) {
        Ok(report) => writeln!(out, "{report}")?,
        Err(error) => {
            writeln!(out, "measurement list: {error}")?;
            if exit == Exit::Trusted {
                exit = Exit::MeasurementLog;
            }
        }
    }
    Ok(exit)
}

fn try_tpm(config: &Config, tpm: &mut dyn Tpm) -> Result<String, TpmError> {
    let banks = tpm.banks()?;
    let banks: Vec<_> = banks
        .iter()
        .map(|bank| HashAlg::from_u16(bank.bank).map_or("other", HashAlg::name))
        .collect();
    let start = Instant::now();
    let identity = tpm.identity()?;
    let keys_took = start.elapsed().as_millis();
    let certificate = match tpm.ek_certificate(&mut [0; MAX_EK_CERTIFICATE]) {
        Ok(Some(size)) => format!("certificate of {size} bytes"),
        Ok(None) => "no certificate in the TPM".to_owned(),
        Err(error @ TpmError::TooLarge { .. }) => error.to_string(),
        Err(error) => return Err(error),
    };
    let start = Instant::now();
    let quote = tpm.quote(&config.pcrs, &[0; 32])?;
    let quote_took = start.elapsed().as_millis();
    Ok(format!(
        "TPM: {}\n  PCR banks: {}\n  endorsement key: {}, {certificate}\n  attestation key: {}\n  \
         both keys took {keys_took} ms, a quote {quote_took} ms ({} + {} bytes)",
        config.tpm.address,
        banks.join(", "),
        algorithm(&identity.ek),
        algorithm(&identity.ak),
        quote.attest.len(),
        quote.signature.len(),
    ))
}

fn try_log(log: &mut FileLog) -> Result<String, LogError> {
    let count = log.count()?;
    let mut buffer = vec![0; mote_schemas::ima::MAX_RECORD];
    let chunk = log.read(0, &mut buffer)?;
    let hint = if count <= 1 {
        "; nothing is being measured: boot with ima_policy=tcb, or load a policy"
    } else {
        ""
    };
    Ok(format!(
        "measurement list: {}\n  {count} records, the first {} in {} bytes{hint}",
        log.path().display(),
        chunk.records,
        chunk.bytes
    ))
}

/// By the first field of TPMT_PUBLIC.
fn algorithm(public: &[u8]) -> &'static str {
    match public {
        [0x00, 0x01, ..] => "RSA-2048",
        [0x00, 0x23, ..] => "ECC P-256",
        _ => "of an unknown kind",
    }
}
