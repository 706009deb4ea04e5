# The x86_64 device: Debian's kernel for amd64, whose TPM driver and IMA are built in. Booted by SeaBIOS or, from a
# disk, by UEFI firmware. Sourced, after vm.sh; needs $cache.
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

# ---- image ----

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
  mkdir -p "$tree/lib/modules"
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

# image_tree TREE: with what the agent needs.
image_tree() {
  local tree=$1
  image_base "$tree" "$(command -v busybox)"
  install_modules "$tree"
  strip -o "$dir/mote-agent" "$bin/mote-agent"
  install_program "$tree" "$dir/mote-agent"
  # tpm2-tss loads its transport at run time.
  if ldd "$bin/mote-agent" | grep -q libtss2; then
    install_program "$tree" "$(tss_device_library)" /usr/lib/x86_64-linux-gnu/libtss2-tcti-device.so.0
  fi
  for program in sha256sum tac od expr; do install_program "$tree" "/usr/bin/$program"; done
}

tss_device_library() { ldconfig -p | awk '$1 == "libtss2-tcti-device.so.0" { print $NF; exit }'; }

# ---- the machine ----

command_line="console=ttyS0 $ima_command_line"

pc_start() {
  local name=$1
  shift
  machine_start "$name" qemu-system-x86_64 -cpu qemu64,+rdrand -m 512 -serial chardev:console -serial chardev:control \
    -device "${tpm_device:-tpm-crb},tpmdev=tpm0" -device virtio-net-pci,netdev=n0,romfile= "$@"
}

# machine_on NAME IMAGE [KERNEL ARGUMENTS]: by SeaBIOS, which leaves loading to QEMU. There is always an RTC; this
# one has lost its battery.
machine_on() {
  local name=$1 image=$2
  shift 2
  pc_start "$name" -M q35 -rtc base=1970-01-01T00:00:10 -kernel "$kernel" -initrd "$image" -append "$command_line $*"
}

# machine_on_disk NAME DISK CODE VARIABLES [MACHINE ARGUMENTS]: by UEFI firmware.
machine_on_disk() {
  local name=$1 disk=$2 code=$3 variables=$4
  shift 4
  cp "/usr/share/OVMF/$variables" "$dir/$name.vars"
  pc_start "$name" "$@" -drive "if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/$code" \
    -drive "if=pflash,format=raw,unit=1,file=$dir/$name.vars" \
    -drive "if=none,id=disk,format=raw,file=$disk" -device virtio-blk-pci,drive=disk,romfile=,bootindex=0
}

# With the keys of PC firmware enrolled. Only firmware in system management mode may write its variables.
machine_on_secure_boot() {
  machine_on_disk "$1" "$2" OVMF_CODE_4M.secboot.fd OVMF_VARS_4M.ms.fd \
    -M q35,smm=on -global driver=cfi.pflash01,property=secure,value=on
}

machine_on_insecure_boot() { machine_on_disk "$1" "$2" OVMF_CODE_4M.fd OVMF_VARS_4M.fd -M q35; }

# machine_without_tpm_at_boot NAME IMAGE: a TPM that answers only after IMA has looked for one, which it
# does once. As on boards whose TPM driver is a module. The driver is told not to hold up the boot,
# and swtpm is stopped from the kernel's first message (the firmware needs it) to IMA's. Where the driver gives up
# on its first command before IMA comes, as it may on a busy machine, QEMU waits for swtpm: then once more.
machine_without_tpm_at_boot() {
  local name attempt
  for attempt in 1 2 3; do
    name=$1-$attempt
    machine_on "$name" "$2" driver_async_probe=tpm_crb,tpm_tis mote.agent=late
    wait_for 60 'the kernel starts' grep -aqs 'Linux version' "$console"
    kill -STOP "$tpm_pid"
    for ((tenths = 0; tenths < 300; tenths++)); do
      if guest_says 'No TPM chip found' "$name"; then break; fi
      sleep 0.1
    done
    kill -CONT "$tpm_pid"
    if guest_says 'No TPM chip found' "$name"; then break; fi
    end KILL "$machine"
    machine_off
  done
  guest_says 'No TPM chip found' "$name" || fail 'IMA does not miss the TPM'
  guest_ready
  guest 'while [ ! -c /dev/tpmrm0 ]; do sleep 0.2; done; start_agent' >/dev/null
}
