#!/bin/sh
# The signed manifest of what the image holds, beside the image.
#
# BR2_ROOTFS_POST_FAKEROOT_SCRIPT: only there the root file system is finished. What a post-image script finds
# in TARGET_DIR lacks the users, permissions and hooks of the image, and the kernel reads /etc/passwd early.
# $1 is the root file system; Buildroot sets HOST_DIR, BINARIES_DIR and BR2_CONFIG.
set -eu

option() { sed -n "s/^$1=\"\(.*\)\"/\1/p" "$BR2_CONFIG"; }

key=$(option BR2_MOTE_MANIFEST_KEY)
if [ -z "$key" ]; then
	echo "manifest: BR2_MOTE_MANIFEST_KEY is empty: no manifest" >&2
	exit 0
fi
name=$(option BR2_MOTE_MANIFEST_NAME)
version=$(option BR2_MOTE_MANIFEST_VERSION)
globs=$(option BR2_MOTE_MANIFEST_EXCLUDE)
rootfs=$1
set -f
set -- --rootfs "$rootfs" --name "$name" --version "$version" --sign "$key"
for glob in $globs; do
	set -- "$@" --exclude "$glob"
done
# An initramfs gets its /init after this script, unless it has one.
case $(grep -c '^BR2_ROOTFS_DEVICE_CREATION_STATIC=y' "$BR2_CONFIG" || :):$rootfs in
0:*/cpio/target)
	[ -e "$rootfs/init" ] || install -m 0755 fs/cpio/init "$rootfs/init"
	;;
esac
mkdir -p "$BINARIES_DIR"
"$HOST_DIR/bin/motectl" manifest build "$@" --output "$BINARIES_DIR/$name-$version.mote"
