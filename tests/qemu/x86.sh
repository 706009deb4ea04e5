#!/usr/bin/env bash
# Mote on a real kernel: Debian's for amd64, with its IMA and TPM driver, boots in QEMU with a swtpm and
# mote-agent, which attests over an emulated network to mote-verifier on this machine. Reference values
# are what `motectl manifest build` makes of the very tree that the image was packed from.
#
#   tests/qemu/x86.sh           all scenarios; one line each, ok or FAIL
#   tests/qemu/x86.sh --keep    keep consoles and logs
#
# Programs from MOTE_BIN_DIR, else they are built. KVM is not used: it does not work everywhere.

# What the guest expands must not be expanded here.
# shellcheck disable=SC2016
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
# shellcheck source=tests/setup.sh
. tests/setup.sh

keep_files=
case ${1:-} in
  '') ;;
  --keep) keep_files=1 ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0" && exit 2 ;;
esac

many_files=2000 # in the image, to be measured one by one
dir=$(mktemp -d "${TMPDIR:-/tmp}/mote-qemu.XXXXXX")
pids=()
failures=0
begun=${EPOCHREALTIME/[.,]/}

# shellcheck source=tests/qemu/lib.sh
. tests/qemu/lib.sh
# shellcheck source=tests/qemu/vm.sh
. tests/qemu/vm.sh
trap finish EXIT
trap 'exit 130' INT TERM

setup qemu
target=$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
cache=$target/cache/qemu-x86
bin=${MOTE_BIN_DIR:-}
if [ -z "$bin" ]; then
  cargo build --locked -p mote-agent -p mote-verifier --features mote-agent/esapi-swtpm >"$dir/build.log" 2>&1 || fail 'the build failed'
  bin=$target/debug
fi
kernel_get

# ---- the image, its manifest, the verifier ----

verifier_port=$(free_udp_port)
motectl key new -o "$dir/image.key" >/dev/null || fail 'motectl key new'
# The verifier makes its key at its first start; the image needs the public half.
verifier_on
verifier_off
image_tree "$dir/tree"
image_pack "$dir/tree" "$dir/image"
motectl manifest build --quiet --rootfs "$dir/tree" --sign "$dir/image.key" -o "$dir/manifest" >/dev/null ||
  fail 'motectl manifest build'
# The same image with one program more, which no manifest lists.
mkdir -p "$dir/more/usr/bin"
printf '#!/bin/sh\necho I should not be here\n' >"$dir/more/usr/bin/intruder"
chmod 755 "$dir/more/usr/bin/intruder"
image_pack "$dir/more" "$dir/more.cpio"
cat "$dir/image" "$dir/more.cpio" >"$dir/image-with-intruder"
verifier_on --manifest "$dir/manifest" --manifest-key "$dir/image.key.pub"

# ---- enrolment, before there is a network ----

machine_on first "$dir/image" mote.network=late
guest_ready
within 60 'the agent waits while there is no network' guest_says 'no (route|way) to' first
guest network >/dev/null
within 180 'once there is one, it enrols' is pending
device=$(device_id)
motectl device admit "$device" >/dev/null || fail 'motectl device admit'
within 180 'a healthy boot is trusted against the manifest made from its tree' is trusted

# ---- a long log ----

before=$(records)
guest 'cat /usr/share/data/* >/dev/null' >/dev/null
within 180 "$many_files more records are appraised" records_since "$before" $many_files
check 'and all of them are trusted' is trusted

# ---- the verifier goes away ----

verifier_kill
guest '/usr/bin/sha256sum /etc/os-release; /usr/bin/tac /etc/modules' >/dev/null
sleep 3
check 'while the verifier is away, the agent lives on' guest_quiet 'pidof mote-agent >/dev/null'
before=$((before + many_files))
verifier_on --manifest "$dir/manifest" --manifest-key "$dir/image.key.pub"
within 180 'what was measured meanwhile is appraised when it is back' records_since "$before" 2
check 'still trusted' is trusted

# ---- reboot ----

boots=$(boots)
guest_reboot
guest_ready
guest network >/dev/null
within 180 'after a reboot it is trusted again' rebooted "$boots"
check 'as the same device' test "$(device_id)" = "$device"
values=$(boot_pcrs)
machine_off

# ---- another kernel command line ----

boots=$(boots)
machine_on cmdline "$dir/image" mote.changed=1
guest_ready
within 180 'a cold boot is trusted' rebooted "$boots"
took=$((${EPOCHREALTIME/[.,]/} - started))
# SeaBIOS measures nothing of what -kernel gives it. A verifier cannot see what nobody measured.
check 'no PCR sees a changed command line when SeaBIOS starts the kernel' test "$(boot_pcrs)" = "$values"
machine_off
figure qemu_boot_to_trusted_s "$(seconds "$took")"

# ---- UEFI ----

boots=$(boots)
uefi=1
machine_on uefi "$dir/image"
guest_ready
within 180 'an UEFI boot is trusted' rebooted "$boots"
check 'its kernel offers a boot log' guest_quiet 'test "$(wc -c </sys/kernel/security/tpm0/binary_bios_measurements)" -gt 1000'
values=$(boot_pcrs)
machine_off
machine_on uefi-cmdline "$dir/image" mote.changed=1
guest_ready
changed=$(boot_pcrs)
check 'PCR 9, and no other, sees a changed command line there' differ_in 9 "$values" "$changed"
machine_off
uefi=

# ---- a program more ----

boots=$(boots)
machine_on intruder "$dir/image-with-intruder"
guest_ready
guest intruder >/dev/null
within 180 'a program added to the image makes it untrusted' is untrusted
check 'and is named' explained /usr/bin/intruder
machine_off

# ---- IMA without a TPM ----

boots=$(boots)
machine_without_tpm_at_boot bypass "$dir/image"
within 180 'a kernel whose IMA found no TPM is refused for just that' refused_for ima-without-tpm
check 'although its TPM works by now' guest_quiet 'test -c /dev/tpmrm0'
check 'and PCR 10 is zero' guest_quiet 'test -z "$(tr -d 0 </sys/class/tpm/tpm0/pcr-sha256/10)"'
machine_off

printf '%s s in all\n' "$(seconds $((${EPOCHREALTIME/[.,]/} - begun)))"
[ "$failures" = 0 ]
