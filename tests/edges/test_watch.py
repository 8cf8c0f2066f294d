"""Being told that something changed, over a real control socket and a real store."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio
import trio.testing

from pynchy.config.paths import Home
from pynchy.control import server
from pynchy.control.subscriptions import FRESH, KEPT, Watching
from pynchy.model import GroupId, Micros
from pynchy.store import groups
from pynchy.store.database import Store, open_store
from tests.edges.small_daemon import running
from tests.edges.test_control import Lines
from tests.transactions import at

MAIN = (GroupId("main"), None)


@asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[tuple[Watching, Store, Lines]]:
    """A store whose changes are told, and somebody who watches."""
    watching = Watching(lambda: Micros(7))
    with trio.fail_after(60):
        async with open_store(folder / "pynchy.db") as store, trio.open_nursery() as nursery:
            store.tell_changes(watching.changed)
            await nursery.start(watching.run)
            await nursery.start(partial(server.run, folder / "s", server.ops_of(watching)))
            async with await trio.open_unix_socket(folder / "s") as stream:
                client = Lines(stream)
                assert await client.ask(id=1, op="watch") == {
                    "id": 1,
                    "ok": True,
                    "result": {"steps": []},
                }
                yield watching, store, client
            nursery.cancel_scope.cancel()


async def test_who_watches_is_told_of_a_commit_and_not_of_a_look(tmp_path: Path) -> None:
    async with watched(tmp_path) as (watching, store, client):
        await store.call(groups.list_groups)
        await trio.testing.wait_all_tasks_blocked()
        assert not watching._rung.is_set()
        watching.step(MAIN, "nothing was told before this")
        assert await client.hear() == {
            "event": "changed",
            "steps": [
                {
                    "group": "main",
                    "helper": None,
                    "at": 7,
                    "what": "nothing was told before this",
                }
            ],
        }
        await store.call(at(Micros(1), groups.ensure_main), name="Main", trigger="Pynchy")
        assert await client.hear() == {"event": "changed", "steps": []}


async def test_a_flood_is_told_as_one_and_bounded(tmp_path: Path) -> None:
    async with watched(tmp_path) as (watching, _, client):
        for number in range(FRESH * 3):
            watching.step(MAIN, str(number))
        told = await client.hear()
        assert told is not None
        steps = told["steps"]
        assert isinstance(steps, list)
        assert [step["what"] for step in steps] == [str(n) for n in range(FRESH * 2, FRESH * 3)]
        again = await client.ask(id=2, op="watch")
        assert again is not None
        result = again["result"]
        assert isinstance(result, dict)
        assert len(result["steps"]) == KEPT
        watching.over(MAIN)
        assert await client.hear() == {"event": "changed", "steps": []}
        assert await client.ask(id=3, op="watch") == {
            "id": 3,
            "ok": True,
            "result": {"steps": []},
        }


async def test_who_has_gone_is_forgotten(tmp_path: Path) -> None:
    async with watched(tmp_path) as (watching, _, client):
        await client.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert watching._clients == {}
        watching.changed()
        assert not watching._rung.is_set()


async def test_a_group_is_stopped_paused_and_resumed(tmp_path: Path) -> None:
    async with (
        running(Home(tmp_path)) as daemon,
        await trio.open_unix_socket(daemon.home.control_socket) as stream,
    ):
        client = Lines(stream)
        for number, op in enumerate(("groups.pause", "groups.pause", "groups.resume")):
            answer = await client.ask(id=number, op=op, folder="main")
            assert answer is not None
            assert answer["result"] == {"folder": "main", "paused": op == "groups.pause"}
        assert daemon.paused == [("main", True), ("main", False)]
        stopped = await client.ask(id=9, op="groups.stop", folder="main")
        assert stopped is not None
        assert stopped["result"] == {"folder": "main", "stopped": 0}
        assert daemon.stopped == []
        unknown = await client.ask(id=10, op="groups.stop", folder="nowhere")
        assert unknown is not None
        assert unknown["code"] == "unknown_group"
