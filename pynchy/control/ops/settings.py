"""Control ops on a group's mounts, network, models and budgets.

The rule that keeps it so: an op reads what it is given, calls an act, and says what a group's mounts come to then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import trio

from pynchy.actions import settings as acts
from pynchy.actions.effects import Effects
from pynchy.container.mounts.rules import BadAllowlist, MountRequest, name_after
from pynchy.control.ops.acting import Acting
from pynchy.control.server import Client, OpFailed, op
from pynchy.groups.guards import Guards
from pynchy.maintenance import indexing
from pynchy.model import ChatId, Group, GroupId
from pynchy.policy import group_settings
from pynchy.store import groups
from pynchy.store.database import Database


@attrs.frozen
class SettingsOps:
    """The table of these ops."""

    acting: Acting
    guards: Guards
    defaults: Callable[[], group_settings.Defaults] = dict

    @op("groups.mount")
    async def mount(
        self, client: Client, *, folder: str, path: str, name: str = "", writable: bool = False
    ) -> object:
        """Give a group a folder of this machine as ``/workspace/extra/NAME``, from its next run on.

        The answer says whether the allowlist lets it through. A run that is warm ends.
        """
        request = MountRequest(path, name or name_after(path), writable)
        await self.acting.get(acts.add_mount, GroupId(folder), request)
        return await self._verdicts(GroupId(folder))

    @op("groups.unmount")
    async def unmount(self, client: Client, *, folder: str, name: str) -> object:
        """Take a mount away, from the group's next run on."""
        await self.acting.get(acts.remove_mount, GroupId(folder), name)
        return await self._verdicts(GroupId(folder))

    @op("groups.set")
    async def set(self, client: Client, *, folder: str, key: str, value: str = "") -> object:
        """Set what a group may reach and spend, from its next run on; without a value, as for everybody.

        ``answers`` (mention, reply, name or all) holds from the next message on.
        ``model`` (a name or an alias), ``egress``, ``hosts``, ``models``, ``server_tools`` (words with commas),
        ``image`` (agent or agent-browser), ``budget.day_dollars`` and so on, ``disk`` (as 5g) and ``files`` for what
        its folders may hold, and ``language`` (en, de, ...) for its searches.
        """
        document = await self.acting.get(acts.set_value, GroupId(folder), key, value)
        if key == "language":
            await indexing.refresh(self.acting.store)
        return document

    @op("groups.show")
    async def show(self, client: Client, *, folder: str) -> object:
        """What holds for a group: its chats, each setting with where it comes from, and its mounts."""
        group, chats, document = await self.acting.store.call(_row_of, GroupId(folder))
        if group is None:
            raise OpFailed("unknown_group", f"{folder[:80]!r} is not a group")
        mounts = await self._verdicts(group.folder)
        defaults = self.defaults()
        try:
            found = group_settings.standing(
                document, mounted=bool(mounts["mounts"]), defaults=defaults
            )
        except group_settings.BadSettings as error:
            raise OpFailed("failed", f"the settings of {folder} cannot be read: {error}") from None
        model = defaults.get("model", (None, "default"))
        value, source = model if group.model is None else (group.model, group_settings.OWN)
        return {
            **mounts,
            "name": group.name,
            "chats": chats,
            "trigger": group.trigger,
            "answers": group.answers,
            "allowed": group.allowed_senders,
            "others": document.get("others", "context"),
            "paused": group.paused,
            "settings": [
                attrs.asdict(
                    group_settings.Standing("model", value, source, "a model's name, as opus")
                ),
                *map(attrs.asdict, found),
            ],
        }

    @op("mounts.check")
    async def check(self, client: Client) -> object:
        """What every group's mounts come to as things are now."""
        found = await self.acting.store.call(groups.list_groups)
        return [await self._verdicts(group.folder) for group in found]

    @op("mounts.reload")
    async def reload(self, client: Client) -> object:
        """Read the allowlist anew. A run that works keeps what it has; one that is warm ends."""
        try:
            found = await trio.to_thread.run_sync(self.guards.allowed.reload)
        except BadAllowlist as error:
            raise OpFailed("bad_request", f"no extra mounts: {error}") from None
        finally:
            with_mounts = tuple(await self.acting.store.call(groups.with_mounts))
            await self.acting.carry_out(Effects(outdated=with_mounts))
        return {"roots": None if found is None else len(found.roots)}

    async def _verdicts(self, folder: GroupId) -> dict[str, object]:
        group = await self.acting.store.call(groups.get, folder)
        if group is None:
            raise OpFailed("unknown_group", f"{folder[:80]!r} is not a group")
        _, extras, trouble = await self.guards.of(group)
        return {
            "folder": folder,
            "mounts": [
                {"source": str(each.source), "target": each.target, "writable": each.writable}
                for each in extras.mounts
            ],
            "refused": [{"name": r.request.name, "reason": r.reason} for r in extras.refused],
            "notes": [*extras.notes, *([trouble] if trouble else [])],
        }


def _row_of(db: Database, folder: GroupId) -> tuple[Group | None, list[ChatId], dict[str, Any]]:
    group = groups.get(db, folder)
    if group is None:
        return None, [], {}
    return group, groups.chats_of(db, folder), groups.settings(db, folder)
