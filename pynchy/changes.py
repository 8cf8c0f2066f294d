"""Hearing that something changed in a folder, from the kernel: inotify, elsewhere kqueue.

What it says is "look again", never what happened: who looks finds out. The rule that keeps it so: no
file is read or named here, and nothing is asked at intervals.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, Protocol

import attrs
import trio


class CannotWatch(Exception):
    """The kernel will not tell: no more watches, or no such thing in its folder."""


class Watch(Protocol):
    """Waits for a change in a folder."""

    async def changed(self) -> None:
        """Return when something may have come since the last return, or since the beginning."""
        ...


if sys.platform == "linux":
    # Straight from libc: a library would look for it by running ldconfig, in the event loop.

    _IN_MODIFY: Final = 0x002
    _IN_CLOSE_WRITE: Final = 0x008
    _IN_MOVED_TO: Final = 0x080
    _IN_CREATE: Final = 0x100
    _IN_ONLYDIR: Final = 0x01000000

    @contextmanager
    def open_watch(folder: int, *files: int, every_write: bool = False) -> Iterator[Watch]:
        """Hear of changes in a folder, held by its descriptor, for the length of the block.

        Of files that came into it or were written and closed; with ``every_write`` of every write and
        every new name, too. ``files`` are open files of that folder, which some kernels have to be told.
        """
        import ctypes  # here: most starts watch nothing

        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if fd < 0:
            raise CannotWatch(f"no inotify: {os.strerror(ctypes.get_errno())}")
        try:
            # Through the descriptor: the folder that we hold, whatever has its name by now.
            path = os.fsencode(f"/proc/self/fd/{folder}")
            mask = _IN_CLOSE_WRITE | _IN_MOVED_TO | _IN_ONLYDIR
            if every_write:
                mask |= _IN_MODIFY | _IN_CREATE
            if libc.inotify_add_watch(fd, path, mask) < 0:
                raise CannotWatch(f"no inotify watch: {os.strerror(ctypes.get_errno())}")
            yield _Inotify(fd)
        finally:
            os.close(fd)

    @attrs.frozen
    class _Inotify:
        """A descriptor that becomes readable by changes. What it says of them is not believed."""

        fd: int

        async def changed(self) -> None:
            await trio.lowlevel.wait_readable(self.fd)
            with suppress(BlockingIOError):  # one read: what is left wakes us again, after a scan
                os.read(self.fd, 1 << 16)

else:

    @contextmanager
    def open_watch(folder: int, *files: int, every_write: bool = False) -> Iterator[Watch]:
        """Hear of changes in a folder, held by its descriptor, for the length of the block.

        Of names that came into it; with ``every_write`` of writes to ``files``, too.
        """
        queue = select.kqueue()
        try:
            events = [
                select.kevent(
                    each,
                    filter=select.KQ_FILTER_VNODE,
                    flags=select.KQ_EV_ADD | select.KQ_EV_CLEAR,
                    fflags=select.KQ_NOTE_WRITE | select.KQ_NOTE_EXTEND,
                )
                for each in (folder, *(files if every_write else ()))
            ]
            queue.control(events, 0)
            yield _Kqueue(queue)
        finally:
            queue.close()

    @attrs.frozen
    class _Kqueue:
        """A queue with the folder in it. It can itself be waited for, like a socket."""

        queue: select.kqueue

        async def changed(self) -> None:
            await trio.lowlevel.wait_readable(self.queue.fileno())
            self.queue.control([], 16, 0)
