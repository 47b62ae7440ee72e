#!/usr/bin/env bash
# Builds the image kis-testbed; `make image` calls it. Settings are environment variables:
#   TAG=kis-testbed:VERSION      its name
#   BASE=python:3.11-slim        what it is built on; BASE=debootstrap makes a Debian 12 of packages from Debian's mirror
#                                (MIRROR), which needs root, debootstrap and no registry of images
#   MODELS=1                     with PyTorch and the networks, for pods that export ResNet-50 or BERT (some 7 GB)
#   BUILDER=docker               docker, podman or buildah: the first that is there; with options: "podman --runtime runc"
#   PIP_CONFIG_FILE, PIP_CERT    as pip knows them: mounted while it runs, and not kept in the image
# Further arguments go to the builder: make image ARGS="--network host".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

for found in docker podman buildah; do
  if command -v "$found" > /dev/null; then break; else found=; fi
done
read -ra builder <<< "${BUILDER:-$found}"
[ "${#builder[@]}" -gt 0 ] || { echo "image: no docker, podman or buildah on PATH" >&2; exit 2; }
version=$(sed -n "/^\[project\]/,/^\[/s/^version = \"\(.*\)\"/\1/p" pyproject.toml)
tag=${TAG:-kis-testbed:$version}
base=${BASE:-python:3.11-slim}

if [ "$base" = debootstrap ]; then
  base=localhost/kis-debian:12
  if ! "${builder[@]}" inspect --type image "$base" > /dev/null 2>&1; then
    root=$(mktemp -d)
    trap 'rm -rf "$root"' EXIT
    debootstrap --variant=minbase --include=python3,python3-venv,libpython3.11,ca-certificates bookworm "$root/debian" \
      ${MIRROR:+"$MIRROR"} > "$root/log" || { tail -n 5 "$root/log" >&2; exit 1; }
    rm -rf "$root"/debian/{var/cache/apt,var/lib/apt/lists,usr/share/doc,usr/share/man,usr/share/locale}/*
    case ${builder[0]} in
      buildah)
        container=$("${builder[@]}" from scratch)
        "${builder[@]}" copy --quiet "$container" "$root/debian" / > /dev/null
        "${builder[@]}" commit --quiet --rm "$container" "$base" > /dev/null ;;
      *) tar -C "$root/debian" -c . | "${builder[@]}" import - "$base" > /dev/null ;;
    esac
    rm -rf "$root"
  fi
fi

arguments=(build --tag "$tag" --build-arg "BASE=$base" --build-arg "VERSION=$version")
arguments+=(--build-arg "REVISION=$(git rev-parse HEAD 2> /dev/null || echo unknown)")
[ -z "${MODELS:-}" ] || arguments+=(--build-arg LOCK=requirements.lock)
[ ! -f "${PIP_CONFIG_FILE:-}" ] || arguments+=(--secret "id=pip.conf,src=$PIP_CONFIG_FILE")
[ ! -f "${PIP_CERT:-}" ] || arguments+=(--secret "id=certificates,src=$PIP_CERT")
"${builder[@]}" "${arguments[@]}" "$@" .
echo "built $tag"
