#!/usr/bin/env bash
# OSCORE against aiocoap, an independent implementation: in both directions, and as the agent of a session with a
# real verifier. One line for each check; fails if one fails.
#
#   tests/interop/aiocoap.sh
#
# Programs from MOTE_BIN_DIR, else they are built.
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tests/build.sh
. tests/build.sh
# shellcheck source=tests/interop/python.sh
. tests/interop/python.sh

programs
python_ready "$(target_directory)"
"$python" tests/interop/aiocoap_oscore.py "$bin/mote-oscore-peer"
MOTE_BIN_DIR=$bin "$python" tests/interop/aiocoap_session.py "$bin/mote-oscore-session"
