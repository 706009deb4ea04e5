#!/bin/sh
# Attestation results against independent implementations: JWTs with PyJWT, CWTs with pycose, both with
# nothing but the verifier's published key.
# Needs: cargo, python3 with venv, and PyPI (or a cached venv) the first time.
# MOTE_CACHE: where the Python environment is kept between runs (default: target/cache).
set -eu

packages='pyjwt[crypto]==2.15.1 pycose==1.1.0 cbor2==5.6.5 cryptography==50.0.2'
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${MOTE_CACHE:-$root/target/cache}
venv=$cache/ear-2

if ! "$venv/bin/python3" -c 'import jwt, pycose.messages' 2>/dev/null; then
    echo "setting up PyJWT and pycose in $venv"
    mkdir -p "$cache"
    python3 -m venv --clear "$venv"
    # shellcheck disable=SC2086 # a list
    "$venv/bin/pip" install --quiet --disable-pip-version-check $packages
fi

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
cd "$root"
MOTE_EAR_OUT=$out cargo test --quiet --package mote-verifier --test results results_of_every_tier
"$venv/bin/python3" "$here/ear.py" "$out"
