"""Control ops on what agents remember.

The rule that keeps it so: an op reads what it is given, calls an act or a search, and answers with the facts.
"""

from __future__ import annotations

import attrs

from pynchy.actions import memory as acts
from pynchy.actions.actor import Actor
from pynchy.actions.effects import NOTHING, Effects
from pynchy.control.ops.acting import Acting, bounded, group_of, searched, shown
from pynchy.control.server import Client, OpFailed, op
from pynchy.model import GroupId
from pynchy.store import memory
from pynchy.store.database import Tx


@attrs.frozen
class MemoryOps:
    """The table of these ops. ``timezone`` is that of the people."""

    acting: Acting
    timezone: str

    @op("memory.search")
    async def search(
        self, client: Client, *, query: str = "", group: str = "main", limit: int = 50
    ) -> object:
        """What a group remembers that fits some words, the best first; without words, the newest."""
        store = self.acting.store
        found = await searched(
            store, memory.recall, await group_of(store, group), query, limit=bounded(limit)
        )
        return [shown(each, self.timezone) for each in found]

    @op("memory.list")
    async def list(self, client: Client, *, group: str = "", limit: int = 500) -> object:
        """What a group, or every group, remembers, the newest first."""
        store = self.acting.store
        folder = await group_of(store, group) if group else None
        found = await store.call(memory.newest, folder, limit=bounded(limit))
        return [shown(each, self.timezone) for each in found]

    @op("memory.add")
    async def add(
        self, client: Client, *, text: str, group: str = "main", shared: bool = False
    ) -> object:
        """Keep a fact for a group, or with ``shared`` for all of them."""
        kept = await self.acting.get(_remember, GroupId(group), text, shared=shared)
        return shown(kept, self.timezone)

    @op("memory.edit")
    async def edit(self, client: Client, *, memory: str, text: str) -> object:
        """Let a fact say something else. ``memory`` is its id or the beginning of it."""
        found = await self._one(memory)
        return shown(await self.acting.get(_change, found.id, text), self.timezone)

    @op("memory.delete")
    async def delete(self, client: Client, *, memory: str) -> object:
        """Delete a fact. ``memory`` is its id or the beginning of it."""
        found = await self._one(memory)
        await self.acting.act(_forget, found.id)
        return shown(found, self.timezone)

    async def _one(self, id: str) -> memory.Memory:
        found = await self.acting.store.call(memory.called, id) if id else []
        if not found:
            raise OpFailed("bad_request", f"there is no memory {id[:80]!r}: pynchy memory list")
        if len(found) > 1:
            raise OpFailed("bad_request", f"several memories begin with {id[:80]!r}")
        return found[0]


def _remember(
    tx: Tx, actor: Actor, folder: GroupId, text: str, *, shared: bool
) -> tuple[memory.Memory, Effects]:
    return acts.remember(tx, actor, folder, text, shared=shared), NOTHING


def _change(tx: Tx, actor: Actor, id: str, text: str) -> tuple[memory.Memory, Effects]:
    return acts.change(tx, actor, id, text), NOTHING


def _forget(tx: Tx, actor: Actor, id: str) -> Effects:
    acts.forget(tx, actor, id)
    return NOTHING
