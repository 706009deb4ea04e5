#!/usr/bin/env bash
# Mote in five minutes: a device with a TPM enrols, attests, runs something it should not, survives
# its verifier's death and its own reboot. Real are: the TPM commands (swtpm), the kernel's
# measurements (a recorded Debian 12, tests/data/), agent, verifier and everything between them.
# A forwarder on the way counts what each step costs: payloads of UDP datagrams, heartbeats included.
#
#   tests/demo.sh          install what is missing, build, run, clean up
#   tests/demo.sh --keep   leave it running to play with
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=tests/setup.sh
. tests/setup.sh
# shellcheck source=tests/build.sh
. tests/build.sh

keep=
case ${1:-} in
  '') ;;
  --keep) keep=1 ;;
  *) sed -n '2,8s/^# \{0,1\}//p' "$0" && exit 2 ;;
esac

# The recorded device, records counted from 0 (see the README beside the data).
data=tests/data/debian12-amd64-6.1
after_boot=294     # records when its services are up
after_programs=316 # ten programs of /usr/bin later, with their libraries and files
unknown=/usr/local/bin/job1

dir=$(mktemp -d "${TMPDIR:-/tmp}/mote-demo.XXXXXX")
pids=() # everything started here that may still run
begun=${EPOCHREALTIME/[.,]/}

# ---- telling ----

elapsed() {
  local since=$((${EPOCHREALTIME/[.,]/} - begun))
  printf '%5d.%d s' $((since / 1000000)) $((since / 100000 % 10))
}
say() { printf '%s  %-9s %s\n' "$(elapsed)" "$1" "$2"; }
more() { sed 's/^/                     /'; }

fail() {
  local log
  printf '\n%s  FAILED: %s\n' "$(elapsed)" "$1" >&2
  for log in "$dir"/*.log; do
    [ -s "$log" ] || continue
    printf '\n--- the end of %s\n' "$log" >&2
    tail -n 12 "$log" >&2
  done
  printf '\nAll files of this run are kept in %s\n' "$dir" >&2
  keep_files=1
  exit 1
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
  local until=$((SECONDS + $1)) limit=$1 what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $until ] || fail "not within $limit seconds: $what"
    sleep 0.1
  done
}

# ---- processes: ended by their own identifiers only ----

# end SIGNAL PID: and wait until it is gone.
end() {
  kill "-$1" "$2" 2>/dev/null
  wait "$2" 2>/dev/null
  local pid left=()
  for pid in "${pids[@]}"; do [ "$pid" = "$2" ] || left+=("$pid"); done
  pids=("${left[@]}")
}

keep_files=
leave_running=
finish() {
  local pid
  if [ -n "$leave_running" ]; then return; fi
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null; done
  [ -n "$keep_files" ] || rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT TERM

# ---- the device ----

# Random, outside the range for outgoing connections; whoever listens there first makes swtpm end.
random_port() { printf '%d' $((15000 + (RANDOM << 1) % 16000)); }

swtpm_on() {
  local try
  mkdir -p "$dir/tpm"
  for try in 1 2 3 4 5; do
    rm -f "$dir/swtpm.pid"
    swtpm_port=$(random_port)
    swtpm socket --tpm2 --tpmstate dir="$dir/tpm" --flags not-need-init,startup-clear \
      --pid file="$dir/swtpm.pid" --server type=tcp,port="$swtpm_port",bindaddr=127.0.0.1 \
      --ctrl type=tcp,port=$((swtpm_port + 1)),bindaddr=127.0.0.1 >>"$dir/swtpm.log" 2>&1 &
    swtpm=$!
    # Its pid file appears when both ports are its own.
    while kill -0 $swtpm 2>/dev/null; do
      if [ "$(cat "$dir/swtpm.pid" 2>/dev/null)" = $swtpm ]; then
        pids+=("$swtpm")
        return
      fi
      sleep 0.05
    done
    wait $swtpm
  done
  fail "swtpm does not start ($try tries)"
}

kernel() { "$bin/mote-simkernel" tell "$dir/kernel.sock" "$@"; }

# kernel_on [HOST:PORT]: boots, and runs what the device runs at every start.
kernel_on() {
  "$bin/mote-simkernel" run --swtpm "127.0.0.1:$swtpm_port" --listen "${1:-127.0.0.1:0}" --data "$data" \
    --list "$dir/binary_runtime_measurements" --control "$dir/kernel.sock" >>"$dir/kernel.log" 2>&1 &
  kernel=$!
  pids+=("$kernel")
  local status
  status=$(kernel --wait 20 append-until "$after_boot" 2>>"$dir/kernel.log") || fail 'the kernel does not boot'
  tpm_port=${status##*port=}
  tpm_port=${tpm_port%% *}
}

measure() { kernel "$@" >/dev/null || fail "the kernel cannot measure: $*"; }

# agent_on: traced, so that the end can tell which files it opened. -D: the agent itself is our child.
agent_on() {
  traces=$((traces + 1))
  strace -f -D -qq -e trace=%file -o "$dir/strace.$traces" \
    "$bin/mote-agent" --config "$dir/agent.toml" >>"$dir/agent.log" 2>&1 &
  agent=$!
  pids+=("$agent")
}
traces=0

# ---- the link ----

# tap_on: counts between agent and verifier, in a file.
tap_on() {
  "$bin/mote-tap" 127.0.0.1:0 "127.0.0.1:$verifier_port" "$dir/passed" >"$dir/tap" 2>"$dir/tap.log" &
  pids+=("$!")
  wait_for 10 'the counting forwarder listens' test -s "$dir/tap"
}

answered() {
  local ups downs
  read -r _ ups _ downs <"$dir/passed"
  [ "$ups" -le "$downs" ]
}

# cost: what has passed since the last time, once every request has been answered.
before=(0 0 0 0)
cost() {
  local now until=$((SECONDS + 3))
  until answered || [ $SECONDS -ge $until ]; do sleep 0.05; done
  read -ra now <"$dir/passed"
  say '' "$(printf -- '-> %d bytes in %d, <- %d bytes in %d' $((now[0] - before[0])) $((now[1] - before[1])) \
    $((now[2] - before[2])) $((now[3] - before[3])))"
  before=("${now[@]}")
}

# ---- the verifier and its operator ----

motectl() { timeout 30 "$bin/motectl" --state "$dir/verifier" "$@" 2>>"$dir/motectl.log"; }

verifier_on() {
  "$bin/mote-verifier" --state "$dir/verifier" --listen "127.0.0.1:$verifier_port" \
    --manifest "$dir/manifest" --manifest-key "$dir/image.key.pub" --interval 1 >>"$dir/verifier.log" 2>&1 &
  verifier=$!
  pids+=("$verifier")
  wait_for 20 'the verifier answers motectl' motectl device list
}

# The device's line of `motectl device list`, its identifier, its state, and whether so many records
# of its list have been appraised.
device_line() { motectl device list | grep -Ew 'pending|trusted|untrusted'; }
device_id() { device_line | awk 'NR == 1 { print $1 }'; }
is() { [ "$(device_line | grep -oEw 'pending|untrusted|trusted' | head -n 1)" = "$1" ]; }
knows_boot_log() { grep -q 'boot log .* is here, ' "$dir/verifier.log"; }
# A quote has been appraised since the last time the cost was told.
heartbeat() { [ "$(cut -d' ' -f2 "$dir/passed")" -gt "${before[1]}" ]; }
has_records() { motectl device show "$device" | grep -qw "$1"; }
appraised() { has_records "$2" && is "$1"; }

# ==== the timeline ====

printf 'Mote: a device and its verifier, from enrolment to reboot\n\n'
say setup 'looking for what is needed'
setup demo
say build 'cargo build (the first time takes some minutes)'
if [ -t 2 ]; then
  programs || fail 'the build failed'
else
  programs >"$dir/build.log" 2>&1 || fail 'the build failed'
fi
say build 'done'

# Reference values: what the image build knows. The recorded root file system, and one line more: the
# script that made the recording (record 285) was put in the image after its files were listed.
gzip -dc "$data/rootfs.sha256.gz" >"$dir/rootfs.sha256"
printf '%s  %s\n' 6b3e278540adf0ae61b85923bbe63fb2e102a349378a71d8b9a74b2a650c6ae0 /capture.sh >>"$dir/rootfs.sha256"
motectl key new -o "$dir/image.key" >/dev/null || fail 'motectl key new'
# Left out: what changes on every device while it runs.
motectl manifest build --sha256sums "$dir/rootfs.sha256" --exclude '/var/log/journal/**' \
  --exclude /var/lib/systemd/random-seed --sign "$dir/image.key" -o "$dir/manifest" >/dev/null ||
  fail 'motectl manifest build'
say image "manifest of $(wc -l <"$dir/rootfs.sha256") files signed: $(stat -c %s "$dir/manifest") bytes"

verifier_port=$(random_port)
while grep -qi ":$(printf '%04X' "$verifier_port") " /proc/net/udp /proc/net/udp6 2>/dev/null; do
  verifier_port=$(random_port)
done
verifier_on
say verifier "listens on 127.0.0.1:$verifier_port, process $verifier"

tap_on
swtpm_on
kernel_on
say device "TPM on, kernel booted; IMA has $after_boot records"

cat >"$dir/agent.toml" <<TOML
verifier = "$(cat "$dir/tap")"
verifier_key = "$dir/verifier/verifier.pub"
tpm = "swtpm:127.0.0.1:$tpm_port"
ima_log = "$dir/binary_runtime_measurements"
boot_log = "$PWD/$data/binary_bios_measurements"
start_jitter = 0
TOML
agent_on
wait_for 30 'the device enrols' is pending
device=$(device_id)
say enrolled "device $device: pending, nobody has admitted it yet"
cost

motectl device admit "$device" >/dev/null || fail 'motectl device admit'
say operator "motectl device admit $device"
wait_for 30 "$after_boot records appraised, trusted" appraised trusted $after_boot
say trusted "$after_boot records appraised, nothing that does not belong"
wait_for 30 'the boot log is known' knows_boot_log
say boot "its log, $(stat -c %s "$data/binary_bios_measurements") bytes, is known: no device of the fleet sends it again"
cost

wait_for 30 'a heartbeat' heartbeat
say heartbeat 'with nothing new:'
cost

measure append-until $after_programs
say device "ten more programs run: $((after_programs - after_boot)) files more, libraries included"
wait_for 30 "$after_programs records appraised, trusted" appraised trusted $after_programs
say trusted "$after_programs records appraised, nothing that does not belong"
cost

measure append-path $unknown
say device 'one more program runs'
wait_for 30 'the unknown program is noticed' is untrusted
say untrusted "motectl explain $device:"
motectl explain "$device" >"$dir/explain" || fail 'motectl explain'
more <"$dir/explain"
digest=9946263cca976f753d91afcf83b7155bad6352097ab742716e0eedb897abf148
for word in $unknown $digest; do
  grep -qF "$word" "$dir/explain" || fail "motectl explain does not name $word"
done

cost
line=$(device_line)
end KILL "$verifier"
say verifier "killed (kill -9 $verifier)"
measure append 1
say device 'goes on meanwhile: one file more'
verifier_on
say verifier "started again, process $verifier"
if [ "$(device_id)" != "$device" ] || ! is untrusted; then
  fail "after its restart the verifier says '$(device_line)', before it said '$line'"
fi
motectl explain "$device" | grep -qF $unknown || fail 'the reason did not survive the restart'
say untrusted 'still: enrolment, verdict and reason are there'
wait_for 60 'the record of meanwhile appraised' has_records $((after_programs + 2))
say verifier 'has the file of meanwhile, too: nothing lost'
cost

end TERM "$agent"
measure shutdown
end TERM "$kernel"
end TERM "$swtpm"
say device 'reboots: TPM reset, the IMA list starts over'
swtpm_on
kernel_on "127.0.0.1:$tpm_port"
agent_on
wait_for 60 'trusted again after the reboot' appraised trusted $after_boot
say trusted "again: the same device, $after_boot records of this boot appraised, its boot log by digest"
cost

# ---- what the agent did to the file system ----

opened=$(cat "$dir"/strace.* | grep -vE ' = -1 E' | grep -cE '\b(open|openat|openat2)\(')
# Opened for writing, or changed without opening.
written=$(cat "$dir"/strace.* | grep -vE ' = -1 E' | grep -E \
  'O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND|O_TMPFILE|\b(creat|truncate|rename|renameat|renameat2|unlink|unlinkat|link|linkat|symlink|symlinkat|mkdir|mkdirat|rmdir|mknod|mknodat|chmod|fchmodat|chown|lchown|fchownat|utime|utimes|utimensat|setxattr|lsetxattr)\(')
grep -qF "$dir/binary_runtime_measurements\", O_RDONLY" "$dir"/strace.* ||
  fail 'strace did not even see the agent read the IMA list'
if [ -n "$written" ]; then
  printf '%s\n' "$written" | head -n 20 | more
  fail 'the agent opened files for writing'
fi
say strace "the agent opened $opened files, none of them for writing"

if [ -z "$keep" ]; then
  printf '\nThat was it. tests/demo.sh --keep leaves it all running.\n'
  exit
fi
cat >"$dir/stop" <<TXT
#!/bin/sh
kill ${pids[*]} 2>/dev/null
rm -rf "$dir"
TXT
chmod +x "$dir/stop"
leave_running=1
cat <<TXT

It goes on. Try:
  $bin/motectl --state $dir/verifier device list
  $bin/motectl --state $dir/verifier device show $device
  $bin/mote-simkernel tell $dir/kernel.sock append 5             # five more files of the recorded device
  $bin/mote-simkernel tell $dir/kernel.sock append-path /usr/local/bin/job2
  $bin/mote-simkernel tell $dir/kernel.sock violation /etc/passwd
  $bin/motectl --state $dir/verifier explain $device
  tail -f $dir/*.log
Stop it and remove its files:
  $dir/stop
TXT
