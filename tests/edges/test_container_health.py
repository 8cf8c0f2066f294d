"""What `status` is told of the engine: what was looked at, and nothing else."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import attrs
import pytest

from pynchy.container.engines.health import Health
from pynchy.container.engines.runtime import Runtime, SpawnFailed

HELD = {"memory": "cgroup", "cpus": "cgroup", "seccomp": "filter"}


@attrs.frozen
class Engine:
    name: str = "podman"
    held: Mapping[str, str] | None = attrs.field(factory=lambda: HELD)

    async def limits_held(self) -> Mapping[str, str]:
        if self.held is None:
            raise SpawnFailed("podman", "it does not answer")
        return self.held


def health(folder: Path, code: int, engine: Engine, *known: str) -> Health:
    build = folder / "build.sh"
    build.write_text(f'#!/bin/sh\n[ -z "$SECRET" ] || exit 0\nexit {code}\n')
    build.chmod(0o755)
    environ = {**os.environ, "SECRET": "x"}
    return Health(cast("Runtime", engine), None, list(known), environ=environ, build=build)


@pytest.mark.parametrize(
    ("code", "engine", "warnings"),
    [
        (0, Engine(), ()),
        (
            1,
            Engine(),
            ("the agent's image is older than this program; renew it: just image podman",),
        ),
        (3, Engine(), ("podman has no image of the agent; build it: just image podman",)),
        (69, Engine(), ()),  # it cannot be compared
        (0, Engine(held=None), ()),  # it cannot be seen
        (
            0,
            Engine(held=HELD | {"memory": "", "cpus": ""}),
            ("not enforced by podman: memory, cpus; pynchy doctor says what to do",),
        ),
        (1, Engine("bwrap"), ()),  # which has no image
    ],
)
async def test_what_is_wrong_is_a_warning_with_what_to_do(
    tmp_path: Path, code: int, engine: Engine, warnings: tuple[str, ...]
) -> None:
    seen = health(tmp_path, code, engine, "runc has a way out")
    await seen.look()
    assert seen.warnings == ["runc has a way out", *warnings]
