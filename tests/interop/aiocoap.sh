#!/bin/sh
# OSCORE against aiocoap, an independent implementation: in both directions, and as the agent of a
# session with a real verifier.
# Needs: cargo, swtpm, python3 with venv, and PyPI (or a cached venv) the first time.
# MOTE_CACHE: where the Python environment is kept between runs (default: target/cache).
set -eu

version=0.4.17
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${MOTE_CACHE:-$root/target/cache}
venv=$cache/aiocoap-$version

if ! "$venv/bin/python3" -c 'import aiocoap.oscore' 2>/dev/null; then
    echo "setting up aiocoap $version in $venv"
    mkdir -p "$cache"
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "aiocoap[oscore]==$version"
fi

cd "$root"
cargo build --quiet --package mote-tests --bin mote-oscore-peer --bin mote-oscore-session --bin mote-simkernel
cargo build --quiet --package mote-verifier --bins
target=${CARGO_TARGET_DIR:-$root/target}
"$venv/bin/python3" "$here/aiocoap_oscore.py" "$target/debug/mote-oscore-peer"
MOTE_BIN_DIR=$target/debug "$venv/bin/python3" "$here/aiocoap_session.py" "$target/debug/mote-oscore-session"
