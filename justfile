# Every recipe sets up what it needs. `just --list` shows them all.

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
run *ARGS: setup
    @.venv/bin/pynchy run {{ARGS}}

# set up and run the tests: `just test`, `just test tests/rules -k queue`
test *ARGS: setup-dev
    @.venv/bin/python -m pytest {{ARGS}}

# style and common mistakes
lint: setup-dev
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .

# types, strictly
types: setup-dev
    .venv/bin/mypy

# write the locks anew: `just lock`, `just lock --upgrade`
lock *ARGS:
    requirements/lock.sh {{ARGS}}

# build the agent image with the engine that answers, when its inputs changed (`just image podman`)
image ENGINE="":
    @containerfiles/build.sh {{ENGINE}}
