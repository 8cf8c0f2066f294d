"""What the kernel tells of processes, for whoever measures or looks after them. Linux alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def parents() -> dict[int, int]:
    """Every living process, with its parent; a zombie does not live."""
    found = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it ended while we looked
                state, parent, *_ = _fields(int(entry.name))
                if state != "Z":
                    found[int(entry.name)] = int(parent)
    return found


def below(process: int) -> set[int]:
    """Every living process that descends from this one."""
    parent_of = parents()
    found, new = set[int](), {process}
    while new:
        new = {child for child, parent in parent_of.items() if parent in new}
        found |= new
    return found


def processor_time(process: int) -> float:
    """What it has used so far, in seconds; nothing if it is gone."""
    try:
        ticks = _fields(process)[11:13]
    except OSError:
        return 0.0
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def switches(process: int) -> dict[str, int]:
    """How often each of its threads has gone to sleep, which is how often it was awake."""
    found = {}
    with suppress(OSError):
        for task in (PROC / str(process) / "task").iterdir():
            text = (task / "status").read_text(encoding="ascii", errors="replace")
            found[task.name] = int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return found


def until_quiet(spent: Callable[[], float], limit: float = float("inf")) -> None:
    """Wait until next to no processor time is used for two seconds, or the limit has passed. ``spent``: seconds so
    far."""
    deadline, before, quiet = time.monotonic() + limit, spent(), 0
    while quiet < 2 and time.monotonic() < deadline:
        time.sleep(1)
        now = spent()
        quiet = quiet + 1 if now - before < 0.02 else 0
        before = now


def _fields(process: int) -> list[str]:
    """Of a process's `stat`, those behind its name: proc(5) has them from the third on."""
    stat = (PROC / str(process) / "stat").read_text(encoding="ascii", errors="replace")
    return stat.rpartition(")")[2].split()
