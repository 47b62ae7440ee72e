#!/usr/bin/env bash
# On the machine without a network: unpack the bundle once, and run a command in it.
#   bash run.sh kis calibrate CONFIG --out FOLDER        any command of the testbed
#   bash run.sh campaigns PLAN --seconds 560 --out OUT   campaigns one after the other, each within its time
# KIS_BUNDLE: where to unpack. THERE: site-packages of the machine's own Python; empty: none. Without it, that of the
# python3 on PATH, if it has numpy.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=$(cat "$here/version")
into=${KIS_BUNDLE:-${TMPDIR:-/tmp}/kis-bundle-$(id -u)-$(cksum < "$here/env.tar.xz" | cut -d' ' -f1)}
if [ ! -e "$into/ready" ]; then
  mkdir -p "$into"
  tar xJf "$here/env.tar.xz" -C "$into" 2> /dev/null ||
    python3 -c "import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])" "$here/env.tar.xz" "$into"
  touch "$into/ready"
fi
if [ -z "${THERE+set}" ]; then
  told=$(python3 -c 'import numpy, os, sys; print("%d.%d" % sys.version_info[:2], os.path.dirname(os.path.dirname(numpy.__file__)))' 2> /dev/null || true)
  THERE=${told#* }
  if [ -n "$told" ] && [ "${told%% *}" != "$version" ]; then
    echo "kis: this machine's packages are of Python ${told%% *}, the bundle is of $version: make it with that Python (make bundle BUNDLE_PYTHON=...), or set THERE= to use none of them" >&2
    exit 2
  fi
fi
# Not by PYTHONPATH: the interpreter that Triton's python backend embeds does not read it.
printf '%s\n' "$into/project" "$into/site" ${THERE:+"$THERE"} > "$into/python/lib/python$version/site-packages/kis.pth"
export PATH="$into/python/bin:$PATH" LD_LIBRARY_PATH="$into/python/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export PYTHONUNBUFFERED=1 NUMBA_CACHE_DIR=${NUMBA_CACHE_DIR:-$into/numba}
case ${1:-} in
  kis) shift; exec python3 -m testbed.cli "$@" ;;
  campaigns) shift; exec python3 -m testbed.bundle.campaigns "$@" ;;
  "") echo "kis: give a command, e.g. bash $0 kis --help" >&2; exit 2 ;;
  *) exec "$@" ;;
esac
