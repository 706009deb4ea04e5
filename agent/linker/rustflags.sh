#!/bin/sh
# The flags of a device's build, for RUSTFLAGS; README.md says what each is for and what it asks of a build.
#
#   rustflags.sh [--relr] [--tls] [--compact]
set -eu

usage() {
  sed -n '2,4s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
case $here in
  *[[:space:]]*)
    echo "rustflags.sh: RUSTFLAGS cannot hold a path with a space: $here" >&2
    exit 1
    ;;
esac

flags="-C force-unwind-tables=no -C link-arg=-Wl,--no-eh-frame-hdr,-T,$here/no-unwind.ld"
for option in "$@"; do
  case $option in
    --relr) flags="$flags -C link-arg=-Wl,-z,pack-relative-relocs" ;;
    --tls) flags="$flags -L native=$here -C link-arg=-Wl,-T,$here/seldom.ld" ;;
    --compact) flags="$flags --cfg sha2_backend_soft=\"compact\" --cfg aes_backend_soft=\"compact\"" ;;
    *) usage ;;
  esac
done
printf '%s\n' "$flags"
