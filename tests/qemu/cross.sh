#!/usr/bin/env bash
# The smallest agent, cross-built and static, attests under qemu-user: its own TPM commands, CBOR, OSCORE
# and sockets on another architecture, with a real swtpm and mote-verifier on this machine.
#
#   tests/qemu/cross.sh [arm64 | armv7 | riscv64]...    default: arm64
#
# Rust's std for the target is built on the way (-Z build-std), from Debian's rust-src of this compiler's
# very version, so that no other compiler and no download of a prebuilt std is needed. The copy of the
# toolchain that takes it, and the builds, stay in the target directory.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
# shellcheck source=tests/setup.sh
. tests/setup.sh

architectures=("${@:-arm64}")
dir=$(mktemp -d "${TMPDIR:-/tmp}/mote-cross.XXXXXX")
pids=()
failures=0
begun=${EPOCHREALTIME/[.,]/}
keep_files=
# shellcheck source=tests/qemu/lib.sh
. tests/qemu/lib.sh
# shellcheck source=tests/qemu/simulated.sh
. tests/qemu/simulated.sh
trap finish EXIT
trap 'exit 130' INT TERM

setup cross
target=$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
bin=${MOTE_BIN_DIR:-}
if [ -z "$bin" ]; then
  cargo build --locked --workspace --bins >"$dir/build.log" 2>&1 || fail 'the build failed'
  bin=$target/debug
fi

version=$(rustc -V | cut -d' ' -f2)
toolchain=$target/cache/rust-$version

# toolchain_get: a copy of this toolchain, by hard links, with the source of its std.
toolchain_get() {
  local sysroot suite url apt=$dir/apt
  if [ -d "$toolchain" ]; then return; fi
  # It may be a link to the real one.
  sysroot=$(readlink -f "$(rustc --print sysroot)")
  # trixie-backports keeps several versions; the host's own sources stay as they are.
  suite=${RUST_SRC_SUITE:-trixie-backports}
  # shellcheck disable=SC2016 # apt-get expands it
  url=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -E '/debian/?$' | head -n 1)
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$target/cache"
  : >"$apt/status"
  printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$url" "$suite" >"$apt/sources.list"
  private_apt() {
    apt-get -q -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
      -o Dir::Etc::preferencesparts=/dev/null -o Dir::State="$apt" -o Dir::State::lists="$apt/lists" \
      -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" -o Acquire::Languages=none "$@"
  }
  (cd "$apt" && private_apt update && private_apt download "rust-src=$version*") >"$dir/rust-src.log" 2>&1 ||
    fail "rust-src $version from $suite"
  dpkg-deb -x "$apt"/rust-src_*.deb "$apt/unpacked"
  rm -rf "$toolchain.new"
  cp -al "$sysroot" "$toolchain.new" 2>/dev/null || { rm -rf "$toolchain.new" && cp -a "$sysroot" "$toolchain.new"; }
  rm -rf "$toolchain.new/lib/rustlib/src"
  mkdir -p "$toolchain.new/lib/rustlib/src/rust"
  cp -r "$apt/unpacked/usr/src/rustc-$version/library" "$toolchain.new/lib/rustlib/src/rust/"
  mv "$toolchain.new" "$toolchain"
}

# cross_build TRIPLE GNU: prints the path of the program.
cross_build() {
  local triple=$1 gnu=$2 variable
  variable=$(printf '%s' "$triple" | tr 'a-z-' 'A-Z_')
  env "CARGO_TARGET_${variable}_LINKER=$gnu-gcc" RUSTFLAGS='-C target-feature=+crt-static -C force-unwind-tables=no' \
    PATH="$toolchain/bin:$PATH" RUSTC="$toolchain/bin/rustc" RUSTC_BOOTSTRAP=1 \
    "$toolchain/bin/cargo" build --locked --profile release-tiny -p mote-agent --no-default-features \
    --features tpm-direct --target "$triple" --target-dir "$target/cross" -Z build-std=std,panic_abort \
    >"$dir/build-$triple.log" 2>&1 || fail "the build for $triple"
  printf '%s' "$target/cross/$triple/release-tiny/mote-agent"
}

toolchain_get
for architecture in "${architectures[@]}"; do
  case $architecture in
    arm64) triple=aarch64-unknown-linux-gnu gnu=aarch64-linux-gnu emulator=qemu-aarch64-static ;;
    armv7) triple=armv7-unknown-linux-gnueabihf gnu=arm-linux-gnueabihf emulator=qemu-arm-static ;;
    riscv64) triple=riscv64gc-unknown-linux-gnu gnu=riscv64-linux-gnu emulator=qemu-riscv64-static ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" && exit 2 ;;
  esac
  program=$(cross_build "$triple" "$gnu") || exit 1
  figure "agent_bin_${architecture}_static_bytes" "$(stat -c %s "$program")"
  device_on 300
  attest 300 3 "$emulator" "$program" >/dev/null
  verdict $? "$architecture: enrolled and trusted, 300 records, three heartbeats"
  check "$architecture: --once says the verdict" "$emulator" "$program" --config "$dir/agent.toml" --once
  device_off
done
[ "$failures" = 0 ]
