"""A bridge that is run by a test in the daemon's place, and the WhatsApp that it is linked to."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs
import trio

from pynchy.config.environ import for_whatsapp
from pynchy.whatsapp import lines
from pynchy.whatsapp.channel import COMMAND, GOODBYE
from pynchy_agent.wire import LineBuffer
from tests.bridge_contract.frames import (
    LINKING,
    RUNNING,
    Answer,
    Arrived,
    Frame,
    Qr,
    StateIs,
    read_frame,
)
from tests.whatsapp_server.installation import HERE as SERVER
from tests.whatsapp_server.people import Group, Person, Said
from tests.whatsapp_server.server import Account, WhatsApp, open_whatsapp_server
from tests.whatsapp_server.signal import REGISTRATION
from tests.whatsapp_server.stanza import Node

OTHER: Final = shlex.split(os.environ.get("PYNCHY_TEST_BRIDGE", ""))
#: The bridge is ours, over neonize.
NEONIZE: Final = not OTHER
BRIDGE: Final = OTHER or [*COMMAND]
WAIT: Final = 40.0  # seconds until something counts as never coming

F = TypeVar("F")


@attrs.define(eq=False)
class Bridge:
    """A bridge that runs. ``seen`` is what it said, in order."""

    process: trio.Process
    _known: dict[str, type[Frame]]
    seen: list[Frame] = attrs.field(factory=list)
    _last_request: int = 0
    _changed: trio.Event = attrs.field(factory=trio.Event)

    async def say(self, line: str, **fields: object) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.send_all(lines.encode({"line": line, **fields}))

    async def ask(self, line: str, **fields: object) -> Answer:
        """Ask, and return the answer."""
        self._last_request += 1
        request = self._last_request
        await self.say(line, request=request, **fields)
        return await self.hear(Answer, lambda answer: answer.request == request)

    async def send(self, message_id: str, chat: str, text: str = "", **fields: Any) -> Answer:
        """Have something sent, with all fields that the daemon would give."""
        others = {"path": None, "target": None, "target_sender": None, "target_text": None}
        line = {"message_id": message_id, "chat": chat, "kind": "text", "text": text, **others}
        return await self.ask("send", **{**line, **fields})

    async def acknowledge(self, *numbers: int) -> None:
        await self.say("ack", numbers=numbers)

    def of(self, kind: type[F]) -> list[F]:
        return [each for each in self.seen if isinstance(each, kind)]

    @property
    def texts(self) -> list[str]:
        """What was handed over, in order."""
        return [each.message.text for each in self.of(Arrived)]

    async def hear(self, kind: type[F], wanted: Callable[[F], object] = lambda _: True) -> F:
        """The first frame of this kind that is wanted: said already, or yet to come."""
        with trio.move_on_after(WAIT):
            while not (found := [each for each in self.of(kind) if wanted(each)]):
                await self._changed.wait()
            return found[0]
        raise AssertionError(f"no such {kind.__name__} came; {self.seen[-10:]}")

    async def hear_text(self, text: str, *, times: int = 1) -> Arrived:
        """The message with this text, when it has come so often."""

        def met() -> list[Arrived]:
            return [each for each in self.of(Arrived) if each.message.text == text]

        with trio.move_on_after(WAIT):
            while len(met()) < times:
                await self._changed.wait()
            return met()[times - 1]
        raise AssertionError(f"{text} did not come {times} times; {self.seen[-10:]}")

    async def until_state(self, state: str) -> StateIs:
        return await self.hear(StateIs, lambda each: each.state == state)

    async def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        await self.process.wait()

    async def leave(self) -> int | None:
        """Close its input, and wait as long as the daemon does; None if it had to be killed."""
        assert self.process.stdin is not None
        with suppress(trio.BrokenResourceError):
            await self.process.stdin.aclose()
        with trio.move_on_after(GOODBYE):
            return await self.process.wait()
        await self.kill()
        return None

    async def read(self) -> None:
        """Take in what it says, to its end."""
        assert self.process.stdout is not None
        buffer = LineBuffer(lines.LONGEST)
        async for chunk in self.process.stdout:
            buffer.feed(bytes(chunk))
            while (raw := buffer.pop()) is not None:
                self.seen.append(read_frame(raw, self._known))
            self._changed.set()
            self._changed = trio.Event()


@attrs.frozen
class Linked:
    """A store that a bridge has linked, what it said while it did, and the account."""

    store: Path
    said: Sequence[Frame]
    code: int
    account: Account


@attrs.define(eq=False)
class World:
    """WhatsApp, people, a group and the store of a bridge. The group and Alice's chat are registered."""

    root: Path
    whatsapp: WhatsApp
    alice: Person
    bob: Person
    family: Group

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def chats(self) -> dict[str, str]:
        return {
            self.family.jid: str(self.root / "family"),
            self.alice.jid: str(self.root / "alice"),
        }

    @asynccontextmanager
    async def process(self, *arguments: str, linking: bool = False) -> AsyncIterator[Bridge]:
        """A bridge that was told nothing yet. It is gone after the block."""
        environ = for_whatsapp(
            os.environ,
            proxy=f"http://127.0.0.1:{self.whatsapp.port}",
            ca_file=self.whatsapp.folder / "ca.pem",
        )
        environ["PYTHONPATH"] = str(SERVER / "in_bridge")
        environ["PYNCHY_TEST_WHATSAPP_ROOT_KEY"] = self.whatsapp.identity.root.public.hex()
        process = await trio.lowlevel.open_process(
            [*BRIDGE, str(self.store), "--log", str(self.root / "log"), *arguments],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        bridge = Bridge(process, LINKING if linking else RUNNING)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(bridge.read)
                yield bridge
                await bridge.leave()
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()

    @asynccontextmanager
    async def started(self) -> AsyncIterator[Bridge]:
        """One that was told to start, and nothing more."""
        async with self.process() as bridge:
            await bridge.say(
                "start", name="Pynchy", chats=self.chats, media_limit=1000, shared=False
            )
            yield bridge

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Bridge]:
        """One that is connected, and may hand over messages."""
        async with self.started() as bridge:
            await bridge.say("ready")
            await bridge.until_state("connected")
            await self.whatsapp.until_connected()
            yield bridge


@asynccontextmanager
async def open_world(root: Path, linked: Linked | None = None) -> AsyncIterator[World]:
    """Have one for the length of the block; without a ``linked`` store no account is linked."""
    account = None if linked is None else linked.account
    async with open_whatsapp_server(root / "whatsapp", account) as whatsapp:
        alice, bob = whatsapp.person("Alice"), whatsapp.person("Bob")
        family = whatsapp.group("Family", [alice, bob])
        if linked is not None:
            shutil.copytree(linked.store, root / "store")
        yield World(root, whatsapp, alice, bob, family)


async def link(root: Path) -> Linked:
    """Have the bridge link an account by a code that is scanned."""
    async with open_world(root) as world:
        async with world.process("--pair", linking=True) as bridge:
            world.whatsapp.phone.scan((await bridge.hear(Qr)).data)
            with trio.fail_after(WAIT):
                code = await bridge.process.wait()
        return Linked(world.store, bridge.seen, code, world.whatsapp.account)


async def ask_again(whatsapp: WhatsApp, said: Said, *, limit: float = 20.0) -> None:
    """A phone asks for it, and has it under the same id within the limit."""
    before, now = len(whatsapp.said), str(int(time.time()))
    told = {"from": said.chat, "id": said.id, "type": "retry", "t": now}
    retry = Node("retry", {"v": "1", "count": "1", "id": said.id, "t": now})
    number = Node("registration", {}, REGISTRATION.to_bytes(4, "big"))
    whatsapp.tell(Node("receipt", {**told}, [retry, number]))
    await whatsapp.until(lambda: len(whatsapp.said) > before, limit=limit)
    assert (whatsapp.said[-1].id, whatsapp.said[-1].text) == (said.id, said.text)
