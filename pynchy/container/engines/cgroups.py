"""Control groups for sandboxes: limits on memory, processes and CPU, where this machine allows them.

Version 1, with a folder in each controller (root); version 2 where our own group is delegated to us (``Delegate=yes``
in a systemd unit, or root). Elsewhere there is none, and `holds` says so.

This only makes, fills and removes folders below one that is ours; the leash joins them. Nothing here fails a run: a
limit that cannot be set is reported, never pretended.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import attrs

from pynchy.container.spec import Limits

ROOT: Final = Path("/sys/fs/cgroup")
_PERIOD: Final = 100_000  # microseconds of a quota's period

LEAF: Final = "pynchy-daemon"  # where we go, in version 2
CONTROLLERS: Final = {"memory": "memory", "pids": "pids", "cpus": "cpu"}  # limit: its controller


@attrs.frozen
class Cgroups:
    """Where control groups for sandboxes can be made: ``parents`` has the folder for each limit that can be
    enforced."""

    version: int
    parents: Mapping[str, Path]

    def holds(self) -> dict[str, str]:
        return dict.fromkeys(self.parents, f"cgroup v{self.version}")

    @contextmanager
    def group(self, name: str, limits: Limits) -> Iterator[tuple[str, ...]]:
        """Make a group for one sandbox; yields the folders to join. It is removed at the end, with all processes in
        it."""
        folders: list[Path] = []
        try:
            for parent in dict.fromkeys(self.parents.values()):
                folder = parent / name
                folder.mkdir(exist_ok=True)
                folders.append(folder)
            for limit, parent in self.parents.items():
                for file, value in _settings(self.version, limit, limits):
                    _write(parent / name / file, value)
            yield tuple(str(folder) for folder in folders)
        finally:
            for folder in folders:
                remove(folder)


def _settings(version: int, limit: str, limits: Limits) -> list[tuple[str, str]]:
    quota = str(max(1000, round(limits.cpus * _PERIOD)))
    memory, pids = str(limits.memory_bytes), str(limits.pids)
    table = {
        (1, "memory"): [
            ("memory.limit_in_bytes", memory),
            ("?memory.memsw.limit_in_bytes", memory),
        ],
        (1, "pids"): [("pids.max", pids)],
        (1, "cpus"): [("cpu.cfs_period_us", str(_PERIOD)), ("cpu.cfs_quota_us", quota)],
        (2, "memory"): [
            ("memory.max", memory),
            ("?memory.swap.max", "0"),
            ("?memory.oom.group", "1"),
        ],
        (2, "pids"): [("pids.max", pids)],
        (2, "cpus"): [("cpu.max", f"{quota} {_PERIOD}")],
    }
    return table[version, limit]


def _write(file: Path, value: str) -> None:
    optional = file.name.startswith("?")
    file = file.with_name(file.name.removeprefix("?"))
    if optional and not file.exists():
        return  # a kernel without accounting of swap
    file.write_text(value)


def remove(folder: Path) -> None:
    """Remove a group and kill what is still in it. A group that is busy is left for the next start."""
    with suppress(OSError):
        for pid in (folder / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    with suppress(OSError):
        folder.rmdir()


def find_cgroups(
    root: Path = ROOT, own: Path = Path("/proc/self/cgroup"), *, alone: bool = False
) -> Cgroups:
    """Find by trying which limits can be enforced here. ``alone``: every process in our group belongs to us."""
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return Cgroups(2, {})
    mine = {name: path for _, names, path in lines for name in names.split(",")}
    first = {
        limit: parent
        for limit, controller in CONTROLLERS.items()
        if controller in mine and (parent := _try_first(root / controller, mine[controller]))
    }
    if first:
        return Cgroups(1, first)
    return Cgroups(2, _try_second(root, mine[""], alone=alone) if "" in mine else {})


def _try_first(controller: Path, path: str) -> Path | None:
    """The folder ``pynchy`` below our own group of a version 1 controller, or below its root if ours cannot be seen."""
    for base in (controller / path.lstrip("/"), controller):
        with suppress(OSError):
            if (base / "cgroup.procs").exists():
                parent = base / "pynchy"
                parent.mkdir(exist_ok=True)
                if os.access(parent, os.W_OK | os.X_OK):  # another user's daemon may have made it
                    return parent
    return None


def _try_second(root: Path, path: str, *, alone: bool) -> dict[str, Path]:
    """Our own version 2 group, if it is delegated. We move to a leaf of it, so that it may have other children."""
    base = root / path.lstrip("/")
    base = base.parent if base.name == LEAF else base  # moved there by an earlier start
    try:
        offered = (base / "cgroup.controllers").read_text().split()
        found = {limit: base for limit, name in CONTROLLERS.items() if name in offered}
        if not found:
            return {}
        others = set((base / "cgroup.procs").read_text().split()) - {str(os.getpid())}
        if others and not alone:
            return {}  # a login's group, or a container's: it is not for us to move them
        leaf = base / LEAF
        leaf.mkdir(exist_ok=True)
        for pid in (*others, str(os.getpid())):  # a rootless podman leaves one behind for good
            with suppress(ProcessLookupError):
                (leaf / "cgroup.procs").write_text(pid)
        wanted = " ".join(f"+{CONTROLLERS[limit]}" for limit in found)
        (base / "cgroup.subtree_control").write_text(wanted)
    except OSError:
        return {}  # not ours to use: said by `holds`
    return found
