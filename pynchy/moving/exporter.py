"""A group as one archive that needs no Pynchy to be read: JSON and plain files.

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
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import attrs

from pynchy.home import Home, part_of
from pynchy.model import GroupId
from pynchy.store import whole
from pynchy.store.database import open_reader


class NoSuchGroup(Exception):
    """There is no group of that folder."""


@attrs.define
class Exported:
    """What is in the archive."""

    messages: int = 0
    memories: int = 0
    tasks: int = 0
    files: int = 0


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
                exported.files += _add_tree(archive, source, f"{top}{name}", told)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return exported


def _pretty(document: Any) -> bytes:
    return json.dumps(document, indent=2, ensure_ascii=False, default=str).encode() + b"\n"


def _add_lines(archive: tarfile.TarFile, name: str, rows: Iterable[dict[str, Any]]) -> int:
    count = 0
    with tempfile.SpooledTemporaryFile(max_size=8 << 20) as lines:  # a year of talk may be large
        for row in rows:
            count += 1
            line = json.dumps(row, ensure_ascii=False) + "\n"
            lines.write(line.encode("utf-8", "surrogatepass"))
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode, entry.mtime = lines.tell(), 0o600, int(time.time())
        lines.seek(0)
        archive.addfile(entry, lines)
    return count


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
    archive.addfile(entry, io.BytesIO(data))


def _add_tree(
    archive: tarfile.TarFile, source: Path, name: str, told: Callable[[str], None]
) -> int:
    count = 0
    if not source.is_dir() or source.is_symlink():
        return count
    for folder, _, files, descriptor in os.fwalk(source, follow_symlinks=False):
        inner = Path(folder).relative_to(source)
        for each in sorted(files):
            count += _add_file(archive, descriptor, each, str(Path(name, inner, each)), told)
    return count


def _add_file(
    archive: tarfile.TarFile, folder: int, name: str, entry: str, told: Callable[[str], None]
) -> bool:
    """Whether it was a file that could be read."""
    try:
        opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
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
        archive.addfile(header, _Exactly(file, seen.st_size))  # type: ignore[arg-type]  # it only reads
    return True


class _Exactly:
    """A file that is as long as was said, whoever cuts it meanwhile."""

    def __init__(self, file: io.BufferedReader, size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int) -> bytes:
        wanted = min(size, self._left)
        data = self._file.read(wanted)
        self._left -= wanted
        return data.ljust(wanted, b"\0")
