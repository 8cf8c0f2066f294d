"""Find the skills that a run is offered, on the host.

Those of the release are for every agent, except for those that need a browser. The owner's own are in
`PYNCHY_HOME/skills/GROUP/`, and in `skills/global/` for all groups: one folder each, with a SKILL.md in it.

Nothing is copied, and nothing that an agent can write is a skill. Each is mounted by itself, read-only, below a folder
of ours that holds only their names.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pynchy.config.paths import Home
from pynchy.container.spec import HOME, Mount
from pynchy.limits import AGENTS
from pynchy.model import GroupId

SKILLS: Final = f"{HOME}/.claude/skills"
NEEDS_BROWSER: Final = frozenset({"web-browsing"})
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)


def offered(home: Home, group: GroupId, *, ours: Path | None, browser: bool) -> Mapping[str, Path]:
    """The skills of a run by name. The owner's replace ours of the same name, and the group's replace those for all
    groups."""
    found = {} if ours is None else _in(ours)
    if not browser:
        found = {name: path for name, path in found.items() if name not in NEEDS_BROWSER}
    for folder in (home.skills(GroupId("global")), home.skills(group)):
        found |= _in(folder)
    return dict(sorted(found.items())[: AGENTS.skills])


def mounts(home: Home, skills: Mapping[str, Path]) -> tuple[Mount, ...]:
    """The mounts that show them in a container. Makes the folder that holds them."""
    if not skills:
        return ()
    digest = hashlib.sha256("/".join(skills).encode()).hexdigest()[:16]
    names = home.data / "agent" / "skills" / digest
    for name in skills:
        (names / name).mkdir(mode=0o755, parents=True, exist_ok=True)
    return (
        Mount(names, SKILLS),
        *(Mount(path, f"{SKILLS}/{name}") for name, path in skills.items()),
    )


def _in(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    return {
        path.name: path.resolve()
        for path in folder.iterdir()
        if _NAME.fullmatch(path.name) and (path / "SKILL.md").is_file()
    }
