"""The socket that a container talks to: one per run, and its only way out.

Identity is the socket a connection came in on; the run token is compared as well. What passes, and
how, is in `connection`, which is loaded with the first run: a start does not need it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import trio

from pynchy.gateway.exchange import Ledger, RunIdentity, Upstream
from pynchy.gateway.shared import Report, Shared, Stream, Tell
from pynchy.logs import logger
from pynchy.reader_budget import PacedListener, account_here, charged_to

if TYPE_CHECKING:
    from pynchy.gateway.egress import Network

SOCKET: Final = "gateway.sock"
BACKLOG: Final = 64  # connections that wait to be taken

REPORT_TIME: Final = 5.0  # seconds, which a cancel must not cut short


@asynccontextmanager
async def open_gateway(
    *,
    upstream: Upstream,
    ledger: Ledger | None = None,
    network: Network | None = None,
    tell: Tell | None = None,
    report: Report | None = None,
    install: str = "",
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[Gateway]:
    """Open the gateway for the length of the block. It serves nobody until `Gateway.open_run`.

    Without a ``ledger`` nothing is counted and nothing limited. ``tell`` is called once for each
    budget that is used up, with a sentence for people. ``report`` is called when a run ends, once
    for each kind of thing it was refused, with how often. ``install`` keeps the user ids that the
    provider sees apart between installations. ``network`` is the real one by default. ``clock`` is in seconds since
    1970.
    """
    yield Gateway(upstream, ledger, network, tell, report, install, clock)


@attrs.frozen
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
        listener = _listen(directory, owner)
        try:
            async with self._serving(listener, who, guarded=False):
                yield
        finally:
            with suppress(FileNotFoundError):
                (directory / SOCKET).unlink()

    @asynccontextmanager
    async def open_port(self, who: RunIdentity, *, host: str = "127.0.0.1") -> AsyncIterator[int]:
        """Serve one run over TCP while the block lasts, and yield the port.

        For engines that cannot pass a socket into their machine. It is the weaker way: whoever
        reaches the port and knows the run's token is taken for the run. So the token is asked for
        by everything here, ways out to the network included.
        """
        (listener,) = await trio.open_tcp_listeners(0, host=host, backlog=BACKLOG)
        async with self._serving(listener, who, guarded=True):
            yield listener.socket.getsockname()[1]

    @asynccontextmanager
    async def _serving(
        self, listener: trio.SocketListener, who: RunIdentity, *, guarded: bool
    ) -> AsyncIterator[None]:
        # Loaded here, for the first run: a start does not need it.
        from pynchy.gateway.connection import Run

        run = Run(self, who, guarded=guarded)
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
            self.calls.pop(who.run, None)
            with trio.move_on_after(REPORT_TIME, shield=True):
                await self._tell_refusals(who, run.refused)

    async def _tell_refusals(self, who: RunIdentity, refused: dict[str, int]) -> None:
        for words, times in refused.items():
            logger.warning("gateway: {} was refused {} times: {}", who.group, times, words)
            if self.report is not None:
                await self.report(who, words, times)

    def server(self, who: RunIdentity) -> Callable[[Stream], Awaitable[None]]:
        """What serves one run's connections, each from its first byte to its last, without a
        socket: for simulations."""
        from pynchy.gateway.connection import Run

        return Run(self, who, guarded=False).serve


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
