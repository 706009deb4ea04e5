//! The verifier's verdict on a recorded quote, for comparison with other tools: exit status 0 if the
//! signature, the challenge and the PCR values hold.
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use mote_schemas::pcr::PcrValues;
use mote_schemas::tpm::Public;
use mote_tests::hex;
use mote_verifier::quote::VerifiedQuote;
use mote_verifier::signature::VerifyingKey;

#[derive(Parser)]
struct Options {
    /// `TPMT_PUBLIC` of the key.
    public: PathBuf,
    /// `TPMS_ATTEST`.
    attest: PathBuf,
    /// `TPMT_SIGNATURE`.
    signature: PathBuf,
    /// Qualifying data, hex.
    nonce: String,
    /// Values of the quoted PCRs, one behind the other.
    pcrs: PathBuf,
}

fn main() -> ExitCode {
    match check(&Options::parse()) {
        Ok(()) => {
            println!("good");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("refused: {why}");
            ExitCode::FAILURE
        }
    }
}

fn check(options: &Options) -> Result<(), String> {
    let read = |path: &PathBuf| std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()));
    let public = read(&options.public)?;
    let public = Public::parse(&public).map_err(|error| error.to_string())?;
    let key = VerifyingKey::new(&public).map_err(|error| error.to_string())?;
    let nonce = hex::decode(&options.nonce).ok_or("the nonce is not hex")?;
    let (attest, signature) = (read(&options.attest)?, read(&options.signature)?);
    let quote = VerifiedQuote::verify(&attest, &signature, &key, &nonce, None)
        .map_err(|error| error.to_string())?;
    let pcrs = read(&options.pcrs)?;
    let values = PcrValues::new(*quote.selection(), &pcrs).map_err(|error| error.to_string())?;
    if values.digest(quote.pcr_digest().alg()) != *quote.pcr_digest() {
        return Err("the PCR values do not hash to the quote's pcrDigest".to_owned());
    }
    Ok(())
}
