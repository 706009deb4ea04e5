#!/usr/bin/env bash
# What Mote's conversation costs, one line each: figure NAME VALUE UNIT [budget OP LIMIT]
# Ends with an error when a budget is missed.
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec cargo run --quiet --locked -p mote-tests --bin mote-figures
