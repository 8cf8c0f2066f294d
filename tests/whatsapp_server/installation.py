"""A whole Pynchy that is linked to the server: its home, its commands and its daemon, from outside as people have it.

Nothing in it is replaced but the root key that the library trusts (in_bridge/sitecustomize.py). Its way to WhatsApp is
the product's own settings for a proxy and its certificates; its agent is agent.py.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any, Final

import attrs
import trio
import zxingcpp
from PIL import Image, UnidentifiedImageError

from pynchy.config.paths import Home
from pynchy.model import GroupId
from tests.end_to_end.house import environment
from tests.processes import below
from tests.whatsapp_server.people import Group
from tests.whatsapp_server.server import WhatsApp

HERE: Final = Path(__file__).resolve().parent
AGENT: Final = HERE / "agent.py"
GLANCE: Final = 0.1  # seconds between two looks at what cannot be waited for
WAIT: Final = 60.0  # seconds until a command or a daemon counts as hanging


@attrs.frozen
class Output:
    """What a command printed, and its exit code."""

    code: int
    text: str


@attrs.define(eq=False)
class Daemon:
    """A `pynchy run`, and the bridge below it."""

    process: trio.Process
    _installation: Installation

    @property
    def bridges(self) -> list[int]:
        """The processes of its bridge: one, none while it starts another."""
        found = []
        for each in below(self.process.pid):
            with suppress(OSError):  # it ended while we looked
                line = Path(f"/proc/{each}/cmdline").read_bytes().split(b"\0")
                if b"pynchy.whatsapp.bridge" in line:
                    found.append(each)
        return found

    async def bridge(self) -> int:
        """Its bridge, once there is one."""
        with trio.fail_after(WAIT):
            while not (found := self.bridges):  # noqa: ASYNC110 - another's child has no event
                await trio.sleep(GLANCE)
        return found[0]

    async def kill_bridge(self, how: signal.Signals = signal.SIGKILL) -> int:
        """Send its bridge a signal; which process that was."""
        bridge = await self.bridge()
        with suppress(ProcessLookupError):
            os.kill(bridge, how)
        return bridge

    async def kill(self) -> None:
        """Kill it, as a power cut would, and wait for its end. Its bridge sees its input close."""
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        """Stop it in order; its exit code."""
        self.process.terminate()
        with trio.fail_after(WAIT):
            return await self.process.wait()

    async def state(self) -> str:
        """What it says of WhatsApp: the state alone, without the words behind it."""
        status = await self.ask("status")
        return str(status["channels"]["whatsapp"]).partition(" ")[0]

    async def ask(self, op: str, **arguments: object) -> Any:
        """What it answers over its control socket."""
        home = self._installation.home
        with trio.fail_after(WAIT):
            async with await trio.open_unix_socket(str(home.control_socket)) as stream:
                question = {"id": 1, "op": op, **arguments}
                await stream.send_all(json.dumps(question).encode() + b"\n")
                line = b""
                while not line.endswith(b"\n"):
                    line += bytes(await stream.receive_some())
        answer = json.loads(line)
        assert answer["ok"], answer
        return answer["result"]

    async def until_state(self, state: str, *, limit: float = WAIT) -> None:
        """Wait until it says this of WhatsApp; `AssertionError`, with what it says instead."""
        found = ""
        with trio.move_on_after(limit):
            while (found := await self.state()) != state:  # noqa: ASYNC110 - a question each time
                await trio.sleep(GLANCE)
            return
        raise AssertionError(f"{found} after {limit:g} s, not {state}")


@attrs.define(eq=False)
class Installation:
    """A home of Pynchy on this machine, whose WhatsApp is the server of the test."""

    home: Home
    whatsapp: WhatsApp

    @classmethod
    def make(cls, root: Path, whatsapp: WhatsApp, **sections: dict[str, object]) -> Installation:
        """A new home, with these sections of configuration besides what the test needs."""
        home = Home(root)
        home.make()
        home.shared.mkdir(parents=True, exist_ok=True)
        shutil.copy(AGENT, home.shared)  # what every group's agent may read
        settings: dict[str, dict[str, object]] = {
            "whatsapp": {"enabled": True},
            "container": {
                "engine": "bwrap",
                "command": ["python3", "-u", f"/workspace/global/{AGENT.name}"],
            },
            "gateway": {
                "proxy": f"http://127.0.0.1:{whatsapp.port}",
                "ca_file": str(whatsapp.folder / "ca.pem"),
            },
        }
        for name, values in sections.items():
            settings[name] = settings.get(name, {}) | values
        lines = []
        for name, values in settings.items():
            lines.append(f"[{name}]")
            # JSON's texts, numbers, booleans and lists are TOML's too.
            lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
        home.config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return cls(home, whatsapp)

    @property
    def environ(self) -> dict[str, str]:
        return environment(
            self.home.root,
            PYTHONPATH=str(HERE / "in_bridge"),
            PYNCHY_TEST_WHATSAPP_ROOT_KEY=self.whatsapp.identity.root.public.hex(),
        )

    async def run(self, *arguments: str, limit: float = WAIT) -> Output:
        """Run a command of Pynchy to its end."""
        with trio.fail_after(limit):
            done = await trio.run_process(
                [sys.executable, "-m", "pynchy", *arguments],
                env=self.environ,
                stdin=b"",
                capture_stdout=True,
                stderr=subprocess.STDOUT,
                check=False,
            )
        return Output(done.returncode, done.stdout.decode(errors="replace"))

    async def link(self, *arguments: str, main: str = "self") -> Output:
        """`pynchy auth whatsapp`, with a phone that scans the code in the picture."""
        png = self.home.root / "code.png"
        async with self._linking("--png", str(png), "--main", main, *arguments) as linking:
            await linking.shown("^Scan it")
            self.whatsapp.phone.scan(await _scanned(png))
            return await linking.wait()

    async def link_by_code(self, *arguments: str, main: str = "self") -> Output:
        """The same, with a phone on which the code is typed in that is shown."""
        number = self.whatsapp.phone.number
        async with self._linking("--phone", number, "--main", main, *arguments) as linking:
            self.whatsapp.phone.type_code(await linking.shown(r"[A-Z0-9]{4}-[A-Z0-9]{4}"))
            return await linking.wait()

    @asynccontextmanager
    async def _linking(self, *arguments: str) -> AsyncIterator[Running]:
        argv = [sys.executable, "-u", "-m", "pynchy", "auth", "whatsapp", *arguments]
        async with _open_process(argv, self.environ) as process:
            yield Running(process)

    @asynccontextmanager
    async def daemon(self, *arguments: str) -> AsyncIterator[Daemon]:
        """A daemon that is ready, until the end of the block. It is stopped then, if it has not ended."""
        argv = [sys.executable, "-m", "pynchy", "run", "--offline", *arguments]
        async with _open_process(argv, self.environ) as process:
            await Running(process).shown(r"^ready$")
            daemon = Daemon(process, self)
            yield daemon
            if process.returncode is None:
                await daemon.stop()

    async def register(self, group: Group, folder: str) -> None:
        """Have a group answered, whatever is said in it."""
        added = await self.run("groups", "add", group.jid, "--folder", folder, "--no-trigger")
        assert added.code == 0, added.text

    def media(self, folder: str) -> list[Path]:
        """The files that came in for a group."""
        return sorted(
            path for path in self.home.media(GroupId(folder)).rglob("*") if path.is_file()
        )

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of its database, as they are now."""
        path = f"file:{self.home.database}?mode=ro"
        with closing(sqlite3.connect(path, uri=True, timeout=10)) as db:
            return db.execute(query, values).fetchall()


@attrs.define(eq=False)
class Running:
    """A command that prints."""

    process: trio.Process
    text: str = ""

    async def shown(self, pattern: str) -> str:
        """What it prints that looks like this. If it ends without: `AssertionError` with all that it printed."""
        assert self.process.stdout is not None
        with trio.fail_after(WAIT):
            while not (found := re.search(pattern, self.text, re.MULTILINE)):
                chunk = await self.process.stdout.receive_some()
                assert chunk, f"it ended: {self.text}"
                self.text += bytes(chunk).decode(errors="replace")
        return found[0]

    async def wait(self) -> Output:
        """All that it has printed, at its end."""
        assert self.process.stdout is not None
        with trio.move_on_after(WAIT):
            async for chunk in self.process.stdout:
                self.text += bytes(chunk).decode(errors="replace")
            return Output(await self.process.wait(), self.text)
        raise AssertionError(f"it does not end: {self.text[-500:]}")


@asynccontextmanager
async def _open_process(
    argv: Sequence[str], environ: dict[str, str]
) -> AsyncIterator[trio.Process]:
    """A process for the length of the block, killed at its end if it is there still."""
    process = await trio.lowlevel.open_process(
        argv,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            assert process.stdout is not None
            await process.stdout.aclose()


async def _scanned(png: Path) -> str:
    """What the code says in this picture, once there is one."""
    with trio.fail_after(WAIT):
        while True:
            with suppress(OSError, UnidentifiedImageError), Image.open(png) as picture:
                if found := zxingcpp.read_barcodes(picture.convert("L")):
                    return str(found[0].text)
            await trio.sleep(GLANCE)
