#!/usr/bin/env bash
# Tokens of devices without a TPM against independent implementations, in both directions: tokens by pycose and cbor2
# over aiocoap to a real verifier, and ours read by them. One line for each check; fails if one fails.
#
#   tests/interop/eat.sh           check
#   tests/interop/eat.sh --keep    keep the verifier's state and log
#
# Programs from MOTE_BIN_DIR, else they are built.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
# shellcheck source=tests/qemu/lib.sh
. tests/qemu/lib.sh
# shellcheck source=tests/interop/python.sh
. tests/interop/python.sh

options "$@"
begin eat
python_ready "$target" || fail 'no Python environment'
bin=$(readlink -f "$bin")

printf 'a bootloader' >"$dir/boot.bin"
printf 'an application' >"$dir/app.bin"
motectl key new -o "$dir/image.key" >/dev/null || fail 'motectl key new'
motectl manifest build --component "bootloader=$dir/boot.bin" --component "app=$dir/app.bin" \
  --name valve --version 2.1 --sign "$dir/image.key" -o "$dir/manifest" >/dev/null || fail 'motectl manifest build'
verifier_port=$(free_udp_port)
verifier_on_image
(cd "$dir" && MOTE_STATE=$dir/verifier "$python" "$OLDPWD/tests/interop/eat.py" "$bin" "127.0.0.1:$verifier_port")
verdict $? 'tokens are read alike in both directions'
conclude
