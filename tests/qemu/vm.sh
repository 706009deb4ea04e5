# A device of the QEMU tests, whatever its processor: an image made here, a swtpm, a network, and a channel on which
# init does as it is told. Sourced; needs $dir (scratch) and $bin (our programs).
# shellcheck shell=bash disable=SC2154,SC2034 # variables are set and used by whoever sources this
# shellcheck disable=SC2016 # what the guest expands must not be expanded here

# ---- image: a root file system as a tree, and packed ----

# image_base TREE BUSYBOX: the device's root file system without its agent. Some programs, some data.
image_base() {
  local tree=$1 applet number
  mkdir -p "$tree"/{bin,dev,etc/mote,proc,sys,tmp,run,usr/bin,usr/share/data}
  install -m 755 "$2" "$tree/bin/busybox"
  for applet in $(busybox --list); do
    [ "$applet" = busybox ] || ln -s busybox "$tree/bin/$applet"
  done
  install -m 755 tests/qemu/init "$tree/init"
  install -m 644 tests/qemu/control "$tree/control"
  : >"$tree/etc/modules"
  for ((number = 0; number < many_files; number++)); do
    printf 'file %d\n' "$number" >"$tree/usr/share/data/$number"
  done
  printf 'ID=mote-test\nVERSION_ID=1\n' >"$tree/etc/os-release"
  printf 'root:x:0:0::/:/bin/sh\nmote:x:990:990::/:/bin/false\n' >"$tree/etc/passwd"
  cp "$dir/verifier/verifier.pub" "$tree/etc/mote/verifier.pem"
  cat >"$tree/etc/mote/agent.toml" <<TOML
verifier = "10.0.2.2:$verifier_port"
verifier_key = "/etc/mote/verifier.pem"
user = "mote"
TOML
}

# image_pack TREE FILE: an initramfs. The kernel unpacks several, one after the other.
image_pack() { (cd "$1" && find . | LC_ALL=C sort | cpio -o -H newc --quiet) >"$2"; }

# image_with_intruder IMAGE FILE: the same with one program more, which no manifest lists.
image_with_intruder() {
  mkdir -p "$dir/more/usr/bin"
  printf '#!/bin/sh\necho I should not be here\n' >"$dir/more/usr/bin/intruder"
  chmod 755 "$dir/more/usr/bin/intruder"
  image_pack "$dir/more" "$dir/more.cpio"
  cat "$1" "$dir/more.cpio" >"$2"
}

# ---- its image's key, its verifier ----

# image_begin: the keys that the image and its manifest need. The verifier makes its own at its first start.
image_begin() {
  verifier_port=$(free_udp_port)
  motectl key new -o "$dir/image.key" >/dev/null || fail 'motectl key new'
  verifier_on
  verifier_off
}

# manifest_build ARGUMENTS...: of the tree that the image is packed from.
manifest_build() {
  motectl manifest build --quiet --rootfs "$dir/tree" --sign "$dir/image.key" "$@" >/dev/null || fail "motectl manifest build $*"
}

# ---- the machine ----

# A tmpfs root is not measured at all by the policy tcb (its magic number is exempt), a ramfs is.
ima_command_line='panic=-1 rootfstype=ramfs ima_policy=tcb ima_hash=sha256'

# machine_start NAME QEMU ARGUMENTS...: with the TPM state in $dir/tpm. The arguments use the character devices
# `console` and `control`, the TPM `tpm0` and the network `n0`. Sets $machine, $tpm_pid, $console and $started.
machine_start() {
  local name=$1
  shift
  console=$dir/$name.console
  control=$dir/$name.control
  mkfifo "$control.in" "$control.out"
  mkdir -p "$dir/tpm"
  swtpm socket --tpm2 --tpmstate dir="$dir/tpm" --ctrl type=unixio,path="$control.tpm" --terminate >>"$dir/swtpm.log" 2>&1 &
  tpm_pid=$!
  pids+=("$tpm_pid")
  wait_for 10 'swtpm starts' test -S "$control.tpm"
  started=${EPOCHREALTIME/[.,]/}
  "$@" -accel tcg -smp 1 -display none -monitor none -nodefaults \
    -chardev "file,id=console,path=$console" -chardev "pipe,id=control,path=$control" \
    -chardev "socket,id=tpm,path=$control.tpm" -tpmdev emulator,id=tpm0,chardev=tpm \
    -netdev user,id=n0 >>"$dir/qemu.log" 2>&1 </dev/null &
  machine=$!
  pids+=("$machine")
  # Both ends stay open here, or the first writer's end would be the last one's, too.
  exec 7<>"$control.in" 8<>"$control.out"
}

# In order, so that the kernel can tell the TPM: swtpm 0.7 forgets its clock when power is cut, although it has
# called it safe.
machine_off() {
  local tenths
  printf 'poweroff -f\n' >&7
  for ((tenths = 0; tenths < 300; tenths++)); do
    kill -0 "$machine" 2>/dev/null || break
    sleep 0.1
  done
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

# ---- what holds on every device while the agent runs ----

check_agent_is_modest() {
  check 'the agent has given up root, for good' guest_quiet \
    'test "$(grep ^Uid: /proc/$(pidof mote-agent)/status | tr -d "[:space:]")" = Uid:990990990990'
  check 'its root file system is read-only' guest_quiet '! touch /written 2>/dev/null'
  check 'it has written nothing where it could' guest_quiet 'test -z "$(ls -A /tmp)"'
  check 'it listens on no port' guest_quiet \
    '! grep " 0A " /proc/net/tcp && ! grep -E "^ *[0-9]+: [0-9A-F]+:[0-9A-F]+ 00000000:0000 " /proc/net/udp'
}

check_clock_is_not_set() { check 'and its clock is that of a board without RTC' guest_quiet 'test "$(date +%Y)" = 1970'; }
