# A kernel for a QEMU guest, from Debian's kernel source: none of Debian's arm64 kernels has a TIS driver
# built in. Sourced; needs $dir (scratch) and $target.
# shellcheck shell=bash disable=SC2154,SC2034 # variables are set and used by whoever sources this

# kernel_build ARCHITECTURE GNU CONFIG: $kernel, from the cache if the source's version, the compiler and
# the configuration are those it was built of. Else some six minutes of CPU time.
kernel_build() {
  local architecture=$1 gnu=$2 config=$3 package version key cached source objects wish
  package=$(apt-cache depends linux-source | sed -n 's/ *Depends: \(linux-source-[0-9].*\)/\1/p' | head -n 1)
  version=$(apt-cache policy "$package" | sed -n 's/^ *Candidate: //p')
  [ -n "$version" ] || fail 'apt offers no linux-source'
  key=$({ printf '%s\n' "$package" "$version" && "$gnu-gcc" --version && cat "$config"; } | sha256sum | cut -c1-16)
  cached=$target/cache/kernel-$architecture-$key
  kernel=$cached/Image
  if [ -s "$kernel" ]; then return; fi
  printf 'building the kernel for %s, %s: some six minutes of CPU time\n' "$architecture" "$version" >&2
  source=$target/cache/kernel-source
  objects=$target/cache/kernel-objects
  rm -rf "$source" "$objects"
  mkdir -p "$source" "$objects" "$cached"
  (cd "$source" && apt-get -q download "$package" && dpkg-deb --fsys-tarfile "$package"_*.deb |
    tar -xO "./usr/src/$package.tar.xz" | tar -xJ --strip-components=1 && rm "$package"_*.deb) >"$dir/kernel.log" 2>&1 ||
    fail "the source of $package"
  make_kernel() { make -s -C "$source" O="$objects" ARCH="$architecture" CROSS_COMPILE="$gnu-" "$@" >>"$dir/kernel.log" 2>&1; }
  make_kernel tinyconfig || fail 'make tinyconfig'
  cat "$config" >>"$objects/.config"
  make_kernel olddefconfig || fail 'make olddefconfig'
  # Kconfig drops what it cannot honour without a word.
  while read -r wish; do
    grep -qx "$wish" "$objects/.config" || fail "the kernel configuration has no $wish"
  done < <(grep '^CONFIG_' "$config")
  make_kernel -j"$(nproc)" Image || fail 'the kernel build'
  cp "$objects/.config" "$cached/config"
  cp "$objects/arch/$architecture/boot/Image" "$kernel.new" && mv "$kernel.new" "$kernel"
  rm -rf "$source" "$objects"
}
