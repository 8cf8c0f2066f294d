"""Delete expired files below PYNCHY_HOME: socket folders, old logs, old refused commands.

Only files named by us, in our folders that no container can write, are deleted. Symlinks are not followed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from pynchy.config.paths import Home
from pynchy.files import trees
from pynchy.model import RunId

_RUN: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)


def socket_folders(home: Home, known: Iterable[RunId]) -> list[tuple[RunId, Path]]:
    """The folders of runs' sockets that exist: all below ``run/``, and those of ``known`` runs wherever
    a long path has put them.

    Take this list before you ask which runs are live, so that it cannot contain the folder of a run that starts
    meanwhile.
    """
    with suppress(FileNotFoundError):
        below = [(RunId(path.name), path) for path in home.gateways.iterdir()]
        found = {path: run for run, path in below if _RUN.fullmatch(run)}
        found |= {path: run for run in known if (path := home.gateway(run)).exists()}
        return [(run, path) for path, run in found.items()]
    return []


def clear_socket_folders(
    folders: Iterable[tuple[RunId, Path]], *, living: Collection[RunId]
) -> int:
    """Delete those ``folders`` whose run is not live; returns how many."""
    return sum(trees.clear(path) for run, path in folders if run not in living)


def clear_old(home: Home, *, before: float) -> tuple[int, int]:
    """Delete run logs and refused command files written ``before`` a time (seconds since 1970); returns how
    many of each."""
    logs = home.run_logs.glob("*.log")
    refused = home.refused.glob("*/*.bad")
    return _unlink(logs, before), _unlink(refused, before)


def _unlink(paths: Iterator[Path], before: float) -> int:
    removed = 0
    for path in paths:
        with suppress(OSError):  # it is gone, or somebody made a folder of it
            if path.lstat().st_mtime < before:
                path.unlink()
                removed += 1
    return removed
