"""A daemon that is linked and connected, with people and a group: what most tests begin with."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import attrs
import pytest

from tests.whatsapp_server.installation import Daemon, Installation
from tests.whatsapp_server.people import Group, Person
from tests.whatsapp_server.server import WhatsApp, open_whatsapp_server

#: For tests with the library in them: it is read and changed as Linux loads it, and a start takes seconds.
real_library: Final = [
    pytest.mark.skipif(sys.platform != "linux", reason="the library is changed in memory"),
    pytest.mark.limit(300),
]


@attrs.define
class Household:
    """All of it. The group is registered as ``family``, and everything that is said in it is answered."""

    whatsapp: WhatsApp
    pynchy: Installation
    daemon: Daemon
    alice: Person
    bob: Person
    family: Group


@asynccontextmanager
async def open_household(root: Path, **sections: dict[str, object]) -> AsyncIterator[Household]:
    """Have one for the length of the block, linked by a scanned code; main is the account's chat with itself."""
    async with open_whatsapp_server(root / "whatsapp") as whatsapp:
        alice, bob = whatsapp.person("Alice"), whatsapp.person("Bob")
        family = whatsapp.group("Family", [alice, bob])
        pynchy = Installation.make(root / "home", whatsapp, **sections)
        linked = await pynchy.link()
        assert linked.code == 0, linked.text
        async with pynchy.daemon() as daemon:
            await whatsapp.until_connected()
            await pynchy.register(family, "family")
            yield Household(whatsapp, pynchy, daemon, alice, bob, family)
