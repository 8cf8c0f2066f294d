"""The interface that all engines share, and the choice between them.

`open_runtime` asks each engine of this machine to do something, and returns the first that answers; there is no
choice without a sandbox. The rule that keeps it so: callers know `Runtime` and `Container` and no engine; an engine
knows its own program and no other. The engines are imported when one is chosen.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import trio

from pynchy.container.engines.troubles import judge
from pynchy.container.spec import Spec

LINUX_ORDER: Final = ("docker", "podman", "bwrap")
MACOS_ORDER: Final = ("container", "docker", "podman")
ENGINES: Final = ("docker", "podman", "container", "bwrap")


class NoRuntime(Exception):
    """Nothing on this machine can hold an agent, or one engine cannot; the message says what to do. ``heals``: waiting
    may help, since an engine is there and only not up."""

    def __init__(
        self, text: str, *, heals: bool = False, remedy: str = "", installed: bool = True
    ) -> None:
        super().__init__(text)
        self.heals = heals
        self.remedy = remedy
        self.installed = installed


def refused(engine: str, said: str, *, installed: bool) -> NoRuntime:
    """An engine's refusal, in its own words, as what it means for us."""
    found = judge(engine, said, installed=installed)
    return NoRuntime(
        found.reason, heals=found.heals, remedy=found.remedy, installed=found.installed
    )


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

    async def has_image(self) -> bool:
        """Whether the image that agents run from is there; True for an engine that needs none."""

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
    last: str | None = None,
    told: Callable[[str], object] = lambda note: None,
) -> Runtime:
    """The engine that was asked for, or the first of this platform's that answers. Raises `NoRuntime`.

    Where nobody asked for one, an engine that has no image yet stands back for bwrap, which needs none: the first
    answer of a new machine does not wait for the building of it. The engine of the ``last`` start is stayed with, also
    while it does not answer: another would hold agents otherwise, and nobody chose it. Only bwrap makes room for one
    that has the image, and one that is no longer installed for any other. ``told`` hears of each such change.

    ``sandboxes`` is a folder of ours for what bwrap has to remember; ``environ`` is looked at for where engines live.
    """
    await trio.to_thread.run_sync(partial(sandboxes.mkdir, mode=0o700, parents=True, exist_ok=True))
    find = partial(_find, install=install, image=image, sandboxes=sandboxes, environ=environ)
    if engine is not None:
        if engine not in ENGINES:
            raise NoRuntime(f"no engine is called {engine!r}; there are {', '.join(ENGINES)}")
        try:
            return await find(engine)
        except NoRuntime as refusal:
            raise _nothing({engine: refusal}) from None
    order = MACOS_ORDER if platform == "darwin" else LINUX_ORDER
    refusals: dict[str, NoRuntime] = {}
    if last in order and last != "bwrap":
        try:
            return await find(last)
        except NoRuntime as refusal:
            if refusal.installed:
                raise _gone(last, refusal) from None
            refusals[last] = refusal
    chosen = await _choose(find, order, refusals, told)
    for name, why in refusals.items():
        if last != chosen.name and (name == last or why.installed):
            told(f"{name} is {why}, so {chosen.name} is used" + _colon(why.remedy))
    if last == "bwrap" != chosen.name:
        told(f"{chosen.name} has the agent's image now, so it is used instead of bwrap")
    return chosen


async def _choose(
    find: Callable[[str], Awaitable[Runtime]],
    order: Sequence[str],
    refusals: dict[str, NoRuntime],
    told: Callable[[str], object],
) -> Runtime:
    """The first that answers and has the agent's image; else bwrap; else the first that answers, which says at each
    run what is missing."""
    bare: Runtime | None = None
    for name in order:
        if name in refusals:
            continue
        try:
            found = await find(name)
        except NoRuntime as refusal:
            refusals[name] = refusal
            continue
        if name == "bwrap" and bare is not None:
            told(
                f"{bare.name} has no image of the agent, so bwrap is used; to have it: just image {bare.name}"
            )
        if "bwrap" not in order or await found.has_image():
            return found
        bare = bare or found
    if bare is not None:
        return bare
    raise _nothing(refusals)


async def _find(
    name: str, *, install: str, image: str | None, sandboxes: Path, environ: Mapping[str, str]
) -> Runtime:
    """One engine, if it answers. Raises `NoRuntime`."""
    from pynchy.container.engines.bwrap import find_bwrap
    from pynchy.container.engines.oci import find_apple, find_docker, find_podman

    if name == "bwrap":
        return await find_bwrap(install=install, sandboxes=sandboxes, environ=environ)
    if name == "container":
        return await find_apple(install=install, image=image, environ=environ)
    find = find_docker if name == "docker" else find_podman
    return await find(install=install, image=image, environ=environ, folder=sandboxes)


def _nothing(refusals: Mapping[str, NoRuntime]) -> NoRuntime:
    """All engines' reasons, and what to do about those that are there; where none is, what to install."""
    lines = ["there is no container engine to run agents in:"]
    lines += [f"  {name}: {refusal}" for name, refusal in refusals.items()]
    there = [refusal for refusal in refusals.values() if refusal.installed]
    remedies = [refusal.remedy for refusal in there or refusals.values() if refusal.remedy]
    if len(refusals) > 1 and not (there and remedies):
        remedies = [
            "Install Apple's container (https://github.com/apple/container) or Docker Desktop."
            if "container" in refusals
            else "On Debian or Ubuntu: sudo apt-get install bubblewrap   (or podman, or docker.io)."
        ]
    return NoRuntime("\n".join([*lines, *remedies]), heals=any(each.heals for each in there))


def _gone(name: str, refusal: NoRuntime) -> NoRuntime:
    """The engine that was used last cannot be used now."""
    return NoRuntime(
        f"{name}, which held this home's agents until now, is {refusal}{_colon(refusal.remedy)}."
        " To choose another: pynchy run --engine NAME, or container.engine in config.toml",
        heals=refusal.heals,
        remedy=refusal.remedy,
    )


def _colon(remedy: str) -> str:
    return f": {remedy}" if remedy else ""
