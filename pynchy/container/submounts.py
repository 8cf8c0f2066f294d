"""File systems of the host that are mounted below a folder, so that a read-only mount of it is read-only throughout.

The rule that keeps it so: `parse_mount_points` reads the kernel's table and nothing else; whoever has no such table
(macOS, where an engine runs in a machine of its own and sees plain folders) has no submounts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import attrs

from pynchy.container.spec import Mount, Spec

MOUNTINFO: Final = Path("/proc/self/mountinfo")
_ESCAPE: Final = re.compile(rb"\\([0-7]{3})")


def parse_mount_points(table: bytes) -> list[Path]:
    """Where something is mounted, in the words of ``/proc/self/mountinfo``."""
    points = (line.split(b" ")[4] for line in table.splitlines() if line.count(b" ") > 4)
    plain = (_ESCAPE.sub(lambda found: bytes([int(found[1], 8)]), point) for point in points)
    return [Path(os.fsdecode(point)) for point in plain]


def submounts_of(mounts: Iterable[Mount], points: Iterable[Path]) -> tuple[Path, ...]:
    """The mount points that lie below the source of a read-only mount."""
    sources = {mount.source for mount in mounts if not mount.writable}
    return tuple(sorted({point for point in points if sources.intersection(point.parents)}))


def with_submounts(spec: Spec) -> Spec:
    """``spec``, knowing what is mounted below its read-only mounts at this moment."""
    try:
        table = MOUNTINFO.read_bytes()
    except FileNotFoundError:
        return spec
    return attrs.evolve(spec, submounts=submounts_of(spec.mounts, parse_mount_points(table)))
