#!/usr/bin/env bash
# mote-agent as systemd runs it on a device: Debian's kernel and systemd boot in QEMU from a read-only disk, with
# the unit of agent/dist, its udev rule and the IMA policy with its unit as the image recipes install them.
# swtpm, and mote-verifier on this machine, with a manifest made from the disk's tree.
#
#   tests/qemu/systemd.sh           one line each, ok or FAIL
#   tests/qemu/systemd.sh --keep    keep console and logs
#
# Programs from MOTE_BIN_DIR, else they are built.

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
# shellcheck source=tests/qemu/debian.sh
. tests/qemu/debian.sh

options "$@"
begin qemu-systemd qemu
# image_base in vm.sh reads it.
# shellcheck disable=SC2034
many_files=0
cache=$target/cache/qemu-x86
kernel_get

# systemd and udev, with the libraries that their programs want; stays in the cache.
packages=(systemd libsystemd-shared libsystemd0 udev libudev1 libacl1 libapparmor1 libargon2-1 libaudit1 libblkid1 libc6 libcap-ng0 libcap2
  libcrypt1 libcryptsetup12 libdevmapper1.02.1 libfdisk1 libffi8 libgcrypt20 libgpg-error0 libip4tc2 libjson-c5 libkmod2
  liblz4-1 liblzma5 libmount1 libp11-kit0 libpam0g libpcre2-8-0 libseccomp2 libselinux1 libssl3 libuuid1 libzstd1)
systemd=$target/cache/qemu-systemd
if [ ! -e "$systemd/lib/systemd/systemd" ]; then
  rm -rf "$systemd.new"
  debian_get bookworm amd64 "$systemd.new" "${packages[@]}"
  rm -rf "$systemd.new/usr/share" "$systemd" && mv "$systemd.new" "$systemd"
fi

# ---- the disk, and the initramfs that mounts it ----

image_begin
tree=$dir/tree
units=$tree/lib/systemd/system
mkdir -p "$tree/root" "$tree/var/log"
cp -a "$systemd/." "$tree/" || fail 'systemd'
network_modules+=' virtio_blk'
image_tree "$tree"
# The initramfs is a part of the same tree: one manifest for both.
cat >"$tree/init" <<'INIT'
#!/bin/busybox sh
export PATH=/bin
mount -t devtmpfs dev /dev
while read -r module; do insmod "$module"; done </etc/modules
until mount -t ext4 -o ro /dev/vda /root 2>/dev/null; do sleep 0.1; done
mount -o move /dev /root/dev
exec switch_root /root /lib/systemd/systemd
INIT
printf 'mote:x:990:\ntss:x:991:mote\n' >"$tree/etc/group"
install -D -m 644 agent/dist/mote-agent.service "$units/mote-agent.service"
install -D -m 644 agent/dist/60-mote.rules "$tree/lib/udev/rules.d/60-mote.rules"
install -D -m 644 buildroot/package/mote-ima-policy/ima-policy "$tree/etc/ima/ima-policy"
install -D -m 644 buildroot/package/mote-ima-policy/mote-ima-policy.service "$units/mote-ima-policy.service"
# A process that is stopped does not die of the watchdog's SIGABRT: do not wait 90 s to kill it.
mkdir -p "$units/mote-agent.service.d"
printf '[Service]\nTimeoutAbortSec=2\n' >"$units/mote-agent.service.d/impatient.conf"
cat >"$units/control.service" <<'UNIT'
[Unit]
DefaultDependencies=no
After=systemd-udevd.service

[Service]
StandardError=journal+console
ExecStart=/bin/sh -c '. /control; network; serve'
UNIT
mkdir -p "$tree/etc/systemd/system"
: >"$tree/etc/machine-id"
ln -sf /lib/systemd/system/multi-user.target "$tree/etc/systemd/system/default.target"
# As systemctl enable does, by the units' own words.
for unit in mote-agent mote-ima-policy; do
  wants=$tree/etc/systemd/system/$(sed -n 's/^WantedBy=//p' "$units/$unit.service").wants
  mkdir -p "$wants" && ln -s "/lib/systemd/system/$unit.service" "$wants/"
done
ln -s /lib/systemd/system/control.service "$tree/etc/systemd/system/multi-user.target.wants/"
# No terminals to log in at, and nothing in here that they would need.
ln -s /dev/null "$tree/etc/systemd/system/getty.target"
(cd "$tree" && printf '%s\n' init dev root bin bin/{busybox,sh,mount,insmod,sleep,switch_root} etc etc/modules lib lib/modules \
  lib/modules/*.ko | cpio -o -H newc --quiet) >"$dir/image"
truncate -s 160M "$dir/disk"
"$(PATH=$PATH:/sbin command -v mkfs.ext4)" -q -d "$tree" "$dir/disk" || fail 'mkfs.ext4'
manifest_build -o "$dir/manifest"
verifier_on_image

# ---- to a verdict ----

property() { guest "systemctl show --value -p $1 mote-agent"; }
property_is() { [ "$(property "$1")" = "$2" ]; }

pc_start systemd -M q35 -kernel "$kernel" -initrd "$dir/image" -append "$command_line" \
  -drive "if=none,id=disk,format=raw,readonly=on,file=$dir/disk" -device virtio-blk-pci,drive=disk,romfile=
guest_ready
within 180 'started by systemd, it enrols' is pending
admit
within 180 'and is trusted against the manifest made from the disk' is trusted
figure qemu_systemd_boot_to_trusted_s "$(seconds $((${EPOCHREALTIME/[.,]/} - started)))" s
check 'active: it has said READY=1' property_is ActiveState active
within 60 'systemctl status shows the verdict' property_is StatusText trusted
printf 'systemctl: %s, %s since its start\n' "$(property StatusText)" "$(property ActiveState)"
within 60 'and so does mote-agent status' guest_quiet 'mote-agent status | grep -q "^trusted"'
check 'the policy was loaded from its file' guest_quiet 'test ! -e /sys/kernel/security/ima/policy && dmesg | grep -q "ima: policy update completed"'
check 'udev has given the TPM to its group' guest_quiet 'test "$(stat -c %g:%a /dev/tpmrm0)" = 991:660'
check_agent_is_modest
check 'it has no capability' guest_quiet 'grep -q "^CapEff:.0*$" /proc/$(pidof mote-agent)/status'
check 'gets no new privileges' guest_quiet 'grep -q "^NoNewPrivs:.1" /proc/$(pidof mote-agent)/status'
check 'and only some system calls' guest_quiet 'grep -q "^Seccomp:.2" /proc/$(pidof mote-agent)/status'
check 'no unit has failed' test -z "$(guest 'systemctl --failed --plain --no-legend')"

# ---- an agent that hangs ----

boots=$(boots)
main=$(property MainPID)
guest "kill -STOP $main" >/dev/null
within 600 'one that hangs is killed by the watchdog' guest_quiet 'journalctl -u mote-agent | grep -q "Watchdog timeout"'
restarted() { [ "$(property NRestarts)" -ge 1 ] && [ "$(property MainPID)" != "$main" ] && property_is StatusText trusted; }
within 180 'started again, and trusted' restarted
check 'in the same boot' test "$(boots)" = "$boots"

# ---- an end in order ----

guest 'systemctl stop mote-agent' >/dev/null
check 'stopped by systemd, it ends by itself' property_is Result success
machine_off

conclude
