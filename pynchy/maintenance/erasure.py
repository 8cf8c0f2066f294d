"""Delete a group with all its rows, files and logs. Only the owner can.

A marker file is written first and removed last: if the daemon ends in between, the next start completes
the deletion, and until then nobody can register the folder again. Each step may be done twice, and files
are deleted before the rows that name them.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import attrs
import trio

from pynchy.config.paths import Home
from pynchy.container import folders
from pynchy.control.server import Client, Op, OpFailed
from pynchy.logs import logger
from pynchy.model import MAIN, GroupId, folder_of
from pynchy.store import erasure
from pynchy.store.database import Store

TRIES: Final = 3  # to find the group at rest


@attrs.frozen
class Forgetting:
    """The op. ``end`` ends a group's runs and returns when they are over; ``removed`` is called once the
    group is deleted."""

    store: Store
    home: Home
    end: Callable[[GroupId], Awaitable[None]]
    removed: Callable[[GroupId], None]
    _one: trio.Lock = attrs.field(factory=trio.Lock)

    @property
    def ops(self) -> Mapping[str, Op]:
        return {"groups.forget": self.forget}

    async def forget(self, client: Client, *, folder: str) -> object:
        """Delete a group and all its data: messages, replies, tasks, memories, files, run logs.

        A group that was removed before can be deleted too. The audit and the cost totals stay, and so
        do backups. ``left`` lists files that could not be deleted.
        """
        group = folder_of(folder)
        if group is None or group == MAIN:
            raise OpFailed("not_allowed", f"{folder[:80]!r} cannot be forgotten")
        async with self._one:
            there = self.home.group(group)
            if not (await self.store.call(erasure.is_known, group) or there.is_dir()):
                raise OpFailed("unknown_group", f"there never was a group {folder}")
            await trio.to_thread.run_sync(mark, self.home, group)
            return await self._carry_out(group)

    async def _carry_out(self, group: GroupId) -> dict[str, object]:
        await self.store.call(erasure.hush, group)
        for _ in range(TRIES):
            await self.end(group)
            runs = await self.store.call(erasure.runs_of, group)
            if runs is None:
                continue
            left = await trio.to_thread.run_sync(folders.forget, self.home, group, runs)
            counts = await self.store.call(erasure.erase, group)
            if counts is None:
                continue
            await self.store.tidy()  # the log beside the file has the old pages, too
            self.removed(group)
            if left:
                logger.error("forgetting {}: left behind: {}", group, [str(each) for each in left])
            else:
                await trio.to_thread.run_sync(unmark, self.home, group)
            logger.info("{} is forgotten: {}", group, counts)
            return {"folder": group, **counts, "left": [str(each) for each in left]}
        raise OpFailed("busy", f"{group} does not come to rest; the next start will forget it")


async def complete(store: Store, home: Home) -> None:
    """At start, when no container is left: complete deletions that were interrupted."""

    async def nothing_runs(group: GroupId) -> None:
        await trio.lowlevel.checkpoint()

    forgetting = Forgetting(store, home, nothing_runs, lambda group: None)
    for group in await trio.to_thread.run_sync(marked, home):
        await forgetting._carry_out(group)


def mark(home: Home, group: GroupId) -> None:
    """Write the marker of a group's deletion, durably."""
    path = home.forgetting(group)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "wb") as file:
        os.fsync(file.fileno())
    for folder in (path.parent, path.parent.parent):
        folders.sync(folder)


def marked(home: Home) -> list[GroupId]:
    """The groups whose deletion is not complete."""
    folder = home.forgetting(MAIN).parent
    names = sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []
    return [group for name in names if (group := folder_of(name)) is not None and group != MAIN]


def unmark(home: Home, group: GroupId) -> None:
    """Remove the marker: the deletion is complete."""
    home.forgetting(group).unlink(missing_ok=True)
