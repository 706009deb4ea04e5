# A disk that UEFI firmware boots as it boots a Debian: shim, GRUB and kernel, all signed, with Secure Boot or without
# it. Sourced; needs $dir, $cache and $kernel.
# shellcheck shell=bash disable=SC2154 # variables are set by whoever sources this

# loaders_get: Debian's signed shim and GRUB. Not installed: this machine boots in its own way.
loaders_get() {
  loaders=$cache/loaders
  if [ -d "$loaders" ]; then return; fi
  mkdir -p "$dir/loaders"
  (cd "$dir/loaders" && apt-get -q download shim-signed grub-efi-amd64-signed) >"$dir/loaders.log" 2>&1 ||
    fail 'apt-get download of shim and GRUB'
  rm -rf "$loaders.new"
  dpkg-deb -x "$dir"/loaders/shim-signed_*.deb "$loaders.new" &&
    dpkg-deb -x "$dir"/loaders/grub-efi-amd64-signed_*.deb "$loaders.new" && mv "$loaders.new" "$loaders"
}

# disk_make DISK IMAGE COMMAND LINE: one EFI system partition with all of it. The disk is scratch, so it need not be larger
# than what it holds.
disk_make() {
  local disk=$1 image=$2 partition=$1@@1M
  shift 2
  truncate -s 96M "$disk"
  sfdisk -q "$disk" <<'PARTITIONS' || fail 'sfdisk'
label: gpt
label-id: 11111111-2222-3333-4444-555555555555
start=2048, size=192512, type=U, uuid=66666666-7777-8888-9999-aaaaaaaaaaaa, name=esp
PARTITIONS
  grub_config "$*" >"$dir/grub.cfg"
  {
    mformat -i "$partition" -T 192512 -F :: &&
      mmd -i "$partition" ::/EFI ::/EFI/BOOT ::/EFI/debian &&
      mcopy -i "$partition" "$loaders/usr/lib/shim/shimx64.efi.signed" ::/EFI/BOOT/BOOTX64.EFI &&
      mcopy -i "$partition" "$loaders/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed" ::/EFI/BOOT/grubx64.efi &&
      mcopy -i "$partition" "$dir/grub.cfg" ::/EFI/debian/grub.cfg &&
      mcopy -i "$partition" "$kernel" ::/vmlinuz &&
      mcopy -i "$partition" "$image" ::/initrd
  } >"$dir/disk.log" 2>&1 || fail 'mtools'
}

# Through the kernel's EFI stub, which is what passes the boot log on; Debian's `linux` takes that way only with
# Secure Boot.
grub_config() { printf 'linuxefi /vmlinuz %s\ninitrdefi /initrd\nboot\n' "$1"; }

# grub_commands COMMAND LINE: what GRUB measures into PCR 8: the commands built into Debian's signed image, then
# those of grub.cfg.
grub_commands() {
  local prefix='(hd0,gpt1)/EFI/debian'
  printf '[ -z %s -o ! -e %s ]\n' "$prefix" "$prefix"
  printf '[ -e %s/x86_64-efi/grub.cfg ]\n[ -e %s/grub.cfg ]\nsource %s/grub.cfg\n' "$prefix" "$prefix" "$prefix"
  grub_config "$1"
}

# disk_expectations IMAGE COMMAND LINE: what `motectl manifest build` is to expect of a boot from such a disk, an argument
# a line. All of it is known when the disk is made.
disk_expectations() {
  local image=$1 command
  shift
  printf '%s\n' --secure-boot --kernel "$kernel" --initrd "$image" --cmdline "/vmlinuz $*"
  grub_commands "$*" | while IFS= read -r command; do
    printf -- '--boot-event\n8=%s\n' "$(printf '%s' "$command" | sha256 -)"
  done
  grub_config "$*" >"$dir/grub.cfg"
  printf -- '--boot-event\n9=%s\n' "$(sha256 "$dir/grub.cfg")"
}

sha256() { sha256sum "$1" | cut -d' ' -f1; }
