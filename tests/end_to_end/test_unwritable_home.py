"""A home on a disk that is full or read-only: every command says so in a sentence, and none fails as a bug would."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pynchy.config.paths import Home
from tests.end_to_end.house import HANG, environment, running

PAGE = 4096
WRITES = (
    ("run", "--offline"),
    ("backup",),
    ("restore", "--empty"),
    ("restore", "--accept"),
    ("upgrade",),
    ("upgrade", "--check"),
    ("export", "main", "/tmp/never-written.tar.gz"),
    ("auth", "whatsapp"),
)
READS = (("doctor",), ("doctor", "--fix"), ("why",), ("runs",), ("usage",), ("logs",), ("status",))

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bwrap makes the disks")


def within(home: Path, *disk: str, argv: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """A command whose home is on a disk of its own."""
    return subprocess.run(
        ["bwrap", "--dev-bind", "/", "/", *disk, sys.executable, "-m", "pynchy", *argv],
        env=environment(home, PYNCHY_CONTAINER_ENGINE="bwrap"),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )


def test_a_disk_that_is_full_before_the_first_start_is_said(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    for pages in (1, 6, 40):  # one file more each time
        place = ("--size", str(pages * PAGE), "--tmpfs", str(disk))
        done = within(disk / "home", *place, argv=("run", "--offline"))
        assert done.returncode == 73, done.stderr
        assert "Traceback" not in done.stderr
        assert done.stderr.splitlines()[-1].startswith("pynchy: ")


def test_a_read_only_disk_before_the_first_start_is_said(tmp_path: Path) -> None:
    place = ("--ro-bind", str(tmp_path), str(tmp_path))
    for argv in (("run", "--offline"), ("restore", "--empty"), ("web",)):
        done = within(tmp_path / "home", *place, argv=argv)
        assert done.returncode == 73, done.stderr
        assert "Traceback" not in done.stderr
        assert "Read-only file system" in done.stderr
    assert not (tmp_path / "home").exists()


def test_a_home_that_became_read_only_is_said_by_every_command(tmp_path: Path) -> None:
    root = tmp_path / "home"
    with running(root, "bwrap"):
        pass
    before = Home(root).database.read_bytes()
    place = ("--ro-bind", str(root), str(root))
    for argv in WRITES:
        done = within(root, *place, argv=argv)
        assert done.returncode == 73, (argv, done.stdout, done.stderr)
        assert "Read-only file system" in done.stderr, argv
    for argv in READS:
        done = within(root, *place, argv=argv)
        assert "Traceback" not in done.stdout + done.stderr, argv
        assert done.returncode in (0, 1, 4, 73), argv
    assert Home(root).database.read_bytes() == before
