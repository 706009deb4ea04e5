# The agent for other processors. Sourced; needs $dir (scratch), $target, lib.sh and debian.sh.
# shellcheck shell=bash disable=SC2154,SC2034 # variables are set and used by whoever sources this

# cross_target ARCHITECTURE: $triple of Rust, $gnu of the C compiler, $emulator of qemu-user.
cross_target() {
  case $1 in
    arm64) triple=aarch64-unknown-linux-gnu gnu=aarch64-linux-gnu emulator=qemu-aarch64-static ;;
    armv7) triple=armv7-unknown-linux-gnueabihf gnu=arm-linux-gnueabihf emulator=qemu-arm-static ;;
    riscv64) triple=riscv64gc-unknown-linux-gnu gnu=riscv64-linux-gnu emulator=qemu-riscv64-static ;;
    *) fail "no architecture of the tests: $1" ;;
  esac
}

# cross_toolchain: $toolchain, a compiler with the source of its std, of its very version, so that no other
# compiler and no prebuilt std is needed. Debian's own has a package for that. Of another, rustup's say, a copy
# is made, by hard links, with the source from Debian's rust-src.
cross_toolchain() {
  local version sysroot
  version=$(rustc -V | cut -d' ' -f2)
  # It may be a link to the real one.
  sysroot=$(readlink -f "$(rustc --print sysroot)")
  if [ "$sysroot" = /usr ]; then
    case $(dpkg-query -S /usr/bin/rustc) in
      rustc-web:*) setup_packages rust-web-src ;;
      *) setup_packages rust-src ;;
    esac
    toolchain=/usr
    return
  fi
  toolchain=$target/cache/rust-$version
  if [ -d "$toolchain" ]; then return; fi
  # trixie-backports keeps several versions.
  debian_get "${RUST_SRC_SUITE:-trixie-backports}" "$(dpkg --print-architecture)" "$dir/rust-src" "rust-src=$version*"
  rm -rf "$toolchain.new"
  mkdir -p "$target/cache"
  cp -al "$sysroot" "$toolchain.new" 2>/dev/null || { rm -rf "$toolchain.new" && cp -a "$sysroot" "$toolchain.new"; }
  rm -rf "$toolchain.new/lib/rustlib/src"
  mkdir -p "$toolchain.new/lib/rustlib/src/rust"
  cp -r "$dir/rust-src/usr/src/rustc-$version/library" "$toolchain.new/lib/rustlib/src/rust/" || fail 'no library in rust-src'
  mv "$toolchain.new" "$toolchain"
}

# cross_cargo ARGUMENTS...: cargo build for $triple, with a std of its own.
cross_cargo() {
  local variable
  variable=$(printf '%s' "$triple" | tr 'a-z-' 'A-Z_')
  env "CARGO_TARGET_${variable}_LINKER=$gnu-gcc" "PKG_CONFIG_SYSROOT_DIR=${libraries:-/}" PKG_CONFIG_ALLOW_CROSS=1 \
    PKG_CONFIG_LIBDIR="${libraries:-}/usr/lib/$gnu/pkgconfig" PATH="$toolchain/bin:$PATH" RUSTC="$toolchain/bin/rustc" RUSTC_BOOTSTRAP=1 \
    "$toolchain/bin/cargo" build --locked -p mote-agent --target "$triple" --target-dir "$target/cross" \
    -Z build-std=std,panic_abort "$@" >"$dir/build-$triple.log" 2>&1 || fail "the build for $triple"
}

# cross_build PROFILE: $program, the agent with tpm-direct and UDP only, static. Profile `dev` is built without
# any optimisation, in half of release-tiny's time.
cross_build() {
  local profile=$1 options=()
  if [ "$profile" = dev ]; then options=(--config 'profile.dev.package."*".opt-level=0' --config profile.dev.debug=false); fi
  RUSTFLAGS='-C target-feature=+crt-static -C force-unwind-tables=no' cross_cargo --profile "$profile" \
    --no-default-features --features tpm-direct "${options[@]}"
  program=$target/cross/$triple/${profile/#dev/debug}/mote-agent
}

# cross_libraries: $libraries, a directory with Debian's C library, OpenSSL and tpm2-tss for $1. The packages
# are those that this machine has for itself.
cross_libraries() {
  local packages
  libraries=$target/cache/libraries-$1-$(debian_suite)
  if [ -d "$libraries" ]; then return; fi
  mapfile -t packages < <(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' 'libtss2-*' 'libssl3*' libssl-dev libc6 libgcc-s1 |
    sed -n 's/^ii *//p' | sort -u)
  rm -rf "$libraries.new"
  mkdir -p "$target/cache"
  debian_get "$(debian_suite)" "$1" "$libraries.new" "${packages[@]}"
  mv "$libraries.new" "$libraries"
}

# cross_build_default PROFILE: $program, the agent as it is by default, with tpm2-tss and TLS, dynamic; by the
# flags of a device's build. Runs with what is in $libraries.
cross_build_default() {
  local profile=$1 options=()
  if [ "$profile" = dev ]; then options=(--config 'profile.dev.package."*".opt-level=0' --config profile.dev.debug=false --config 'profile.dev.panic="abort"'); fi
  RUSTFLAGS="$(agent/linker/rustflags.sh --compact --tls) -L native=$libraries/usr/lib/$gnu -C link-arg=-Wl,-rpath-link,$libraries/usr/lib/$gnu:$libraries/lib/$gnu" \
    cross_cargo --profile "$profile" "${options[@]}"
  program=$target/cross/$triple/${profile/#dev/debug}/mote-agent
}
