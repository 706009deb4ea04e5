#!/usr/bin/env bash
# Installs what building and testing Mote needs, on Debian 12 or later, from Debian's own packages.
# Does nothing, and asks for nothing, when all is there.
#
#   tests/setup.sh           everything
#   tests/setup.sh demo      only what demo.sh needs
#   tests/setup.sh qemu      only what tests/qemu/x86.sh needs
#   tests/setup.sh cross     only what tests/qemu/cross.sh needs
#   tests/setup.sh coverage  what tests/coverage.sh needs
#   tests/setup.sh arm64     only what tests/qemu/arm64.sh needs; not part of everything
#
# demo.sh and run.sh source it and call `setup`, because PATH may have to change.

setup_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# To build: tpm2-tss with its swtpm TCTI, C for aws-lc, certificates for the crate registry. To run:
# swtpm; strace watches the agent.
setup_demo_packages=(build-essential ca-certificates libtss2-dev pkg-config strace swtpm)
# EK certificates (swtpm-tools), cross-checks (tpm2-tools, openssl), file signatures (ima-evm-utils), interop
# (libcoap, aiocoap in a venv).
setup_test_packages=(faketime ima-evm-utils libcoap3-bin openssl python3 python3-venv shellcheck swtpm-tools tpm2-tools valgrind
  xxd)
# A machine to boot: kernel by apt, image by cpio, UEFI firmware and a disk for it.
setup_qemu_packages=(busybox-static cpio fdisk mtools ovmf qemu-system-x86 xz-utils zstd)
# The same for arm64, whose kernel is built (tests/qemu/arm64.sh).
setup_arm64_packages=(bc bison busybox-static cpio flex gcc-aarch64-linux-gnu libc6-dev-arm64-cross make qemu-system-arm xz-utils)
# Agents for other processors, built and run (tests/qemu/cross.sh).
setup_cross_packages=(gcc-aarch64-linux-gnu gcc-arm-linux-gnueabihf gcc-riscv64-linux-gnu libc6-dev-arm64-cross
  libc6-dev-armhf-cross libc6-dev-riscv64-cross qemu-user-static)

setup_die() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

# True if version $1 is $2 or later.
setup_at_least() {
  [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]
}

setup_as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    setup_die "not root, and there is no sudo: as root, run '$*', then start this again"
  fi
}

setup_apt() {
  local log
  printf 'installing Debian packages: %s\n' "$*" >&2
  log=$(mktemp)
  # A new system has no package lists, an old one may have stale ones.
  if ! { setup_as_root apt-get update &&
    setup_as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    setup_die "these packages could not be installed: $*"
  fi
  rm -f "$log"
}

setup_packages() {
  local package missing=()
  if ! command -v dpkg-query >/dev/null; then
    printf 'setup: not Debian, so nothing was installed; needed is what Debian calls: %s\n' "$*" >&2
    return
  fi
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  if [ ${#missing[@]} -gt 0 ]; then setup_apt "${missing[@]}"; fi
}

# The newest Rust that a package of the workspace asks for.
setup_rust_wanted() {
  sed -n 's/^rust-version = "\(.*\)"/\1/p' "$setup_root"/Cargo.toml "$setup_root"/*/Cargo.toml | sort -V | tail -n 1
}

setup_rust_version() {
  { cargo --version && rustc --version; } 2>/dev/null | awk 'NF >= 2 { print $2 }' | sort -V | head -n 1
}

# What apt would install of package $1, as an upstream version: 1.96.0
setup_candidate() {
  apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: \([0-9][0-9.]*\).*/\1/p'
}

setup_rust() {
  local wanted have
  wanted=$(setup_rust_wanted)
  # rustup's place, which a shell that was not restarted since does not know.
  if ! command -v cargo >/dev/null && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
    PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
  fi
  have=$(setup_rust_version)
  if [ -n "$have" ] && setup_at_least "$have" "$wanted"; then return; fi
  if command -v rustup >/dev/null; then
    setup_die "Rust $wanted or later is needed, this is ${have:-none}: run 'rustup update stable' (or 'rustup default stable')"
  fi
  if [ -n "$have" ] && ! dpkg-query -S "$(command -v cargo)" >/dev/null 2>&1; then
    setup_die "Rust $wanted or later is needed, $(command -v cargo) is $have: update or remove it"
  fi
  command -v apt-get >/dev/null || setup_die "Rust $wanted or later is needed: install it, with rustup for example"
  # Debian 12 has a current Rust beside its own of 2022, for building browsers: rustc-web.
  [ -n "$(setup_candidate cargo)" ] || setup_as_root apt-get update >/dev/null 2>&1
  if setup_at_least "$(setup_candidate cargo)" "$wanted"; then
    setup_apt cargo rustc
  elif setup_at_least "$(setup_candidate cargo-web)" "$wanted"; then
    setup_apt cargo-web rustc-web
  else
    setup_die "Rust $wanted or later is needed and Debian offers none here: install it with rustup"
  fi
  hash -r
  have=$(setup_rust_version)
  setup_at_least "${have:-0}" "$wanted" ||
    setup_die "Debian's Rust was installed, but $(command -v cargo) is ${have:-not usable}: is another one in PATH before it?"
}

# rustfmt and clippy: rustup's if cargo is rustup's, else the packages that belong to cargo's.
setup_lints() {
  if cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1; then return; fi
  if command -v rustup >/dev/null; then
    rustup component add rustfmt clippy >&2 || setup_die "'rustup component add rustfmt clippy' failed"
  elif [ "$(dpkg-query -W -f '${db:Status-Status}' cargo-web 2>/dev/null)" = installed ]; then
    setup_apt rustfmt-web rust-web-clippy
  elif command -v apt-get >/dev/null; then
    setup_apt rustfmt rust-clippy
  else
    setup_die "cargo has no 'fmt' or 'clippy'"
  fi
}

# The major version of the LLVM that rustc was built with: its profiles are read by that alone.
setup_llvm() {
  rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p'
}

# setup [demo | qemu | cross | arm64 | coverage]: all of the above.
setup() {
  case ${1:-} in
    demo)
      setup_packages "${setup_demo_packages[@]}"
      setup_rust
      ;;
    cross)
      setup_packages "${setup_demo_packages[@]}" "${setup_cross_packages[@]}"
      setup_rust
      ;;
    coverage)
      setup_packages "${setup_demo_packages[@]}" "${setup_test_packages[@]}"
      setup_rust
      setup_packages "llvm-$(setup_llvm)"
      ;;
    arm64)
      setup_packages "${setup_demo_packages[@]}" "${setup_arm64_packages[@]}"
      setup_rust
      ;;
    qemu)
      setup_packages "${setup_demo_packages[@]}" "${setup_qemu_packages[@]}"
      setup_rust
      ;;
    *)
      setup_packages "${setup_demo_packages[@]}" "${setup_test_packages[@]}" "${setup_qemu_packages[@]}" \
        "${setup_cross_packages[@]}"
      setup_rust
      setup_lints
      ;;
  esac
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  set -eu
  setup "$@"
fi
