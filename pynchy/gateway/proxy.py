"""The socket that a container talks to: one per run, and its only way out.

Identity is the socket a connection came in on; the run token is compared as well. What passes, and
how, is in `connection`, which is loaded with the first run: a start does not need it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import attrs
import trio

from pynchy.gateway.exchange import RunIdentity
from pynchy.gateway.shared import Shared
from pynchy.logs import logger
from pynchy.reader_budget import PacedListener, account_here, charged_to

SOCKET: Final = "gateway.sock"
BACKLOG: Final = 64  # connections that wait to be taken

REPORT_TIME: Final = 5.0  # seconds, which a cancel must not cut short


@attrs.frozen(kw_only=True)
class Gateway(Shared):
    """The sockets of runs, and what they share."""

    @asynccontextmanager
    async def open_run(
        self, who: RunIdentity, directory: Path, *, owner: tuple[int, int] | None = None
    ) -> AsyncIterator[None]:
        """Serve ``directory/gateway.sock`` for one run while the block lasts.

        The directory is made, private to ``owner`` (user and group id as the host sees them; ours
        by default). Calls under way end with the block, and the socket is gone after it. What the
        block raises comes out in an exception group: there is a nursery around it.
        """
        # Loaded here, for the first run: a start does not need it.
        from pynchy.gateway.connection import Run

        run = Run(self, who)
        listener = _listen(directory, owner)
        try:
            async with trio.open_nursery() as nursery:
                with charged_to(account_here()):
                    paced = PacedListener(listener)
                    nursery.start_soon(trio.serve_listeners, run.serve, [paced])
                nursery.start_soon(self.upstream.prepare)  # while the container starts
                try:
                    yield
                finally:
                    nursery.cancel_scope.cancel("the run is over")
        finally:
            (directory / SOCKET).unlink(missing_ok=True)
            self.calls.pop(who.run, None)
            with trio.move_on_after(REPORT_TIME, shield=True):
                await self._report_refusals(who, run.refused)

    async def _report_refusals(self, who: RunIdentity, refused: dict[str, int]) -> None:
        for words, times in refused.items():
            logger.warning("gateway: {} was refused {} times: {}", who.group, times, words)
            if self.report is not None:
                await self.report(who, words, times)


def _listen(directory: Path, owner: tuple[int, int] | None) -> trio.SocketListener:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / SOCKET
    path.unlink(missing_ok=True)
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        raw.bind(str(path))
        path.chmod(0o600)
        if owner is not None and owner != (os.geteuid(), os.getegid()):
            os.chown(path, *owner)
            os.chown(directory, *owner)
        raw.listen(BACKLOG)
        raw.setblocking(False)
        return trio.SocketListener(trio.socket.from_stdlib_socket(raw))
    except BaseException:
        raw.close()
        raise
