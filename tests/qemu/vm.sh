# The device of the QEMU tests: Debian's kernel for amd64, whose TPM driver and IMA are built in, an
# image made here, and a swtpm. Sourced; needs $dir (scratch), $cache and $bin (our programs).
# shellcheck shell=bash disable=SC2154,SC2034 # variables are set and used by whoever sources this

# ---- kernel ----

# kernel_get: $kernel and $modules, from Debian's package, which stays in the cache.
kernel_get() {
  local package
  kernel=$(find "$cache/kernel/boot" -name 'vmlinuz-*' 2>/dev/null | head -n 1)
  if [ -z "$kernel" ]; then
    mkdir -p "$cache"
    package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
    (cd "$cache" && apt-get -q download "$package") >"$dir/kernel.log" 2>&1 || fail 'apt-get download of a kernel'
    rm -rf "$cache/kernel.new"
    dpkg-deb -x "$cache/$package"_*.deb "$cache/kernel.new" && mv "$cache/kernel.new" "$cache/kernel"
    rm -f "$cache/$package"_*.deb
    kernel=$(find "$cache/kernel/boot" -name 'vmlinuz-*' | head -n 1)
  fi
  modules=$cache/kernel/lib/modules
  [ -s "$kernel" ] || fail "no kernel in $cache/kernel"
}

# ---- image: a root file system as a tree, and packed ----

# install_program TREE PROGRAM [PATH]: with its libraries, where the loader finds them.
install_program() {
  local tree=$1 program=$2 path=${3:-/usr/bin/$(basename "$2")} library
  install -D -m 755 "$program" "$tree$path"
  ldd "$program" 2>/dev/null | grep -oE '/[^ ]+' | while read -r library; do
    [ -e "$tree$library" ] || install -D -m 755 "$library" "$tree$library"
  done
}

# Virtio network over PCI, in the order in which the modules need each other; newer kernels have some
# of it built in.
network_modules='virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci failover net_failover virtio_net'

install_modules() {
  local tree=$1 name file
  mkdir -p "$tree/lib/modules" "$tree/etc"
  : >"$tree/etc/modules"
  for name in $network_modules; do
    file=$(find "$modules" -name "$name.ko*" | head -n 1)
    case $file in
      '') continue ;;
      *.xz) xz -dc "$file" >"$tree/lib/modules/$name.ko" ;;
      *.zst) zstd -qdc "$file" >"$tree/lib/modules/$name.ko" ;;
      *) cp "$file" "$tree/lib/modules/$name.ko" ;;
    esac
    echo "/lib/modules/$name.ko" >>"$tree/etc/modules"
  done
}

# image_tree TREE: the device's root file system. What the agent needs, some programs, some data.
image_tree() {
  local tree=$1 applet number
  mkdir -p "$tree"/{bin,dev,etc/mote,proc,sys,tmp,run,usr/bin,usr/share/data}
  install -m 755 "$(command -v busybox)" "$tree/bin/busybox"
  for applet in $("$tree/bin/busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "$tree/bin/$applet"
  done
  install -m 755 tests/qemu/init "$tree/init"
  install_modules "$tree"
  strip -o "$dir/mote-agent" "$bin/mote-agent"
  install_program "$tree" "$dir/mote-agent"
  # tpm2-tss loads its transport at run time.
  if ldd "$bin/mote-agent" | grep -q libtss2; then
    install_program "$tree" "$(tss_device_library)" /usr/lib/x86_64-linux-gnu/libtss2-tcti-device.so.0
  fi
  for program in sha256sum tac od expr; do install_program "$tree" "/usr/bin/$program"; done
  for ((number = 0; number < many_files; number++)); do
    printf 'file %d\n' "$number" >"$tree/usr/share/data/$number"
  done
  printf 'ID=mote-test\nVERSION_ID=1\n' >"$tree/etc/os-release"
  cp "$dir/verifier/verifier.pub" "$tree/etc/mote/verifier.pem"
  cat >"$tree/etc/mote/agent.toml" <<TOML
verifier = "10.0.2.2:$verifier_port"
verifier_key = "/etc/mote/verifier.pem"
TOML
}

tss_device_library() { ldconfig -p | awk '$1 == "libtss2-tcti-device.so.0" { print $NF; exit }'; }

# image_pack TREE FILE: an initramfs. The kernel unpacks several, one after the other.
image_pack() { (cd "$1" && find . | LC_ALL=C sort | cpio -o -H newc --quiet) >"$2"; }

# ---- the machine ----

# A tmpfs root is not measured at all by the policy tcb (its magic number is exempt), a ramfs is.
command_line='console=ttyS0 panic=-1 rootfstype=ramfs ima_policy=tcb ima_hash=sha256'

# machine_on NAME IMAGE [KERNEL ARGUMENTS]: with the TPM state in $dir/tpm; by UEFI if $uefi is set, else
# by SeaBIOS. Sets $machine, $tpm_pid, $console and $started.
machine_on() {
  local name=$1 image=$2 firmware=()
  shift 2
  console=$dir/$name.console
  control=$dir/$name.control
  mkfifo "$control.in" "$control.out"
  mkdir -p "$dir/tpm"
  swtpm socket --tpm2 --tpmstate dir="$dir/tpm" --ctrl type=unixio,path="$control.tpm" --terminate >>"$dir/swtpm.log" 2>&1 &
  tpm_pid=$!
  pids+=("$tpm_pid")
  wait_for 10 'swtpm starts' test -S "$control.tpm"
  if [ -n "${uefi:-}" ]; then
    cp /usr/share/OVMF/OVMF_VARS_4M.fd "$dir/$name.vars"
    firmware=(-drive "if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd"
      -drive "if=pflash,format=raw,unit=1,file=$dir/$name.vars")
  fi
  started=${EPOCHREALTIME/[.,]/}
  qemu-system-x86_64 -M q35 -accel tcg -cpu qemu64,+rdrand -m 512 -smp 1 "${firmware[@]}" \
    -display none -monitor none -nodefaults \
    -serial "file:$console" -chardev "pipe,id=control,path=$control" -serial chardev:control \
    -chardev "socket,id=tpm,path=$control.tpm" -tpmdev emulator,id=tpm0,chardev=tpm -device "${tpm_device:-tpm-crb},tpmdev=tpm0" \
    -netdev user,id=n0 -device virtio-net-pci,netdev=n0,romfile= \
    -kernel "$kernel" -initrd "$image" -append "$command_line $*" >>"$dir/qemu.log" 2>&1 </dev/null &
  machine=$!
  pids+=("$machine")
  # Both ends stay open here, or the first writer's end would be the last one's, too.
  exec 7<>"$control.in" 8<>"$control.out"
}

machine_off() {
  end KILL "$machine"
  end TERM "$tpm_pid"
  exec 7>&- 8>&-
}

# guest COMMAND: runs it in the guest; prints its output. Fails when the guest does not answer.
guest() {
  local line
  printf '%s\n' "$1" >&7
  while IFS= read -r -t "${guest_patience:-180}" line <&8; do
    line=${line%$'\r'}
    case $line in
      done) return 0 ;;
      ': '*) printf '%s\n' "${line#: }" ;;
    esac
  done
  return 1
}

# guest_ready: until init listens. UEFI firmware and GRUB write to every serial port before that, and leave
# no newline.
guest_ready() {
  local line
  while IFS= read -r -t 300 line <&8; do
    if [[ ${line%$'\r'} == *ready ]]; then return 0; fi
  done
  fail "the guest does not come up: $(tail -n 3 "$console")"
}

# guest_quiet COMMAND: whether it succeeds in the guest.
guest_quiet() { [ "$(guest "$1 && echo yes")" = yes ]; }

# boot_pcrs: PCRs 0 to 9 of the guest, a line each.
boot_pcrs() { guest 'cat /sys/class/tpm/tpm0/pcr-sha256/[0-9]'; }

# differ_in PCR VALUES VALUES: whether that one differs and no other.
differ_in() {
  local lines
  lines=$(diff <(printf '%s\n' "$2") <(printf '%s\n' "$3") | grep '^[0-9]')
  [ "$lines" = "$(($1 + 1))c$(($1 + 1))" ]
}

# guest_says PATTERN NAME: whether the console of machine NAME shows it.
guest_says() { grep -aqE "$1" "$dir/$2.console"; }

# The TPM is reset with the machine.
guest_reboot() { printf 'sync; reboot -f\n' >&7; }

# machine_without_tpm_at_boot NAME IMAGE: a TPM that answers only after IMA has looked for one, which it
# does once. As on boards whose TPM driver is a module. The driver is told not to hold up the boot,
# and swtpm is stopped from the kernel's first message (the firmware needs it) to IMA's.
machine_without_tpm_at_boot() {
  local name=$1
  machine_on "$name" "$2" driver_async_probe=tpm_crb,tpm_tis mote.agent=late
  wait_for 60 'the kernel starts' grep -aqs 'Linux version' "$console"
  kill -STOP "$tpm_pid"
  # Seconds on a quiet machine; a bound, in case the machine itself waits for the TPM.
  for ((tenths = 0; tenths < 1800; tenths++)); do
    if grep -aqs 'No TPM chip found' "$console"; then break; fi
    sleep 0.1
  done
  kill -CONT "$tpm_pid"
  guest_says 'No TPM chip found' "$name" || fail 'IMA does not miss the TPM'
  guest_ready
  guest 'while [ ! -c /dev/tpmrm0 ]; do sleep 0.2; done; start_agent' >/dev/null
}
