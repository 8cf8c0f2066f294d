"""Work out the extra mounts of a run, from the allowlist and the groups' requests.

The allowlist is read at the start and when the owner says so; only a missing one is looked for again at each run.
Nothing is granted here: `rules` does that. What it grants is returned with the identity of the file or folder that was
looked at, so that a later look can tell whether it was replaced.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
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
                raise Swapped(f"{source} was replaced since it was allowed")


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
            verdict.mount
            for wanted, main in others
            for verdict in self._judged(wanted, rules, known, is_main=main)
            if isinstance(verdict, Granted)
        ]
        known = known.with_mounts(*theirs)
        found = Extras()
        room = MOST_COVERS
        for request, verdict in zip(
            requests, self._judged(requests, rules, known, is_main=is_main), strict=True
        ):
            if isinstance(verdict, Granted):
                try:
                    identity = _identity(verdict.mount.source)
                    covers = self._covers(verdict, rules, known.programs, room)
                except (OSError, BadSpec, allowlist.Unmaskable) as error:
                    verdict = Denied(request, f"secrets in it cannot be masked: {error}")
            if isinstance(verdict, Denied):
                found = attrs.evolve(found, refused=(*found.refused, verdict))
                continue
            room -= len(covers)
            found = attrs.evolve(
                found,
                mounts=(*found.mounts, verdict.mount, *covers),
                notes=(*found.notes, *self._notes(verdict, covers)),
                seen={**found._seen, verdict.mount.source: identity},
            )
        return found

    def _notes(self, granted: Granted, covers: tuple[Mount, ...]) -> Iterator[str]:
        source = granted.mount.source
        if granted.note:
            yield f"{source}: {granted.note}"
        if masked := sum(cover.source.is_relative_to(self.empty) for cover in covers):
            yield f"{source}: {masked} secrets in it are masked"
        if kept := len(covers) - masked:
            yield f"{source}: {kept} places from which your own programs run are read-only"

    def _judged(
        self,
        requests: Sequence[MountRequest],
        rules: Allowlist,
        known: KnownPaths,
        *,
        is_main: bool,
    ) -> tuple[Granted | Denied, ...]:
        seen = [allowlist.look(each.path, user_home=self.user_home) for each in requests]
        pairs = list(zip(requests, seen, strict=True))
        return judge_all(pairs, allowlist=rules, known=known, is_main=is_main)

    def _covers(
        self, granted: Granted, rules: Allowlist, programs: tuple[Path, ...], room: int
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
        if len(hits) > room:
            raise allowlist.Unmaskable(f"{len(hits)} of them, the most is {MOST_COVERS}")
        file, folder = self.empty / "empty-file", self.empty / "empty-folder"
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        file.touch(mode=0o444)
        return masks(granted, hits, empty_file=file, empty_folder=folder)


def _identity(path: Path) -> tuple[int, int]:
    seen = os.lstat(path)
    return seen.st_dev, seen.st_ino
