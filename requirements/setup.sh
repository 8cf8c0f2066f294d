#!/usr/bin/env bash
# Makes `.venv`: everything that is locked, by hash, and this checkout's two packages, editable.
# `setup.sh` installs what running needs; `setup.sh dev` the checks too. Done once, it costs a few
# milliseconds: what was installed is kept in the environment and compared with what is asked, and each
# package is looked for: one that somebody took away since is put back.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.tools/bin:$PATH"

kind=${1:-runtime}
# An environment that has the checks keeps them, or the two kinds would undo each other.
if [ -e .venv/installed-dev ]; then kind=dev; fi
installed=.venv/installed-$kind

wanted() {
    pwd     # a moved checkout needs a new environment: its programs hold the old path
    cat requirements/setup.sh "requirements/$kind.lock" pyproject.toml agent/pyproject.toml
    cat requirements/toolbox.lock pynchy/container/toolbox.py pynchy/container/installed_first.py
}
whole() { # every package that was installed still has its record, and the interpreter starts
    [ -s "$installed.packages" ] && .venv/bin/python -c '' 2>/dev/null || return 1
    local record
    while read -r record; do [ -s "$record/RECORD" ] || return 1; done <"$installed.packages"
}
if wanted | cmp -s - "$installed" 2>/dev/null && whole; then exit 0; fi

if ! command -v uv >/dev/null; then
    echo "uv is missing: python3 -m pip install -qq --target .tools -r requirements/tools.lock" >&2
    exit 1
fi
. requirements/certificates.sh
# uv draws a progress bar on a terminal by itself; elsewhere a line before the wait must do.
echo "Setting up .venv ($kind; some 900 MB the first time, the Claude CLI and the agents' toolbox are most of it) ..." >&2
rm -f .venv/installed-*
if ! { .venv/bin/python -c 'import sys; sys.exit(sys.argv[1] != sys.prefix)' "$PWD/.venv"; } 2>/dev/null; then
    uv venv --quiet --clear --no-project --python '>=3.11' .venv
fi
quiet=--quiet
if [ -t 2 ]; then quiet=; fi
uv pip sync $quiet --python .venv --require-hashes "requirements/$kind.lock"
uv pip install --quiet --python .venv --no-deps --editable agent --editable .
.venv/bin/pynchy toolbox install --quiet ||
    echo "Agents in bwrap cannot make spreadsheets, PDFs or charts until it is there: .venv/bin/pynchy toolbox install" >&2
printf '%s\n' .venv/lib/python3*/site-packages/*.dist-info >"$installed.packages"
wanted >"$installed"
