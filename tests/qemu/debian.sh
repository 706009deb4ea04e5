# Packages of other suites or architectures of Debian, downloaded and not installed. Sourced; needs $dir
# (scratch) and lib.sh.
# shellcheck shell=bash disable=SC2154 # variables are set by whoever sources this

# debian_get SUITE ARCHITECTURE DIRECTORY PACKAGE...: unpacks them there. Apt has a state of its own for
# that, the host's sources and package database stay as they are; the mirror is the host's.
debian_get() {
  local suite=$1 architecture=$2 into=$3 state=$dir/apt-$1-$2 mirror
  shift 3
  # shellcheck disable=SC2016 # apt-get expands it
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -E '/debian/?$' | head -n 1)
  private_apt() {
    apt-get -q -o APT::Architecture="$architecture" -o APT::Architectures="$architecture" -o APT::Sandbox::User=root \
      -o Dir::Etc::sourcelist="$state/sources.list" -o Dir::Etc::sourceparts=/dev/null \
      -o Dir::Etc::preferencesparts=/dev/null -o Dir::State="$state" -o Dir::State::lists="$state/lists" \
      -o Dir::State::status="$state/status" -o Dir::Cache="$state/cache" -o Acquire::Languages=none "$@"
  }
  rm -rf "$state/debs"
  mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$state/debs" "$into"
  if [ ! -e "$state/status" ]; then
    : >"$state/status"
    printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$mirror" "$suite" >"$state/sources.list"
    private_apt update >>"$dir/debian.log" 2>&1 || fail "apt-get update for $suite, $architecture"
  fi
  (cd "$state/debs" && private_apt download "$@") >>"$dir/debian.log" 2>&1 || fail "from $suite, $architecture: $*"
  local deb
  for deb in "$state/debs"/*.deb; do dpkg-deb -x "$deb" "$into" || fail "unpacking $deb"; done
}

debian_suite() { sed -n 's/^VERSION_CODENAME=//p' /etc/os-release; }
