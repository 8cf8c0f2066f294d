"""What the tests of real containers share: a runtime on a home of its own, and words to say in Python."""

import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from pynchy.container.engines.choice import open_runtime
from pynchy.container.engines.runtime import Container, Installation, Runtime
from pynchy.container.spec import Mount, Spec

HANG = 60.0  # seconds after which a test is stuck, not slow


@attrs.frozen
class Lab:
    """One runtime, one installation, one group's folders."""

    runtime: Runtime
    home: Path
    install: str

    @property
    def group(self) -> Path:
        return self.home / "group"

    @property
    def gateway(self) -> Path:
        return self.home / "gw"

    def folder(self, name: str) -> Path:
        """A folder that the agent may write."""
        folder = self.home / name
        folder.mkdir(parents=True, exist_ok=True)
        os.chown(folder, *self.runtime.owner)
        return folder

    def spec(self, *command: str, mounts: tuple[Mount, ...] = (), **more: Any) -> Spec:
        run = os.urandom(8).hex()
        return Spec(
            name=f"pynchy-{self.install}-{run}",
            run=run,
            install=self.install,
            image=None,
            command=command,
            mounts=(Mount(self.group, "/workspace/group", writable=True), *mounts),
            **{"gateway_dir": self.gateway, **more},
        )

    def python(self, source: str, **more: Any) -> Spec:
        return self.spec("python3", "-c", source, **more)

    def open(self, spec: Spec, *, grace: float = 5.0) -> AbstractAsyncContextManager[Container]:
        return self.runtime.open(spec, grace=grace)

    async def ask(self, source: str, **more: Any) -> Any:
        """What a Python program in a container prints, as JSON."""
        async with self.open(self.python(source, **more)) as container:
            out = await everything(container)
            assert await container.wait() == 0, container.stderr_tail().decode()
        return json.loads(out)


@asynccontextmanager
async def open_lab(
    name: str, home: Path, *, image: str, environ: Mapping[str, str] = os.environ
) -> AsyncIterator[Lab]:
    """A lab for the length of a test; nothing of its installation is left in the engine."""
    install = os.urandom(4).hex()
    sandboxes = home / "run" / "sandboxes"
    sandboxes.mkdir(parents=True)
    runtime = await open_runtime(name, Installation(install, image, sandboxes, environ))
    lab = Lab(runtime, home.resolve(), install)
    lab.folder("group")
    lab.gateway.mkdir()
    try:
        with trio.fail_after(HANG):
            yield lab
    finally:
        with trio.move_on_after(HANG, shield=True):
            for left in await runtime.list():
                await runtime.remove(left)


async def everything(container: Container) -> bytes:
    heard = bytearray()
    while chunk := await container.receive():
        heard += chunk
    return bytes(heard)


async def line(container: Container) -> bytes:
    """The first line that it says."""
    heard = b""
    while b"\n" not in heard:
        chunk = await container.receive()
        assert chunk, container.stderr_tail().decode()
        heard += chunk
    return heard.partition(b"\n")[0]


def living(marker: str) -> list[int]:
    """The processes of this machine with a text in their argv. A zombie has no argv, and is none."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            argv = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if marker.encode() in argv and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def daemon_like(name: str, home: Path, *, image: str, install: str, source: str) -> list[str]:
    """argv of a process that holds a container with ``source`` in it, prints its name, and waits for ever."""
    program = f"""
import os, sys, trio
from pathlib import Path
from pynchy.container.engines.choice import open_runtime
from pynchy.container.engines.runtime import Installation
from tests.edges.runtimes import Lab, line

async def main():
    home = Path({str(home)!r})
    (home / "run" / "sandboxes").mkdir(parents=True, exist_ok=True)
    runtime = await open_runtime({name!r},
        Installation({install!r}, {image!r}, home / "run" / "sandboxes", os.environ))
    lab = Lab(runtime, home, {install!r})
    lab.folder("group"), lab.gateway.mkdir(exist_ok=True)
    spec = lab.python({source!r})
    async with lab.open(spec) as container:
        print(spec.name, (await line(container)).decode(), flush=True)
        await trio.sleep_forever()

trio.run(main)
"""
    return [sys.executable, "-c", program]
