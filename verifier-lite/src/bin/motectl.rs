//! The operator's and CI's tool. Everything is in `mote_verifier::cli`.

fn main() -> std::process::ExitCode {
    mote_verifier::cli::main()
}
