#!/usr/bin/env bash
# Builds the agent image, when what goes into it has changed:   containerfiles/build.sh [ENGINE]
#                                                          containerfiles/build.sh --check ENGINE
#
# ENGINE is docker, podman or container; without it, the first of them that answers, in the order
# in which the daemon chooses. IMAGE_BASE names another base image (it needs Python 3.11).
# Every engine gets the same name for it: localhost/pynchy-agent:latest. With --check nothing is
# built: it exits with 0 if the image is up to date, and with 1 if it is old or missing.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.tools/bin:$PATH"
image=${IMAGE_NAME:-localhost/pynchy-agent:latest}
base=${IMAGE_BASE:-docker.io/library/python:3.11-slim-bookworm}
python=3.11

answers() {
    command -v "$1" >/dev/null || return 1
    case $1 in
    docker) docker version --format '{{.Server.Version}}' ;;
    podman) podman info --format '{{.Host.OCIRuntime.Name}}' ;;
    container) container system status || container system start --enable-kernel-install ;;
    esac >/dev/null 2>&1
}

check=
if [ "${1:-}" = --check ]; then check=yes && shift; fi
engine=${1:-}
case $engine in
'' | docker | podman | container) ;;
*) echo "$engine is no engine for images; known: docker, podman, container" >&2; exit 2 ;;
esac
if [ -z "$engine" ]; then
    order="docker podman"
    if [ "$(uname -s)" = Darwin ]; then order="container docker podman"; fi
    for name in $order; do
        if answers "$name"; then engine=$name && break; fi
    done
    if [ -z "$engine" ]; then
        echo "No container engine answers here, so there is no image to build." \
            "With bwrap the agent runs from .venv." >&2
        exit 0
    fi
elif ! answers "$engine"; then
    echo "$engine does not answer" >&2
    exit 69
fi

sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -c1-64; }
inputs=$({
    echo "$base $(uname -m)"
    cat containerfiles/build.sh containerfiles/agent/Containerfile requirements/agent.lock agent/pyproject.toml
    find agent/pynchy_agent -name '*.py' | LC_ALL=C sort | while read -r file; do echo "$file" && cat "$file"; done
} | sha256)
# The label is looked for in the text, since no two engines agree on its place in the JSON.
if "$engine" image inspect "$image" 2>/dev/null | grep -q "$inputs"; then exit 0; fi
if [ -n "$check" ]; then exit 1; fi

case $(uname -m) in
x86_64 | amd64) platform=x86_64-manylinux_2_28 ;;
aarch64 | arm64) platform=aarch64-manylinux_2_28 ;;
*) echo "no locked packages for $(uname -m)" >&2; exit 1 ;;
esac
command -v uv >/dev/null || { echo "uv is missing: python3 -m pip install -qq --target .tools -r requirements/tools.lock" >&2; exit 1; }

context=build/image-$engine
rm -rf "$context"
mkdir -p "$context"
trap 'rm -rf "$context"' EXIT
cp containerfiles/agent/Containerfile "$context/"
echo "image 1/2: fetching the locked packages" >&2
quiet=--quiet
if [ -t 2 ]; then quiet=; fi     # on a terminal uv draws its progress
uv pip install $quiet --target "$context/site" --python-platform "$platform" --python-version "$python" \
    --only-binary :all: --require-hashes -r requirements/agent.lock
# Our own package is copied, not built: one less build backend to fetch.
cp -R agent/pynchy_agent "$context/site/"
find "$context/site" -name __pycache__ -prune -exec rm -rf {} +

echo "image 2/2: building $image with $engine (a minute or two the first time)" >&2
build=("$engine" build --file "$context/Containerfile" --tag "$image" --label "pynchy.inputs=$inputs"
    --build-arg "BASE=$base" --build-arg "PYTHON=$python")
# Where the base has everything there is nothing to fetch, and this keeps it so.
if [ -n "${IMAGE_BASE:-}" ] && [ "$engine" != container ]; then build+=(--network none); fi
"${build[@]}" "$context" >&2
