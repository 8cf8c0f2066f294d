"""Describe what is wrong with the engine, for `status`, `doctor` and the log.

It is asked once the daemon is up, since it takes a container of its own and a start should not wait for it. Every
sentence is about something that was observed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import attrs
import trio

from pynchy.config.settings import Container
from pynchy.container import toolbox
from pynchy.container.engines.runtime import Runtime, SpawnFailed
from pynchy.container.spec import client_environ
from pynchy.logs import logger

BUILD: Final = Path(__file__).resolve().parents[2] / "containerfiles" / "build.sh"
_BY_GROUPS: Final = {"memory", "swap", "cpus", "pids"}

Image = Literal["not needed", "your own", "up to date", "old", "missing", "cannot be compared"]


def spell_loose(held: Mapping[str, str]) -> str:
    """The limits that nothing enforces, with commas; "" for none."""
    return ", ".join(name for name, by in held.items() if not by)


def advice_on_limits(engine: str, held: Mapping[str, str]) -> str:
    """What to do about the limits that nothing enforces."""
    loose = {name for name, by in held.items() if not by}
    if not loose <= _BY_GROUPS:
        return f"{engine} does not contain an agent as docs/security.md says: update it, or see container.engine"
    if engine == "podman":
        return (
            "rootless podman needs control groups (version 2) that systemd has delegated to your user:"
            " run it as a service (pynchy service install), or see container.engine"
        )
    if engine == "bwrap":
        return "delegate cgroups to your user (pynchy service does), or use podman or docker"
    return f"{engine}'s machine has no such control groups; on a Raspberry Pi: cgroup_enable=memory in cmdline.txt"


async def image_of(
    runtime: Runtime, image: str | None, *, build: Path = BUILD, environ: Mapping[str, str]
) -> Image:
    """Whether the agent in the image is the one of this program. ``image`` is the configured one."""
    if runtime.name == "bwrap":
        return "not needed"
    if image is not None and image != Container().image:
        return "your own"
    if not await trio.Path(build).exists():  # installed as a package, not a checkout
        return "cannot be compared"
    done = await trio.run_process(
        [str(build), "--check", runtime.name],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env=client_environ(environ),
    )
    told: dict[int, Image] = {0: "up to date", 1: "old", 3: "missing"}
    return told.get(done.returncode, "cannot be compared")


@attrs.define(eq=False)
class Health:
    """`look` adds what it finds to ``warnings``, which `status` shows."""

    runtime: Runtime
    image: str | None
    warnings: list[str] = attrs.field(factory=list)
    environ: Mapping[str, str] = attrs.field(factory=lambda: os.environ)
    build: Path = BUILD
    tools: Path = attrs.field(factory=toolbox.place)

    async def look(self) -> None:
        """Check the image and which limits the engine enforces. An engine that fails here is reported by the runs."""
        name = self.runtime.name
        if name == "bwrap" and toolbox.state(self.tools) != "current":
            self._warn(
                "agents cannot make spreadsheets, PDFs or charts: pynchy toolbox install",
                quiet=True,
            )
        state = await image_of(self.runtime, self.image, build=self.build, environ=self.environ)
        if state == "old":
            self._warn(f"the agent's image is older than this program; renew it: just image {name}")
        if state == "missing":
            self._warn(f"{name} has no image of the agent; build it: just image {name}")
            return
        try:
            held = await self.runtime.limits_held()
        except SpawnFailed as error:
            logger.warning("cannot see which limits {} enforces: {}", name, error.reason)
            return
        if loose := spell_loose(held):
            self._warn(
                f"not enforced by {name}: {loose}; pynchy doctor says what to do", quiet=True
            )

    def _warn(self, sentence: str, *, quiet: bool = False) -> None:
        """``quiet``: a fact of this machine that is the same at each start."""
        logger.log("INFO" if quiet else "WARNING", "{}", sentence)
        self.warnings.append(sentence)
