#!/bin/sh
# Boots an image made by one of this tree's defconfigs, with a software TPM (swtpm) whose state is kept
# in IMAGES/tpm, so that it is the same device at the next boot. The verifier on this machine is
# 10.0.2.2 for the guest. Leave with Ctrl-A X.
#
# usage: start-qemu.sh aarch64|x86_64 [IMAGES]     (IMAGES: Buildroot's output/images)
set -eu

arch=${1:?usage: start-qemu.sh aarch64|x86_64 [IMAGES]}
images=${2:-output/images}
[ -e "$images/rootfs.ext2" ] || {
	echo "$images/rootfs.ext2: no such image; build it first, or say where it is" >&2
	exit 1
}
for program in swtpm "qemu-system-$arch"; do
	command -v "$program" >/dev/null || {
		echo "$program is not installed" >&2
		exit 1
	}
done

mkdir -p "$images/tpm"
# Not in IMAGES: a socket's path has at most 107 bytes.
run=$(mktemp -d)
socket=$run/tpm
swtpm socket --tpm2 --tpmstate dir="$images/tpm" --ctrl type=unixio,path="$socket" --terminate &
swtpm=$!
trap 'kill $swtpm 2>/dev/null || :; rm -rf "$run"' EXIT
tries=0
until [ -S "$socket" ] || [ $tries -ge 50 ]; do
	sleep 0.1
	tries=$((tries + 1))
done

append="root=/dev/vda ro ima_policy=tcb ima_hash=sha256"
case $arch in
aarch64)
	set -- -M virt -cpu cortex-a53 -kernel "$images/Image" -device tpm-tis-device,tpmdev=tpm0
	append="$append console=ttyAMA0"
	;;
x86_64)
	set -- -M q35 -kernel "$images/bzImage" -device tpm-crb,tpmdev=tpm0
	append="$append console=ttyS0"
	;;
*)
	echo "no such machine here: $arch" >&2
	exit 1
	;;
esac
"qemu-system-$arch" "$@" -smp 1 -m 256 -nographic -append "$append" \
	-chardev socket,id=chrtpm,path="$socket" -tpmdev emulator,id=tpm0,chardev=chrtpm \
	-drive file="$images/rootfs.ext2",if=none,format=raw,id=hd0 -device virtio-blk-pci,drive=hd0 \
	-netdev user,id=eth0 -device virtio-net-pci,netdev=eth0,romfile=
