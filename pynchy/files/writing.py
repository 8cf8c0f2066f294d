"""Write a file whole or not at all, and have the disk keep it."""

from __future__ import annotations

import os
from pathlib import Path


def replace(path: Path, content: str | bytes, *, mode: int = 0o600) -> None:
    """Write a file under another name, and rename it once the disk has it. Nobody ever reads half of it."""
    aside = path.with_name(path.name + ".new")
    aside.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(aside, flags, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)  # whatever the umask is
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def keep(path: Path, content: bytes, *, mode: int) -> None:
    """Have a file hold this. One that is right already is left alone: a container may have it mounted."""
    if not path.exists() or path.read_bytes() != content:
        replace(path, content, mode=mode)


def sync(path: Path) -> None:
    """Have the disk keep a file, or the names in a folder."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
