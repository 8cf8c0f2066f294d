"""The fuzzer that is led by coverage finds what chance does not, where it is installed."""

from __future__ import annotations

import random
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.redteam import planted
from tests.redteam.fuzz import fuzz
from tests.redteam.mutate import attack

PLANTED = "tests.redteam.planted"

needs_atheris = pytest.mark.skipif(
    find_spec("atheris") is None, reason="atheris is not installed: `just fuzz` does that"
)


@needs_atheris
def test_a_planted_bug_is_found_and_can_be_played_again(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "tests.redteam.fuzz", "--list", PLANTED, "--keep", str(tmp_path)]
    done = subprocess.run([*argv, "--inputs", "10000000"], capture_output=True, check=False)
    said = done.stdout.decode()
    assert done.returncode == 1, said
    assert "KeyError: 'found'" in said
    assert re.search(r"^\d+ inputs to 1 readers, \d+ edges, 1 findings$", said, re.MULTILINE)
    again = re.search(r"play it again: \S+ (.*)", said)
    assert again is not None
    played = subprocess.run(
        [sys.executable, *shlex.split(again[1])], capture_output=True, check=False
    )
    assert played.returncode == 1
    assert b"KeyError: 'found'" in played.stderr


@needs_atheris
def test_a_reader_that_is_sound_stays_so(tmp_path: Path) -> None:
    told = fuzz("tests.redteam.readers", "schedules", tmp_path, 2_000)
    assert (told.found, told.words) == (None, "")
    assert told.inputs >= 2_000
    assert told.edges > 50, "its branches were not watched"


def test_chance_alone_does_not_find_what_is_planted() -> None:
    """Or it would show nothing that the other does."""
    (reader,) = planted.readers()
    assert attack(reader, 20_000, random.Random(1))[1] == []
