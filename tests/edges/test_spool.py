"""A folder in the hands of an enemy: real files, real links, real pipes, and real races."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pynchy.ipc.spool import SCAN_LIMIT, BadFile, BrokenSpool, Scan, Spool, open_spool
from pynchy_agent.wire import MAX_COMMAND, BadFrame, Command, decode_command, encode_command

NAME = "0" * 32 + ".json"
SECRET = b"canary-7f3a"
GOOD = encode_command(Command("send_message", {"text": "hi"}))


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    folder = tmp_path / "ipc" / "family" / "commands"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def spool(commands: Path) -> Iterator[Spool]:
    with open_spool(commands) as spool:
        yield spool


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.json"
    path.write_bytes(SECRET)
    return path


def name(number: int) -> str:
    return f"{number:032x}.json"


def refused(spool: Spool, which: str = NAME) -> str:
    """The reason why a file is refused, at once, with nothing of it kept."""
    began = time.monotonic()
    with pytest.raises(BadFile) as caught:
        spool.read(which)
    assert time.monotonic() - began < 5, "it waited"
    assert caught.value.head == b""
    return caught.value.reason


def test_a_command_is_read_once_and_removed(spool: Spool, commands: Path) -> None:
    (commands / NAME).write_bytes(GOOD)
    assert spool.scan() == Scan((NAME,), (), whole=True)
    assert spool.read(NAME) == GOOD
    assert spool.remove(NAME)
    assert spool.read(NAME) is None
    assert spool.remove(NAME)
    assert list(commands.iterdir()) == []


# --- L1: links -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "{secret}",
        "../../../secret.json",
        "/etc/passwd",
        "/dev/zero",
        "/dev/stdin",
        "/proc/self/environ",
        "/proc/self/exe",
        "/proc/self/fd/0",
        "/proc/1/root/etc/passwd",
        NAME,  # a loop
        "nowhere",
        "/",
        ".",
    ],
)
def test_a_link_is_never_followed(  # threat L1
    spool: Spool, commands: Path, secret: Path, target: str
) -> None:
    (commands / NAME).symlink_to(target.replace("{secret}", str(secret)))
    assert spool.scan().names == (NAME,)
    assert refused(spool) == "cannot be opened: a link"
    assert spool.remove(NAME)
    assert secret.read_bytes() == SECRET
    assert not os.path.lexists(commands / NAME)


def test_a_link_to_a_good_command_is_refused_too(spool: Spool, commands: Path) -> None:
    (commands / name(1)).write_bytes(GOOD)
    (commands / NAME).symlink_to(name(1))
    assert refused(spool) == "cannot be opened: a link"


# --- L2: hard links ------------------------------------------------------------------------------


def test_a_file_with_two_names_is_refused(  # threat L2
    spool: Spool, commands: Path, secret: Path
) -> None:
    (commands / NAME).hardlink_to(secret)
    assert refused(spool) == "2 names"
    assert spool.remove(NAME)
    assert secret.read_bytes() == SECRET


# --- L3: what is no file -------------------------------------------------------------------------


def test_a_pipe_is_refused_without_waiting(spool: Spool, commands: Path) -> None:  # threat L3
    os.mkfifo(commands / NAME)
    assert refused(spool) == "a pipe, not a file"
    assert spool.remove(NAME)


def test_a_pipe_with_a_slow_writer_is_refused_without_waiting(  # threat L3
    spool: Spool, commands: Path
) -> None:
    os.mkfifo(commands / NAME)
    writer = os.open(commands / NAME, os.O_RDWR | os.O_NONBLOCK)
    try:
        os.write(writer, b"{")
        assert refused(spool) == "a pipe, not a file"
    finally:
        os.close(writer)


def test_a_socket_is_refused(  # threat L3
    spool: Spool, commands: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(commands)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(NAME)
        listener.listen()
        assert refused(spool) == "cannot be opened: a socket or a device"
    assert spool.remove(NAME)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK])
def test_a_device_is_refused(  # threat L3
    spool: Spool, commands: Path, kind: int
) -> None:
    try:
        os.mknod(commands / NAME, kind | 0o666, os.makedev(1, 5))
    except OSError:
        pytest.skip("this machine lets nobody make devices")
    assert "a device" in refused(spool)
    assert spool.remove(NAME)


# --- L4: sizes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [MAX_COMMAND + 1, 1 << 30, 1 << 40])
def test_a_file_that_is_too_large_is_never_read_whole(  # threat L4
    spool: Spool, commands: Path, size: int
) -> None:
    with (commands / NAME).open("wb") as file:
        try:
            file.truncate(size)  # sparse
        except OSError:
            pytest.skip("this file system has no such large files")
    with pytest.raises(BadFile, match=f"more than {MAX_COMMAND} bytes") as caught:
        spool.read(NAME)
    assert len(caught.value.head) == MAX_COMMAND


def test_a_file_of_exactly_the_limit_is_read(spool: Spool, commands: Path) -> None:
    (commands / NAME).write_bytes(b"x" * MAX_COMMAND)
    assert spool.read(NAME) == b"x" * MAX_COMMAND


def test_files_that_grow_and_shrink_while_they_are_read(  # threat L4
    spool: Spool, commands: Path
) -> None:
    stop = threading.Event()

    def breathe() -> None:
        with (commands / NAME).open("r+b") as file:
            while not stop.is_set():
                file.truncate(MAX_COMMAND * 4)
                file.truncate(0)

    (commands / NAME).write_bytes(b"")
    thread = threading.Thread(target=breathe)
    thread.start()
    try:
        end = time.monotonic() + 1.0
        seen = set()
        while time.monotonic() < end:
            try:
                data = spool.read(NAME)
            except BadFile as error:
                data = error.head
            assert data is not None
            seen.add(len(data) <= MAX_COMMAND)
        assert seen == {True}
    finally:
        stop.set()
        thread.join()


# --- L5: oddities --------------------------------------------------------------------------------


def test_a_folder_with_a_commands_name_is_refused_and_does_not_come_back(  # threat L5
    spool: Spool, commands: Path
) -> None:
    (commands / NAME).mkdir()
    assert refused(spool) == "a folder, not a file"
    assert spool.remove(NAME)  # an empty one goes
    (commands / NAME / "deep").mkdir(parents=True)
    assert refused(spool) == "a folder, not a file"
    assert not spool.remove(NAME)  # a full one stays
    assert spool.scan() == Scan((), (), whole=True, stuck=1)  # and is not looked at again


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(spool: Spool, commands: Path) -> None:
    # threat L5
    (commands / NAME).write_bytes(GOOD)
    (commands / NAME).chmod(0)
    assert refused(spool) == "cannot be opened: EACCES"
    assert spool.remove(NAME)


@pytest.mark.parametrize("bit", [stat.S_ISUID, stat.S_ISGID])
def test_a_file_that_takes_somebody_elses_rights_is_refused(  # threat L5
    spool: Spool, commands: Path, bit: int
) -> None:
    (commands / NAME).write_bytes(GOOD)
    (commands / NAME).chmod(0o755 | bit)
    assert refused(spool) == "a set-user or set-group bit"


def test_a_file_that_cannot_be_removed_is_seen_once(  # threat L5
    spool: Spool, commands: Path
) -> None:
    (commands / NAME).write_bytes(GOOD)
    done = subprocess.run(["chattr", "+i", commands / NAME], check=False, capture_output=True)
    if done.returncode != 0:
        pytest.skip("no immutable files here")
    try:
        assert not spool.remove(NAME)
        assert spool.scan().names == ()
    finally:
        subprocess.run(["chattr", "-i", commands / NAME], check=True)


# --- L6: the folder itself -----------------------------------------------------------------------


@pytest.mark.parametrize("what", ["link", "file", "nothing", "pipe"])
def test_a_folder_that_is_none_breaks_its_group_alone(  # threat L6
    commands: Path, tmp_path: Path, what: str
) -> None:
    commands.rmdir()
    if what == "link":
        commands.symlink_to(tmp_path)
    elif what == "file":
        commands.write_bytes(b"")
    elif what == "pipe":
        os.mkfifo(commands)
    with pytest.raises(BrokenSpool), open_spool(commands):
        pass


def test_the_folder_that_was_opened_is_the_one_that_is_read(  # threat L6
    spool: Spool, commands: Path, tmp_path: Path
) -> None:
    (commands / NAME).write_bytes(GOOD)
    trap = tmp_path / "trap"
    trap.mkdir()
    (trap / name(1)).write_bytes(SECRET)
    commands.rename(tmp_path / "moved")
    commands.symlink_to(trap)
    assert spool.scan().names == (NAME,)
    assert spool.read(NAME) == GOOD
    assert spool.read(name(1)) is None
    assert spool.remove(name(1))
    assert (trap / name(1)).read_bytes() == SECRET


def test_a_folder_that_is_deleted_is_an_empty_one(spool: Spool, commands: Path) -> None:
    commands.rmdir()  # threat L6
    with suppress(BrokenSpool):
        assert spool.scan() == Scan((), (), whole=True)


# --- L7: names -----------------------------------------------------------------------------------


STRANGE = [
    b"a" * 255,
    b"new\nline.json",
    b"\x1b[31m.json",
    "\u202e.json".encode(),
    b"\xff\xfe.json",
    b"-rf",
    b"..json",
    b".json",
    NAME.upper().encode(),
    (NAME + ".tmp").encode(),
    NAME[1:].encode(),
    ("0" + NAME).encode(),
    (NAME + "\n").encode(),
    ("\u0660" + NAME[1:]).encode(),  # a digit, but no ASCII one
]


def test_only_names_of_commands_are_commands(spool: Spool, commands: Path) -> None:  # threat L7
    for strange in STRANGE:
        (commands / os.fsdecode(strange)).write_bytes(GOOD)
    (commands / NAME).write_bytes(GOOD)
    scan = spool.scan()
    assert scan.names == (NAME,)
    assert sorted(scan.strange) == sorted(STRANGE)
    for strange in scan.strange:
        assert spool.remove(strange)
    assert [path.name for path in commands.iterdir()] == [NAME]
    for path in ("../../../secret.json", "x", NAME + "/..", "/" + NAME):
        with pytest.raises(ValueError, match="no name of a command"):
            spool.read(path)


def test_a_scan_is_bounded(spool: Spool, commands: Path) -> None:  # threat L7
    folder = os.open(commands, os.O_RDONLY)
    try:
        for number in range(SCAN_LIMIT + 500):
            flags = os.O_CREAT | os.O_WRONLY
            os.close(os.open(f"{number:032x}.json", flags, 0o600, dir_fd=folder))
    finally:
        os.close(folder)
    scan = spool.scan()
    assert len(scan.names) == SCAN_LIMIT
    assert not scan.whole
    assert scan.names == tuple(sorted(scan.names))


# --- L8: bytes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GOOD[:-1],
        GOOD + b"x",
        GOOD + GOOD,
        b"\xef\xbb\xbf" + GOOD,
        GOOD.decode().encode("utf-16"),
        b'{"type":"x","args":{"a":"\xff"}}',
        b'{"type":"x","args":{"a":"\\ud800"}}',
        b'{"type":"x","args":{"a":"\\u0000"}}',
        b'{"type":"x","args":{"a":NaN}}',
        b'{"type":"x","args":{"a":Infinity}}',
        b'{"type":"x","args":{"a":1e999}}',
        b'{"type":"x","args":{"a":' + b"9" * 10_000 + b"}}",
        b'{"type":"x","type":"y","args":{}}',
        b'{"type":"x","args":{"a":1,"a":2}}',
        b'{"type":"x","args":' + b'{"a":' * 900 + b"1" + b"}" * 901,
        b"[" * 60_000,
        b'{"type":"x","args":{' + b",".join(b'"%d":1' % n for n in range(21_000)) + b"}}",
        b"[]",
        b"null",
        b'"x"',
        b'{"type":"x"}',
        b'{"args":{}}',
        b'{"type":"x","args":[]}',
        b'{"type":"x","args":{},"group":"main"}',
        b'{"type":7,"args":{}}',
        b'{"type":"rm -rf","args":{}}',
    ],
)
def test_only_one_strict_object_is_a_command(data: bytes) -> None:  # threat L8
    with pytest.raises(BadFrame):
        decode_command(data)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300))
def test_any_bytes_are_a_command_or_a_bad_one(spool: Spool, commands: Path, data: bytes) -> None:
    (commands / NAME).write_bytes(data)  # threat L8
    assert spool.read(NAME) == data
    with suppress(BadFrame):
        decode_command(data)


# --- L10: races ----------------------------------------------------------------------------------

SWAPPER = """
import os, sys
folder, linked, named = sys.argv[1:]
os.chdir(folder)
name = "0" * 32 + ".json"
ways = ["link", "file", "hard", "file", "pipe", "file"]
last = "none"
for way in set(ways):
    aside = "aside-" + way
    if way == "link": os.symlink(linked, aside)
    elif way == "file":
        with open(aside, "wb") as file: file.write(b"{}")
    elif way == "hard": os.link(named, aside)
    else: os.mkfifo(aside)
print("ready", flush=True)
while True:
    for way in ways:
        os.rename("aside-" + way, "aside")     # whatever is there now
        try: os.rename(name, "aside-" + last)
        except OSError: pass
        os.rename("aside", name)
        last = way
    if os.getppid() == 1: break
"""


def test_no_race_is_won(commands: Path, secret: Path) -> None:  # threat L10
    """A process swaps file, link, second name and pipe under one name as fast as it can."""
    named = secret.with_name("another.json")
    named.write_bytes(SECRET)
    swapper = subprocess.Popen(
        [sys.executable, "-c", SWAPPER, commands, secret, named],
        stdout=subprocess.PIPE,
    )
    assert swapper.stdout is not None
    try:
        assert swapper.stdout.readline() == b"ready\n"
        outcomes: dict[str, int] = {}
        tries = int(os.environ.get("PYNCHY_TEST_RACES", "60000"))
        end = time.monotonic() + 60
        with open_spool(commands) as spool:
            for _ in range(tries):
                try:
                    data, outcome = spool.read(NAME), "read"
                except BadFile as error:
                    data, outcome = error.head, error.reason
                assert data in (None, b"", b"{}"), "the race was won"
                if data is not None:
                    outcomes[outcome] = outcomes.get(outcome, 0) + 1
                if time.monotonic() > end:
                    break
        assert swapper.poll() is None, "the enemy gave up"
        assert outcomes.get("read", 0) > 0, outcomes
        assert len(outcomes) >= 3, outcomes  # the ways were really met
    finally:
        swapper.kill()
        swapper.wait()
        swapper.stdout.close()


# --- hearing of changes --------------------------------------------------------------------------


async def test_a_file_that_is_renamed_into_place_is_heard_of(spool: Spool, commands: Path) -> None:
    with trio.fail_after(10), spool.watched() as watch:  # invariant 168
        (commands / ".aside").write_bytes(GOOD)
        await watch.changed()  # written
        (commands / ".aside").rename(commands / NAME)
        while spool.scan().names != (NAME,):
            await watch.changed()


async def test_a_file_that_was_there_before_is_not_waited_for(spool: Spool, commands: Path) -> None:
    (commands / NAME).write_bytes(GOOD)
    with trio.fail_after(10), spool.watched() as watch:
        with trio.move_on_after(0.2) as quiet:
            await watch.changed()
        assert quiet.cancelled_caught
        assert spool.scan().names == (NAME,)


async def test_a_change_between_looking_and_waiting_is_heard_of(
    spool: Spool, commands: Path
) -> None:
    with trio.fail_after(10), spool.watched() as watch:
        assert spool.scan().names == ()
        (commands / NAME).write_bytes(GOOD)
        await watch.changed()
        assert spool.scan().names == (NAME,)


async def test_more_changes_than_the_kernel_keeps_are_heard_of_too(
    spool: Spool, commands: Path
) -> None:
    with trio.fail_after(60), spool.watched() as watch:  # invariant 168
        for _ in range(20_000):
            (commands / NAME).write_bytes(b"")
        (commands / NAME).write_bytes(GOOD)
        await watch.changed()
        assert spool.read(NAME) == GOOD


async def test_a_watch_holds_the_folder_and_not_its_name(
    spool: Spool, commands: Path, tmp_path: Path
) -> None:
    commands.rename(tmp_path / "moved")  # threat L6
    commands.mkdir()
    with trio.fail_after(10), spool.watched() as watch:
        (tmp_path / "moved" / NAME).write_bytes(GOOD)
        await watch.changed()
        assert spool.scan().names == (NAME,)


def test_json_of_the_tests_is_what_agents_write() -> None:
    assert json.loads(GOOD) == {"type": "send_message", "args": {"text": "hi"}}
