"""Choose the engine that agents run in: the one that was asked for, or the first of this machine's that answers.

There is no choice without a sandbox.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final

import trio

from pynchy.container.engines.bwrap import find_bwrap
from pynchy.container.engines.oci import find_apple, find_docker, find_podman
from pynchy.container.engines.runtime import Installation, NoRuntime, Runtime

LINUX_ORDER: Final = ("docker", "podman", "bwrap")
MACOS_ORDER: Final = ("container", "docker", "podman")
FIND: Final[Mapping[str, Callable[[Installation], Awaitable[Runtime]]]] = {
    "docker": find_docker,
    "podman": find_podman,
    "container": find_apple,
    "bwrap": find_bwrap,
}


async def open_runtime(
    engine: str | None,
    ours: Installation,
    *,
    platform: str = sys.platform,
    last: str | None = None,
    told: Callable[[str], object] = lambda note: None,
) -> Runtime:
    """The engine that was asked for, or the first of this platform's that answers. Raises `NoRuntime`.

    If none was asked for, an engine that has no image yet is passed over for bwrap, which needs none: on a new machine
    the first answer does not wait for an image to be built. The engine of the ``last`` start is kept even while it does
    not answer: nobody chose another. There are two exceptions: bwrap is replaced by an engine that has the image, and
    an engine that is no longer installed by any other. ``told`` is told of each such change.
    """
    await trio.to_thread.run_sync(
        partial(ours.folder.mkdir, mode=0o700, parents=True, exist_ok=True)
    )
    if engine is not None:
        if engine not in FIND:
            raise NoRuntime(f"no engine is called {engine!r}; there are {', '.join(FIND)}")
        try:
            return await FIND[engine](ours)
        except NoRuntime as refusal:
            raise _nothing({engine: refusal}) from None
    order = MACOS_ORDER if platform == "darwin" else LINUX_ORDER
    refusals: dict[str, NoRuntime] = {}
    if last in order and last != "bwrap":
        try:
            return await FIND[last](ours)
        except NoRuntime as refusal:
            if refusal.installed:
                raise _gone(last, refusal) from None
            refusals[last] = refusal
    chosen = await _choose(ours, order, refusals, told)
    for name, why in refusals.items():
        if last != chosen.name and (name == last or why.installed):
            told(f"{name} is {why}, so {chosen.name} is used" + _colon(why.remedy))
    if last == "bwrap" != chosen.name:
        told(f"{chosen.name} has the agent's image now, so it is used instead of bwrap")
    return chosen


async def _choose(
    ours: Installation,
    order: Sequence[str],
    refusals: dict[str, NoRuntime],
    told: Callable[[str], object],
) -> Runtime:
    """The first engine that answers and has the agent's image; else bwrap; else the first that answers, whose runs then
    say what is missing."""
    bare: Runtime | None = None
    for name in order:
        if name in refusals:
            continue
        try:
            found = await FIND[name](ours)
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


def _nothing(refusals: Mapping[str, NoRuntime]) -> NoRuntime:
    """Every engine's reason, and what to do about those that are installed; if none is, what to install."""
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
