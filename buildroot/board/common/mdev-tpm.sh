#!/bin/sh
# Post-build: lets group tss use the TPM where mdev makes the device nodes, as udev rules do.
# BR2_ROOTFS_POST_BUILD_SCRIPT; $1 is the target directory.
set -eu

mdev="$1/etc/mdev.conf"
[ -e "$mdev" ] || exit 0
grep -q '^tpmrm' "$mdev" || sed -i '1i tpmrm[0-9]*\troot:tss 0660\ntpm[0-9]*\troot:root 0600' "$mdev"
