#!/bin/sh
# Post-image: the signed manifest of what the image holds, beside the image.
#
# BR2_ROOTFS_POST_IMAGE_SCRIPT; Buildroot sets HOST_DIR, TARGET_DIR, BINARIES_DIR and BR2_CONFIG.
set -eu

option() { sed -n "s/^$1=\"\(.*\)\"/\1/p" "$BR2_CONFIG"; }

key=$(option BR2_MOTE_MANIFEST_KEY)
if [ -z "$key" ]; then
	echo "post-image: BR2_MOTE_MANIFEST_KEY is empty: no manifest" >&2
	exit 0
fi
name=$(option BR2_MOTE_MANIFEST_NAME)
version=$(option BR2_MOTE_MANIFEST_VERSION)
set -f
set -- --rootfs "$TARGET_DIR" --name "$name" --version "$version" --sign "$key"
for glob in $(option BR2_MOTE_MANIFEST_EXCLUDE); do
	set -- "$@" --exclude "$glob"
done
"$HOST_DIR/bin/motectl" manifest build "$@" --output "$BINARIES_DIR/$name-$version.mote"
