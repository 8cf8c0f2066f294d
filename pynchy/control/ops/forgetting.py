"""The control op that deletes a group with all its data.

The rule that keeps it so: it checks what it is given; the deletion is `maintenance.erasure`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs
import trio

from pynchy.config.paths import Home
from pynchy.control.ops.acting import Acting
from pynchy.control.server import Client, OpFailed, op
from pynchy.maintenance.erasure import NotAtRest, erase
from pynchy.model import MAIN, GroupId, folder_of
from pynchy.store import erasure


@attrs.frozen
class ForgettingOps:
    """The op. ``end_runs`` ends a group's runs and returns when they are over."""

    acting: Acting
    home: Home
    end_runs: Callable[[GroupId], Awaitable[None]]
    _one: trio.Lock = attrs.field(factory=trio.Lock)

    @op("groups.forget")
    async def forget(self, client: Client, *, folder: str) -> object:
        """Delete a group and all its data: messages, replies, tasks, memories, files, run logs.

        A group that was removed before can be deleted too. The audit and the cost totals stay, and so
        do backups. ``left`` lists files that could not be deleted.
        """
        group = folder_of(folder)
        if group is None or group == MAIN:
            raise OpFailed("not_allowed", f"{folder[:80]!r} cannot be forgotten")
        store = self.acting.store
        async with self._one:
            is_known = await store.call(erasure.is_known, group)
            if not (is_known or self.home.group(group).is_dir()):
                raise OpFailed("unknown_group", f"there never was a group {folder}")
            try:
                erased = await erase(store, self.home, group, self.end_runs)
            except NotAtRest as error:
                raise OpFailed("busy", str(error)) from None
        await self.acting.carry_out(erased.effects)
        return {"folder": group, **erased.counts, "left": [str(each) for each in erased.left]}
