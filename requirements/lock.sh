#!/usr/bin/env bash
# Writes the locks from the two pyproject files: every version exact, every file by its hash,
# and no word of where they were fetched from. `requirements/lock.sh --upgrade` takes newer releases.
#
#   runtime.lock  what `pynchy run` needs                 agent.lock  what goes into the agent image
#   dev.lock      the same, and the checks                tools.lock  uv and just, for a bare machine
#   fuzz.lock     what `just fuzz` adds to dev.lock
#   voice.lock    what turns voice notes into words         voice-tests.lock  a small model, to test that with
#   toolbox.lock  what agents make documents with, apart from ours
set -euo pipefail
cd "$(dirname "$0")/.."
. requirements/certificates.sh
uv=$(PATH="$PWD/.tools/bin:$PATH" command -v uv)

lock() {
    local out=$1
    shift
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-header --no-annotate \
        --no-emit-package pynchy-agent "$@" --output-file "requirements/$out.lock"
    if grep -n '://\|file:' "requirements/$out.lock"; then
        echo "requirements/$out.lock names an address; locks must not" >&2
        exit 1
    fi
}

lock dev pyproject.toml --group dev "$@"
# The smaller ones take their versions from the larger one.
lock runtime pyproject.toml --constraint requirements/dev.lock "$@"
lock agent agent/pyproject.toml --extra claude --constraint requirements/dev.lock "$@"
lock tools requirements/tools.in "$@"
lock fuzz requirements/fuzz.in "$@"
lock voice requirements/voice.in "$@"
lock voice-tests requirements/voice-tests.in "$@"
lock toolbox requirements/toolbox.in --only-binary :all: "$@"
