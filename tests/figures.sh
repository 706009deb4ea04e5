#!/usr/bin/env bash
# What Mote costs, on the link and on the device, one line each: figure NAME VALUE UNIT [budget OP LIMIT]
# Names that begin with tls_ are the same over TLS, without a budget. Ends with an error when a budget is
# missed. The optimised build that the verifier's speed is measured and the days are simulated with takes some
# minutes, the days some more.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
missed=0
run() { cargo run --quiet --locked -p mote-tests --bin "$@" || missed=1; }
run mote-figures
# Speed, beside what the hash or the signature alone takes.
run mote-bench --release
run mote-sim --release lossy
# What the agent costs its device: optimised builds, some minutes each.
tests/size.sh || missed=1
exit $missed
