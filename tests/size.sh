#!/usr/bin/env bash
# What the agent costs a device: bytes, memory, crates; instructions and allocations of a heartbeat. Each
# build attests for real: swtpm, a simulated kernel, mote-verifier. Prints a line `figure NAME VALUE` each,
# and FAIL where one exceeds its budget.
#
#   tests/size.sh              all
#   tests/size.sh --no-default only the smallest build
#
# The smallest build is
#   RUSTFLAGS='-C force-unwind-tables=no -C link-arg=-Wl,-z,pack-relative-relocs' cargo build --profile release-tiny -p mote-agent \
#     --no-default-features --features tpm-direct
# which says what the profile cannot: that a program which aborts needs no tables to unwind with, and that
# a libc from 2022 on (glibc 2.36, musl 1.2.4) knows short relocations.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=tests/setup.sh
. tests/setup.sh

with_default=1
case ${1:-} in
  '') ;;
  --no-default) with_default= ;;
  *) sed -n '2,13s/^# \{0,1\}//p' "$0" && exit 2 ;;
esac

dir=$(mktemp -d "${TMPDIR:-/tmp}/mote-size.XXXXXX")
pids=()
failures=0
begun=${EPOCHREALTIME/[.,]/}
keep_files=
# shellcheck source=tests/qemu/lib.sh
. tests/qemu/lib.sh
# shellcheck source=tests/qemu/simulated.sh
. tests/qemu/simulated.sh
trap finish EXIT
trap 'exit 130' INT TERM

setup
target=$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
host=$(rustc -vV | sed -n 's/^host: //p')

# budget NAME VALUE LIMIT
budget() {
  figure "$1" "$2"
  if [ "$2" -gt "$3" ]; then
    printf 'FAIL %s is more than %d\n' "$1" "$3"
    failures=$((failures + 1))
  fi
}

# build NAME RUSTFLAGS FEATURES...: prints the path of the stripped program.
build() {
  local name=$1 flags=$2
  shift 2
  RUSTFLAGS=$flags cargo build --locked --profile release-tiny -p mote-agent "$@" --target "$host" \
    --target-dir "$target/size/$name" >"$dir/build-$name.log" 2>&1 || fail "build $name"
  printf '%s' "$target/size/$name/$host/release-tiny/mote-agent"
}

crates() { cargo tree --locked -p mote-agent "$@" -e normal --prefix none | sed 's/ (.*//' | sort -u | wc -l; }

bin=${MOTE_BIN_DIR:-}
if [ -z "$bin" ]; then
  cargo build --locked --workspace --bins >"$dir/build.log" 2>&1 || fail 'the build failed'
  bin=$target/debug
fi

# per_beat RECORDS PATTERN COMMAND...: what a heartbeat adds to the number that PATTERN finds in the
# command's output.
per_beat() {
  local records=$1 pattern=$2 few many
  shift 2
  attest "$records" 5 "$@" >/dev/null
  few=$(total "$pattern")
  attest "$records" 25 "$@" >/dev/null
  many=$(total "$pattern")
  printf '%d' $(((many - few) / 20))
}
total() { tr -d ',' <"$dir/agent.log" | sed -n "s/.*$1.*/\1/p" | tail -n 1; }

# ---- the figures ----

dynamic=$(build dynamic '-C force-unwind-tables=no -C link-arg=-Wl,-z,pack-relative-relocs' --no-default-features --features tpm-direct)
static=$(build static '-C force-unwind-tables=no -C target-feature=+crt-static' --no-default-features --features tpm-direct)
budget agent_bin_tiny_bytes "$(stat -c %s "$dynamic")" 700000
figure agent_bin_tiny_static_bytes "$(stat -c %s "$static")"
budget agent_crates_tiny "$(crates --no-default-features --features tpm-direct)" 75
budget agent_crates_default "$(crates)" 130

device_on 100
short=$(per_beat 100 'Collected : \([0-9]*\)' valgrind --tool=callgrind --callgrind-out-file=/dev/null "$dynamic")
device_off
device_on 10000
budget agent_rss_tiny_kib "$(attest 10000 100 "$static")" 2048
long=$(per_beat 10000 'Collected : \([0-9]*\)' valgrind --tool=callgrind --callgrind-out-file=/dev/null "$dynamic")
budget agent_instructions_per_beat "$long" 1000000
figure agent_instructions_per_beat_100_records "$short"
apart=$(((long - short) * 100 / short))
if [ "${apart#-}" -gt 10 ]; then
  printf 'FAIL a heartbeat over 10,000 records takes %d %% more instructions than over 100\n' "$apart"
  failures=$((failures + 1))
fi
budget agent_allocs_per_beat "$(per_beat 10000 'total heap usage: \([0-9]*\) allocs' valgrind "$dynamic")" 0
if [ -n "$with_default" ]; then
  default=$(build default '')
  budget agent_bin_default_bytes "$(stat -c %s "$default")" 2800000
  budget agent_rss_default_kib "$(attest 10000 100 "$default")" 8000
fi
device_off

[ "$failures" = 0 ]
