"""A group's mounts and limits: read for each run, changed by control ops.

The rule that keeps it so: an agent's words never come here. What a run gets follows from the rows and from the
allowlist file alone, and what cannot be given is left out and said.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import attrs
import trio

from pynchy.container.mounts.extra import Allowed, Extras
from pynchy.container.mounts.rules import BadAllowlist, Wish, name_after
from pynchy.control.server import Client, Op, OpFailed
from pynchy.model import Group, GroupId, Micros
from pynchy.policy import group_settings
from pynchy.store import groups, guard_reports
from pynchy.store.database import Database, Store, Tx


async def _nobody(group: GroupId) -> None:
    pass


@attrs.frozen
class Guards:
    """The allowlist and the groups' settings, for the runs and for the owner.

    ``outdated`` is told of each group whose next run gets something else than one that goes on.
    """

    store: Store
    allowed: Allowed
    now: Callable[[], Micros]
    outdated: Callable[[GroupId], Awaitable[None]] = _nobody

    @property
    def ops(self) -> Mapping[str, Op]:
        return {
            "groups.mount": self.mount,
            "groups.unmount": self.unmount,
            "groups.set": self.set,
            "mounts.check": self.check,
            "mounts.reload": self.reload,
        }

    async def of(self, group: Group) -> tuple[group_settings.Settings, Extras, str]:
        """A group's settings and what it gets of its mounts; and, where the settings cannot be read, why: then
        everything beyond its own folder is closed to it."""
        row, rows = await self.store.call(_settings_of, group.folder)
        try:
            mine = group_settings.read(row)
        except group_settings.BadSettings as error:
            return group_settings.CLOSED, Extras(), str(error)
        others = [
            (found.mounts, folder == "main")
            for folder, row in rows.items()
            if folder != group.folder and (found := _readable(row)) is not None
        ]
        look = partial(self.allowed.extras, mine.mounts, is_main=group.is_main, others=others)
        return mine, await trio.to_thread.run_sync(look), ""

    async def mount(
        self, client: Client, *, folder: str, path: str, name: str = "", writable: bool = False
    ) -> object:
        """Give a group a folder of this machine as ``/workspace/extra/NAME``, from its next run on.

        The answer says whether the allowlist lets it through. A run that is warm ends.
        """
        wish = Wish(path, name or name_after(path), writable)
        await self.store.call(_change_mounts, GroupId(folder), add=wish, remove="")
        await self.outdated(GroupId(folder))
        return await self._verdicts(GroupId(folder))

    async def unmount(self, client: Client, *, folder: str, name: str) -> object:
        """Take a mount away, from the group's next run on."""
        await self.store.call(_change_mounts, GroupId(folder), add=None, remove=name)
        await self.outdated(GroupId(folder))
        return await self._verdicts(GroupId(folder))

    async def set(self, client: Client, *, folder: str, key: str, value: str = "") -> object:
        """Set what a group may reach and spend, from its next run on; without a value, as for everybody.

        ``egress``, ``hosts``, ``models``, ``server_tools`` (words with commas), ``image`` (agent or
        agent-browser), ``budget.day_dollars`` and so on, and ``disk`` (as 5g) and ``files`` for what its folders
        may hold.
        """
        after = await self.store.call(_change_value, GroupId(folder), key=key, value=value)
        await self.outdated(GroupId(folder))
        return after

    async def check(self, client: Client) -> object:
        """What every group's mounts come to as things are now."""
        found = await self.store.call(groups.list_groups)
        return [await self._verdicts(group.folder) for group in found]

    async def reload(self, client: Client) -> object:
        """Read the allowlist anew. A run that works keeps what it has; one that is warm ends."""
        try:
            found = await trio.to_thread.run_sync(self.allowed.reload)
        except BadAllowlist as error:
            raise OpFailed("bad_request", f"no extra mounts: {error}") from None
        finally:
            for folder in await self.store.call(groups.with_mounts):
                await self.outdated(folder)
        return {"roots": None if found is None else len(found.roots)}

    async def _verdicts(self, folder: GroupId) -> dict[str, object]:
        group = await self.store.call(groups.get, folder)
        if group is None:
            raise OpFailed("unknown_group", f"{folder[:80]!r} is not a group")
        _, extras, trouble = await self.of(group)
        return {
            "folder": folder,
            "mounts": [
                {"source": str(each.source), "target": each.target, "writable": each.writable}
                for each in extras.mounts
            ],
            "refused": [{"name": r.wish.name, "reason": r.reason} for r in extras.refused],
            "notes": [*extras.notes, *([trouble] if trouble else [])],
        }


def _settings_of(
    db: Database, folder: GroupId
) -> tuple[dict[str, Any], dict[GroupId, dict[str, Any]]]:
    """A group's settings; and, if it has mounts, those of all groups that have, for one may bear on another."""
    mine = groups.settings(db, folder)
    return mine, groups.with_mounts(db) if mine.get("mounts") else {}


def _readable(row: Mapping[str, Any]) -> group_settings.Settings | None:
    try:
        return group_settings.read(row)
    except group_settings.BadSettings:
        return None  # that group gets nothing either


def _change_value(tx: Tx, folder: GroupId, *, key: str, value: str) -> dict[str, Any]:
    if groups.get(tx, folder) is None:
        raise OpFailed("unknown_group", f"{folder[:80]!r} is not a group")
    try:
        after = group_settings.with_value(groups.settings(tx, folder), key, value)
    except group_settings.BadSettings as error:
        raise OpFailed("bad_request", str(error)) from None
    groups.set_settings(tx, folder, after)
    detail: dict[str, object] = {"key": key, "value": value[:200]}
    guard_reports.settings_changed(tx, folder=folder, action="setting changed", detail=detail)
    return after


def _change_mounts(tx: Tx, folder: GroupId, *, add: Wish | None, remove: str) -> None:
    if groups.get(tx, folder) is None:
        raise OpFailed("unknown_group", f"{folder[:80]!r} is not a group")
    before = groups.settings(tx, folder)
    after = (
        group_settings.with_mount(before, add)
        if add
        else group_settings.without_mount(before, remove)
    )
    if after is None:
        raise OpFailed("bad_request", f"{folder} has no mount {remove[:80]!r}")
    try:
        group_settings.read(after)
    except group_settings.BadSettings as error:
        raise OpFailed("bad_request", str(error)) from None
    groups.set_settings(tx, folder, after)
    detail: dict[str, object] = {**attrs.asdict(add)} if add else {"name": remove}
    action = "mount added" if add else "mount removed"
    guard_reports.settings_changed(tx, folder=folder, action=action, detail=detail)
