"""Every path below PYNCHY_HOME, and where a socket goes when its path is too long.

The rule that keeps it so: paths are named here and nowhere else, and nothing here opens a file.
Folders are made by `make_private` and `Home.make`, all that touches the disk.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs

from pynchy.model import GroupId, RunId

STAMP: Final = "%Y%m%dT%H%M%SZ"
MAX_SOCKET_PATH: Final = 100  # bytes: sun_path holds 104 on macOS and 108 on Linux, with its NUL
_TEMPORARY: Final = Path("/tmp")  # noqa: S108 - the same for daemon and client, whatever TMPDIR says


def stamp_of(seconds: float) -> str:
    """A moment, in seconds since 1970, as part of a file's name. Names sort by time."""
    return time.strftime(STAMP, time.gmtime(seconds))


def part_of(path: Path) -> Path:
    """Where a file is written until it is whole, and takes its place in one step."""
    return path.with_name(path.name + ".part")


class NotPrivate(Exception):
    """A folder that must be ours alone is not: somebody else made it, or others may enter."""


@attrs.frozen
class _Below:
    """A path of `Home`, by where it is below the root."""

    path: str

    def __get__(self, home: Home, owner: object = None) -> Path:
        return home.root / self.path


@attrs.frozen
class Home:
    """The paths of one installation. ``root`` is absolute."""

    root: Path

    config = _Below("config.toml")
    env = _Below(".env")
    mount_allowlist = _Below(
        "mount-allowlist.json"
    )  # which folders of this machine groups may be given

    store = _Below("store")  # databases: ours and WhatsApp's. Never under a mount
    database = _Below("store/pynchy.db")
    backups = _Below("store/backups")  # nightly ones, and those that were asked for
    install_id = _Below("store/install-id")
    install_place = _Below(
        "store/install-place"
    )  # where that id was made: it belongs to that place
    engine = _Below("store/engine")  # the container engine used last, where none is set

    groups = _Below("groups")
    shared = _Below("groups/global")  # read by every group, written by main

    data = _Below("data")
    store_mark = _Below("data/store.mark")  # what is remembered of the database, away from it
    ipc = _Below("data/ipc")
    scratch = _Below("data/scratch")  # what helpers write: a folder for each, while it runs
    refused = _Below(
        "data/errors"
    )  # command files that were refused, with the reason. Never mounted

    voice = _Below("voice")  # what turns voice notes into words: fetched, and never changed

    logs = _Below("logs")
    log = _Below("logs/pynchy.log")
    run_logs = _Below("logs/runs")

    run = _Below("run")  # what lives as long as one daemon: its lock, its sockets
    lock = _Below("run/lock")
    starts = _Below(
        "run/starts"
    )  # when a service manager started it lately, until it ends in order
    sandboxes = _Below("run/sandboxes")  # what an engine needs on disk while a container runs
    gateways = _Below("run/gw")

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Home:
        """PYNCHY_HOME, else ``~/.pynchy``."""
        if named := environ.get("PYNCHY_HOME"):
            return cls(Path(named).expanduser().absolute())
        user = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
        return cls((user / ".pynchy").absolute())

    def group(self, folder: GroupId) -> Path:
        return self.groups / folder

    def skills(self, folder: GroupId) -> Path:
        """Skills that the owner gives a group, or in ``global`` to all. No agent writes here."""
        return self.root / "skills" / folder

    def session(self, folder: GroupId) -> Path:
        """The agents' own folder, ``~/.claude``, as far as it is kept: agents see only ``projects`` in it."""
        return self.data / "sessions" / folder / ".claude"

    def commands(self, folder: GroupId) -> Path:
        return self.ipc / folder / "commands"

    def forgetting(self, folder: GroupId) -> Path:
        """Exists while all of a group is being deleted."""
        return self.data / "forgetting" / folder

    def media(self, folder: GroupId) -> Path:
        return self.data / "media" / folder

    def errors(self, folder: GroupId) -> Path:
        return self.refused / folder

    def outgoing(self, folder: GroupId) -> Path:
        """Files that wait to be sent: copies, which no container can reach."""
        return self.data / "outgoing" / folder

    @property
    def control_socket(self) -> Path:
        return socket_dir(self.run, "control.sock") / "control.sock"

    def gateway(self, run: RunId) -> Path:
        """The folder whose ``gateway.sock`` one run's container talks to."""
        return socket_dir(self.gateways / run, "gateway.sock")

    def make(self) -> None:
        """Make the folders that every start needs, for us alone. Idempotent.

        Raises `NotPrivate` where others made or may enter a folder that we cannot take for our own.
        """
        _make_root(self.root, known=self.store)
        for ours in (self.store, self.data, self.logs, self.run):
            make_private(ours)
        for folder in (self.groups, self.shared, self.run_logs, self.gateways, self.sandboxes):
            folder.mkdir(mode=0o700, exist_ok=True)
        make_private(self.control_socket.parent)


def socket_dir(folder: Path, name: str) -> Path:
    """Where the socket ``name`` of ``folder`` lives: there, or below /tmp if that path is too long.

    The same answer for daemon and client. Make the folder with `make_private` before use.
    """
    if len(os.fsencode(folder / name)) <= MAX_SOCKET_PATH:
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return _TEMPORARY / f"pynchy-{os.getuid()}-{digest}"


def _make_root(root: Path, *, known: Path) -> None:
    """Make the home, and close it to others. A folder that holds what is not ours is not closed by us: its owner may
    have opened it on purpose. It is ours if it has ``known``, or nothing at all."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    seen = root.stat()  # the home itself may be a link of the owner's
    if not seen.st_mode & 0o077 and seen.st_uid == os.getuid():
        return
    if seen.st_uid != os.getuid():
        raise NotPrivate(f"{root} belongs to another user: set PYNCHY_HOME to a folder of yours")
    if not known.is_dir() and any(root.iterdir()):
        raise NotPrivate(
            f"others may enter {root}, and it holds files that are not Pynchy's: chmod 700 it, or set "
            "PYNCHY_HOME to a folder of its own"
        )
    root.chmod(0o700)


def make_private(folder: Path) -> None:
    """Make a folder that only we may enter, and see that it is one, or raise `NotPrivate`.

    Below /tmp anyone could have made it first: a link, or somebody else's folder, is refused.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    seen = folder.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid():
        raise NotPrivate(f"{folder} is not a folder of ours")
    if seen.st_mode & 0o077:
        folder.chmod(0o700)
