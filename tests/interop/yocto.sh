#!/usr/bin/env bash
# The Yocto layer, without Yocto: lint, and the recipes and classes in bitbake's own parser.
# Needs: cargo, git, shellcheck, python3 (3.11) with venv, and PyPI (or a cached venv) the first time.
# MOTE_CACHE: where the Python environment is kept between runs (default: target/cache).
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tests/build.sh
. tests/build.sh
here=tests/interop
cache=${MOTE_CACHE:-$PWD/target/cache}
tools=(bitbake-setup==2.19.0 kas==5.5 oelint-adv==9.11.2)
venv=$cache/yocto-$(printf '%s ' "${tools[@]}" | sha256sum | cut -c1-12)

if [ ! -e "$venv/ready" ]; then
  echo "setting up ${tools[*]} in $venv"
  mkdir -p "$cache"
  python3 -m venv --clear "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "${tools[@]}"
  touch "$venv/ready"
fi

yocto/crates.py --check
shellcheck yocto/meta-mote/recipes-*/*/*/*.init

# inconspaces, notneededspace: the list of crates, as `bitbake -c update_crates` writes it.
# noncoreoverride, outofcontext: mote-kernel is inherited by linux-yocto only with DISTRO_FEATURES "mote".
# bbclassextend: the agent and its policy are nothing for a build host.
# homepageping: no network here.
readarray -t files < <(git ls-files yocto/meta-mote | grep -E '\.(bb|bbappend|bbclass|conf|inc)$')
suppress=()
for rule in oelint.vars.{inconspaces,notneededspace,noncoreoverride,outofcontext,homepageping} oelint.var.bbclassextend; do
  suppress+=(--suppress "$rule")
done
for release in whinlatter wrynose; do
  "$venv/bin/oelint-adv" --quiet --jobs 1 --release $release "${suppress[@]}" "${files[@]}"
  printf 'ok    oelint-adv, %s: no findings in %d files\n' $release ${#files[@]}
done

programs
MOTE_BIN_DIR=$bin PYTHONDONTWRITEBYTECODE=1 \
  "$venv/bin/python3" -m unittest -v $here/yocto_recipes.py $here/yocto_image.py
