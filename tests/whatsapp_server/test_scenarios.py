"""The scenarios that take seconds, each with its promises. `just whatsapp` plays them all."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.whatsapp_server.household import Linked, link_once, real_library
from tests.whatsapp_server.scenarios import STORIES, play

pytestmark = real_library


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Linked:
    return trio.run(link_once, tmp_path_factory.mktemp("linked"))


@pytest.mark.parametrize("name", [each.name for each in STORIES.values() if each.in_ci])
async def test_promises_are_kept(name: str, linked: Linked, tmp_path: Path) -> None:
    row = await play(STORIES[name], tmp_path, linked)
    assert row.broken == [], row
