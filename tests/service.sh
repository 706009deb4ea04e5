#!/usr/bin/env bash
# mote-agent as a service of a device: gives up root, listens to nobody, needs neither a writable root nor a
# clock, and tells init system, watchdog, boot script and LED how it stands. swtpm, a simulated kernel and
# mote-verifier; the agent in namespaces of its own, so it takes root (or sudo).
#
#   tests/service.sh           one line each, ok or FAIL
#   tests/service.sh --keep    keep the logs
#
# Programs from MOTE_BIN_DIR, else they are built.

# What the shells in the namespaces expand must not be expanded here.
# shellcheck disable=SC2016
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=tests/qemu/lib.sh
. tests/qemu/lib.sh
# shellcheck source=tests/qemu/simulated.sh
. tests/qemu/simulated.sh
# shellcheck source=tests/qemu/debian.sh
. tests/qemu/debian.sh

options "$@"
if [ "$(id -u)" != 0 ]; then
  setup
  # What root builds here, nobody else could build again.
  programs || exit 1
  MOTE_BIN_DIR=$bin setup_as_root --preserve-env=MOTE_BIN_DIR tests/service.sh "$@"
  exit
fi
begin service
bin=$(readlink -f "$bin")
notify=$(mktemp -d /tmp/mote-notify.XXXXXX)
trap 'finish; rm -rf "$notify"' EXIT

# ---- an agent on a device of its own ----

# The account of the tests: on a device, the image makes one.
printf 'root:x:0:0::/root:/bin/sh\nmote-test:x:64123:64124::/nonexistent:/sbin/nologin\n' >"$dir/passwd"
printf 'root:x:0:\nmote-test:x:64124:\ntss:x:64125:someone,mote-test\nother:x:64126:someone\n' >"$dir/group"

# As the device's init starts it: root, with the device's accounts and a root file system that nobody can
# write to.
device_of_its_own='mount --bind "$0/passwd" /etc/passwd && mount --bind "$0/group" /etc/group &&
  mount -o remount,bind,ro / && exec "$@"'

# agent_on WORDS...: words before the first option are the environment.
agent_on() {
  local words=()
  while [ $# -gt 0 ] && [[ $1 == *=* && $1 != -* ]]; do words+=("$1") && shift; done
  : >"$dir/agent.log"
  env "${words[@]}" unshare --mount --propagation private sh -c "$device_of_its_own" "$dir" \
    "$bin/mote-agent" --config "$dir/agent.toml" "$@" >"$dir/agent.log" 2>&1 &
  agent=$!
  pids+=("$agent")
}
agent_off() { end TERM "$agent"; }
says() { grep -qE -- "$1" "$dir/agent.log"; }
# A program that no manifest lists.
append() { "$bin/mote-simkernel" tell "$dir/kernel.sock" "append-file $1 $(printf '%064d' 7)" >>"$dir/kernel.log" 2>&1; }

# process PID FIELD: a line of its status, spaces made one.
process() { sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status" | tr -s '[:space:]' ' ' | sed 's/ $//'; }

# sockets PID: a line "TABLE STATE REMOTE" for each that is its own; "unix listens" for one that accepts.
sockets() {
  local inodes table
  inodes=" $(readlink "/proc/$1"/fd/* | sed -n 's/^socket:\[\(.*\)\]$/\1/p' | tr '\n' ' ')"
  for table in udp udp6 udplite udplite6 raw raw6 icmp icmp6 tcp tcp6; do
    [ -r "/proc/net/$table" ] || continue
    awk -v table="$table" -v inodes="$inodes" 'index(inodes, " " $10 " ") { print table, $4, $3 }' "/proc/net/$table"
  done
  # __SO_ACCEPTCON
  awk -v inodes="$inodes" 'index(inodes, " " $7 " ") && $4 == "00010000" { print "unix listens" }' /proc/net/unix
  awk -v inodes="$inodes" 'index(inodes, " " $9 " ") { print "packet" }' /proc/net/packet
}
# Anything that a stranger's packet could reach: only 01, connected, is not.
listens() { sockets "$1" | grep -qvE '^(udp|tcp)6? 01 '; }
listens_not() { ! listens "$1"; }
speaks_to() { sockets "$1" | grep -qiE "^udp 01 .*:$(printf '%04X' "$2")\$"; }

device_on 20
chmod 600 "$dir/list"

# ---- gives up root ----

printf 'user = "mote-test"\n' >>"$dir/agent.toml"
agent_on
within 60 'enrols on a read-only root' says 'waiting to be admitted'
admit
within 60 'is trusted' says 'trusted, 20 records'
check 'all its user ids are of the account' test "$(process "$agent" Uid)" = '64123 64123 64123 64123'
check 'all its group ids, too' test "$(process "$agent" Gid)" = '64124 64124 64124 64124'
check 'and of all groups only those of the account' test "$(process "$agent" Groups)" = '64124 64125'
for set in CapInh CapPrm CapEff CapAmb; do
  check "no capability is left ($set)" test "$(process "$agent" $set)" = 0000000000000000
done
check 'and none comes back by a program with setuid (NoNewPrivs)' test "$(process "$agent" NoNewPrivs)" = 1
check 'every thread did the same' test "$(grep -h '^Uid:' "/proc/$agent/task"/*/status | sort -u | wc -l)" = 1
check 'the list is for root only' test "$(stat -c '%a %u' "$dir/list")" = '600 0'
append /usr/bin/never-seen || fail 'append-path'
within 30 'what is measured later is read all the same' says '21 records'
check 'its own user cannot look into its memory' test "$(stat -c %u "/proc/$agent/fd")" = 0

# ---- listens to nobody ----

check 'has a socket to the verifier' speaks_to "$agent" "$verifier_port"
check 'listens to nobody' listens_not "$agent"
# A check that sees nothing would pass as well.
kinds=('AF_INET,s.SOCK_DGRAM' 'AF_INET,s.SOCK_STREAM' 'AF_UNIX,s.SOCK_STREAM')
[ ! -s /proc/net/if_inet6 ] || kinds+=('AF_INET6,s.SOCK_DGRAM' 'AF_INET6,s.SOCK_STREAM')
for kind in "${kinds[@]}"; do
  # What the one before said must not be taken for this one's.
  rm -f "$dir/listener"
  python3 -c "
import socket as s, sys, time
x = s.socket(s.$kind)
x.bind('\0mote-service-$$' if 'UNIX' in '$kind' else ('', 0))
'STREAM' in '$kind' and x.listen()
print('bound', flush=True)
time.sleep(60)" >"$dir/listener" &
  listener=$!
  pids+=("$listener")
  wait_for 60 'a listener starts' grep -q bound "$dir/listener"
  check "the check sees one that listens (${kind/,s./, })" listens "$listener"
  end TERM "$listener"
done
agent_off
check 'stops when told' says 'stopped'

# ---- accounts that are not there ----

agent_on --user no-such-user
wait "$agent"
check 'does not run on as root when there is no such user' test $? = 2
check 'and says why' says 'no user no-such-user'

# ---- no clock ----

# Only the calendar is wrong: time since boot goes on, as on a device whose clock has no battery.
no_clock=(FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME='@1970-01-01 00:00:10'
  LD_PRELOAD="$(find /usr/lib -name libfaketime.so.1 -print -quit)")
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=localhost \
  -addext subjectAltName=DNS:localhost -keyout "$dir/tls.key" -out "$dir/tls.crt" 2>>"$dir/openssl.log"
pin=$(openssl x509 -in "$dir/tls.crt" -outform der | sha256sum | cut -c 1-64)
verifier_off
tls_port=$(free_udp_port)
verifier_on --listen-tls "127.0.0.1:$tls_port" --tls-cert "$dir/tls.crt" --tls-key "$dir/tls.key"
check 'the library that turns the calendar back does' test "$(env "${no_clock[@]}" date +%Y)" = 1970
agent_on "${no_clock[@]}"
within 60 'attests in January 1970' says 'untrusted: .*21 records'
check 'in which it really is' grep -q libfaketime "/proc/$agent/maps"
agent_off
agent_on "${no_clock[@]}" --verifier "coaps+tcp://localhost:$tls_port" --tls-pin "$pin"
within 60 'and over TLS, with a pinned certificate of today' says 'untrusted: .*21 records'
check 'listens to nobody there, either' listens_not "$agent"
agent_off
agent_on "${no_clock[@]}" --verifier "coaps+tcp://localhost:$tls_port" --tls-ca "$dir/tls.crt"
within 60 'with an authority it says what is wrong: the time' says 'not valid yet|NotValidYet|not yet valid'
agent_off
verifier_off
verifier_on

# ---- init system and watchdog ----

# What systemd would hear at its socket, and from which process (NotifyAccess=main). In a place of its own,
# which the account may enter, like systemd's, wherever TMPDIR is.
chmod 755 "$notify"
python3 -c '
import os, socket, struct, sys
heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
heard.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
heard.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
while True:
    data, control, _, _ = heard.recvmsg(4096, 256)
    pid, uid, _ = struct.unpack("3i", control[0][2][:12])
    for line in data.decode().splitlines():
        print(pid, uid, line, flush=True)
' "$notify/socket" >"$dir/notified" 2>>"$dir/python.log" &
manager=$!
pids+=("$manager")
wait_for 10 'somebody listens for sd_notify' test -S "$notify/socket"
hears() { grep -qE "^$agent 64123 $1\$" "$dir/notified"; }
agent_on NOTIFY_SOCKET="$notify/socket" WATCHDOG_USEC=600000000 JOURNAL_STREAM=1:1
within 60 'READY=1, from the process itself, when root is given up' hears READY=1
within 60 'STATUS= says how it stands' hears STATUS=untrusted
check 'before that it was only ready' test "$(head -n 1 "$dir/notified" | cut -d ' ' -f 3)" = READY=1
within 60 'WATCHDOG=1 with each verdict' hears WATCHDOG=1
check 'and for how long it may be silent' hears 'WATCHDOG_USEC=[1-9][0-9]{8}'
check 'lines for the journal have its priorities' says '^<4>untrusted'
kill -STOP "$agent"
sleep 1
alive=$(grep -c WATCHDOG=1 "$dir/notified")
sleep 4
check 'one that hangs gives no sign of life' test "$(grep -c WATCHDOG=1 "$dir/notified")" = "$alive"
kill -CONT "$agent"
more_alive() { [ "$(grep -c WATCHDOG=1 "$dir/notified")" -gt "$alive" ]; }
within 30 'and one that goes on does' more_alive
agent_off
: >"$dir/notified"
agent_on NOTIFY_SOCKET="$notify/socket" WATCHDOG_USEC=600000000 WATCHDOG_PID=1
within 60 'a watchdog that waits for another process' hears STATUS=untrusted
sleep 1
check 'hears nothing' test "$(grep -c WATCHDOG "$dir/notified")" = 0
agent_off
end TERM "$manager"

if command -v systemd-analyze >/dev/null; then
  verified() { [ -z "$(systemd-analyze verify "$1" 2>&1)" ]; }
  refuted() { ! verified "$1"; }
  # The unit as it is installed, but for the program's place.
  sed "s|/usr/bin/mote-agent|$bin/mote-agent|" agent/dist/mote-agent.service >"$dir/mote-agent.service"
  check 'systemd finds no fault with the unit' verified "$dir/mote-agent.service"
  sed 's/^WatchdogSec/WatchDogSec/' "$dir/mote-agent.service" >"$dir/faulty.service"
  check 'and would with another' refuted "$dir/faulty.service"
  check 'nor with how far it is confined (exposure 2.5 at most)' \
    systemd-analyze security --no-pager --offline=true --threshold=25 "$dir/mote-agent.service"
fi

# ---- boot script and LED ----

# alone PROGRAM WORDS...: a shell program in a namespace of processes, where `mote-agent status` sees no other
# agent of this machine. To be run in the background.
alone() {
  local program=$1
  shift
  exec unshare --mount --propagation private --pid --fork --mount-proc --kill-child sh -c "$program" "$@"
}
device_off
device_on 20
: >"$dir/status"
alone 'ask() { said=$("$1" status); printf "%s %s\n" $? "$said" >>"$0/status"; sleep 0.2; }
  ask "$1"
  "$1" --config "$0/agent.toml" --ack-timeout 1 --max-retransmit 1 >>"$0/agent.log" 2>&1 &
  until [ -e "$0/another" ]; do ask "$1"; done
  "$1" --config "$0/agent.toml" >>"$0/agent.log" 2>&1 &
  while :; do ask "$1"; done' "$dir" "$bin/mote-agent" 2>>"$dir/alone.log" &
alone=$!
pids+=("$alone")
# status_is CODE WHAT: the latest answer.
status_is() { tail -n 1 "$dir/status" | grep -qE "^$1 $2"; }
within 60 'status: 3 while the device is not admitted' status_is 3 'unknown, as of [0-9]+ s ago'
check 'status: 3 when no agent runs' grep -qm 1 '^3 no mote-agent runs here' "$dir/status"
motectl device admit "$(device_id)" >/dev/null || fail 'motectl device admit'
within 60 'status: 0 when trusted' status_is 0 'trusted, as of [0-9]+ s ago'
append /usr/bin/never-seen || fail 'append'
within 60 'status: 1 when not' status_is 1 'untrusted, as of'
verifier_kill
within 60 'status: 4 when the verifier does not answer' status_is 4 'unreachable, as of'
verifier_on
within 60 'and 1 again when it does' status_is 1 'untrusted, as of'
touch "$dir/another"
within 60 'status: 3 when two agents run' status_is 3 'several mote-agents run here'
# Killed, they leave their keys in the TPM, which has no resource manager here: take another.
end KILL "$alone"
device_off
device_on 20
: >"$dir/status"
alone '"$1" --config "$0/agent.toml" >>"$0/agent.log" 2>&1 & 
  while :; do said=$("$1" status); printf "%s %s\n" $? "$said" >>"$0/status"; sleep 0.2; done' \
  "$dir" "$bin/mote-agent" 2>>"$dir/alone.log" &
alone=$!
pids+=("$alone")
within 60 'status: 3 for a device that the verifier does not know' status_is 3 'unknown, as of'
end KILL "$swtpm"
within 60 'status: 5 when the TPM fails' status_is 5 'failed, as of'
end KILL "$alone"
end TERM "$simkernel"
end TERM "$verifier"

# ---- init scripts ----

device_on 20
printf '#!/bin/sh\nexec sed -u "s/^/$2: /" >>%s\n' "$dir/syslog" >"$dir/logger"
printf '#!/bin/sh\nexec busybox start-stop-daemon "$@"\n' >"$dir/busybox-start-stop-daemon"
chmod 755 "$dir/logger" "$dir/busybox-start-stop-daemon"
sed "s|^daemon=.*|daemon=$bin/mote-agent|; s|^pidfile=.*|pidfile=$dir/pid|" agent/dist/mote-agent.init >"$dir/mote-agent.init"
admitted=
for flavour in dpkg busybox; do
  mkdir "$dir/$flavour"
  ln -s "$dir/logger" "$dir/$flavour/logger"
  [ $flavour = dpkg ] || ln -s "$dir/busybox-start-stop-daemon" "$dir/$flavour/start-stop-daemon"
  : >"$dir/syslog"
  alone 'export PATH="$0/$2:$PATH:/usr/sbin" MOTE_CONFIG="$0/agent.toml"
    script() { sh "$0/mote-agent.init" "$1"; echo "$1 $?"; }
    until_status() { until sh "$0/mote-agent.init" status >"$0/said" || [ $? != "$1" ]; do sleep 0.2; done; cat "$0/said"; }
    script status; script start; touch "$0/started"; until_status 3; script status
    readlink /proc/[0-9]*/exe | grep -c "/mote-agent$"
    script restart; until_status 3; readlink /proc/[0-9]*/exe | grep -c "/mote-agent$"
    script stop; script status; script nonsense' "$dir" "$bin/mote-agent" "$flavour" >"$dir/init.$flavour" 2>&1 &
  alone=$!
  pids+=("$alone")
  if [ -z "$admitted" ]; then
    within 60 'the init script starts an agent, which enrols' is pending
    motectl device admit "$(device_id)" >/dev/null || fail 'motectl device admit'
    admitted=1
  fi
  within 90 "$flavour: start, restart and stop come to their end" grep -q '^nonsense' "$dir/init.$flavour"
  wanted='status 3 start 0 status 0 1 restart 0 1 stop 0 status 3 nonsense 2'
  got=$(grep -xE '[a-z]+ [0-9]|[0-9]+' "$dir/init.$flavour" | tr '\n' ' ')
  check "$flavour: with the exit codes of init scripts, and never two agents" test "${got% }" = "$wanted"
  check "$flavour: what it says goes to syslog" grep -q '^mote-agent: mote-agent: info: trusted, 20 records' "$dir/syslog"
  check "$flavour: each ends by itself" test "$(grep -c 'info: stopped' "$dir/syslog")" = 2
  end KILL "$alone"
done

# OpenRC, too, without installing it: its own programs in a root directory of their own, with this machine's
# others and libraries; what a boot would have made of /run/openrc and /sys.
debian_get "$(debian_suite)" "$(dpkg --print-architecture)" "$dir/packages" insserv libeinfo1 librc1 openrc
sed "s|^agent=.*|agent=/sbin/mote-agent|" agent/dist/mote-agent.openrc >"$dir/mote-agent.openrc"
printf '#!/sbin/openrc-run\nstart() { :; }\n' >"$dir/localmount"
: >"$dir/syslog"
alone 'set -e; root=$0/root; packages=$0/packages
  mkdir -p "$root"; mount -t tmpfs tmpfs "$root"; cd "$root"
  mkdir -p usr/bin usr/lib64 usr/lib dev proc "sys/kernel/security/ima" "./$0" etc/mote
  for made in daemons exclusive failed hotplugged inactive options scheduled started starting stopped stopping wasinactive tmp; do
    mkdir -p run/openrc/$made; done
  : >run/openrc/softlevel; mkdir var; ln -s ../run var/run
  for linked in bin sbin lib lib64; do ln -s usr/$linked $linked; done
  cp -a "$packages/lib/rc" usr/lib; cp -a "$packages"/lib/*/lib*.so* usr/lib; cp -a "$packages/sbin" usr; cp -a "$packages/etc" .
  libraries=$(ldconfig -p | sed -n "s|.*=> .*/\\([^/]*\\)/libc.so.6$|\\1|p" | head -n 1); mkdir usr/lib/$libraries
  mount --bind /usr/lib/$libraries usr/lib/$libraries; mount --bind /usr/bin usr/bin
  [ ! -d /lib64 ] || mount --bind /lib64 usr/lib64
  mount --bind "$0/logger" usr/bin/logger; : >usr/sbin/mote-agent; mount --bind "$1" usr/sbin/mote-agent
  mount --bind "$0" "./$0"; mount --rbind /dev dev; mount -t proc proc proc
  cp /etc/passwd /etc/group etc; cp "$0/agent.toml" etc/mote
  cp "$0/mote-agent.openrc" etc/init.d/mote-agent; cp "$0/localmount" etc/init.d; chmod 755 etc/init.d/*
  set +e
  script() { chroot . /sbin/rc-service mote-agent "$1" </dev/null; echo "$1 $?"; }
  until_verdict() { until chroot . /sbin/rc-service mote-agent verdict >"$0/said" </dev/null || [ $? != 3 ]; do sleep 0.2; done; }
  agents() { readlink /proc/[0-9]*/exe | grep -c "/mote-agent$"; }
  script status; script start; script status; until_verdict; script verdict; agents
  script restart; until_verdict; agents; script stop; script status; agents; script nonsense' \
  "$dir" "$bin/mote-agent" >"$dir/init.openrc" 2>&1 &
alone=$!
pids+=("$alone")
within 90 'OpenRC: start, restart and stop come to their end' grep -q '^nonsense' "$dir/init.openrc"
wanted='status 3 start 0 status 0 verdict 0 1 restart 0 1 stop 0 status 3 0 nonsense 1'
got=$(grep -xE '[a-z]+ [0-9]|[0-9]+' "$dir/init.openrc" | tr '\n' ' ')
check 'OpenRC: with its exit codes, the verdict, and never two agents' test "${got% }" = "$wanted"
check 'OpenRC: what it says goes to syslog' grep -q '^mote-agent: mote-agent: info: trusted, 20 records' "$dir/syslog"
end KILL "$alone"
device_off

conclude
