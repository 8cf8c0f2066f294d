"""The power goes: what was acknowledged is there, and the file is sound.

A process that stores messages with the real store is traced. Its writes and syncs tell what a disk
may hold at any moment: everything up to a file's last sync, and of what came after it any part, in
any order, torn at sectors. The store is opened on many such disks.

The power goes while messages are stored, not while the file is made. SQLite's shared memory is left
out, as it is at a real power cut: it is built anew.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import attrs
import pytest

from pynchy.store.database import open_file

SECTOR = 512
COMMITS = 120
CUTS = 150
ACKS = "acks"

WRITER = """
import os, sys
from pathlib import Path
import trio
from pynchy.store import audit
from pynchy.store.database import open_store

acks = os.open(sys.argv[4], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

async def main():
    async with open_store(Path(sys.argv[1])) as store:
        store._connection.execute(f"PRAGMA synchronous = {sys.argv[2]}")
        os.write(acks, b"0")
        for number in range(1, int(sys.argv[3]) + 1):
            detail = {"padding": "x" * (number * 977 % 9000)}
            await store.call(audit.record, actor=str(number), action="a row", detail=detail)
            os.write(acks, str(number).encode())  # as a receiver acknowledges
            if number % 40 == 0:
                await store.tidy()
        os.kill(os.getpid(), 9)

trio.run(main)
"""


@attrs.frozen
class Write:
    file: str
    offset: int
    data: bytes


@attrs.frozen
class Truncate:
    file: str
    size: int


@attrs.frozen
class Sync:
    file: str


@attrs.frozen
class Acknowledged:
    number: int


Step = Write | Truncate | Sync | Acknowledged

LINE = re.compile(
    r"^\d+ +(?P<call>\w+)\(\d+<(?P<path>[^>]*)>(?:, (?P<rest>.*))?\) += (?P<result>-?\d+)"
)
HEX = re.compile(r'^"((?:\\x[0-9a-f]{2})*)"(?:\.\.\.)?, (.*)$')


def whole_lines(trace: str) -> Iterator[str]:
    """Calls that another thread's call fell into are told in two lines."""
    begun: dict[str, str] = {}
    for line in trace.splitlines():
        thread, _, rest = line.partition(" ")
        if line.endswith(" <unfinished ...>"):
            begun[thread] = line.removesuffix(" <unfinished ...>")
        elif rest.lstrip().startswith("<... "):
            yield begun.pop(thread) + rest.partition(" resumed>")[2]
        else:
            yield line


def steps(trace: Path, folder: Path) -> Iterator[Step]:
    """What a trace by strace says was written, synced and acknowledged, in order."""
    for line in whole_lines(trace.read_text(encoding="ascii")):
        found = LINE.match(line)
        if found is None or int(found["result"]) < 0:
            continue
        path = bytes.fromhex(found["path"].replace("\\x", "")).decode()
        if path == str(folder.with_name(ACKS)):
            data = HEX.match(found["rest"])
            assert data is not None
            yield Acknowledged(int(bytes.fromhex(data[1].replace("\\x", ""))))
        elif not path.startswith(f"{folder}/") or path.endswith(("-shm", "-journal")):
            continue  # a journal is there only until the first start has made the file
        elif found["call"] == "pwrite64":
            data = HEX.match(found["rest"])
            assert data is not None
            size, offset = map(int, data[2].split(", "))
            content = bytes.fromhex(data[1].replace("\\x", ""))
            assert len(content) == size == int(found["result"])
            yield Write(Path(path).name, offset, content)
        elif found["call"] == "ftruncate":
            yield Truncate(Path(path).name, int(found["rest"]))
        elif found["call"] in ("fsync", "fdatasync"):
            yield Sync(Path(path).name)
        else:
            raise AssertionError(f"not understood: {line[:200]}")


@attrs.define
class Disk:
    """What is safe, and what a file was told since its last sync."""

    safe: dict[str, bytearray] = attrs.Factory(dict)
    loose: dict[str, list[Write | Truncate]] = attrs.Factory(dict)

    def take(self, step: Step) -> None:
        match step:
            case Write(file) | Truncate(file):
                self.loose.setdefault(file, []).append(step)
            case Sync(file):
                for each in self.loose.pop(file, []):
                    carry_out(self.safe.setdefault(file, bytearray()), each)

    def cut(self, dice: random.Random) -> dict[str, bytes]:
        """What may be found after the power went: of what is loose any part, torn, in any order."""
        left = {file: bytearray(content) for file, content in self.safe.items()}
        keep = dice.choice([0.0, 0.3, 0.7, 1.0])
        for file, told in self.loose.items():
            kept = [piece for each in told for piece in torn(each) if dice.random() < keep]
            dice.shuffle(kept)
            for each in kept:
                carry_out(left.setdefault(file, bytearray()), each)
        return {file: bytes(content) for file, content in left.items()}


def torn(step: Write | Truncate) -> list[Write | Truncate]:
    if isinstance(step, Truncate):
        return [step]
    return [
        Write(step.file, step.offset + at, step.data[at : at + SECTOR])
        for at in range(0, len(step.data), SECTOR)
    ]


def carry_out(content: bytearray, step: Write | Truncate) -> None:
    end = step.size if isinstance(step, Truncate) else step.offset + len(step.data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if isinstance(step, Truncate):
        del content[end:]
    else:
        content[step.offset : end] = step.data


def traced(folder: Path, synchronous: str) -> list[Step]:
    """Let a writer work until it is killed, and tell what reached the disk how."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not here")
    home = folder / "home"
    argv = ["strace", "-f", "-y", "-xx", "-s", "100000", "-o", str(folder / "trace")]
    argv += ["-e", "trace=pwrite64,write,ftruncate,fsync,fdatasync", "-e", "signal=none"]
    writer = [sys.executable, "-c", WRITER, str(home / "store.db"), synchronous, str(COMMITS)]
    writer.append(str(folder / ACKS))
    done = subprocess.run([*argv, *writer], capture_output=True, timeout=300)
    if b"PTRACE" in done.stderr or b"ptrace" in done.stderr:
        pytest.skip("strace may not trace here")
    assert (folder / ACKS).read_bytes().endswith(str(COMMITS).encode()), done.stderr[-2000:]
    return list(steps(folder / "trace", home))


def lost(folder: Path, told: list[Step], *, seed: int) -> list[str]:
    """Cut the power at many moments; what was wrong with what was left."""
    dice = random.Random(seed)
    opened = told.index(Acknowledged(0))
    disk, acknowledged, wrong = Disk(), 0, []
    moments = set(dice.sample(range(opened + 1, len(told)), CUTS))
    for moment, step in enumerate(told):
        if moment in moments:
            place = folder / f"cut {moment}"
            place.mkdir()
            for file, content in disk.cut(dice).items():
                (place / file).write_bytes(content)
            if (trouble := judged(place / "store.db", acknowledged)) is not None:
                wrong.append(f"at step {moment}: {trouble}")
            shutil.rmtree(place)
        if isinstance(step, Acknowledged):
            acknowledged = step.number
        disk.take(step)
    return wrong


def judged(path: Path, acknowledged: int) -> str | None:
    with closing(open_file(path).connection) as db:
        if (verdict := db.execute("PRAGMA quick_check").fetchone()[0]) != "ok":
            return f"damaged: {verdict}"
        there = [int(row[0]) for row in db.execute("SELECT actor FROM audit ORDER BY id")]
    if there != list(range(1, len(there) + 1)):
        return "rows with a gap"
    if not acknowledged <= len(there) <= acknowledged + 1:
        return f"{acknowledged} were acknowledged, {len(there)} are there"
    return None


@pytest.mark.limit(400)
def test_what_was_acknowledged_survives_a_power_cut(tmp_path: Path) -> None:  # threat D3
    told = traced(tmp_path, "FULL")
    assert lost(tmp_path, told, seed=1) == []


@pytest.mark.limit(400)
def test_without_a_sync_at_each_commit_it_would_not(tmp_path: Path) -> None:
    """That is why it is FULL; and it shows that these cuts can be felt."""
    told = traced(tmp_path, "NORMAL")
    wrong = lost(tmp_path, told, seed=1)
    assert wrong
    assert all("were acknowledged" in each for each in wrong)
