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
# shellcheck source=tests/qemu/lib.sh
. tests/qemu/lib.sh
# shellcheck source=tests/qemu/vm.sh
. tests/qemu/vm.sh
# shellcheck source=tests/qemu/x86_vm.sh
. tests/qemu/x86_vm.sh
# shellcheck source=tests/qemu/uefi_disk.sh
. tests/qemu/uefi_disk.sh

options "$@"
begin qemu-x86 qemu
many_files=2000 # in the image, to be measured one by one
cache=$target/cache/qemu-x86
kernel_get
loaders_get

# ---- the image, its manifest, the verifier ----

image_begin
image_tree "$dir/tree"
image_pack "$dir/tree" "$dir/image"
manifest_build -o "$dir/manifest"
image_with_intruder "$dir/image" "$dir/image-with-intruder"
verifier_on_image

# ---- enrolment, before there is a network ----

machine_on first "$dir/image" mote.network=late
guest_ready
within 60 'the agent waits while there is no network' guest_says 'no (route|way) to' first
guest network >/dev/null
within 180 'once there is one, it enrols' is pending
admit
within 180 'a healthy boot is trusted against the manifest made from its tree' is trusted
check_agent_is_modest
check_clock_is_not_set

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
verifier_on_image
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
figure qemu_boot_to_trusted_x86_64_s "$(seconds "$took")" s

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

# ---- UEFI, and Secure Boot ----

# Smaller: GRUB reads it through the firmware, which hashes it for every bank.
gzip -1 -c "$dir/image" >"$dir/image.gz"
disk_make "$dir/disk" "$dir/image.gz" "$command_line"
readarray -t expectations < <(disk_expectations "$dir/image.gz" "$command_line")
manifest_build --name mote-test-uefi "${expectations[@]}" -o "$dir/manifest-uefi"
motectl manifest add "$dir/manifest-uefi" >/dev/null || fail 'motectl manifest add'

boots=$(boots)
machine_on_secure_boot secure "$dir/disk"
guest_ready
within 300 'with Secure Boot, and all of its boot log as the image says, it is trusted' rebooted "$boots"
check 'the kernel, too, says that Secure Boot is on' guest_quiet 'dmesg | grep -q "Secure boot enabled"'
machine_off

disk_make "$dir/disk-cmdline" "$dir/image.gz" "$command_line" mote.changed=1
boots=$(boots)
machine_on_secure_boot cmdline-secure "$dir/disk-cmdline"
guest_ready
# The line, and the GRUB configuration that has it.
within 300 'a changed command line is seen' reasons_are boot-event-unexpected cmdline-unexpected
check 'and named' explained mote.changed=1
check 'in a new boot' test "$(boots)" -gt "$boots"
machine_off

boots=$(boots)
machine_on_insecure_boot insecure "$dir/disk"
guest_ready
within 300 'the same disk without Secure Boot is refused for that and nothing else' reasons_are secure-boot-off
check 'in a new boot' test "$(boots)" -gt "$boots"
machine_off

conclude
