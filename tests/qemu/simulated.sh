# A device without a machine: swtpm, a simulated kernel with a list of some length, and a verifier that
# knows all of it. Sourced, after lib.sh.
# shellcheck shell=bash disable=SC2154,SC2034 # variables are set and used by whoever sources this

free_tcp_pair() {
  local port
  while :; do
    port=$((15000 + (RANDOM << 1) % 16000))
    grep -qiE ":($(printf '%04X|%04X' $port $((port + 1)))) " /proc/net/tcp || break
  done
  printf '%d' "$port"
}

# device_on RECORDS: a TPM, a kernel whose list has so many, a verifier that knows them all.
device_on() {
  local records=$1 port
  rm -rf "$dir/tpm" "$dir/verifier" "$dir"/*.sock "$dir/list"
  mkdir -p "$dir/tpm"
  port=$(free_tcp_pair)
  swtpm socket --tpm2 --tpmstate dir="$dir/tpm" --flags not-need-init,startup-clear \
    --pid file="$dir/tpm/pid" --server type=tcp,port="$port",bindaddr=127.0.0.1 --ctrl type=tcp,port=$((port + 1)),bindaddr=127.0.0.1 \
    >>"$dir/swtpm.log" 2>&1 &
  swtpm=$!
  pids+=("$swtpm")
  # Its pid file appears when both ports are its own.
  wait_for 10 'swtpm starts' grep -qx "$swtpm" "$dir/tpm/pid"
  "$bin/mote-simkernel" run --swtpm "127.0.0.1:$port" --listen 127.0.0.1:0 --data tests/data/debian12-amd64-6.1 \
    --list "$dir/list" --control "$dir/kernel.sock" >>"$dir/kernel.log" 2>&1 &
  simkernel=$!
  pids+=("$simkernel")
  tpm_port=$("$bin/mote-simkernel" tell "$dir/kernel.sock" --wait 20 status 2>>"$dir/kernel.log") ||
    fail 'the kernel does not boot'
  tpm_port=${tpm_port##*port=}
  tpm_port=${tpm_port%% *}
  # The recorded device never had these files; the manifest lists them.
  python3 - "$dir" "$records" <<'PY'
import hashlib, socket, sys
directory, records = sys.argv[1], int(sys.argv[2])
kernel = socket.socket(socket.AF_UNIX)
kernel.connect(directory + "/kernel.sock")
answers = kernel.makefile("r")
with open(directory + "/sums", "w") as sums:
    for number in range(records - 1):
        digest = hashlib.sha256(b"%d" % number).hexdigest()
        sums.write(f"{digest}  /usr/lib/program-number-{number}\n")
        kernel.sendall(f"append-file /usr/lib/program-number-{number} {digest}\n".encode())
        assert answers.readline().startswith("ok"), number
PY
  [ -s "$dir/image.key" ] || motectl key new -o "$dir/image.key" >/dev/null || fail 'motectl key new'
  motectl manifest build --quiet --sha256sums "$dir/sums" --sign "$dir/image.key" -o "$dir/manifest" >/dev/null ||
    fail 'motectl manifest build'
  verifier_port=$(free_udp_port)
  verifier_on_image
  cat >"$dir/agent.toml" <<TOML
verifier = "127.0.0.1:$verifier_port"
verifier_key = "$dir/verifier/verifier.pub"
tpm = "swtpm:127.0.0.1:$tpm_port"
ima_log = "$dir/list"
start_jitter = 0
jitter = 0
TOML
}

# lend_tpm: from now on the agent has its TPM as a character device, as on a device. swtpm's commands and
# responses pass unchanged.
lend_tpm() {
  python3 - "$tpm_port" >"$dir/tpm/node" 2>>"$dir/lend.log" <<'PY' &
import os, select, socket, sys, tty
agent, node = os.openpty()
tty.setraw(agent)
tty.setraw(node)
tpm = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
tpm.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
print(os.ttyname(node), flush=True)
while True:
    ready, _, _ = select.select([agent, tpm], [], [])
    if agent in ready:
        tpm.sendall(os.read(agent, 4096))
    if tpm in ready:
        response = tpm.recv(4096)
        if not response:
            break
        os.write(agent, response)
PY
  pids+=($!)
  wait_for 10 'the TPM is lent out' test -s "$dir/tpm/node"
  sed -i "s|^tpm = .*|tpm = \"device:$(<"$dir/tpm/node")\"|" "$dir/agent.toml"
}

device_off() {
  end TERM "$verifier"
  end TERM "$simkernel"
  end TERM "$swtpm"
}

# attest RECORDS BEATS COMMAND...: runs an agent until it has had so many verdicts over the whole list, and
# leaves it stopped. Prints its VmHWM in KiB, from before it ends.
attest() {
  local records=$1 beats=$2 agent
  shift 2
  "$@" --config "$dir/agent.toml" >"$dir/agent.log" 2>&1 &
  agent=$!
  pids+=("$agent")
  wait_for 300 'the device enrols' sees 'waiting to be admitted|trusted' 1
  device=$(device_id)
  motectl device admit "$device" >/dev/null 2>&1
  wait_for 600 "$beats verdicts over $records records" sees "trusted, $records records" "$beats"
  sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$agent/status"
  kill -TERM "$agent"
  wait "$agent"
}
sees() { [ "$(grep -cE "$1" "$dir/agent.log")" -ge "$2" ]; }
