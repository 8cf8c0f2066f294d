"""A group's mounts and limits: read for each run, changed by control ops.

The rule that keeps it so: an agent's words never come here. What a run gets follows from the rows and from the
allowlist file alone, and what cannot be given is left out and said.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import attrs
import trio

from pynchy.container.mounts.extra import Allowed, Extras
from pynchy.model import Group, GroupId
from pynchy.policy import group_settings
from pynchy.store import groups
from pynchy.store.database import Database, Store


@attrs.frozen
class Guards:
    """The allowlist and the groups' settings, for the runs and for the owner."""

    store: Store
    allowed: Allowed

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
