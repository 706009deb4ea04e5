#!/usr/bin/env bash
# What Mote's conversation costs, one line each: figure NAME VALUE UNIT [budget OP LIMIT]
# Names that begin with tls_ are the same over TLS, without a budget. Ends with an error when a budget is
# missed. The simulated days at the end take some minutes.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
missed=0
run() { cargo run --quiet --locked -p mote-tests --bin "$@" || missed=1; }
run mote-figures
run mote-sim lossy
exit $missed
