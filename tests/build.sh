# One build of the programs and their tests, whoever asks for it. Sourced.
# shellcheck shell=bash disable=SC2034 # variables are used by whoever sources this

# Cargo builds a crate anew for every set of features of it or of what it depends on, and a part of the
# workspace, or the workspace without what its tests depend on, asks for other sets than the whole. So clippy,
# documentation, programs and tests all name this, and `--examples` (there are none) where no tests are built.
workspace=(--locked --workspace --features mote-agent/tpm-direct)

target_directory() {
  cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/'
}

# programs: $bin, where all programs are. MOTE_BIN_DIR, else they are built.
programs() {
  bin=${MOTE_BIN_DIR:-}
  if [ -n "$bin" ]; then return; fi
  cargo build "${workspace[@]}" --bins --examples && bin=$(target_directory)/debug
}
