"""A daemon that is linked and connected, with people and a group: what most tests begin with."""

from __future__ import annotations

import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import attrs
import pytest

from tests.whatsapp_server.installation import Daemon, Installation
from tests.whatsapp_server.people import Group, Person
from tests.whatsapp_server.server import Account, WhatsApp, open_whatsapp_server

#: For tests with the library in them: it is read and changed as Linux loads it, and a start takes seconds.
real_library: Final = [
    pytest.mark.skipif(sys.platform != "linux", reason="the library is changed in memory"),
    pytest.mark.limit(300),
]


@attrs.frozen
class Linked:
    """A home that is linked already, to begin with a copy of it: linking takes ten seconds."""

    home: Path
    account: Account


@attrs.define(eq=False)
class Household:
    """All of it. The group is registered as ``family``, and everything that is said in it is answered."""

    whatsapp: WhatsApp
    pynchy: Installation
    alice: Person
    bob: Person
    family: Group
    _open: AsyncExitStack
    _daemon: Daemon | None = None

    @property
    def daemon(self) -> Daemon:
        """The one that was started last."""
        assert self._daemon is not None
        return self._daemon

    async def start(self) -> None:
        """Start a daemon, the first one or after the end of another."""
        self._daemon = await self._open.enter_async_context(self.pynchy.daemon())

    async def start_connected(self) -> None:
        """Start one, and wait until WhatsApp is there."""
        await self.start()
        await self.whatsapp.until_connected()


@asynccontextmanager
async def open_household(
    root: Path,
    *,
    linked: Linked | None = None,
    link: bool = True,
    start: bool = True,
    **sections: dict[str, object],
) -> AsyncIterator[Household]:
    """Have one for the length of the block; main is the account's chat with itself. ``start``: with a daemon that is
    connected. Without a home that is ``linked``, a code is scanned, unless ``link`` is false."""
    account = None if linked is None else linked.account
    async with (
        open_whatsapp_server(root / "whatsapp", account) as whatsapp,
        AsyncExitStack() as stack,
    ):
        alice, bob = whatsapp.person("Alice"), whatsapp.person("Bob")
        family = whatsapp.group("Family", [alice, bob])
        if linked is not None:
            shutil.copytree(linked.home, root / "home", dirs_exist_ok=True)
        pynchy = Installation.make(root / "home", whatsapp, **sections)
        if linked is None and link:
            done = await pynchy.link()
            assert done.code == 0, done.text
        house = Household(whatsapp, pynchy, alice, bob, family, stack)
        if start:
            await house.start_connected()
            if linked is None:
                await pynchy.register(family, "family")
        yield house


async def link_once(root: Path) -> Linked:
    """A home that is linked, for many households after it."""
    async with open_household(root) as house:
        await house.daemon.stop()
        return Linked(house.pynchy.home.root, house.whatsapp.account)
