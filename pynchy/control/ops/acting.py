"""Run an act in the owner's name for a control op, then carry out what follows.

Procedure. Whoever reaches the control socket is the owner.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import attrs

from pynchy.actions.actor import OWNER, Actor
from pynchy.actions.effects import Effects
from pynchy.actions.refused import Refused
from pynchy.control.server import OpFailed
from pynchy.limits import LISTS
from pynchy.model import GroupId
from pynchy.schedule.times import spell
from pynchy.store import groups
from pynchy.store.connection import TooLong
from pynchy.store.database import Store, Tx

_CONSOLE_CHAT: Final = re.compile(r"console:[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)

P = ParamSpec("P")
T = TypeVar("T")


@attrs.frozen
class Acting:
    """``carry_out`` does what follows from an act once it is committed."""

    store: Store
    carry_out: Callable[[Effects], Awaitable[None]]

    async def act(
        self, fn: Callable[Concatenate[Tx, Actor, P], Effects], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Do it, and what follows. Raises `OpFailed` if it is refused."""
        await self.get(lambda tx, actor: (None, fn(tx, actor, *args, **kwargs)))

    async def get(
        self,
        fn: Callable[Concatenate[Tx, Actor, P], tuple[T, Effects]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """The same, for an act that has something to tell."""
        try:
            value, effects = await self.store.call(fn, OWNER, *args, **kwargs)
        except Refused as error:
            raise OpFailed(error.code, str(error)) from None
        if effects:
            await self.carry_out(effects)
        return value


def shown(value: Any, timezone: str) -> dict[str, Any]:
    """A value or a row as an answer has it: with its moments (``at``, ``…_at``) in the people's time."""
    row = value if isinstance(value, dict) else attrs.asdict(value, recurse=False)
    moments = [name for name in row if name == "at" or name.endswith("_at")]
    return {**row, **{name: row[name] and spell(row[name], timezone) for name in moments}}


async def group_of(store: Store, name: str) -> GroupId:
    """The group of this folder. Raises `OpFailed`."""
    found = await store.call(groups.get, GroupId(name))
    if found is None:
        raise OpFailed("unknown_group", f"{name[:80]!r} is not a group")
    return found.folder


async def searched(
    store: Store, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Look beside the store's calls. Raises `OpFailed` if it takes too long."""
    try:
        return await store.read(fn, *args, **kwargs)
    except TooLong as error:
        raise OpFailed("failed", f"the search was given up: {error}") from None


def check_chat(chat: str) -> None:
    """Raise `OpFailed` unless this is the name of a console chat."""
    if not _CONSOLE_CHAT.fullmatch(chat):
        raise OpFailed("not_a_console", f"{chat[:80]!r}: expected console: and a name in a-z, 0-9")


def bounded(limit: int, most: int = LISTS.rows) -> int:
    """A number of rows to answer with. Raises `OpFailed`."""
    if not 1 <= limit <= most:
        raise OpFailed("bad_request", f"limit: expected 1 to {most}")
    return limit
