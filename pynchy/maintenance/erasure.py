"""Delete a group with all its rows, files and logs. Only the owner can.

A marker file is written first and removed last: if the daemon ends in between, the next start completes
the deletion, and until then nobody can register the folder again. Each step may be done twice, and files
are deleted before the rows that name them.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import attrs
import trio

from pynchy.actions import groups as acts
from pynchy.actions.actor import OWNER
from pynchy.actions.effects import Effects
from pynchy.config.paths import Home
from pynchy.container import folders
from pynchy.files.writing import sync
from pynchy.logs import logger
from pynchy.model import MAIN, GroupId, folder_of
from pynchy.store import erasure
from pynchy.store.database import Store

TRIES: Final = 3  # to find the group at rest


class NotAtRest(Exception):
    """New runs of the group began again and again. Its marker stays, and the next start deletes it."""


@attrs.frozen
class Erased:
    """What was deleted: how many rows of each kind, which files could not be, and what follows from it."""

    counts: dict[str, int]
    left: list[Path]
    effects: Effects


async def nothing_runs(group: GroupId) -> None:
    """Where no container is left."""
    await trio.lowlevel.checkpoint()


async def erase(
    store: Store,
    home: Home,
    group: GroupId,
    end_runs: Callable[[GroupId], Awaitable[None]] = nothing_runs,
) -> Erased:
    """Delete a group. ``end_runs`` ends its runs and returns when they are over. Raises `NotAtRest`."""
    await trio.to_thread.run_sync(mark, home, group)
    await store.call(erasure.hush, group)
    for _ in range(TRIES):
        await end_runs(group)
        runs = await store.call(erasure.runs_of, group)
        if runs is None:
            continue
        left = await trio.to_thread.run_sync(folders.forget, home, group, runs)
        gone = await store.call(acts.forget, OWNER, group)
        if gone is None:
            continue
        counts, effects = gone
        await store.tidy()  # the log beside the file has the old pages, too
        if left:
            logger.error("forgetting {}: left behind: {}", group, [str(each) for each in left])
        else:
            await trio.to_thread.run_sync(unmark, home, group)
        logger.info("{} is forgotten: {}", group, counts)
        return Erased(counts, left, effects)
    raise NotAtRest(f"{group} does not come to rest; the next start will forget it")


async def complete(store: Store, home: Home) -> None:
    """At start, when no container is left: complete deletions that were interrupted."""
    for group in await trio.to_thread.run_sync(marked, home):
        await erase(store, home, group)


def mark(home: Home, group: GroupId) -> None:
    """Write the marker of a group's deletion, durably."""
    path = home.forgetting(group)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "wb") as file:
        os.fsync(file.fileno())
    for folder in (path.parent, path.parent.parent):
        sync(folder)


def marked(home: Home) -> list[GroupId]:
    """The groups whose deletion is not complete."""
    folder = home.forgetting(MAIN).parent
    names = sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []
    return [group for name in names if (group := folder_of(name)) is not None and group != MAIN]


def unmark(home: Home, group: GroupId) -> None:
    """Remove the marker: the deletion is complete."""
    home.forgetting(group).unlink(missing_ok=True)
