#!/usr/bin/env bash
# Line coverage of what decides a verdict, a line for each module, by the tests of the crates that hold it.
# Ends with an error when a module is below 90 %. Test code itself is not counted.
#
#   tests/coverage.sh           builds, runs, prints
#   tests/coverage.sh --lines   also names the lines that no test reaches
#
# Only the workspace's own crates are instrumented, so nothing else is built anew.
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tests/setup.sh
. tests/setup.sh
setup coverage

llvm=$(setup_llvm)
for tool in "llvm-cov-$llvm" "llvm-profdata-$llvm"; do
  command -v "$tool" >/dev/null || {
    printf 'coverage.sh: no %s; Debian has it in the package llvm-%s\n' "$tool" "$llvm" >&2
    exit 1
  }
done

dir=$PWD/target/coverage
rm -rf "$dir"
mkdir -p "$dir"
# cargo calls it as WRAPPER RUSTC ARGUMENTS..., for members of the workspace alone. Not sh: dash drops
# variables with a hyphen in their name, such as CARGO_BIN_EXE_mote-verifier.
cat >"$dir/rustc" <<'WRAPPER'
#!/bin/bash
exec "$@" -C instrument-coverage
WRAPPER
chmod +x "$dir/rustc"
export RUSTC_WORKSPACE_WRAPPER=$dir/rustc
# Processes of one binary share a few files.
export LLVM_PROFILE_FILE=$dir/%4m.profraw
# Counters take room on the stack.
export RUST_MIN_STACK=16777216

packages=(-p mote-schemas -p mote-verifier)
cargo test --quiet --locked "${packages[@]}" --tests >"$dir/tests.log" 2>&1 || {
  tail -n 40 "$dir/tests.log"
  exit 1
}
cargo test --locked "${packages[@]}" --tests --no-run --message-format=json 2>/dev/null |
  python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable"):
        print(message["executable"])' >"$dir/binaries"

"llvm-profdata-$llvm" merge -sparse "$dir"/*.profraw -o "$dir/all.profdata"
objects=()
while read -r binary; do objects+=(-object "$binary"); done <"$dir/binaries"
"llvm-cov-$llvm" export -format=lcov -instr-profile="$dir/all.profdata" "${objects[@]}" >"$dir/all.lcov" 2>"$dir/export.log"
python3 tests/coverage.py "$dir/all.lcov" "$@"
