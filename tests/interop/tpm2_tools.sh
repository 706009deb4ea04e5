#!/usr/bin/env bash
# Verdicts on the same inputs as independent tools: tpm2_eventlog and tpm2_checkquote (tpm2-tools),
# evmctl (ima-evm-utils). Prints a line for each comparison; fails if one differs.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
# shellcheck source=tests/build.sh
. tests/build.sh
programs || exit 1
motectl=$bin/motectl
check=$bin/mote-check
data=tests/data
device=$data/debian12-amd64-6.1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

report() { # NAME OURS THEIRS
  if [ "$2" = "$3" ]; then
    printf 'ok      %s (%s)\n' "$1" "$2"
  else
    printf 'DIFFERS %s: ours %s, theirs %s\n' "$1" "$2" "$3"
    failed=1
  fi
}

verdict() { if "$@" >"$work/out" 2>&1; then echo good; else echo refused; fi; }

# ---- boot event logs: the same events, digests and PCRs ----

for log in "$device" "$data/ovmf-amd64/secureboot-uki" "$data/ovmf-amd64/direct"; do
  name=$(basename "$log")
  tpm2_eventlog "$log/binary_bios_measurements" >"$work/theirs.yaml" 2>/dev/null || failed=1
  "$motectl" bootlog show --json "$log/binary_bios_measurements" >"$work/ours.json" || failed=1
  if python3 - "$work/theirs.yaml" "$work/ours.json" <<'PY'; then result=same; else result=different; fi
import json, re, sys

# tpm2_eventlog's YAML, as far as it goes: a YAML library is one more thing to install.
events, pcrs, bank, event = [], {}, None, None
for line in open(sys.argv[1], errors="replace"):
    text = line.rstrip("\n")
    if m := re.match(r"- EventNum: (\d+)", text):
        event = {"number": int(m[1]), "digests": {}}
        events.append(event)
    elif m := re.match(r"  PCRIndex: (\d+)", text):
        event["pcr"] = int(m[1])
    elif m := re.match(r"  EventType: (\S+)", text):
        event["type"] = m[1]
    elif m := re.match(r"  - AlgorithmId: (\S+)", text):
        alg = m[1]
    elif m := re.match(r'    Digest: "([0-9a-f]+)"', text):
        event["digests"][alg] = m[1]
    elif m := re.match(r'  Digest: "([0-9a-f]+)"', text):
        event["digests"]["sha1"] = m[1]
    elif text == "pcrs:":
        event = None
    elif event is None and (m := re.match(r"  (sha\d+):$", text)):
        bank = m[1]
    elif event is None and (m := re.match(r"    (\d+) +: 0x([0-9a-f]+)", text)):
        pcrs.setdefault(bank, {})[m[1]] = m[2]
ours = json.load(open(sys.argv[2]))
mine = [{k: e[k] for k in ("number", "pcr", "type", "digests")} for e in ours["events"]]
if not events or not pcrs:
    sys.exit("nothing read from tpm2_eventlog")
if len(mine) != len(events):
    sys.exit(f"{len(mine)} events, theirs {len(events)}")
for a, b in zip(mine, events):
    if a != b:
        sys.exit(f"ours {a}\ntheirs {b}")
if ours["pcrs"] != pcrs:
    sys.exit(f"PCRs: ours {ours['pcrs']}\ntheirs {pcrs}")
PY
  report "boot log $name: events and PCRs as tpm2_eventlog" "$result" same
  report "boot log $name: leads to the TPM's PCRs" \
    "$(verdict "$motectl" bootlog show "$log/binary_bios_measurements" --pcrs "$log/pcrs.txt")" good
done

# ---- quotes: good ones, and each damaged in one way ----

# tpm2_checkquote wants the key with its size in front.
{ printf '%04x' "$(stat -c %s "$device/ak.tpmt")" | xxd -r -p; cat "$device/ak.tpmt"; } >"$work/ak.pub"
nonces=(00112233445566778899aabbccddeeff ffeeddccbbaa99887766554433221100)

flip() { # FILE OFFSET: a copy with one bit changed
  python3 -c 'import sys; d = bytearray(open(sys.argv[1], "rb").read()); d[int(sys.argv[2])] ^= 1; sys.stdout.buffer.write(d)' "$1" "$2" >"$work/flipped"
}

quote() { # NAME ATTEST SIGNATURE NONCE PCRS
  local ours theirs
  ours=$(verdict "$check" "$device/ak.tpmt" "$2" "$3" "$4" "$5")
  # Its own format of PCR values is not what was recorded: that they fit is checked below by ours alone.
  theirs=$(verdict tpm2_checkquote -u "$work/ak.pub" -m "$2" -s "$3" -q "$4" -g sha256)
  report "$1" "$ours" "$theirs"
}

for n in 1 2; do
  attest=$device/attest.$n sig=$device/sig.$n pcrs=$device/pcrs.$n nonce=${nonces[n - 1]}
  quote "quote $n" "$attest" "$sig" "$nonce" "$pcrs"
  report "quote $n is good" "$(verdict "$check" "$device/ak.tpmt" "$attest" "$sig" "$nonce" "$pcrs")" good
  quote "quote $n for another nonce" "$attest" "$sig" "${nonces[2 - n]}" "$pcrs"
  quote "quote $n with the other's signature" "$attest" "$device/sig.$((3 - n))" "$nonce" "$pcrs"
  report "quote $n with the other's PCRs" \
    "$(verdict "$check" "$device/ak.tpmt" "$attest" "$sig" "$nonce" "$device/pcrs.$((3 - n))")" refused
  for at in 0 5 60 100 128; do
    flip "$attest" "$at"
    quote "quote $n, byte $at of the attestation changed" "$work/flipped" "$sig" "$nonce" "$pcrs"
  done
  for at in 10 50; do
    flip "$sig" "$at"
    quote "quote $n, byte $at of the signature changed" "$attest" "$work/flipped" "$nonce" "$pcrs"
  done
  flip "$pcrs" 321
  report "quote $n, PCR 10 changed" \
    "$(verdict "$check" "$device/ak.tpmt" "$attest" "$sig" "$nonce" "$work/flipped")" refused
done

# ---- IMA lists ----

for bank in sha1 sha256; do
  awk -v bank=$bank '$1 == bank { printf "PCR-%02d: %s\n", $2, tolower($3) }' "$device/pcrs.txt" >"$work/pcrs.$bank"
done
gzip -dc "$device/ascii_runtime_measurements.gz" >"$work/ascii"

ima() { # NAME LIST
  local ours theirs
  ours=$(verdict "$motectl" ima show "$2" --pcrs "$device/pcrs.txt")
  theirs=$(verdict evmctl ima_measurement --pcrs "sha1,$work/pcrs.sha1" --pcrs "sha256,$work/pcrs.sha256" "$2")
  report "$1" "$ours" "$theirs"
}

list=$device/binary_runtime_measurements
ima "IMA list" "$list"
report "IMA list is good" "$(verdict "$motectl" ima show "$list" --pcrs "$device/pcrs.txt")" good
report "IMA list in ASCII is the same" \
  "$("$motectl" ima show "$work/ascii" --json | grep -v '"form"' | sha256sum | cut -c1-16)" \
  "$("$motectl" ima show "$list" --json | grep -v '"form"' | sha256sum | cut -c1-16)"
for at in 90 5000 200000; do
  flip "$list" "$at"
  ima "IMA list, byte $at changed" "$work/flipped"
done
# The last record left out: 7 programs were run after the list was read the first time.
head -c "$(($(stat -c %s "$list") - 1))" "$list" >"$work/flipped"
ima "IMA list cut off" "$work/flipped"

[ $failed = 0 ]
