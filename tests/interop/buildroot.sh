#!/usr/bin/env bash
# The Buildroot tree's own parts, without Buildroot: does the kernel check fail for what Kconfig drops, does the
# manifest step sign exactly the root file system it is given, are the sources found wherever this tree
# lies, and do recipes, defconfigs and files agree?
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
board=buildroot/board/common
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
ok() { printf 'ok    %s\n' "$1"; }
bad() { printf 'FAIL  %s\n' "$1" && failed=1; }

# The kernel's .config.
mkdir -p "$work/build/linux-6.18.7" "$work/build/linux-6.12.9" "$work/rootfs/usr/bin" "$work/images" "$work/host/bin"
kernel=$work/build/linux-6.18.7/.config
export BUILD_DIR=$work/build BR2_CONFIG=$work/.config HOST_DIR=$work/host BINARIES_DIR=$work/images
export BR2_EXTERNAL_MOTE_PATH=$PWD/buildroot BR2_EXTERNAL_OTHER_PATH=$work/other
# shellcheck disable=SC2016 # as Buildroot writes it
ours='$(BR2_EXTERNAL_MOTE_PATH)/board/common/mote.config $(BR2_EXTERNAL_MOTE_PATH)/board/qemu-aarch64/tpm.config'
fragments() { printf 'BR2_LINUX_KERNEL_CONFIG_FRAGMENT_FILES="%s"\n' "$1" >"$BR2_CONFIG"; }
check() { $board/check-kernel-config.sh 2>"$work/err"; }
good() { cat $board/mote.config buildroot/board/qemu-aarch64/tpm.config >"$kernel"; }

fragments "$ours"
echo '# CONFIG_IMA is not set' >"$work/build/linux-6.12.9/.config"
touch -d yesterday "$work/build/linux-6.12.9/.config"
good
if check; then ok 'a kernel with all options passes'; else bad 'a kernel with all options is refused'; fi
while read -r line; do
  case $line in CONFIG_*=y) ;; *) continue ;; esac
  good
  sed -i "s/^$line\$/# ${line%=y} is not set/" "$kernel"
  if ! check && grep -q "${line%=y}" "$work/err"; then ok "$line dropped: refused by name"; else bad "$line dropped: not noticed"; fi
done < <(cat $board/mote.config buildroot/board/qemu-aarch64/tpm.config)
good
echo CONFIG_IMA_DEFAULT_HASH_SHA1=y >>"$kernel"
if check; then bad 'SHA-1 as default hash is not noticed'; else ok 'SHA-1 as default hash: refused'; fi
good
mkdir -p "$work/other/board/mine"
echo CONFIG_TCG_TIS_SPI=y >"$work/other/board/mine/tpm.config"
# shellcheck disable=SC2016 # as Buildroot writes it
fragments '$(BR2_EXTERNAL_OTHER_PATH)/board/mine/tpm.config'
if ! check && grep -q TCG_TIS_SPI "$work/err"; then ok 'another tree'\''s fragment: looked at'; else bad 'another tree'\''s fragment is not looked at'; fi
echo CONFIG_TCG_TIS_SPI=y >>"$kernel"
if check; then ok 'another tree'\''s fragment: passes'; else bad 'another tree'\''s fragment is refused'; fi
sed -i '/CONFIG_IMA=y/d' "$kernel"
if check; then bad 'mote.config is not looked at unless it is named'; else ok 'mote.config: looked at in any case'; fi
fragments board/nowhere.config
if ! check && grep -q nowhere "$work/err"; then ok 'a fragment that is not there: refused'; else bad 'a fragment that is not there goes unnoticed'; fi

# The manifest.
# shellcheck source=tests/build.sh
. tests/build.sh
programs
ln -s "$(readlink -f "$bin")/motectl" "$work/host/bin/motectl"
echo program >"$work/rootfs/usr/bin/program"
"$work/host/bin/motectl" key new --out "$work/image.key" >/dev/null
echo 'BR2_MOTE_MANIFEST_KEY=""' >"$BR2_CONFIG"
if $board/manifest.sh "$work/rootfs" 2>/dev/null && [ -z "$(ls "$work/images")" ]; then ok 'no key: no manifest'; else bad 'a manifest without a key'; fi
cat >"$BR2_CONFIG" <<CONFIG
BR2_MOTE_MANIFEST_KEY="$work/image.key"
BR2_MOTE_MANIFEST_NAME="demo"
BR2_MOTE_MANIFEST_VERSION="1.3"
BR2_MOTE_MANIFEST_EXCLUDE="/var/lib/seedrng/** /root/*"
CONFIG
$board/manifest.sh "$work/rootfs" >/dev/null 2>&1 || bad 'the manifest step fails'
manifest=$work/images/demo-1.3.mote
shown=$("$work/host/bin/motectl" manifest show "$manifest" && "$work/host/bin/motectl" manifest show --files "$manifest") ||
  bad 'no manifest'
for word in /usr/bin/program "$(sha256sum <"$work/rootfs/usr/bin/program" | cut -d' ' -f1)" /var/lib/seedrng '/root/*' demo 1.3; do
  case $shown in *"$word"*) ok "the manifest has $word" ;; *) bad "the manifest lacks $word" ;; esac
done

# Where the sources come from: make reads external.mk and the recipes as Buildroot does, without its macros.
cat >"$work/Makefile" <<'MAKE'
qstrip = $(strip $(subst ",,$(1)))
space := $(subst ,, )
comma := ,
BR2_MOTE_VERSION ?= "HEAD"
BR2_PACKAGE_MOTE_AGENT_TPM_DIRECT = y
UPPERCASE = $(shell echo '$(1)' | tr a-z- A-Z_)
RUSTC_TARGET_NAME = aarch64-unknown-linux-gnu
include $(BR2_EXTERNAL_MOTE_PATH)/external.mk
all: ; @echo '$(MOTE_AGENT_SITE_METHOD) $(MOTE_AGENT_VERSION) $(MOTE_TOOLS_VERSION) $(MOTE_AGENT_CARGO_BUILD_OPTS)'
env: ; @echo '$(MOTE_AGENT_CARGO_ENV)'
MAKE
sources() { make -s -f "$work/Makefile" BR2_EXTERNAL_MOTE_PATH="$PWD/buildroot" BR2_MOTE_GIT="\"$1\"" "${@:2}"; }
options='--no-default-features --features tpm-direct'
is() {
  if [ "$2" = "$3" ]; then ok "$1"; else bad "$1: $2, not $3"; fi
}
git init -q "$work/repository"
git -C "$work/repository" -c user.name=t -c user.email=t@t commit -q --allow-empty -m one
git -C "$work/repository" -c user.name=t -c user.email=t@t commit -q --allow-empty -m two
mkdir -p "$work/repository/buildroot" "$work/unpacked/buildroot"
commit=$(git -C "$work/repository" rev-parse HEAD)
git clone -q --depth 1 "file://$work/repository" "$work/shallow"
is 'a repository: its HEAD' "$(sources "$work/repository/buildroot/..")" "git $commit $commit $options"
is 'a commit: that one' "$(sources https://example.org/mote BR2_MOTE_VERSION='"0123"')" "git 0123 0123 $options"
is 'no repository: as it stands' "$(GIT_CEILING_DIRECTORIES=$work sources "$work/unpacked/buildroot/..")" "local   $options"
is 'a folder in somebody'\''s repository: as it stands' "$(sources "$work/repository/buildroot")" "local   $options"
is 'a shallow clone: as it stands' "$(sources "$work/shallow")" "local   $options"

# The flags of a device's build.
env_of() { sources . BR2_PACKAGE_MOTE_AGENT_TINY=y "$@" env; }
while IFS='= ' read -r name value; do
  case $name in opt-level | lto | codegen-units | panic) ;; *) continue ;; esac
  name=$(tr a-z- A-Z_ <<<"$name")
  case $(env_of) in
    *"CARGO_PROFILE_RELEASE_$name=\"${value//\"/}\""*) ok "release-tiny: $name is $value" ;;
    *) bad "release-tiny: $name is not $value" ;;
  esac
done < <(sed -n '/^\[profile.release-tiny\]/,/^$/p' Cargo.toml)
rustflags() {
  local words
  words=$(env_of "$@" | grep -o 'CARGO_TARGET_.*') && eval "$words" && printf '%s' "$CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS"
}
is 'the linker'\''s flags: those of agent/linker' "$(rustflags)" "$(agent/linker/rustflags.sh --compact)"
is 'with a libc that is new enough' "$(rustflags BR2_TOOLCHAIN_BUILDROOT_GLIBC=y)" "$(agent/linker/rustflags.sh --compact --relr)"
is 'with TLS' "$(rustflags BR2_PACKAGE_MOTE_AGENT_TLS=y)" "$(agent/linker/rustflags.sh --compact --tls)"
is 'on arm' "$(rustflags NORMALIZED_ARCH=arm)" "$(agent/linker/rustflags.sh --compact) -C link-arg=-Wl,--allow-multiple-definition"
is 'none where they are not wanted' "$(sources . env)" ''

# What names what.
license=$(sha256sum <LICENSE | cut -d' ' -f1)
for hash in buildroot/package/*/*.hash; do
  if grep -q "^sha256  $license  LICENSE\$" "$hash"; then ok "$hash: LICENSE"; else bad "$hash: not the LICENSE that is there"; fi
done
while read -r file; do
  if [ -e "buildroot/$file" ]; then ok "buildroot/$file is there"; else bad "buildroot/$file is named, but not there"; fi
done < <(grep -ohE 'BR2_EXTERNAL_MOTE_PATH\)?/[a-zA-Z][^" ]+' buildroot/configs/* buildroot/Config.in | sed 's,^[^/]*/,,' | sort -u)
while read -r option; do
  if grep -qxr "config $option" buildroot --include=Config.in; then ok "$option is an option"; else bad "$option is no option"; fi
done < <(grep -ohE 'BR2_(PACKAGE_(HOST_)?)?MOTE_[A-Z0-9_]+[A-Z0-9]' buildroot/configs/* buildroot/board/common/*.sh \
  buildroot/external.mk buildroot/package/*/*.mk buildroot/README.md | sort -u)
for defconfig in buildroot/configs/*; do
  for script in check-kernel-config.sh manifest.sh mote.config; do
    if grep -q "common/$script" "$defconfig"; then ok "$defconfig: $script"; else bad "$defconfig lacks $script"; fi
  done
done
if shellcheck buildroot/package/*/S[0-9][0-9]*; then ok 'shellcheck: init scripts'; else bad 'shellcheck: init scripts'; fi
exit $failed
