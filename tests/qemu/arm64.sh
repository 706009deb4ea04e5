#!/usr/bin/env bash
# Mote on an arm64 board: QEMU's `virt` with a TIS TPM, a small kernel built here from Debian's source, and the smallest
# agent, cross-built. No firmware, no RTC, no boot log. It attests over an emulated network to mote-verifier on
# this machine.
#
#   tests/qemu/arm64.sh           one line each, ok or FAIL
#   tests/qemu/arm64.sh --keep    keep consoles and logs
#
# The kernel takes some six minutes of CPU time once; it stays in the target directory.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
# shellcheck source=tests/qemu/lib.sh
. tests/qemu/lib.sh
# shellcheck source=tests/qemu/vm.sh
. tests/qemu/vm.sh
# shellcheck source=tests/qemu/debian.sh
. tests/qemu/debian.sh
# shellcheck source=tests/qemu/cross_build.sh
. tests/qemu/cross_build.sh
# shellcheck source=tests/qemu/kernel.sh
. tests/qemu/kernel.sh

options "$@"
begin qemu-arm64 arm64
many_files=200 # in the image, to be measured one by one
cross_toolchain
cross_target arm64
cross_build release-tiny
kernel_build arm64 "$gnu" tests/qemu/kernel-arm64.config
debian_get "$(debian_suite)" arm64 "$dir/arm64" busybox-static

# ---- the image, its manifest, the verifier ----

image_begin
image_base "$dir/tree" "$dir/arm64/bin/busybox"
install -m 755 "$program" "$dir/tree/usr/bin/mote-agent"
image_pack "$dir/tree" "$dir/image"
image_with_intruder "$dir/image" "$dir/image-with-intruder"
manifest_build -o "$dir/manifest"
verifier_on_image

# machine_on NAME IMAGE: the board's one UART is the console.
machine_on() {
  machine_start "$1" qemu-system-aarch64 -M virt -cpu cortex-a53 -m 256 -serial chardev:console \
    -device virtio-serial-device -device virtconsole,chardev=control -device virtio-rng-device \
    -device tpm-tis-device,tpmdev=tpm0 -device virtio-net-device,netdev=n0 \
    -kernel "$kernel" -initrd "$2" -append "console=ttyAMA0 $ima_command_line"
}

# ---- enrolment ----

machine_on first "$dir/image"
guest_ready
within 180 'the device enrols' is pending
admit
within 180 'a healthy boot is trusted against the manifest made from its tree' is trusted
check_agent_is_modest
check_clock_is_not_set
before=$(records)
guest 'cat /usr/share/data/* >/dev/null' >/dev/null
within 180 "$many_files more records are appraised" records_since "$before" $many_files
check 'and all of them are trusted' is trusted

# ---- reboot, and cold boot ----

boots=$(boots)
guest_reboot
guest_ready
within 180 'after a reboot it is trusted again' rebooted "$boots"
check 'as the same device' test "$(device_id)" = "$device"
machine_off

boots=$(boots)
machine_on cold "$dir/image"
guest_ready
within 180 'a cold boot is trusted' rebooted "$boots"
took=$((${EPOCHREALTIME/[.,]/} - started))
machine_off
figure qemu_boot_to_trusted_arm64_s "$(seconds "$took")" s

# ---- a program more ----

machine_on intruder "$dir/image-with-intruder"
guest_ready
guest intruder >/dev/null
within 180 'a program added to the image makes it untrusted' is untrusted
check 'and is named' explained /usr/bin/intruder
machine_off

conclude
