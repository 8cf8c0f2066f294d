"""The instance lock, between real processes."""
# invariant 32

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pynchy.daemon.lock import AlreadyRunning, open_lock

HOLD = """
import sys, time
from pathlib import Path
from pynchy.daemon.lock import open_lock
with open_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(path: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_is_refused_and_told_who_is_first(tmp_path: Path) -> None:  # threat D7
    with holder(tmp_path / "lock") as first:
        with (
            pytest.raises(AlreadyRunning, match=f"process {first.pid}"),
            open_lock(tmp_path / "lock"),
        ):
            pass
        first.communicate()
    with open_lock(tmp_path / "lock"):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_killed_daemon_leaves_no_lock(tmp_path: Path) -> None:
    with holder(tmp_path / "lock") as first:
        first.send_signal(signal.SIGKILL)
        first.wait(timeout=60)
        with open_lock(tmp_path / "lock"):
            pass


def test_what_the_file_says_is_never_the_lock(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text(f"{os.getppid()}\n")  # a living process, and a recycled pid
    with open_lock(tmp_path / "lock"):
        pass


def test_children_do_not_inherit_it(tmp_path: Path) -> None:
    with open_lock(tmp_path / "lock"):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with open_lock(tmp_path / "lock"):
            pass
    finally:
        child.kill()
        child.wait()
