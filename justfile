# Every recipe sets up what it needs. `just --list` shows them all.

set positional-arguments := true     # so that "$@" keeps each argument whole

export PATH := justfile_directory() / ".venv/bin:" + justfile_directory() / ".tools/bin:" + env("PATH")

# show the recipes
default:
    @just --justfile {{justfile()}} --list

# make .venv with what running needs (idempotent; milliseconds the second time)
setup:
    @requirements/setup.sh

[private]
setup-dev:
    @requirements/setup.sh dev

# set up and start the assistant: `just run`, `just run --offline`
[no-exit-message]
run *ARGS: setup
    @exec .venv/bin/pynchy run "$@"

# set up and run the tests: `just test`, `just test tests/rules -k queue`
[no-exit-message]
test *ARGS: setup-dev
    @exec .venv/bin/python -m pytest "$@"

# style and common mistakes
lint: setup-dev
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .

# types, strictly
types: setup-dev
    .venv/bin/mypy

# the map of the code: each room, and each module with what it is for; `just map WORD` narrows it
map *WORDS: setup-dev
    @.venv/bin/python -m tests.architecture.map "$@"

# write the generated pages of docs/ anew
docs: setup
    .venv/bin/python docs/generate.py

# run what a newcomer runs, and write down what it said (docs/transcripts.md; needs bwrap)
transcripts: setup
    .venv/bin/python docs/transcripts.py

# the pictures in docs/, taken anew of a real page in a real Chromium
[no-exit-message]
pictures: setup-dev
    @exec .venv/bin/python -m tests.pictures

# write the locks anew: `just lock`, `just lock --upgrade`
lock *ARGS:
    requirements/lock.sh "$@"

# build the agent images with the engine that answers, when their inputs changed (`just image podman`)
image *ENGINE:
    @containerfiles/build.sh "$@"
    @containerfiles/browser.sh "$@" || echo "The image with a browser was not built; the agent's image was, and is all that most groups need." >&2

# simulated days of the real daemon, with kills: `just sim --hours 100`, `just sim --seed 7`
[no-exit-message]
sim *ARGS: setup-dev
    @exec .venv/bin/python -m tests.simulation "$@"

# what it costs: `just bench`, `just bench --engine podman --json FILE`; beside others: `just bench --peers`
[no-exit-message]
bench *ARGS: setup-dev
    @exec .venv/bin/python -m tests.benchmarks "$@"

# two files of `just bench --json`, as ratios
bench-compare A B: setup-dev
    @exec .venv/bin/python -m tests.benchmarks --compare "$1" "$2"

# kill the real daemon N times under load and count what was lost or said twice
[no-exit-message]
torture *ARGS: setup-dev
    @exec .venv/bin/python -m tests.torture "$@"

# plant known bugs into the real code, one by one, and see that the simulation notices
[no-exit-message]
mutants *ARGS: setup-dev
    @exec .venv/bin/python -m tests.simulation.mutants "$@"

# programs that agents use (curl, pip, node, git ...) against each way out, as a table: `just clients pip node`
[no-exit-message]
clients *ARGS: setup-dev
    @exec .venv/bin/python -m tests.clients "$@"

# what a household asks in the first week, end to end, a line each: `just errands`, `just errands weather --engine podman`
[no-exit-message]
errands *ARGS: setup-dev
    @exec .venv/bin/python -m tests.errands "$@"

# the real WhatsApp library and the whole daemon, against a WhatsApp that misbehaves: `just whatsapp`, `just whatsapp --list`, `just whatsapp killed`
[no-exit-message]
whatsapp *ARGS: setup-dev
    @exec .venv/bin/python -m tests.whatsapp_server "$@"

# every attack of docs/threats.md, and a hostile agent for a minute: `just redteam --seconds 5`, `just redteam --rows L1,L2`
[no-exit-message]
redteam *ARGS: setup-dev
    @exec .venv/bin/python -m tests.redteam "$@"

# look for inputs that break a rule: each property, PYNCHY_FUZZ examples (5,000); then PYNCHY_FUZZ_INPUTS (a million), led by coverage, to each reader of what others write. `just fuzz --reader prompts --inputs 50000`: that alone
[no-exit-message]
fuzz *ARGS: setup-dev
    #!/usr/bin/env bash
    set -euo pipefail
    if [ $# = 0 ]; then
        HYPOTHESIS_PROFILE=long .venv/bin/python -m pytest -q -m hypothesis tests/rules tests/edges/test_spool.py tests/simulation/test_gateway_fuzz.py
        set -- --inputs "${PYNCHY_FUZZ_INPUTS:-1000000}"
    fi
    .venv/bin/python -c 'import atheris' 2>/dev/null ||
        uv pip install --quiet --python .venv --require-hashes -r requirements/fuzz.lock || true
    if .venv/bin/python -c 'import atheris' 2>/dev/null; then
        exec .venv/bin/python -m tests.redteam.fuzz "$@"
    fi
    echo "There is no build of atheris here (requirements/fuzz.in): by chance alone, then." >&2
    exec .venv/bin/python -m tests.redteam.mutate "$@"

# a night's work: so many simulated hours, every pair of crash points, a thousand real kills
[no-exit-message]
soak HOURS="10000": setup-dev
    .venv/bin/python -m tests.simulation --hours "$1" --pairs all
    .venv/bin/python -m tests.torture 1000
