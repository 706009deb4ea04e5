#!/usr/bin/env bash
# The Buildroot tree's own scripts, without Buildroot: does the kernel check fail for what Kconfig drops,
# and does the post-image step sign a manifest of exactly the target directory?
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
board=buildroot/board/common
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
ok() { printf 'ok    %s\n' "$1"; }
bad() { printf 'FAIL  %s\n' "$1" && failed=1; }

mkdir -p "$work/build/linux-6.18.7" "$work/target/usr/bin" "$work/images" "$work/host/bin"
kernel=$work/build/linux-6.18.7/.config
export BUILD_DIR=$work/build BR2_CONFIG=$work/.config TARGET_DIR=$work/target HOST_DIR=$work/host BINARIES_DIR=$work/images
# shellcheck disable=SC2016 # as Buildroot writes it
printf '%s\n' 'BR2_LINUX_KERNEL_CONFIG_FRAGMENT_FILES="$(BR2_EXTERNAL_MOTE_PATH)/board/common/mote.config $(BR2_EXTERNAL_MOTE_PATH)/board/qemu-aarch64/tpm.config"' >"$BR2_CONFIG"
check() { $board/check-kernel-config.sh 2>"$work/err"; }

cat $board/mote.config buildroot/board/qemu-aarch64/tpm.config >"$kernel"
if check; then ok 'a kernel with all options passes'; else bad 'a kernel with all options is refused'; fi
while read -r line; do
  case $line in CONFIG_*=y) ;; *) continue ;; esac
  cat $board/mote.config buildroot/board/qemu-aarch64/tpm.config >"$kernel"
  sed -i "s/^$line\$/# ${line%=y} is not set/" "$kernel"
  if ! check && grep -q "${line%=y}" "$work/err"; then ok "$line dropped: refused by name"; else bad "$line dropped: not noticed"; fi
done < <(cat $board/mote.config buildroot/board/qemu-aarch64/tpm.config)
cat $board/mote.config buildroot/board/qemu-aarch64/tpm.config >"$kernel"
echo CONFIG_IMA_DEFAULT_HASH_SHA1=y >>"$kernel"
if check; then bad 'SHA-1 as default hash is not noticed'; else ok 'SHA-1 as default hash: refused'; fi

cargo build --locked -q -p mote-verifier --bin motectl
target=$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
ln -s "$target/debug/motectl" "$work/host/bin/motectl"
echo program >"$work/target/usr/bin/program"
"$work/host/bin/motectl" key new --out "$work/image.key" >/dev/null
cat >>"$BR2_CONFIG" <<CONFIG
BR2_MOTE_MANIFEST_KEY="$work/image.key"
BR2_MOTE_MANIFEST_NAME="demo"
BR2_MOTE_MANIFEST_VERSION="1.3"
BR2_MOTE_MANIFEST_EXCLUDE="/var/lib/seedrng/** /root/*"
CONFIG
$board/post-image.sh >/dev/null 2>&1 || bad 'post-image fails'
manifest=$work/images/demo-1.3.mote
shown=$("$work/host/bin/motectl" manifest show "$manifest" && "$work/host/bin/motectl" manifest show --files "$manifest") ||
  bad 'no manifest'
for word in /usr/bin/program "$(sha256sum <"$work/target/usr/bin/program" | cut -d' ' -f1)" /var/lib/seedrng demo 1.3; do
  case $shown in *"$word"*) ok "the manifest has $word" ;; *) bad "the manifest lacks $word" ;; esac
done
exit $failed
