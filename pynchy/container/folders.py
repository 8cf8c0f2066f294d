"""Prepare on the host the folders that a group's container sees.

Folders are made before a container exists, never while one could write there. Below a folder that a container can
write, nothing is created, opened or changed by name: only the folder itself is made (under another name, with a first
page in it, then renamed), and the owner of its contents is corrected without following links.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Collection, Mapping
from pathlib import Path

from pynchy.config.paths import Home
from pynchy.container.skills import mounts as skill_mounts
from pynchy.container.spec import CLAUDE, WORK, Mount
from pynchy.files import trees
from pynchy.files.writing import keep, replace, sync
from pynchy.logs import logger
from pynchy.model import Group, GroupId, RunId

_GLOBAL = "/workspace/global"
_COMMANDS = "/workspace/ipc/commands"
_TALKS = f"{CLAUDE}/projects"
_SETTINGS = b"{}\n"  # what a user's settings are inside: ours, empty and read-only


class InTheWay(Exception):
    """Something that is no folder is in the place of a group's folder. Nothing was changed."""


def scaffold(home: Home, group: Group) -> None:
    """Make all folders of a group that is being registered, and its first page of memory.

    What exists is left as it is. Everything is on the disk on return, so that a row written after it always has its
    folder. Raises `InTheWay`, or `OSError`.
    """
    work = home.group(group.folder)
    if home.forgetting(group.folder).exists():
        raise InTheWay(f"all of {group.folder} is being deleted; try again in a moment")
    if work.is_symlink() or (work.exists() and not work.is_dir()):
        raise InTheWay(f"{work} is there, and is no folder")
    _scaffold(work, group)
    for folder in _folders(home, group.folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync(folder.parent)


def mend(home: Home, main: Group) -> None:
    """At start: make main's folder if it is missing, and remove folders that were made half.

    A group has no row before its folder is complete, so what has no row may go. A folder that somebody removed is made
    again by the group's next run. Failures are logged.
    """
    with os.scandir(home.groups) as entries:
        halves = [each.name for each in entries if each.name.startswith(".")]
    for name in halves:
        if name.endswith(".new"):
            trees.clear(home.groups / name)
    if not home.group(main.folder).is_dir():
        try:
            scaffold(home, main)
        except (InTheWay, OSError) as error:
            logger.error("the folder of {} cannot be made: {}", main.folder, error)


def forget(home: Home, folder: GroupId, run_logs: Collection[RunId]) -> list[Path]:
    """Delete all files of a group and the logs of its runs; returns the folders that could not be deleted.

    No container of the group may exist.
    """
    for run in run_logs:
        for log in home.run_logs.glob(f"*-{run}.log"):
            log.unlink(missing_ok=True)
    tops = (home.session(folder).parent, home.commands(folder).parent, *_folders(home, folder))
    return [top for top in tops if not trees.clear(top)]


def _folders(home: Home, folder: GroupId) -> tuple[Path, ...]:
    return (
        home.group(folder),
        home.session(folder),
        home.commands(folder),
        home.media(folder),
        home.errors(folder),
        home.outgoing(folder),
    )


def prepare(
    home: Home, group: Group, *, owner: tuple[int, int], skills: Mapping[str, Path]
) -> tuple[Mount, ...]:
    """Make the folders of a group, and return where each is mounted. Idempotent.

    ``owner``: the uid and gid on the host that the agent's files must have. They are changed only where they differ,
    and only by root.
    """
    work = home.group(group.folder)
    _scaffold(work, group)
    mounts = [
        Mount(work, WORK, writable=True),
        Mount(home.shared, _GLOBAL, writable=group.is_main),
        Mount(home.commands(group.folder), _COMMANDS, writable=True),
        Mount(_talks(home.session(group.folder)), _TALKS, writable=True),
    ]
    _make(home, group, mounts, owner)
    if os.geteuid() == 0:  # what is mounted read-only must be entered, too
        os.chown(home.groups, *owner, follow_symlinks=False)
    if group.is_main:
        mounts.append(Mount(home.groups, "/workspace/groups"))
    return (*mounts, *skill_mounts(home, skills))


_MEMORY = """\
# {name}

What is worth knowing here every time: you are given this page at each start. Keep it short and current.

## People

## How they like things

## Under way
"""


def is_first_page(content: bytes) -> bool:
    """Whether a page of memory is still the template: nobody has written anything in it."""
    written = content.decode("utf-8", "replace").partition("\n")[2]
    return written.split() == _MEMORY.partition("\n")[2].split()


def _scaffold(work: Path, group: Group) -> None:
    """Make a group's folder with a first page of memory in one step; an existing one is left as it is."""
    if work.exists() or work.is_symlink():
        return
    aside = work.with_name(f".{work.name}.new")  # no name of a group: nobody else's
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(mode=0o700, parents=True)
    name = " ".join(group.name.split()) or group.folder
    with (aside / "CLAUDE.md").open("w", encoding="utf-8") as page:
        page.write(_MEMORY.format(name=name))
        page.flush()
        os.fsync(page.fileno())
    (aside / "conversations").mkdir(mode=0o700)
    aside.rename(work)
    sync(work.parent)


def prepare_helper(
    home: Home, group: Group, run: RunId, *, owner: tuple[int, int], skills: Mapping[str, Path]
) -> tuple[Mount, ...]:
    """Make the folders of a helper, and return where each is mounted: the group's own read-only, and a scratch folder
    that lives as long as the run. `clear_helper` removes it."""
    scratch = home.scratch / run
    mounts = [
        Mount(home.group(group.folder), WORK),
        Mount(home.shared, _GLOBAL),
        Mount(scratch / "work", "/workspace/scratch", writable=True),
        Mount(scratch / "commands", _COMMANDS, writable=True),
        Mount(scratch / "talks", _TALKS, writable=True),
    ]
    _make(home, group, mounts, owner)
    return (*mounts, *skill_mounts(home, skills))


def _make(home: Home, group: Group, mounts: list[Mount], owner: tuple[int, int]) -> None:
    """Make the folders of these mounts, and add what every agent of the group sees."""
    mounts.append(Mount(home.media(group.folder), "/workspace/media"))
    for mount in mounts:
        mount.source.mkdir(mode=0o700, parents=True, exist_ok=True)
    for mount in mounts:
        _own(mount.source, owner)
    mounts.append(Mount(_settings(home), f"{CLAUDE}/settings.json"))


def _talks(session: Path) -> Path:
    """Where the transcripts of a group's conversations are: all that is kept of an agent's own configuration folder.

    Earlier releases kept that folder as a whole, and an agent may have put a link in this one's place.
    """
    talks = session / "projects"
    if talks.is_symlink() or (talks.exists() and not talks.is_dir()):
        talks.unlink()
    return talks


def clear_helper(home: Home, run: RunId | None = None) -> None:
    """Remove what one helper wrote, or all of them did; no container of theirs may exist."""
    trees.clear(home.scratch if run is None else home.scratch / run)


def _settings(home: Home) -> Path:
    path = home.data / "agent" / "settings.json"
    if not path.exists():
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        replace(path, _SETTINGS, mode=0o644)
    return path


def certificates(home: Home, ca_file: Path) -> Path | None:
    """The owner's certificates, as they are now, in a file that every agent can read; None if there are none."""
    path = home.data / "agent" / "certificates.pem"
    try:
        content = ca_file.read_bytes()
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        keep(path, content, mode=0o644)
    except OSError as error:
        logger.warning("gateway.ca_file cannot be used: {}", error)
        return None
    return path


def _own(top: Path, owner: tuple[int, int]) -> None:
    """Give a tree to ``owner``, if its top is not already theirs."""
    seen = top.lstat()
    if os.geteuid() != 0 or (seen.st_uid, seen.st_gid) == owner or not stat.S_ISDIR(seen.st_mode):
        return
    trees.give(top, owner)
