#!/usr/bin/env bash
# Mote on a kernel that can delete records of its measurement list (Linux 7.2 and later, Debian's for amd64
# from another suite), in QEMU: an agent with delete_records tells the kernel to delete what the verifier
# has stored for good, and nothing is lost by that.
#
#   tests/qemu/deletion.sh           one line for each check, ok or FAIL
#   tests/qemu/deletion.sh --keep    keep consoles and logs
#
# Programs from MOTE_BIN_DIR, else they are built. SUITE (trixie-backports) has the kernel.

# What the guest expands must not be expanded here.
# shellcheck disable=SC2016
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
# shellcheck source=tests/qemu/lib.sh
. tests/qemu/lib.sh
# shellcheck source=tests/qemu/debian.sh
. tests/qemu/debian.sh
# shellcheck source=tests/qemu/vm.sh
. tests/qemu/vm.sh
# shellcheck source=tests/qemu/x86_vm.sh
. tests/qemu/x86_vm.sh

options "$@"
begin qemu-deletion qemu
many_files=300 # in the image, to be measured one by one
suite=${SUITE:-trixie-backports}
cache=$target/cache/qemu-$suite

# depends PATTERN: packages that those just downloaded depend on.
depends() { dpkg-deb -f "$dir/apt-$suite-amd64/debs"/*.deb Depends | grep -oE "$1" | sort -u; }

# suite_kernel_get: $kernel and $modules, as kernel_get does from the host's own suite.
suite_kernel_get() {
  local image parts
  if [ ! -d "$cache/kernel" ]; then
    debian_get "$suite" amd64 "$dir/meta" linux-image-cloud-amd64
    image=$(depends 'linux-image-[0-9][^ ,]*')
    debian_get "$suite" amd64 "$dir/meta" "$image"
    # Newer packages keep kernel and modules apart.
    mapfile -t parts < <(depends 'linux-(binary|modules)-[0-9][^ ,]*')
    rm -rf "$cache/kernel.new"
    debian_get "$suite" amd64 "$cache/kernel.new" "$image" "${parts[@]}"
    mv "$cache/kernel.new" "$cache/kernel"
  fi
  kernel=$(find "$cache/kernel" -name 'vmlinuz*' | head -n 1)
  modules=$(find "$cache/kernel" -type d -path '*/lib/modules' | head -n 1)
  [ -s "$kernel" ] || fail "no kernel in $cache/kernel"
}
suite_kernel_get
printf 'kernel %s\n' "$(ls "$modules")"

image_begin
image_tree "$dir/tree"
# The kernel lets only root delete.
sed -i '/^user /d' "$dir/tree/etc/mote/agent.toml"
echo 'delete_records = true' >>"$dir/tree/etc/mote/agent.toml"
image_pack "$dir/tree" "$dir/image"
manifest_build -o "$dir/manifest"
verifier_on_image

list=/sys/kernel/security/ima/binary_runtime_measurements
count=/sys/kernel/security/ima/runtime_measurements_count
# Records that the kernel still has.
in_kernel() { guest "cat $count" | tr -dc 0-9; }
fewer_than() { [ "$(in_kernel)" -lt "$1" ]; }

machine_on deletion "$dir/image"
guest_ready
# For files that no manifest has, where they are measured.
guest 'mount -o remount,rw /' >/dev/null
within 180 'it enrols' is pending
admit
within 180 'a healthy boot is trusted' is trusted
before=$(records)
guest 'cat /usr/share/data/* >/dev/null' >/dev/null
within 180 "$many_files more records are appraised" records_since "$before" $many_files
within 60 'and deleted from kernel memory' fewer_than 100
check 'still trusted' is trusted
figure deletion_records_certified "$(records)"
figure deletion_records_in_kernel "$(in_kernel)"

# ---- the agent starts anew: only the verifier knows where the list begins ----

before=$(records)
# A record of the image's tac. Without a path it would be busybox's, which has one.
guest 'kill $(pidof mote-agent); sleep 1; start_agent; /usr/bin/tac </dev/null' >/dev/null
within 180 'after a restart of the agent the log goes on by its old numbers' records_since "$before" 1
check 'still trusted' is trusted

# ---- the verifier dies after it has told the device to delete ----

before=$(records)
guest 'for i in 1 2 3 4 5 6 7 8 9 10; do for j in 0 1 2 3 4 5 6 7 8 9; do echo $i$j >/tmp/x; cp /usr/share/data/$i$j /new$i$j; chmod 755 /new$i$j; /new$i$j 2>/dev/null; done; done' >/dev/null
within 180 'unknown files are noticed' refused_for file-unknown
within 60 'and their records deleted, too' fewer_than 100
verifier_kill
verifier_on_image
check 'a verifier that was killed still knows them' explained /new10
guest '/usr/bin/od </dev/null' >/dev/null
# One record each of the files, and od's.
within 180 'and goes on with the device' records_since "$before" 101

# ---- somebody else deletes ----

fresh='fresh() { printf "#!/bin/sh\n# $1\n" >/fresh$1; chmod 755 /fresh$1; /fresh$1; }'
guest "kill \$(pidof mote-agent); sleep 1; $fresh; fresh 1; cat $count >$list; fresh 2; start_agent" >/dev/null
within 60 'a device whose list lost records that nobody has is refused' guest_says 'log-deleted' deletion

# ---- a reboot ----

boots=$(boots)
guest_reboot
guest_ready
within 180 'after a reboot it is trusted again' rebooted "$boots"
conclude
