#!/usr/bin/env bash
# Every test of Mote: installs what is missing, runs each step to its end whatever the others did,
# and sums up. The last line counts steps. See --help.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=tests/setup.sh
. tests/setup.sh
# shellcheck source=tests/build.sh
. tests/build.sh

usage() {
  cat <<'TXT'
usage: tests/run.sh [--fast | --all] [--list] [STEP...]

  (nothing)  every test, as CI runs them
  --fast     formatting, lints, and the tests that need no TPM
  --all      also the long ones: more seeds, more random moments (MOTE_TEST_LONG=1)
  --list     print the steps' names and exit
  STEP...    only these steps, by name or by the beginning of a name

Logs of the last run are in target/run/. Exits non-zero if a step failed.
TXT
}

export CARGO_TERM_COLOR=never
step_limit=1800 # seconds: a step that takes longer hangs
tail_lines=40

# ---- steps: a function each; output goes to the step's log, the exit status is the verdict ----

step_fmt() { cargo fmt --all --check; }

step_shellcheck() {
  shellcheck --version | sed -n 2p &&
    git ls-files -z '*.sh' '.ci/run' 'agent/dist/*.init' 'agent/dist/*.openrc' 'buildroot/package/*/S[0-9]*' |
    xargs -0 shellcheck --external-sources --source-path=SCRIPTDIR
}

step_clippy() {
  cargo clippy "${workspace[@]}" --all-targets -- -D warnings &&
    cargo clippy --locked -p mote-agent --no-default-features --features tpm-direct -- -D warnings
}

step_msrv() {
  # What our own code uses is clippy's incompatible_msrv, part of the step before.
  local metadata
  metadata=$(cargo metadata --locked --format-version 1) &&
    python3 tests/msrv.py mote-agent mote-schemas <<<"$metadata"
}

# Libraries, and programs but those whose library has their name.
step_doc() {
  RUSTDOCFLAGS="-D warnings" cargo doc "${workspace[@]}" --no-deps --lib --examples --bin motectl --bin 'mote-[!av]*'
}

# Programs and tests; the steps after it only run them.
step_build() { cargo test "${workspace[@]}" --no-run; }

# The TPM is reached in two ways, and both are tested.
step_unit() {
  run_tests 'not package(mote-tests)' --workspace --exclude mote-tests --features mote-agent/tpm-direct,mote-agent/esapi-swtpm &&
    cargo test "${workspace[@]}" --doc
}

step_e2e() { MOTE_SIM_SEEDS=${MOTE_SIM_SEEDS:-500} run_tests 'package(mote-tests)' -p mote-tests; }

step_demo() { tests/demo.sh; }

step_service() { tests/service.sh; }

step_qemu() { tests/qemu/x86.sh; }

# A kernel from another suite, which can delete records of its measurement list.
step_deletion() { tests/qemu/deletion.sh; }

# Waits for a watchdog: a minute of nothing.
step_systemd() { tests/qemu/systemd.sh; }

step_arm64() { tests/qemu/arm64.sh; }

step_coverage() { tests/coverage.sh; }

step_size() { tests/size.sh; }

# arm64 always; the others, which differ in word size or in little, and optimised builds with --all.
step_cross() {
  if [ -n "${MOTE_TEST_LONG:-}" ]; then tests/qemu/cross.sh --tss arm64 armv7 riscv64; else tests/qemu/cross.sh --debug arm64; fi
}

# run_tests FILTER PACKAGES...: by nextest, which can filter what the whole workspace was built for, or by cargo
# test, which builds the packages anew.
run_tests() {
  if cargo nextest --version >/dev/null 2>&1; then
    # Two for each processor, for many wait for a TPM or a time. Doc tests are not nextest's; step_unit runs them.
    cargo nextest run "${workspace[@]}" --no-fail-fast --no-tests=pass --test-threads $(($(nproc) * 2)) -E "$1"
  else
    cargo test --locked --no-fail-fast "${@:2}"
  fi
}

# ---- which steps ----

fast=(fmt shellcheck clippy msrv doc unit)
every=(fmt shellcheck clippy msrv doc build unit e2e)
for script in tests/interop/*.sh; do
  if [ -x "$script" ]; then every+=("interop-$(basename "$script" .sh)"); fi
done
every+=(demo service qemu deletion cross)
# Minutes of optimised builds, a kernel, a watchdog: only with --all, or by name.
long=(size systemd arm64 coverage)

chosen=("${every[@]}")
filters=()
for argument in "$@"; do
  case $argument in
    --fast) chosen=("${fast[@]}") ;;
    --all)
      export MOTE_TEST_LONG=1 MOTE_SIM_SEEDS=10000
      chosen=("${every[@]}" "${long[@]}")
      ;;
    --list) printf '%s\n' "${every[@]}" "${long[@]}" && exit 0 ;;
    --help | -h) usage && exit 0 ;;
    -*) usage >&2 && exit 2 ;;
    *) filters+=("$argument") ;;
  esac
done
if [ ${#filters[@]} -gt 0 ]; then
  chosen=()
  for filter in "${filters[@]}"; do
    found=
    for name in "${every[@]}" "${long[@]}"; do
      if [[ $name == "$filter"* ]]; then
        found=1
        chosen+=("$name")
      fi
    done
    [ -n "$found" ] || { printf 'run.sh: no step begins with %s; see --list\n' "$filter" >&2 && exit 2; }
  done
fi

# ---- running one step: its own process group, so that nothing of it is left behind ----

group=
work=$(mktemp -d)
finish() {
  if [ -n "$group" ]; then kill -TERM -- "-$group" 2>/dev/null; fi
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

now() { printf '%s' "${EPOCHREALTIME/[.,]/}"; }

# A number of seconds with one decimal from microseconds.
seconds() { printf '%d.%d' $(($1 / 1000000)) $(($1 / 100000 % 10)); }

# What a log says about single tests, from cargo test's and nextest's closing lines.
tests_in() {
  awk '/^test result: / { passed += $4; failed += $6 }
    /^ *Summary .* tests? run: / { for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) passed += $(i - 1); if ($i ~ /^failed/) failed += $(i - 1) } }
    END { if (passed + failed) printf "%d tests", passed + failed; if (failed) printf ", %d failed", failed }' "$1"
}

passed=0
failed=0
failures=()

run_step() {
  local name=$1 log=$logs/$1.log started status deadline took detail
  printf '%-22s ' "$name"
  started=$(now)
  deadline=$((SECONDS + step_limit))
  mkdir -p "$work/$name"
  set -m
  case $name in
    interop-*) TMPDIR=$work/$name "tests/interop/${name#interop-}.sh" >"$log" 2>&1 </dev/null & ;;
    *) TMPDIR=$work/$name "step_$name" >"$log" 2>&1 </dev/null & ;;
  esac
  group=$!
  set +m
  while kill -0 "$group" 2>/dev/null && [ $SECONDS -lt $deadline ]; do sleep 0.2; done
  if kill -0 "$group" 2>/dev/null; then
    printf 'run.sh: stopped after %d seconds\n' "$step_limit" >>"$log"
    kill -TERM -- "-$group" 2>/dev/null
    sleep 2
    kill -KILL -- "-$group" 2>/dev/null
  fi
  wait "$group" 2>/dev/null
  status=$?
  # Whatever the step left running would disturb the next.
  kill -TERM -- "-$group" 2>/dev/null
  group=
  took=$(seconds $(($(now) - started)))
  detail=$(tests_in "$log")
  if [ $status = 0 ]; then
    passed=$((passed + 1))
    printf 'passed %8s s  %s\n' "$took" "$detail"
  else
    failed=$((failed + 1))
    failures+=("$name")
    printf 'FAILED %8s s  %s\n' "$took" "$detail"
    printf '\n--- the end of %s\n' "$log"
    tail -n $tail_lines "$log"
    printf -- '---\n\n'
  fi
}

begun=$(now)
printf '%-22s ' setup
setup
printf 'ready  %8s s\n' "$(seconds $(($(now) - begun)))"
target=$(target_directory) || exit 1
logs=$target/run
mkdir -p "$logs"
# The end-to-end tests take the programs from here instead of building them each time anew.
for name in "${chosen[@]}"; do
  if [ "$name" = build ]; then export MOTE_BIN_DIR=$target/debug; fi
done
for name in "${chosen[@]}"; do run_step "$name"; done

printf '\n%s s in all' "$(seconds $(($(now) - begun)))"
if [ ${#failures[@]} -gt 0 ]; then printf '; failed: %s (logs in %s)' "${failures[*]}" "$logs"; fi
printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
