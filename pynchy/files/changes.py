"""Watch folders for changes by inotify or kqueue.

It only says that something may have changed: whoever waits has to look. No file is read or named here.

A daemon has one `Watches` for all folders, opened at its start: the kernel allows a user few instances of inotify, and
other programs of this user, an agent's too, may take the rest. If the kernel gives none, folders are looked at again
and again instead, and `Watches.trouble` says so.
"""

from __future__ import annotations

import os
import select
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, NoReturn, Protocol

import attrs
import trio

#: Seconds between two looks at a folder that the kernel does not watch for us.
RESCAN: Final = 1.0


class Watch(Protocol):
    """Waits for a change in a folder."""

    async def changed(self) -> None:
        """Return when something may have come since the last return, or since the beginning."""
        ...


class Rescan:
    """Used where the kernel does not tell of changes: there may always be one."""

    async def changed(self) -> None:
        await trio.sleep(RESCAN)


@attrs.define(eq=False)
class _Bell:
    """Remembers a change until somebody waits for it."""

    rung: trio.Event = attrs.field(factory=trio.Event)

    async def changed(self) -> None:
        await self.rung.wait()
        self.rung = trio.Event()


if sys.platform == "linux":
    # Straight from libc: a library would look for it by running ldconfig, in the event loop.

    _IN_MODIFY: Final = 0x002
    _IN_CLOSE_WRITE: Final = 0x008
    _IN_MOVED_TO: Final = 0x080
    _IN_CREATE: Final = 0x100
    _IN_ONLYDIR: Final = 0x01000000
    _READ: Final = 1 << 14  # bytes of events taken at once
    _PAUSE: Final = (
        0.005  # seconds after a read that was full: somebody writes names as fast as they can
    )

    @attrs.define(eq=False)
    class Watches:
        """Any number of folders, one descriptor of the kernel's."""

        _fd: int = -1
        _bells: dict[int, list[_Bell]] = attrs.field(factory=dict)
        _opened: trio.Event = attrs.field(factory=trio.Event)
        _rescanned: dict[Rescan, str] = attrs.field(factory=dict)
        _refused: str = ""

        @property
        def trouble(self) -> str:
            """What is not watched now, and why; "" if all is well."""
            if self._rescanned:
                why = next(iter(self._rescanned.values()))
                return f"{len(self._rescanned)} folders of commands are looked at every {RESCAN:g} s: {why}"
            return self._refused

        @contextmanager
        def of(self, folder: int, *, every_write: bool = False) -> Iterator[Watch]:
            """Hear of changes in a folder, held by its descriptor, for the length of the block.

            Of files that came into it or were written and closed; with ``every_write`` of every write and
            every new name, too.
            """
            mask = _IN_CLOSE_WRITE | _IN_MOVED_TO | _IN_ONLYDIR
            if every_write:
                mask |= _IN_MODIFY | _IN_CREATE
            try:
                number = self._add(folder, mask)
            except OSError as error:
                rescan = Rescan()
                self._rescanned[rescan] = f"inotify: {error.strerror}"
                try:
                    yield rescan
                finally:
                    del self._rescanned[rescan]
                return
            bell = _Bell()
            self._bells.setdefault(number, []).append(bell)
            try:
                yield bell
            finally:
                self._bells[number].remove(bell)
                if not self._bells[number]:
                    del self._bells[number]
                    _libc().inotify_rm_watch(
                        self._fd, number
                    )  # gone by itself, with its folder, perhaps

        def open(self) -> None:
            """Take the one instance, unless we have it. Raises `OSError`."""
            if self._fd < 0:
                self._fd = _checked(_libc().inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
                self._refused = ""
                self._opened.set()

        def _add(self, folder: int, mask: int) -> int:
            self.open()
            # Through the descriptor: the folder that we hold, whatever has its name by now.
            path = os.fsencode(f"/proc/self/fd/{folder}")
            return _checked(_libc().inotify_add_watch(self._fd, path, mask))

        async def listen(
            self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
        ) -> NoReturn:
            """Ring the bells of the folders that changed. Runs until cancelled."""
            task_status.started()
            await self._opened.wait()
            while True:
                if await self.read() > _READ // 2:
                    await trio.sleep(_PAUSE)

        async def read(self) -> int:
            """Wait for events, ring their bells, and return how many bytes came. Used by `listen`, or where nothing
            listens."""
            await trio.lowlevel.wait_readable(self._fd)
            data = b""
            with suppress(BlockingIOError):
                data = os.read(self._fd, _READ)
            self._ring(data)
            return len(data)

        def _ring(self, data: bytes) -> None:
            numbers, at = set(), 0
            while at < len(data):
                number, _, _, length = struct.unpack_from("iIII", data, at)
                numbers.add(number)
                at += 16 + length
            if -1 in numbers:  # more than the kernel keeps: any of them
                numbers = set(self._bells)
            for number in numbers:
                for bell in self._bells.get(number, ()):
                    bell.rung.set()

        def close(self) -> None:
            if self._fd >= 0:
                os.close(self._fd)

    @contextmanager
    def open_watches() -> Iterator[Watches]:
        """A program's one instance, taken now, for the length of the block. Without one, a later watch tries again.
        Its changes are heard of while `Watches.listen` runs."""
        watches = Watches()
        try:
            try:
                watches.open()
            except OSError as error:
                watches._refused = f"no inotify: {error.strerror}"
            yield watches
        finally:
            watches.close()

    @contextmanager
    def open_watch(folder: int, *files: int, every_write: bool = False) -> Iterator[Watch]:
        """As `Watches.of`, for a program that watches one folder, with an instance of its own.

        ``files`` are open files of that folder, which some kernels have to be told.
        """
        watches = Watches()
        try:
            with watches.of(folder, every_write=every_write) as watch:
                yield watch if isinstance(watch, Rescan) else _Alone(watches, watch)
        finally:
            watches.close()

    @attrs.frozen
    class _Alone:
        """One folder, read by whoever waits for it."""

        watches: Watches
        watch: Watch

        async def changed(self) -> None:
            await self.watches.read()
            await self.watch.changed()

    def refusal() -> str:
        """Why the kernel would not watch a folder for a program that starts now; "" if it would."""
        watches = Watches()
        try:
            watches.open()
        except OSError as error:
            return f"inotify: {error.strerror}"
        finally:
            watches.close()
        return ""

    def _libc() -> Any:
        import ctypes  # here: most starts watch nothing

        return ctypes.CDLL(None, use_errno=True)

    def _checked(answer: int) -> int:
        import ctypes

        if answer < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return answer

else:

    @attrs.define(eq=False)
    class Watches:
        """Any number of folders, a queue for each: no limit is shared there."""

        trouble: str = ""

        @contextmanager
        def of(self, folder: int, *, every_write: bool = False) -> Iterator[Watch]:
            with open_watch(folder, every_write=every_write) as watch:
                yield watch

        async def listen(
            self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
        ) -> NoReturn:
            task_status.started()
            await trio.sleep_forever()

    @contextmanager
    def open_watches() -> Iterator[Watches]:
        yield Watches()

    def refusal() -> str:
        return ""

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
