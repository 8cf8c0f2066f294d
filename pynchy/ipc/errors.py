"""Keep refused command files for a person to look at.

No container ever sees this folder. The rule that keeps it so: a hundred files, 64 KiB each, names
of our own making; the oldest goes.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from pynchy_agent.wire import COMMAND_NAME, MAX_COMMAND

MOST: Final = 100


def keep(folder: Path, *, name: str, reason: str, head: bytes) -> None:
    """Keep what of a bad command file may be kept, below one line that says what was wrong.

    Best effort: a full disk must not stop the commands that come after.
    """
    if COMMAND_NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is no name of a command file")
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = sorted(folder.iterdir(), key=lambda path: path.lstat().st_mtime_ns)
        for path in known[: max(0, len(known) - MOST + 1)]:
            path.unlink()
        content = reason.encode("utf-8", "replace")[:1000] + b"\n" + head[:MAX_COMMAND]
        target = folder / f"{name}.bad"
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(content)
