#!/usr/bin/env bash
# Attestation results against independent implementations: JWTs with PyJWT, CWTs with pycose, both with nothing but
# the verifier's published key. One line for each check; fails if one fails.
#
#   tests/interop/ear.sh
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tests/build.sh
. tests/build.sh
# shellcheck source=tests/interop/python.sh
. tests/interop/python.sh

python_ready "$(target_directory)"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
trap 'exit 130' INT TERM
MOTE_EAR_OUT=$out cargo test --quiet "${workspace[@]}" --test motectl results_of_every_tier
"$python" tests/interop/ear.py "$out"
