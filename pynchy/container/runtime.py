"""Where containers come from: the one interface that all engines share, and the choice between them.

`open_runtime` asks each engine of this machine to do something, and returns the first that answers; there is no
choice without a sandbox. The rule that keeps it so: callers know `Runtime` and `Container` and no engine; an engine
knows its own program and no other. The engines are imported when one is chosen.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import trio

from pynchy.container.spec import Spec

LINUX_ORDER: Final = ("docker", "podman", "bwrap")
MACOS_ORDER: Final = ("container", "docker", "podman")
ENGINES: Final = ("docker", "podman", "container", "bwrap")


class NoRuntime(Exception):
    """Nothing on this machine can hold an agent; the message says what to install."""


class SpawnFailed(Exception):
    """The engine could not make the container: ours to tell the user, no fault of the agent's."""

    def __init__(self, engine: str, reason: str) -> None:
        super().__init__(f"{engine}: {reason}")
        self.engine = engine
        self.reason = reason


class ContainerGone(Exception):
    """Something was said to a container that no longer listens."""


class ContainerStays(Exception):
    """The engine was asked to remove a container, and still has it, or no longer answers."""


class Container(Protocol):
    """A running container, for as long as the block of `Runtime.open` lasts."""

    @property
    def name(self) -> str: ...

    async def send(self, data: bytes) -> None:
        """Write to its stdin; waits while it does not read. Raises `ContainerGone`."""

    async def receive(self) -> bytes:
        """The next bytes of its stdout, 64 KiB at most; b"" at the end. What is not received holds it back."""

    def stderr_tail(self) -> bytes:
        """The last 64 KiB of its stderr and of what its engine said. Never to be parsed."""

    async def wait(self) -> int:
        """Wait for its end: its exit code, 128 + N after signal N, 125 when the engine could not start it."""

    def kill(self) -> None:
        """End the whole process tree now. Does not wait: `wait` returns when it is done."""


class Runtime(Protocol):
    """One container engine, for the containers of one installation."""

    @property
    def name(self) -> str: ...

    @property
    def owner(self) -> tuple[int, int]:
        """The uid and gid on the host that writable folders must belong to, for an agent to write there."""

    def open(self, spec: Spec, *, grace: float) -> AbstractAsyncContextManager[Container]:
        """Run a container for the length of the block, and see that it is gone after.

        Raises `SpawnFailed` on entering. Leaving normally closes its stdin and waits ``grace`` seconds; leaving by an
        exception does not wait; then it is asked to end, then killed, and looked for. `ContainerStays` if it is still
        there after all that.
        """

    async def list(self) -> list[str]:
        """The names of this installation's containers that exist, running or not."""

    async def remove(self, name: str) -> None:
        """End and remove one; it is gone on return. No error if there is none. Raises `ContainerStays`."""

    async def versions(self) -> dict[str, str]:
        """The programs it stands on and their versions, as far as they tell."""

    async def storage_driver(self) -> str:
        """How images are kept, in the engine's word, such as "overlay"; "" where there are none or it does not say."""

    async def limits_held(self) -> dict[str, str]:
        """What of memory, cpus, pids, files, seccomp and more is enforced here, and by what; "" where nothing does.
        Seen, not assumed. Raises `SpawnFailed` where it cannot be seen."""


async def open_runtime(
    engine: str | None,
    *,
    install: str,
    image: str | None,
    sandboxes: Path,
    environ: Mapping[str, str],
    platform: str = sys.platform,
    told: Callable[[str], object] = lambda note: None,
) -> Runtime:
    """The engine that was asked for, or the first of this platform's that answers. Raises `NoRuntime`.

    Where nobody asked for one, an engine that has no image yet stands back for bwrap, which needs none: the first
    answer of a new machine does not wait for the building of it. ``told`` hears of that.

    ``sandboxes`` is a folder of ours for what bwrap has to remember; ``environ`` is looked at for where engines live.
    """
    from pynchy.container.bwrap import find_bwrap
    from pynchy.container.oci import Oci, find_apple, find_docker, find_podman

    await trio.to_thread.run_sync(partial(sandboxes.mkdir, mode=0o700, parents=True, exist_ok=True))
    order: tuple[str, ...] = MACOS_ORDER if platform == "darwin" else LINUX_ORDER
    if engine is not None:
        if engine not in ENGINES:
            raise NoRuntime(f"no engine is called {engine!r}; there are {', '.join(ENGINES)}")
        order = (engine,)
    refusals = []
    bare: Oci | None = None  # the first that answers and has no image
    for name in order:
        try:
            if name == "bwrap":
                small = await find_bwrap(install=install, sandboxes=sandboxes, environ=environ)
                if bare is not None:
                    told(
                        f"{bare.name} has no image of the agent, so bwrap is used; to have it: just image {bare.name}"
                    )
                return small
            if name == "container":
                found = await find_apple(install=install, image=image, environ=environ)
            else:
                find = find_docker if name == "docker" else find_podman
                found = await find(install=install, image=image, environ=environ, folder=sandboxes)
            if engine is not None or "bwrap" not in order or await found.has_image():
                return found
            bare = bare or found
        except NoRuntime as refusal:
            refusals.append(f"  {name}: {refusal}")
    if bare is not None:
        return bare  # each run says what is missing
    advice = (
        "Install Apple's container (https://github.com/apple/container) or Docker Desktop."
        if platform == "darwin"
        else "On Debian or Ubuntu: sudo apt-get install bubblewrap   (or podman, or docker.io)."
    )
    raise NoRuntime(
        "\n".join(["there is no container engine to run agents in:", *refusals, advice])
    )
