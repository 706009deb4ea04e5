#!/bin/sh
# Post-build: fails the build when the kernel's final .config lacks something that was asked for: by mote.config,
# or by a fragment of BR2_LINUX_KERNEL_CONFIG_FRAGMENT_FILES. Kconfig drops what it cannot honour without a
# word; the image would then boot, and attest nothing.
#
# BR2_ROOTFS_POST_BUILD_SCRIPT; Buildroot sets BUILD_DIR, BR2_CONFIG and BR2_EXTERNAL_*_PATH.
set -eu

fragments=$(sed -n 's/^BR2_LINUX_KERNEL_CONFIG_FRAGMENT_FILES="\(.*\)"/\1/p' "$BR2_CONFIG" |
	sed 's/\$(\([A-Za-z0-9_]*\))/${\1}/g')
eval "fragments=\"$fragments\""
common=$(dirname "$0")/mote.config
case " $fragments " in
*/common/mote.config\ *) ;;
*) fragments="$common $fragments" ;;
esac

# The newest: an older kernel's build folder may still be there.
config=
for candidate in "$BUILD_DIR"/linux-*/.config; do
	case $candidate in
	*/linux-headers-* | *'*'*) ;;
	*)
		# shellcheck disable=SC3013 # dash and busybox have -nt
		if [ -z "$config" ] || [ "$candidate" -nt "$config" ]; then
			config=$candidate
		fi
		;;
	esac
done
if [ -z "$config" ]; then
	echo "check-kernel-config: no kernel was built by Buildroot; check yours against $fragments" >&2
	exit 0
fi

missing=0
for fragment in $fragments; do
	if [ ! -r "$fragment" ]; then
		echo "check-kernel-config: $fragment: no such fragment" >&2
		exit 1
	fi
	while read -r line; do
		case $line in
		'# CONFIG_'*' is not set')
			option=${line#'# '}
			option=${option%' is not set'}
			if grep -q "^$option=" "$config"; then
				echo "check-kernel-config: $option is set, but must not be ($fragment)" >&2
				missing=1
			fi
			;;
		CONFIG_*)
			if ! grep -qxF "$line" "$config"; then
				echo "check-kernel-config: $line is wanted by $fragment, but the kernel has:" \
					"$(grep -E "^(# )?${line%%=*}[ =]" "$config" || echo nothing)" >&2
				missing=1
			fi
			;;
		esac
	done < "$fragment"
done
if [ "$missing" -ne 0 ]; then
	echo "check-kernel-config: Kconfig dropped these options: something they depend on is off" >&2
	exit 1
fi
