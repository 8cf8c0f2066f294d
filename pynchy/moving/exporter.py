"""Export a group to an archive of JSON and plain files that needs no Pynchy to be read.

    group.json        its name, trigger, chats, settings
    messages.jsonl    what was said, in and out, a message a line
    memory.jsonl      what its agents keep for good
    tasks.json        its schedules
    files/            its folder: CLAUDE.md, its work, conversations/
    media/            the files that people sent

The rule that keeps it so: rows come from a copy of the database, and files are opened without following
a link, so that neither a daemon nor an agent at work can put anything else into it.
"""

from __future__ import annotations

import io
import json
import os
import stat
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, Final

import attrs

from pynchy.config.paths import Home, part_of
from pynchy.files.extents import data_in
from pynchy.files.walk import Walk
from pynchy.model import GroupId
from pynchy.store import whole
from pynchy.store.connection import open_reader

_BLOCK: Final = 1 << 16
HOLE: Final = 1 << 20  # bytes of holes in a file that are worth a list of its pieces
MOST_PIECES: Final = 100_000
MOST_SAID: Final = 100  # places that are named


class NoSuchGroup(Exception):
    """No group has that folder."""


@attrs.define
class Exported:
    """What the archive contains."""

    messages: int = 0
    memories: int = 0
    tasks: int = 0
    files: int = 0
    left_out: list[str] = attrs.field(
        factory=list
    )  # places, each with the reason; the first of them
    left_out_count: int = 0

    def leave_out(self, place: str, why: str) -> None:
        """Note that something is not in the archive."""
        self.left_out_count += 1
        if len(self.left_out) < MOST_SAID:
            self.left_out.append(f"{place}: {why}")


def write(
    home: Home, copy: Path, folder: GroupId, path: Path, *, told: Callable[[str], None]
) -> Exported:
    """Write the archive to ``path`` (mode 0600), replacing an older one. Raises `NoSuchGroup` and OSError.

    ``copy`` is a copy of the database; ``told`` is called with the name of each file.
    """
    exported = Exported()
    aside = part_of(path)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with (
            open_reader(copy) as db,
            open(os.open(aside, flags, 0o600), "wb") as file,
            tarfile.open(fileobj=file, mode="w:gz", format=tarfile.PAX_FORMAT) as archive,
        ):
            about = whole.about(db, folder)
            if about is None:
                raise NoSuchGroup(f"there is no group {folder}; see pynchy groups")
            top = f"{folder}/"
            _add(archive, f"{top}group.json", _pretty(about))
            exported.messages = _add_lines(archive, f"{top}messages.jsonl", whole.said(db, folder))
            exported.memories = _add_lines(
                archive, f"{top}memory.jsonl", whole.memories(db, folder)
            )
            tasks = whole.scheduled(db, folder)
            exported.tasks = len(tasks)
            _add(archive, f"{top}tasks.json", _pretty(tasks))
            for source, name in ((home.group(folder), "files"), (home.media(folder), "media")):
                _add_tree(archive, source, f"{top}{name}", exported, told)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return exported


def _pretty(document: Any) -> io.BytesIO:
    text = json.dumps(document, indent=2, ensure_ascii=False, default=str)
    return io.BytesIO(text.encode() + b"\n")


def _add_lines(archive: tarfile.TarFile, name: str, rows: Iterable[dict[str, Any]]) -> int:
    count = 0
    with tempfile.SpooledTemporaryFile(max_size=8 << 20) as lines:  # a year of talk may be large
        for row in rows:
            count += 1
            line = json.dumps(row, ensure_ascii=False) + "\n"
            lines.write(line.encode("utf-8", "surrogatepass"))
        _add(archive, name, lines)
    return count


def _add(archive: tarfile.TarFile, name: str, file: IO[bytes]) -> None:
    """Add what was written to a file so far."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = file.seek(0, os.SEEK_END), 0o600, int(time.time())
    file.seek(0)
    archive.addfile(entry, file)


def _add_tree(
    archive: tarfile.TarFile,
    source: Path,
    name: str,
    exported: Exported,
    told: Callable[[str], None],
) -> None:
    walk = Walk(source)
    for entry in walk:
        place = f"{name}/{entry.path}"
        if entry.is_folder:
            continue
        try:
            added = entry.is_file and _add_file(archive, entry.folder, entry.name, place, told)
        except _TooScattered as error:
            exported.leave_out(place, str(error))
            continue
        if added:
            exported.files += 1
        else:
            exported.leave_out(place, "a link, or no file, or it cannot be read")
    for why, places in walk.skipped.items():
        for each in places:
            exported.leave_out(f"{name}/{each}", why)


class _TooScattered(Exception):
    """A sparse file with more pieces than the archive's format allows."""


def _add_file(
    archive: tarfile.TarFile, folder: int, name: str, entry: str, told: Callable[[str], None]
) -> bool:
    """Add a file; returns whether it could be read."""
    try:
        opened = os.open(
            name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder
        )
    except OSError:  # contained here: a link, or gone meanwhile; the rest of the group counts
        return False
    with open(opened, "rb") as file:
        seen = os.fstat(opened)
        if not stat.S_ISREG(seen.st_mode):
            return False
        told(entry)
        header = tarfile.TarInfo(entry)
        header.size, header.mtime = seen.st_size, int(seen.st_mtime)
        header.mode = 0o700 if seen.st_mode & 0o100 else 0o600
        if seen.st_blocks * 512 + HOLE < seen.st_size:
            _add_sparse(archive, header, file)
        else:
            _add_pieces(archive, header, file, [(0, seen.st_size)])
    return True


def _add_sparse(archive: tarfile.TarFile, header: tarfile.TarInfo, file: io.BufferedReader) -> None:
    """Add a sparse file as its data and their places, in the PAX format 1.0 that GNU tar, bsdtar and Python read,
    instead of writing its holes as zeros."""
    pieces = list(islice(data_in(file.fileno(), header.size), MOST_PIECES + 1))
    if len(pieces) > MOST_PIECES:
        raise _TooScattered(f"a file of more than {MOST_PIECES} pieces with holes in between")
    pieces.append((header.size, 0))  # the end of the file
    numbers = (len(pieces), *chain.from_iterable(pieces))
    listed = "".join(f"{each}\n" for each in numbers).encode()
    listed += bytes(-len(listed) % tarfile.BLOCKSIZE)
    header.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": header.name,
        "GNU.sparse.realsize": str(header.size),
    }
    header.size = len(listed) + sum(length for _, length in pieces)
    _add_pieces(archive, header, file, pieces, listed=listed)


def _add_pieces(
    archive: tarfile.TarFile,
    header: tarfile.TarInfo,
    file: io.BufferedReader,
    pieces: Iterable[tuple[int, int]],
    *,
    listed: bytes = b"",
) -> None:
    """Add these pieces of a file, behind the list of them: exactly the announced length, even if the file is
    truncated meanwhile."""

    def read() -> Iterator[bytes]:
        yield listed
        for start, length in pieces:
            file.seek(start)
            for left in range(length, 0, -_BLOCK):
                wanted = min(left, _BLOCK)
                yield file.read(wanted).ljust(wanted, b"\0")

    archive.addfile(header, _Joined(read()))  # type: ignore[arg-type]  # it only reads


class _Joined:
    """A stream of parts, to be read in blocks of any size."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._rest = b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (part := next(self._parts, None)) is not None:
            self._rest += part
        data, self._rest = self._rest[:size], self._rest[size:]
        return data
