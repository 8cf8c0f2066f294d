"""Why an engine cannot be used, whether waiting may help, and how to fix it.

A table of messages that engines were seen to give. What is not in it may pass by itself, for all we know, and is waited
for; what is in it with ``heals=False`` does not.
"""

from __future__ import annotations

import re
from typing import Final

from pynchy.container.engines.runtime import NoRuntime

_INSTALL: Final = {
    "docker": "on Debian or Ubuntu: sudo apt-get install docker.io, and sudo usermod -aG docker $USER",
    "podman": "on Debian or Ubuntu: sudo apt-get install podman uidmap",
    "bwrap": "on Debian or Ubuntu: sudo apt-get install bubblewrap",
    "container": "see https://github.com/apple/container",
}

# engine, what it says, whether that may pass by itself, what to do
_TABLE: Final[tuple[tuple[str, str, bool, str], ...]] = (
    (
        "docker",
        r"permission denied .*socket|dial unix \S+: connect: permission denied",
        False,
        "this user may not use docker: sudo usermod -aG docker $USER, then log in again (who is in that group is as"
        " good as root on this machine); or use podman, which needs no such group",
    ),
    (
        "docker",
        r"context not found|unable to resolve docker endpoint|unable to parse docker host|no such host",
        False,
        "DOCKER_HOST or DOCKER_CONTEXT names an engine that is not there: docker context ls",
    ),
    (
        "docker",
        r"cannot connect to the docker daemon|is the docker daemon running",
        True,
        "start it: sudo systemctl start docker, or Docker Desktop",
    ),
    (
        "podman",
        r'newuidmap|newgidmap|"uidmap"',
        False,
        "sudo apt-get install uidmap",
    ),
    (
        "podman",
        r"/etc/subuid|/etc/subgid|no subuid ranges|no subgid ranges|insufficient uids",
        False,
        "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER, then podman system migrate",
    ),
    ("podman", r"podman machine|cannot connect to podman", True, "podman machine start"),
)


def refused(engine: str, said: str, *, installed: bool) -> NoRuntime:
    """What an engine's refusal means. ``said`` is the engine's own message."""
    if not installed:
        return NoRuntime("not installed", remedy=_INSTALL[engine], installed=False)
    reason = f"installed, but does not answer ({said})"
    for name, pattern, heals, remedy in _TABLE:
        if name == engine and re.search(pattern, said, re.IGNORECASE):
            return NoRuntime(reason, heals=heals, remedy=remedy)
    return NoRuntime(reason, heals=True)
