#!/bin/sh
# Boots the demo image in QEMU with a software TPM (swtpm). Its state is kept in the directory mote-tpm, so
# that it is the same device at the next boot. The verifier on this machine is 10.0.2.2 for the guest. Leave
# with Ctrl-A X. Needs the environment of the build (oe-init-build-env, or kas shell).
#
# usage: run-demo.sh [qemuarm64|qemux86-64 [RUNQEMU-OPTION...]]
set -eu

machine=${1:-qemuarm64}
[ $# -eq 0 ] || shift
case $machine in
  qemuarm64) device=tpm-tis-device ;;
  qemux86-64) device=tpm-crb ;;
  *)
    echo "no such machine here: $machine" >&2
    exit 1
    ;;
esac
for program in swtpm runqemu; do
  command -v "$program" >/dev/null || {
    echo "$program is not in PATH" >&2
    exit 1
  }
done

state=$PWD/mote-tpm/$machine
mkdir -p "$state"
# A socket's path must be short.
run=$(mktemp -d)
swtpm=
trap 'kill $swtpm 2>/dev/null || :; rm -rf "$run"' EXIT
swtpm socket --tpm2 --tpmstate dir="$state" --ctrl type=unixio,path="$run/tpm" --terminate &
swtpm=$!
tries=0
until [ -S "$run/tpm" ]; do
  tries=$((tries + 1))
  [ $tries -le 50 ] || {
    echo "swtpm did not start" >&2
    exit 1
  }
  sleep 0.1
done
runqemu "$machine" mote-image-demo slirp nographic "$@" \
  qemuparams="-chardev socket,id=chrtpm,path=$run/tpm -tpmdev emulator,id=tpm0,chardev=chrtpm -device $device,tpmdev=tpm0"
