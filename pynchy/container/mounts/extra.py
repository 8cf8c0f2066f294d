"""Work out the extra mounts of a run, from the allowlist and the groups' requests.

The allowlist is read at the start and when the owner says so. Only one that is missing is looked for again at each
run. The rule that keeps it so: nothing is granted here. Facts go to `mounts`, and what it grants is handed on with
what was at the place when it was looked at, so that a later look can tell whether it is still that.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs

from pynchy.container.mounts import allowlist
from pynchy.container.mounts.rules import (
    NOTHING,
    Allowlist,
    BadAllowlist,
    Denied,
    Granted,
    KnownPaths,
    MountRequest,
    Seen,
    judge_all,
    masks,
)
from pynchy.container.spec import BadSpec, Mount
from pynchy.logs import logger

#: Covers over secrets and programs in the mounts of one run. A sandbox mounts each by itself: a thousand take several
#: seconds at each start, and no engine's command line holds many thousands.
MOST_COVERS: Final = 500


class Swapped(Exception):
    """Something else is at a mount's place than was judged: the run must not begin."""


@attrs.frozen
class Extras:
    """What one run gets, and what it does not. ``notes`` say where it is less than was asked."""

    mounts: tuple[Mount, ...] = ()
    refused: tuple[Denied, ...] = ()
    notes: tuple[str, ...] = ()
    _seen: Mapping[Path, tuple[int, int]] = attrs.field(factory=dict)

    def check(self) -> None:
        """See that every source is still the folder or file that was judged. Raises `Swapped`."""
        for source, was in self._seen.items():
            if _identity(source) != was:
                raise Swapped(f"{source} is not what it was when it was allowed")


@attrs.define(eq=False)
class Allowed:
    """The allowlist, and how to use it. ``ours`` are our state and code, ``empty`` a folder for masks, ``programs`` the
    folders in which the owner's shell looks for programs."""

    path: Path
    ours: tuple[Path, ...]
    empty: Path
    user_home: Path
    programs: tuple[Path, ...] = ()
    _list: Allowlist | None = None
    trouble: str = ""

    def reload(self) -> Allowlist | None:
        """Read it anew; None if there is none. One that cannot be used allows nothing: raises `BadAllowlist`."""
        try:
            self._list, self.trouble = allowlist.read_allowlist(self.path), ""
        except BadAllowlist as error:
            self._list, self.trouble = NOTHING, str(error)
            logger.error("no extra mounts: {}", error)
            raise
        return self._list

    def extras(
        self,
        requests: Sequence[MountRequest],
        *,
        is_main: bool,
        others: Sequence[tuple[Sequence[MountRequest], bool]],
    ) -> Extras:
        """Which of a group's requests become mounts. ``others`` are the requests of the other groups, and whether each
        group is main: no two groups' mounts may overlap where one of them can write. Looks at the disk; never raises
        for what it finds there."""
        if not requests:
            return Extras()
        if self._list is None:  # missing so far: it may have been written since
            with suppress(BadAllowlist):  # kept as `trouble`, which is said below
                self.reload()
        if self._list is None or self.trouble:
            reason = self.trouble or f"there is no {self.path}; see `pynchy mounts init`"
            return Extras(refused=tuple(Denied(request, reason) for request in requests))
        rules = self._list
        known = KnownPaths(
            roots=allowlist.real_roots(rules, user_home=self.user_home),
            ours=tuple(path.resolve() for path in self.ours),
            programs=tuple(path.resolve() for path in self.programs),
        )
        theirs = [
            granted.mount
            for their, main in others
            for granted in judge_all(
                self._looked(their), allowlist=rules, known=known, is_main=main
            )
            if isinstance(granted, Granted)
        ]
        known = attrs.evolve(
            known,
            sources=tuple(mount.source for mount in theirs),
            written=tuple(mount.source for mount in theirs if mount.writable),
        )
        mounts: list[Mount] = []
        refused: list[Denied] = []
        notes: list[str] = []
        seen: dict[Path, tuple[int, int]] = {}
        room = MOST_COVERS
        for verdict in judge_all(
            self._looked(requests), allowlist=rules, known=known, is_main=is_main
        ):
            if isinstance(verdict, Denied):
                refused.append(verdict)
                continue
            source = verdict.mount.source
            try:
                found = _identity(source)
                covers = self._covers(verdict, rules, known.programs)
                if len(covers) > room:
                    raise allowlist.Unmaskable(f"{len(covers)} of them, the most is {MOST_COVERS}")
            except (OSError, BadSpec, allowlist.Unmaskable) as error:
                request = next(
                    request
                    for request in requests
                    if verdict.mount.target.endswith(f"/{request.name}")
                )
                refused.append(Denied(request, f"secrets in it cannot be masked: {error}"))
                continue
            room -= len(covers)
            seen[source] = found
            mounts += [verdict.mount, *covers]
            if verdict.note:
                notes.append(f"{source}: {verdict.note}")
            if masked := sum(cover.source.is_relative_to(self.empty) for cover in covers):
                notes.append(f"{source}: {masked} secrets in it are masked")
            if kept := len(covers) - masked:
                notes.append(f"{source}: {kept} places that your own programs run are read-only")
        return Extras(tuple(mounts), tuple(refused), tuple(notes), seen)

    def _looked(self, requests: Sequence[MountRequest]) -> list[tuple[MountRequest, Seen | None]]:
        return [
            (request, allowlist.look(request.path, user_home=self.user_home))
            for request in requests
        ]

    def _covers(
        self, granted: Granted, rules: Allowlist, programs: tuple[Path, ...]
    ) -> tuple[Mount, ...]:
        source = granted.mount.source
        hits = (
            allowlist.find_sensitive(
                source, rules.blocked, writable=granted.mount.writable, programs=programs
            )
            if source.is_dir()
            else ()
        )
        if not hits:
            return ()
        file, folder = self.empty / "empty-file", self.empty / "empty-folder"
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        file.touch(mode=0o444)
        return masks(granted, hits, empty_file=file, empty_folder=folder)


def _identity(path: Path) -> tuple[int, int]:
    seen = os.lstat(path)
    return seen.st_dev, seen.st_ino
