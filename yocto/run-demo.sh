#!/bin/sh
# Boots the demo image in QEMU with a software TPM (swtpm) whose state is kept in DEPLOY/tpm, so that it is
# the same device at the next boot. The verifier on this machine is 10.0.2.2 for the guest. Leave with
# Ctrl-A X. Needs the environment of the build (oe-init-build-env, or kas shell).
#
# usage: run-demo.sh [MACHINE [RUNQEMU-OPTION...]]     (MACHINE: qemuarm64, qemux86-64; its images: DEPLOY,
#                                                       by default tmp/deploy/images/MACHINE)
set -eu

machine=${1:-qemuarm64}
[ $# -eq 0 ] || shift
for images in "${DEPLOY:-}" "tmp/deploy/images/$machine" "tmp-glibc/deploy/images/$machine"; do
  [ ! -d "$images" ] || break
done
[ -d "$images" ] || {
  echo "no images of $machine here; build mote-image-demo first, or name their directory in DEPLOY" >&2
  exit 1
}
for program in swtpm runqemu; do
  command -v "$program" >/dev/null || {
    echo "$program is not in PATH" >&2
    exit 1
  }
done
case $machine in
  qemuarm64) device=tpm-tis-device ;;
  qemux86-64) device=tpm-crb ;;
  *)
    echo "no such machine here: $machine" >&2
    exit 1
    ;;
esac

images=$(cd "$images" && pwd)
mkdir -p "$images/tpm"
socket=$images/tpm/socket
swtpm socket --tpm2 --tpmstate dir="$images/tpm" --ctrl type=unixio,path="$socket" --terminate &
swtpm=$!
trap 'kill $swtpm 2>/dev/null || :' EXIT
tries=0
until [ -S "$socket" ] || [ $tries -ge 50 ]; do
  sleep 0.1
  tries=$((tries + 1))
done
runqemu "$machine" mote-image-demo slirp nographic "$@" \
  qemuparams="-chardev socket,id=chrtpm,path=$socket -tpmdev emulator,id=tpm0,chardev=chrtpm -device $device,tpmdev=tpm0"
