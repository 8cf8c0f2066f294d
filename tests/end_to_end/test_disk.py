"""A disk that is really full, and the nightly copy: a daemon of its own, on a file system of a few MiB."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pynchy.config.paths import Home
from pynchy.model import MAIN, MAIN_CONSOLE
from pynchy.store import backup
from pynchy.store.migrations import SCHEMA
from tests.end_to_end.house import HANG, Daemon, environment, running

AGENT = Path(__file__).resolve().parents[1] / "agents" / "shell_agent.sh"
MIB = 1 << 20
SETTINGS = (
    "disk.free=8m",
    "disk.free_percent=0",
    "container.command=sh /workspace/group/agent.sh",
)


#: The agent of a few lines, with more ways to take up room.
GREEDY = (
    AGENT.read_text()
    .replace(
        "  case $text in\n",
        """  case $text in
  *'fill the disk'*) head -c 40000000 /dev/zero >/workspace/group/big; sleep 600 ;;
  *'speak and wait'*) [ -e spoke ] || { touch spoke
    ask '{"type":"send_message","args":{"text":"half of it"}}'; sleep 600; } ;;
  *'make files'*) mkdir litter && cd litter && seq 3000 | xargs touch; sleep 600 ;;
  *'fill it later'*) (sleep 1; head -c 40000000 /dev/zero >/workspace/group/big) & ;;
""",
        1,
    )
    .replace("commands=$", "cd /workspace/group; commands=$", 1)
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
    # threats L11, X4
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


def test_a_run_that_would_take_the_last_of_the_disk_is_ended_and_goes_on_later(
    small_disk: Path,
) -> None:
    ballast = small_disk / "ballast"
    with running(small_disk / "home", "bwrap", *SETTINGS) as daemon, daemon.talk() as talk:
        (daemon.home.group(MAIN) / "agent.sh").write_text(GREEDY)
        talk.say("speak and wait")
        assert talk.reply() == "half of it"
        ballast.write_bytes(bytes(29 * MIB))
        talk.turn("retry")
        said = talk.reply()
        assert "too little room" in said
        assert talk.call("status")["disk"]["held"]
        ballast.unlink()
        talk.say("and this")
        while "speak and wait" not in said or "and this" not in said:
            said += talk.reply()
        assert "could not" not in said
        assert daemon.stop() == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("fill the disk", "the files of this group take up"),
        ("make files", "this group has"),
        ("fill it later", "the files of this group take up"),  # when nothing is owed any more
    ],
)
def test_a_run_that_takes_up_too_much_room_is_ended_and_its_files_stay(
    tmp_path: Path, words: str, told: str
) -> None:
    # threats L11, X4
    settings = ("disk.group=32m", "disk.group_files=2000", SETTINGS[-1])
    with running(tmp_path, "bwrap", *settings) as daemon, daemon.talk() as talk:
        work = daemon.home.group(MAIN)
        (work / "agent.sh").write_text(GREEDY)
        talk.say(words)
        said = talk.reply()
        if "later" in words:
            said = talk.reply()
        assert "I had to stop" in said
        assert told in said
        left = work / "litter" if "files" in words else work / "big"
        assert left.exists()
        # It may still be spoken to, and clear up.
        assert "how are you" in talk.ask("how are you")
        assert "quota" in {run["reason"] for run in talk.call("runs")}
        assert daemon.stop() == 0


def test_a_group_has_a_quota_of_its_own(tmp_path: Path) -> None:
    with running(tmp_path, "bwrap", SETTINGS[-1]) as daemon, daemon.talk() as talk:
        (daemon.home.group(MAIN) / "agent.sh").write_text(GREEDY)
        talk.call("groups.set", folder="main", key="disk", value="20m")
        talk.say("fill the disk")
        assert "of 20 MiB" in talk.reply()
        assert daemon.stop() == 0


def _until(seen: Callable[[], bool]) -> None:
    """Look until it is so: it may have been so before we came."""
    deadline = time.monotonic() + HANG
    while not seen():
        assert time.monotonic() < deadline, "it never was"
        time.sleep(0.05)


def test_a_night_that_was_missed_is_made_up_for_and_a_failure_is_said(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with running(home.root, "bwrap", "keeping.settle=0", "keeping.copies=0") as daemon:
        assert daemon.stop() == 0
    assert not home.backups.exists()
    home.backups.write_text("in the way")
    with running(home.root, "bwrap", "keeping.settle=0") as daemon, daemon.talk() as talk:
        _until(
            lambda: (
                "copy of the database was not made" in str(talk.call("history", chat=MAIN_CONSOLE))
            )
        )
        assert daemon.stop() == 0
    home.backups.unlink()
    with running(home.root, "bwrap", "keeping.settle=0") as daemon:
        _until(lambda: "nightly round: copied the database" in daemon.log())
        assert daemon.stop() == 0
    (copy,) = home.backups.iterdir()
    assert backup.check(copy) == SCHEMA
    with running(home.root, "bwrap", "keeping.settle=0") as daemon:  # this night has its copy
        assert daemon.stop() == 0
    assert list(home.backups.iterdir()) == [copy]
