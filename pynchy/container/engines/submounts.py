"""Find file systems mounted below a folder, so that a read-only mount covers them too.

The engine says which table of mounts counts: rootless podman's own may differ from ours, and where there is none
(macOS, where an engine runs in a virtual machine and sees plain folders) there are no submounts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import attrs

from pynchy.container.spec import Mount, Spec

_ESCAPE: Final = re.compile(rb"\\([0-7]{3})")


def parse_mount_points(table: bytes) -> list[Path]:
    """The mount points in a ``/proc/self/mountinfo``."""
    points = (line.split(b" ")[4] for line in table.splitlines() if line.count(b" ") > 4)
    plain = (_ESCAPE.sub(lambda found: bytes([int(found[1], 8)]), point) for point in points)
    return [Path(point.decode("utf-8", "surrogateescape")) for point in plain]


def submounts_of(mounts: Iterable[Mount], points: Iterable[Path]) -> tuple[Path, ...]:
    """The mount points that lie below the source of a read-only mount."""
    sources = {mount.source for mount in mounts if not mount.writable}
    return tuple(sorted({point for point in points if sources.intersection(point.parents)}))


def with_submounts(spec: Spec, table: bytes) -> Spec:
    """``spec`` with what is mounted below its read-only mounts, by the engine's table of mounts."""
    return attrs.evolve(spec, submounts=submounts_of(spec.mounts, parse_mount_points(table)))
