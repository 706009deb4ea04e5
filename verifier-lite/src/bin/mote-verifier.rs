//! The daemon. Everything is in `mote_verifier::daemon`.

fn main() -> std::process::ExitCode {
    mote_verifier::daemon::main()
}
