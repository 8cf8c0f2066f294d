"""Hearing of changes in folders: many folders, one descriptor of the kernel's, and none."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from pynchy.daemon.edges import warnings
from pynchy.files.changes import RESCAN, Rescan, Watches, open_watches
from pynchy.ipc.spool import open_spool

NAME = "0" * 32 + ".json"

linux = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


def instances() -> int:
    """How many of inotify's descriptors this process has."""
    found = 0
    for each in Path("/proc/self/fd").iterdir():
        try:
            found += each.readlink().name == "anon_inode:inotify"
        except OSError:  # the one that lists them
            continue
    return found


@asynccontextmanager
async def listening() -> AsyncIterator[Watches]:
    with open_watches() as watches:
        async with trio.open_nursery() as nursery:
            await nursery.start(watches.listen)
            yield watches
            nursery.cancel_scope.cancel()


async def test_each_folder_hears_of_its_own_changes_and_one_instance_does_for_all(
    tmp_path: Path,
) -> None:
    folders = [tmp_path / str(number) for number in range(30)]
    heard: list[int] = []

    async def hear(number: int, task_status: trio.TaskStatus[None]) -> None:
        with open_spool(folders[number], watch=watches.of) as spool, spool.watched() as watch:
            task_status.started()
            while spool.scan().names != (NAME,):
                await watch.changed()
            heard.append(number)

    before = instances() if sys.platform == "linux" else 0
    with trio.fail_after(30):
        async with listening() as watches, trio.open_nursery() as nursery:
            for number, folder in enumerate(folders):
                folder.mkdir()
                await nursery.start(hear, number)
            if sys.platform == "linux":
                assert instances() == before + 1
            for number in (7, 3, 29):
                (folders[number] / ".aside").write_bytes(b"x")
                (folders[number] / ".aside").rename(folders[number] / NAME)
                while number not in heard:  # noqa: ASYNC110 - the kernel's word comes through another task
                    await trio.sleep(0.01)
            assert heard == [7, 3, 29]
            assert watches.trouble == ""
            nursery.cancel_scope.cancel()
    if sys.platform == "linux":
        assert instances() == before


@linux
async def test_two_who_watch_one_folder_both_hear_and_one_may_leave(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    with trio.fail_after(30):
        async with listening() as watches:
            with watches.of(fd) as one:
                with watches.of(fd) as two:
                    (tmp_path / "a").write_bytes(b"")
                    await one.changed()
                    await two.changed()
                (tmp_path / "b").write_bytes(b"")
                await one.changed()
    os.close(fd)


@linux
def test_where_others_took_all_there_is_a_folder_is_looked_at_again_and_again() -> None:
    """As a user of its own, if we are root: nobody else's instances are taken."""
    # threat X13
    program = f"""
import ctypes, os, sys, trio
from pathlib import Path
from pynchy.files import changes
from pynchy.ipc.spool import open_spool
from pynchy.daemon.edges import warnings

libc = ctypes.CDLL(None)
held = []

async def main(folder):
    with changes.open_watches() as first:  # before anybody took them
        while (fd := libc.inotify_init1(0)) >= 0:
            held.append(fd)
        with changes.open_watches() as second:
            async with trio.open_nursery() as nursery:
                await nursery.start(first.listen)
                await nursery.start(second.listen)
                await hear(folder, first, second)
                nursery.cancel_scope.cancel()

async def hear(folder, first, second):
    print("first", repr(first.trouble), changes.refusal() != "")
    print("second", "inotify" in second.trouble)
    for watches in (first, second):
        name = folder / ("{"0" * 31}" + str(len(list(folder.iterdir()))) + ".json")
        with open_spool(folder, watch=watches.of) as spool, spool.watched() as watch:
            print(type(watch).__name__, "1 folders" in watches.trouble)
            name.write_bytes(b"x")
            while name.name not in spool.scan().names:
                await watch.changed()
    os.close(held.pop())
    with open_spool(folder, watch=second.of) as spool, spool.watched() as watch:
        print(type(watch).__name__, repr(second.trouble))

if os.getuid() == 0:
    os.setgroups([]); os.setgid(61234); os.setuid(61234)
trio.run(main, Path(sys.argv[1]))
"""
    with tempfile.TemporaryDirectory() as folder:  # which another user can reach
        Path(folder).chmod(0o777)
        done = subprocess.run(
            [sys.executable, "-c", program, folder], capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "first '' True",
        "second True",
        "_Bell False",
        "Rescan True",
        "_Bell ''",
    ]


async def test_a_rescan_is_a_wait_and_no_loop(autojump_clock: trio.testing.MockClock) -> None:
    before = trio.current_time()
    await Rescan().changed()
    assert trio.current_time() - before == RESCAN


@linux
def test_status_says_what_is_not_watched() -> None:
    # threat X13
    assert warnings(("known",), Watches()) == ("known",)
    refused = Watches(refused="no inotify: Too many open files")
    assert warnings((), refused) == ("no inotify: Too many open files",)
