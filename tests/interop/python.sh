# Independent implementations in Python, pinned, in one environment for all that need one of them. Sourced.
# MOTE_CACHE: where it is kept between runs (default: target/cache). PyPI is asked the first time only.
# shellcheck shell=bash disable=SC2034 # used by whoever sources this

python_packages=('aiocoap[oscore]==0.4.17' 'pyjwt[crypto]==2.15.1' pycose==1.1.0 cbor2==5.6.5 cryptography==50.0.2)

# python_ready TARGET DIRECTORY: $python, with them.
python_ready() {
  local cache=${MOTE_CACHE:-$1/cache} venv
  venv=$cache/interop-$(printf '%s ' "${python_packages[@]}" | sha256sum | cut -c1-12)
  python=$venv/bin/python3
  if [ -e "$venv/ready" ]; then return; fi
  printf 'setting up %s in %s\n' "${python_packages[*]}" "$venv"
  mkdir -p "$cache"
  python3 -m venv --clear "$venv" &&
    "$venv/bin/pip" install --quiet --disable-pip-version-check "${python_packages[@]}" && : >"$venv/ready"
}
