"""Who owns what in a running daemon: one nursery, and its children by name."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from pynchy.chat.console import open_console
from pynchy.clock import real_world
from pynchy.config.paths import Home
from pynchy.config.settings import Config
from pynchy.container.session import Session
from pynchy.daemon import wiring
from pynchy.daemon.edges import Edges
from pynchy.files.changes import open_watches
from pynchy.ipc.watcher import CommandService
from pynchy.model import MAIN, MAIN_CONSOLE, ChatId, Group, GroupId, RunId
from pynchy.policy.failures import CallResult
from pynchy.store import groups, turns
from pynchy.store.database import Tx, open_store
from pynchy.whatsapp.channel import Terms, WhatsApp
from tests.edges.test_whatsapp import FAKE, link
from tests.edges.whatsapp_running import no_words

SERVICES = {
    "whatsapp",
    "sender",
    "dispatcher",
    "disk guard",
    "folder changes",
    "credentials",
    "maintenance",
    "receiver console",
    "receiver whatsapp",
    "scheduler",
    "ipc",
    "watching",
    "control",
}


class Engine:
    """A container engine with nothing in it."""

    name = "none"

    async def list(self) -> list[str]:
        return []


class Agents:
    """An agent that never gets ready."""

    def __init__(self) -> None:
        self.asked = trio.Event()

    @asynccontextmanager
    async def open(
        self, group: Group, run: RunId, *_: object, **__: object
    ) -> AsyncIterator[Session]:
        self.asked.set()
        await trio.sleep_forever()
        yield

    async def sweep(self, group: GroupId, commands: CommandService) -> None: ...

    def last_call(self, run: RunId) -> CallResult | None:
        return None


async def nothing(
    *, changed: object, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    task_status.started()
    await trio.sleep_forever()


def _asked(tx: Tx) -> None:
    groups.ensure_main(tx, name="Main", trigger="Pynchy")
    turns.add(tx, turns.Work(folder=MAIN, chat=MAIN_CONSOLE, kind="notice", prompt="look", steps=0))


def whatsapp(folder: Path) -> WhatsApp:
    store = folder / "whatsapp"
    link(store)

    async def registered() -> Mapping[ChatId, Path]:
        return {}

    return WhatsApp(
        Terms(
            store=store,
            log=folder / "bridge.log",
            name="Pynchy",
            own_number=True,
            media_limit=0,
            transcribe=no_words,
            registered=registered,
            command=(sys.executable, str(FAKE), json.dumps([["connected"]])),
        )
    )


def find(name: str) -> trio.lowlevel.Task:
    """The one task of that name, wherever it is in the tree."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    tasks = [root]
    for task in tasks:
        tasks += [child for each in task.child_nurseries for child in each.child_tasks]
    (found,) = (task for task in tasks if task.name == name)
    return found


def children(task: trio.lowlevel.Task) -> list[str]:
    """The names of what its one nursery owns."""
    (nursery,) = task.child_nurseries
    return sorted(each.name for each in nursery.child_tasks)


async def test_one_nursery_owns_all_that_runs(tmp_path: Path) -> None:
    config = Config(Home(tmp_path / "home"))
    config.home.make()
    agents, up, over, world = Agents(), trio.Event(), trio.Event(), real_world()
    signals_in, signals = trio.open_memory_channel[int](1)
    with trio.fail_after(60), open_watches() as watches:
        async with open_store(config.home.database) as store, trio.open_nursery() as nursery:
            await store.call(_asked)
            async with open_console(now=world.now, new_id=world.new_id) as console:
                channel = whatsapp(tmp_path)
                edges = Edges(
                    store,
                    Engine(),  # type: ignore[arg-type]
                    {console.name: console, channel.name: channel},
                    agents,
                    world,
                    "none",
                    console=console,
                    whatsapp=channel,
                    renewal=nothing,
                    has_home=True,
                    watches=watches,
                )

                async def serve() -> None:
                    await wiring.serve(config, edges, signals=signals, ready=up.set)
                    over.set()

                nursery.start_soon(serve, name="daemon")
                await up.wait()
                await agents.asked.wait()
                assert children(find("daemon")) == sorted({*SERVICES, "turns of main"})
                bridge = channel._bridge
                assert bridge is not None
                signals_in.send_nowait(signal.SIGTERM)
                signals_in.send_nowait(signal.SIGTERM)  # the agent would use its time to finish
                await over.wait()
                assert bridge.returncode == 0, "it was told to go, and waited for"
