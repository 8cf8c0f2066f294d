"""A new credential: taken up when its file changes, and by the next call of the model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio

from pynchy.config import credentials
from pynchy.config.paths import Home
from pynchy.config.settings import Credential
from pynchy.config.sources import credential_now
from pynchy.files.changes import open_watches
from tests.end_to_end.house import HANG


@attrs.define
class Seen:
    """What came of it."""

    home: Home
    used: list[str] = attrs.field(factory=list)
    bell: trio.Event = attrs.field(factory=trio.Event)

    async def changed(self) -> None:
        await trio.lowlevel.checkpoint()
        self.bell.set()

    def use(self, found: Credential) -> None:
        self.used.append(found.secret)

    async def next(self) -> None:
        with trio.fail_after(HANG):
            await self.bell.wait()
        self.bell = trio.Event()


@asynccontextmanager
async def watched(tmp_path: Path, **environ: str) -> AsyncIterator[Seen]:
    home = Home(tmp_path)
    home.env.write_text("ANTHROPIC_API_KEY=sk-old\n")
    seen = Seen(home)
    with open_watches() as watches:
        run = partial(
            credentials.run,
            home.root,
            watches,
            read=partial(credential_now, environ, home),
            use=seen.use,
            changed=seen.changed,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(watches.listen)
            await nursery.start(run)
            yield seen
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["in place", "renamed"])
async def test_a_new_key_is_taken_up(tmp_path: Path, how: str) -> None:
    async with watched(tmp_path) as seen:
        path = seen.home.env if how == "in place" else seen.home.root / "new"
        path.write_text("ANTHROPIC_API_KEY=sk-new\n")
        if how == "renamed":
            path.replace(seen.home.env)
        await seen.next()
        seen.home.env.write_text("CLAUDE_CODE_OAUTH_TOKEN=token\n")
        await seen.next()
    assert seen.used == ["sk-new", "token"]


async def test_what_is_no_new_key_changes_nothing(tmp_path: Path) -> None:
    async with watched(tmp_path) as seen:
        (tmp_path / "config.toml").write_text("")
        seen.home.env.write_text("# gone\n")
        seen.home.env.write_text("ANTHROPIC_API_KEY='half\n")
        seen.home.env.write_bytes(b"\xff\n")
        seen.home.env.write_text("ANTHROPIC_API_KEY=two words\n")
        seen.home.env.write_text("ANTHROPIC_API_KEY=sk-old\n")
        seen.home.env.write_text("ANTHROPIC_API_KEY=sk-new\n")  # the first that is one
        await seen.next()
    assert seen.used == ["sk-new"]


async def test_a_key_of_the_environment_wins_as_it_does_at_the_start(tmp_path: Path) -> None:
    async with watched(tmp_path, ANTHROPIC_API_KEY="sk-environment") as seen:
        seen.home.env.write_text("ANTHROPIC_API_KEY=sk-new\n")
        with trio.move_on_after(0.3):
            await seen.bell.wait()
    assert seen.used == []
