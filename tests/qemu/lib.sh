# What the tests of a whole device share: beginning and end, telling, waiting, processes, verifier and operator.
# Sourced, from the top of the repository.
# shellcheck shell=bash disable=SC2154,SC2034 # variables are set and used by whoever sources this

# shellcheck source=tests/setup.sh
. tests/setup.sh
# shellcheck source=tests/build.sh
. tests/build.sh

# ---- beginning and end ----

begun=${EPOCHREALTIME/[.,]/}
pids=()
failures=0
keep_files=

# usage: the comment at the head of the script.
usage() { awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"; }

# options ARGUMENTS...: those of a script that has no option but --keep.
options() {
  case ${1:-} in
    '') ;;
    --keep) keep_files=1 ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
}

# begin NAME [SETUP]: what is needed is there, then our programs in $bin, scratch in $dir, the target directory in
# $target. At the script's end nothing is left behind.
begin() {
  local name=$1
  shift
  setup "$@"
  dir=$(mktemp -d "${TMPDIR:-/tmp}/mote-$name.XXXXXX")
  trap finish EXIT
  trap 'exit 130' INT TERM
  target=$(target_directory)
  programs >"$dir/build.log" 2>&1 || fail 'the build failed'
}

finish() {
  local pid
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null; done
  if [ -n "$keep_files" ]; then printf 'kept: %s\n' "$dir"; else rm -rf "$dir"; fi
}

# conclude: the script's verdict, as its last command.
conclude() {
  printf '%s s in all\n' "$(elapsed)"
  [ "$failures" = 0 ]
}

# ---- telling ----

seconds() { printf '%d.%d' $(($1 / 1000000)) $(($1 / 100000 % 10)); }
elapsed() { seconds $((${EPOCHREALTIME/[.,]/} - begun)); }
# figure NAME VALUE [UNIT [budget OP LIMIT]]
figure() { printf 'figure %s\n' "$*"; }

# fail WHAT: nothing after this would mean anything.
fail() {
  printf 'FAIL %s\n' "$1" >&2
  tell_logs >&2
  exit 1
}

tell_logs() {
  local log
  keep_files=1
  for log in "$dir"/*.console "$dir"/*.log; do
    [ -s "$log" ] || continue
    printf '\n--- the end of %s\n' "$log"
    tail -n 12 "$log" | tr -d '\r'
  done
}

verdict() {
  if [ "$1" = 0 ]; then
    printf 'ok   %s (at %s s)\n' "$2" "$(elapsed)"
  else
    printf 'FAIL %s (at %s s)\n' "$2" "$(elapsed)"
    failures=$((failures + 1))
    motectl device list
    tell_logs
  fi
}

# check WHAT COMMAND...
check() {
  local what=$1
  shift
  "$@" >/dev/null 2>&1
  verdict $? "$what"
}

# within SECONDS WHAT COMMAND...: ok as soon as the command succeeds.
within() {
  local until=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    if [ $SECONDS -ge $until ]; then
      verdict 1 "$what"
      return
    fi
    sleep 0.2
  done
  verdict 0 "$what"
}

# wait_for SECONDS WHAT COMMAND...: the same for what is no test but must be.
wait_for() {
  local until=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $until ] || fail "$what"
    sleep 0.05
  done
}

# ---- processes: ended by their own identifiers only ----

end() {
  kill "-$1" "$2" 2>/dev/null
  wait "$2" 2>/dev/null
  local pid left=()
  for pid in "${pids[@]}"; do [ "$pid" = "$2" ] || left+=("$pid"); done
  pids=("${left[@]}")
}

free_udp_port() {
  local port
  while :; do
    # Below the range for outgoing connections.
    port=$((15000 + (RANDOM << 1) % 16000))
    grep -qi ":$(printf '%04X' "$port") " /proc/net/udp /proc/net/udp6 2>/dev/null || break
  done
  printf '%d' "$port"
}

# ---- the verifier and its operator ----

motectl() { timeout 30 "$bin/motectl" --state "$dir/verifier" "$@" 2>>"$dir/motectl.log"; }

verifier_on() {
  local starts
  starts=$(verifier_starts)
  "$bin/mote-verifier" --state "$dir/verifier" --listen "127.0.0.1:$verifier_port" --interval 1 "$@" \
    >>"$dir/verifier.log" 2>&1 &
  verifier=$!
  pids+=("$verifier")
  # motectl reads the store itself while no daemon runs, so its answer would say nothing.
  wait_for 60 'the verifier listens' verifier_started "$starts"
}
verifier_starts() { grep -cs 'listening on .*, state in' "$dir/verifier.log"; }
verifier_started() { [ "$(verifier_starts)" -gt "${1:-0}" ]; }
# verifier_on_image: it knows $dir/manifest, signed with $dir/image.key.
verifier_on_image() { verifier_on --manifest "$dir/manifest" --manifest-key "$dir/image.key.pub"; }
verifier_off() { end TERM "$verifier"; }
verifier_kill() { end KILL "$verifier"; }

device_line() { motectl device list | grep -Ew 'pending|trusted|untrusted'; }
device_id() { device_line | awk 'NR == 1 { print $1 }'; }
# admit: the device that waits, from now on $device.
admit() {
  device=$(device_id)
  motectl device admit "$device" >/dev/null || fail 'motectl device admit'
}
is() { [ "$(device_line | grep -oEw 'pending|untrusted|trusted' | head -n 1)" = "$1" ]; }
explained() { motectl explain "$device" | grep -qF -- "$1"; }
# reasons_are TOKEN...: all of them, in alphabetical order, and no other.
reasons_are() {
  [ "$(motectl explain "$device" --json | python3 -c '
import json, sys
print(*sorted(each["reason"] for each in json.load(sys.stdin)["reasons"]))')" = "$*" ]
}
refused_for() { motectl explain "$device" --json | grep -qF "\"$1\""; }

# show KEY: a number that `motectl device show` knows.
show() { motectl --json device show "$device" | grep -oE "\"$1\": *[0-9]+" | head -n 1 | grep -oE '[0-9]+$'; }
boots() { show number; }
# Records of this boot that a quote certifies.
records() { show certified; }
records_since() { [ "$(records)" -ge $(($1 + $2)) ]; }
# A boot after number $1 is trusted.
rebooted() { [ "$(boots)" -gt "$1" ] && is trusted; }
