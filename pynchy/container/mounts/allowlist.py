"""Read the owner's mount allowlist, and look at the paths that groups ask for.

It is read at the start and on request, never because a container ran. This module finds facts, and `rules` judges them.
A file that others could have written is no allowlist.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from pynchy.container.mounts.rules import (
    MAX_BYTES,
    Allowlist,
    BadAllowlist,
    Hit,
    Seen,
    parse_allowlist,
)
from pynchy.container.mounts.sensitive import HOST_PROGRAMS, last_matched_by
from pynchy.files.walk import TOO_MANY, Walk
from pynchy.limits import GROUPS


class Unmaskable(Exception):
    """The secrets in a tree cannot be masked: not all of it can be searched, or there are too many."""


def read_allowlist(path: Path) -> Allowlist | None:
    """What the file says; None if there is none, which may be otherwise next time. Raises `BadAllowlist`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadAllowlist(f"{path}: {error.strerror}") from error
    try:
        seen = os.fstat(fd)
        if not stat.S_ISREG(seen.st_mode):
            raise BadAllowlist(f"{path} is not a regular file")
        if seen.st_uid not in {0, os.geteuid()} or seen.st_mode & 0o022:
            raise BadAllowlist(f"{path} can be written by others: chmod 600 it")
        if seen.st_size > MAX_BYTES:
            raise BadAllowlist(f"{path} has more than {MAX_BYTES} bytes")
        data = os.read(fd, MAX_BYTES + 1)
    finally:
        os.close(fd)
    try:
        return parse_allowlist(data)
    except BadAllowlist as error:
        raise BadAllowlist(f"{path}: {error}") from None


def look(path: str, *, user_home: Path) -> Seen | None:
    """Where a path really is and what it is; None if it is not there, or not to be entered."""
    written = user_home / path[2:] if path.startswith("~/") else Path(path)
    try:
        real = written.resolve(strict=True)
        mode = real.stat().st_mode
    except (OSError, ValueError, RuntimeError):
        return None
    kind = "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"
    return Seen(real, kind)


def real_roots(allowlist: Allowlist, *, user_home: Path) -> tuple[Path | None, ...]:
    """Where the allowed roots really are, in their order."""
    seen = [look(root.path, user_home=user_home) for root in allowlist.roots]
    return tuple(found.real if found and found.kind == "folder" else None for found in seen)


def find_sensitive(
    tree: Path,
    blocked: Iterable[str],
    *,
    writable: bool = False,
    programs: Collection[Path] = (),
    limit: int = GROUPS.searched,
) -> tuple[Hit, ...]:
    """What in a tree is blocked, and in one that is ``writable`` what may only be read: names in our table, and the
    folders of ``programs``. The outermost of each.

    Follows no link. Raises `Unmaskable`.
    """
    blocked = tuple(blocked)
    hits: list[Hit] = []
    walk = Walk(tree, most=limit, one_disk=False)
    for entry in walk:
        place = PurePosixPath(entry.path)
        secret = last_matched_by(place.parts, blocked) is not None
        if not secret and not (
            writable and (last_matched_by(place.parts, HOST_PROGRAMS) or tree / place in programs)
        ):
            continue
        entry.enter = not secret  # a secret in what may only be read stays one
        if not stat.S_ISLNK(entry.seen.st_mode):  # which leads nowhere that is not mounted itself
            hits.append(Hit(place, entry.is_folder, secret))
    for why in walk.skipped:
        raise Unmaskable(f"{tree} has {f'more than {limit} entries' if why == TOO_MANY else why}")
    return tuple(sorted(hits, key=lambda hit: str(hit.place)))
