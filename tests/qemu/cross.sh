#!/usr/bin/env bash
# The agent, cross-built and static, attests under qemu-user: its own TPM commands, CBOR, OSCORE and sockets on
# another architecture, with a real swtpm and mote-verifier on this machine.
#
#   tests/qemu/cross.sh [--debug] [--tss] [arm64 | armv7 | riscv64]...    default: arm64
#
#   --debug   not the smallest build but one with all of Rust's run-time checks, which takes half the time
#   --tss     for arm64 the default build as well, with tpm2-tss and TLS, against Debian's libraries
#
# Rust's std for the target is built on the way (-Z build-std). Copy of the toolchain and builds stay in the
# target directory.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
# shellcheck source=tests/qemu/lib.sh
. tests/qemu/lib.sh
# shellcheck source=tests/qemu/simulated.sh
. tests/qemu/simulated.sh
# shellcheck source=tests/qemu/debian.sh
. tests/qemu/debian.sh
# shellcheck source=tests/qemu/cross_build.sh
. tests/qemu/cross_build.sh

profile=release-tiny
tss=
while :; do
  case ${1:-} in
    --debug) profile=dev ;;
    --tss) tss=1 ;;
    *) break ;;
  esac
  shift
done
architectures=("${@:-arm64}")
for architecture in "${architectures[@]}"; do
  case $architecture in
    arm64 | armv7 | riscv64) ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
done
begin cross cross

cross_toolchain
for architecture in "${architectures[@]}"; do
  cross_target "$architecture"
  cross_build "$profile"
  if [ "$profile" != dev ]; then figure "agent_bin_${architecture}_static_bytes" "$(stat -c %s "$program")" B; fi
  device_on 300
  attest 300 3 "$emulator" "$program" >/dev/null
  verdict $? "$architecture: enrolled and trusted, 300 records, three heartbeats"
  check "$architecture: --once says the verdict" "$emulator" "$program" --config "$dir/agent.toml" --once
  device_off
  if [ -z "$tss" ] || [ "$architecture" != arm64 ]; then continue; fi
  cross_libraries "$architecture"
  cross_build_default "$profile"
  if [ "$profile" != dev ]; then figure "agent_bin_${architecture}_default_bytes" "$(stat -c %s "$program")" B; fi
  device_on 300
  lend_tpm
  # Set, or the agent would start over with it, and the kernel knows no emulator for that.
  default=(env TSS2_LOG=all+none "$emulator" -L "$libraries" "$program")
  attest 300 3 "${default[@]}" >/dev/null
  verdict $? "$architecture, tpm2-tss: enrolled and trusted, 300 records, three heartbeats"
  check "$architecture, tpm2-tss: --once says the verdict" "${default[@]}" --config "$dir/agent.toml" --once
  device_off
done
conclude
