#!/bin/sh
# Tokens of devices without a TPM against independent implementations, in both directions: tokens by pycose and
# cbor2 over aiocoap to a real verifier, and ours read by them.
# Needs: cargo, python3 with venv, and PyPI (or a cached venv) the first time.
# MOTE_CACHE: where the Python environment is kept between runs (default: target/cache).
# Prints one line for each check; fails if one fails.
set -eu

packages='aiocoap==0.4.17 pycose==1.1.0 cbor2==5.6.5 cryptography==50.0.2'
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${MOTE_CACHE:-$root/target/cache}
venv=$cache/eat-1

if ! "$venv/bin/python3" -c 'import aiocoap, pycose.messages' 2>/dev/null; then
    echo "setting up aiocoap and pycose in $venv"
    mkdir -p "$cache"
    python3 -m venv --clear "$venv"
    # shellcheck disable=SC2086 # a list
    "$venv/bin/pip" install --quiet --disable-pip-version-check $packages
fi

cd "$root"
cargo build --quiet --package mote-verifier --bins
cargo build --quiet --package mote-tests --bin mote-token-device
bin=${CARGO_TARGET_DIR:-$root/target}/debug

work=$(mktemp -d)
verifier=
finish() {
    if [ -n "$verifier" ]; then kill "$verifier" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM
cd "$work"

port=$((15000 + ($$ * 4 + $(date +%s)) % 16000))
printf 'a bootloader' >boot.bin
printf 'an application' >app.bin
export MOTE_STATE="$work/state"
"$bin/motectl" key new --out image.key >/dev/null
"$bin/motectl" manifest build --component bootloader=boot.bin --component app=app.bin \
    --name valve --version 2.1 --sign image.key -o valve.mote >/dev/null
"$bin/mote-verifier" --listen "127.0.0.1:$port" --manifest valve.mote --manifest-key image.key.pub \
    >verifier.log 2>&1 &
verifier=$!
for _ in 1 2 3 4 5 6 7 8 9 10; do
    if grep -q 'listening on 127.0.0.1.* state' verifier.log; then break; fi
    sleep 0.5
done

if ! "$venv/bin/python3" "$here/eat.py" "$bin" "127.0.0.1:$port"; then
    echo 'the verifier said:'
    tail -n 20 verifier.log
    exit 1
fi
