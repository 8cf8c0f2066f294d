"""Create the mount points that lie inside other mounts, before an engine does.

A mount inside a folder that a container can write (settings.json in ``~/.claude``) needs a file or folder there to be
mounted over. An engine would make it by its path, through whatever link an agent has put there. Here every step is
relative to an open folder and follows no link.
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack

from pynchy.container.spec import BadSpec, Spec


def make_places(spec: Spec) -> None:
    """See that every source exists, and that every nested mount point is there, of the right kind and no link. Raises
    OSError, or `BadSpec` where something else, such as an agent's link, is in the way."""
    for mount in spec.mounts:
        mount.source.lstat()
        if mount.source.is_symlink():
            raise BadSpec(f"{mount.source} is a link")
    if spec.gateway_dir is not None:
        spec.gateway_dir.stat()
    for outer, inner, place in spec.nested():
        _make(str(outer.source), place.parts, folder=inner.source.is_dir())


def _make(top: str, parts: tuple[str, ...], *, folder: bool) -> None:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    with ExitStack() as stack:
        at = os.open(top, flags)
        stack.callback(os.close, at)
        owner = os.fstat(at)
        for number, part in enumerate(parts):
            is_folder = folder or number < len(parts) - 1
            try:
                seen = os.stat(part, dir_fd=at, follow_symlinks=False)
            except FileNotFoundError:
                _create(part, at, owner, folder=is_folder)
                seen = os.stat(part, dir_fd=at, follow_symlinks=False)
            if not (stat.S_ISDIR(seen.st_mode) if is_folder else stat.S_ISREG(seen.st_mode)):
                raise BadSpec(
                    f"{part} in {top} is not a {'folder' if is_folder else 'regular file'}"
                )
            if is_folder:
                at = os.open(part, flags, dir_fd=at)
                stack.callback(os.close, at)


def _create(name: str, at: int, owner: os.stat_result, *, folder: bool) -> None:
    if folder:
        os.mkdir(name, 0o700, dir_fd=at)
    else:
        os.close(
            os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600, dir_fd=at)
        )
    if owner.st_uid != os.geteuid():
        os.chown(name, owner.st_uid, owner.st_gid, dir_fd=at, follow_symlinks=False)
