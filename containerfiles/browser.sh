#!/usr/bin/env bash
# Builds the image with a browser on top of the agent image, when what goes into it has changed:
#   containerfiles/browser.sh [ENGINE]
#
# ENGINE is docker or podman; without it, the first of them that answers. BROWSER_BASE names another
# agent image to build it on, AGENT_BROWSER a package of agent-browser (.tgz) that is here already.
# Whoever chooses it: `pynchy groups set FOLDER image agent-browser`.
set -euo pipefail
cd "$(dirname "$0")/.."
image=${BROWSER_NAME:-localhost/pynchy-agent-browser:latest}
base=${BROWSER_BASE:-localhost/pynchy-agent:latest}

engine=${1:-}
case $engine in
'' | docker | podman) ;;
container) echo "browser image: not built: docker or podman does it" >&2; exit 0 ;;
*) echo "$engine is no engine for images; known: docker, podman" >&2; exit 2 ;;
esac
answers() { command -v "$1" >/dev/null && "$1" version >/dev/null 2>&1; }
if [ -z "$engine" ]; then
    for name in docker podman; do
        if answers "$name"; then engine=$name && break; fi
    done
    if [ -z "$engine" ]; then exit 0; fi     # build.sh has said so
elif ! answers "$engine"; then
    echo "$engine does not answer" >&2
    exit 69
fi

sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -c1-64; }
under=$("$engine" image inspect --format '{{.Id}}' "$base" 2>/dev/null) ||
    { echo "there is no image $base: just image $engine" >&2; exit 1; }
inputs=$({
    echo "$under $(uname -m)"
    cat containerfiles/browser.sh containerfiles/agent-browser/*
} | sha256)
if "$engine" image inspect "$image" 2>/dev/null | grep -q "$inputs"; then exit 0; fi

case $(uname -m) in
x86_64 | amd64) program=agent-browser-linux-x64 ;;
aarch64 | arm64) program=agent-browser-linux-arm64 ;;
*) echo "no agent-browser for $(uname -m)" >&2; exit 1 ;;
esac
read -r name version wanted < <(grep -v '^#' containerfiles/agent-browser/agent-browser.lock)

context=build/browser-$engine
rm -rf "$context"
mkdir -p "$context"
trap 'rm -rf "$context"' EXIT
echo "browser image 1/2: fetching $name $version" >&2
package=$context/package.tgz
if [ -n "${AGENT_BROWSER:-}" ]; then
    cp "$AGENT_BROWSER" "$package"
elif command -v npm >/dev/null; then
    (cd "$context" && npm pack --silent "$name@$version" >/dev/null && mv "$name-$version.tgz" package.tgz)
else
    curl -fsSL -o "$package" "https://registry.npmjs.org/$name/-/$name-$version.tgz"
fi
found=$(sha256 <"$package")
if [ "$found" != "$wanted" ]; then
    echo "$name $version is not what is locked: $found" >&2
    exit 1
fi
tar -xzf "$package" -C "$context" --strip-components 2 "package/bin/$program"
mv "$context/$program" "$context/agent-browser"
chmod 755 "$context/agent-browser"
rm "$package"
cp containerfiles/agent-browser/Containerfile "$context/"

echo "browser image 2/2: building $image with $engine (some minutes the first time)" >&2
build=("$engine" build --file "$context/Containerfile" --tag "$image" --label "pynchy.inputs=$inputs"
    --build-arg "BASE=$base")
# On a base that has everything there is nothing to fetch, and this keeps it so.
if [ -n "${BROWSER_BASE:-}" ]; then build+=(--network none); fi
"${build[@]}" "$context" >&2
containerfiles/prune.sh "$engine"
