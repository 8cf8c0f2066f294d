"""A disk that is really full: a file system of a few MiB under a daemon of its own, filled and emptied."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pynchy.model import MAIN
from tests.end_to_end.house import Daemon, environment, running

AGENT = Path(__file__).resolve().parents[1] / "agents" / "shell_agent.sh"
MIB = 1 << 20
SETTINGS = (
    "disk.free=8m",
    "disk.free_percent=0",
    "container.command=sh /workspace/group/agent.sh",
)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MiB, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m,mode=0755", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root mounts a file system, and not everywhere")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def _pynchy(daemon: Daemon, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pynchy", *words],
        env=environment(daemon.home.root, PYNCHY_DISK_FREE="8m", PYNCHY_DISK_FREE_PERCENT="0"),
        capture_output=True,
        text=True,
        timeout=90,
    )
    return done.stdout


def test_a_disk_that_runs_full_holds_runs_and_loses_nothing(small_disk: Path) -> None:
    # threat L11
    ballast = small_disk / "ballast"
    with (
        running(small_disk / "home", "bwrap", *SETTINGS) as daemon,
        daemon.talk() as talk,
    ):
        shutil.copy(AGENT, daemon.home.group(MAIN) / "agent.sh")
        ballast.write_bytes(bytes(27 * MIB))
        first = talk.say("the first thing")
        assert "too little room" in talk.reply()
        status = talk.call("status")
        assert status["disk"]["held"]
        assert status["unanswered"] == ["main"]
        assert status["runs"] == []
        second = talk.say("the second thing")  # kept, and nobody hears of the disk once more
        history = talk.call("history", chat="console:main")
        assert {first, second} <= {entry.get("seq") for entry in history}
        assert "no new run is started" in _pynchy(daemon, "status")
        assert "make room" in _pynchy(daemon, "doctor")

        ballast.unlink()
        talk.say("the third thing")
        said = ""
        awaited = ("first thing", "second thing", "third thing", "There is room on the disk again")
        while not all(words in said for words in awaited):
            said += talk.reply()
        assert not talk.call("status")["disk"]["held"]
        assert daemon.stop() == 0
    assert [line for line in daemon.log().splitlines() if "new runs are held" in line][1:] == []
