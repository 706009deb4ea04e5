#!/usr/bin/env bash
# What Mote costs, on the link and on the device, one line each: figure NAME VALUE UNIT [budget OP LIMIT]
# Names that begin with tls_ are the same over TLS, without a budget.
#
#   tests/figures.sh               all
#   tests/figures.sh --no-arm64    all but what needs the arm64 kernel, which is built once, in some six minutes
#
# Optimised builds take some minutes, the simulated days some more. Fails when a budget is missed or a figure could
# not be measured.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=tests/qemu/lib.sh
. tests/qemu/lib.sh

machines=(x86 arm64)
case ${1:-} in
  '') ;;
  --no-arm64) machines=(x86) ;;
  *) options "$1" ;;
esac
begin figures

missed=0
"$bin/mote-figures" || missed=1
optimised() { cargo run --quiet --locked --release -p mote-tests --bin "$@" || missed=1; }
# Speed, beside what the hash or the signature alone takes.
optimised mote-bench
optimised mote-sim lossy
export MOTE_BIN_DIR=$bin
# What the agent costs its device: optimised builds, some minutes each.
tests/size.sh || missed=1
# Power-on to trusted on emulated machines. Their scripts check more than that, which is said only where it fails.
for machine in "${machines[@]}"; do
  "tests/qemu/$machine.sh" >"$dir/$machine.log" || missed=1
  grep -E '^(figure|FAIL) ' "$dir/$machine.log"
done
exit $missed
