"""The web process: a loopback socket, the application, and the link that opens it.

The rule that keeps it so: the process is a client of the daemon like any other, and needs none to start.
"""

from __future__ import annotations

import secrets
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as serve_app
from starlette.types import ASGIApp

from pynchy.config.paths import Home
from pynchy.web import gate, page

if TYPE_CHECKING:
    from hypercorn.typing import ASGIFramework


class PortTaken(Exception):
    """Another program listens on the port."""


@contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            ours.bind(("127.0.0.1", port))
        except OSError as error:
            raise PortTaken(f"port {port}: {error.strerror}") from error
        yield ours


async def serve(
    home: Home,
    *,
    port: int,
    names: frozenset[str],
    link: Callable[[str, bool], None],
) -> None:
    """Serve the page on loopback until a signal. Raises `PortTaken`.

    ``link`` is called with each sign-in address, valid once, and whether it is the first.
    """
    home.make()
    with (
        trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals,
        _listening(port) as listening,
    ):
        where = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        sessions = gate.Sessions(lambda: secrets.token_urlsafe(32))

        def tell(first: bool = False) -> None:
            link(f"{where}#token={sessions.token}", first)

        app = page.Page(
            home=home,
            sessions=sessions,
            port=listening.getsockname()[1],
            names=frozenset(name.lower() for name in names),
            entered=tell,
        ).app()

        async def stopped() -> None:
            await anext(signals)

        async with trio.open_nursery() as nursery:
            await nursery.start(_run, app, listening.dup(), stopped)
            tell(first=True)


async def _run(
    app: ASGIApp,
    listening: socket.socket,
    stopped: Callable[[], Awaitable[None]],
    *,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    config = Config()
    config.bind = [f"fd://{listening.detach()}"]  # it is hypercorn's now
    config.errorlog = None
    config.accesslog = None
    config.include_server_header = False
    config.graceful_timeout = 0.2  # streams never end by themselves
    config.keep_alive_timeout = 75.0
    served = cast("ASGIFramework", app)  # the same thing in the words of two libraries
    await serve_app(served, config, shutdown_trigger=stopped, task_status=task_status)
