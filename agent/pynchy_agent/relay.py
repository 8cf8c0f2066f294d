"""Relay a loopback port in the container to the gateway's socket.

The model's program speaks HTTP over TCP; the container has no network, only the gateway's unix socket. This service
carries bytes between the two and reads none of them: whom a byte belongs to is decided where the socket is served.
"""

from __future__ import annotations

import socket
from functools import partial
from typing import NoReturn

import trio


async def run(
    gateway: str,
    listener: socket.socket,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> NoReturn:
    """Carry each connection to the unix socket ``gateway``. Runs until cancelled."""
    listening = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    task_status.started()
    await trio.serve_listeners(partial(_carry, gateway), [listening])
    raise AssertionError("serve_listeners returned")


async def _carry(gateway: str, inside: trio.SocketStream) -> None:
    """One connection, until either end closes it. A broken one is that connection's trouble alone."""
    try:
        outside = await trio.open_unix_socket(gateway)
    except OSError:
        return  # the client sees its connection closed, and tries again by its own rules
    async with outside, trio.open_nursery() as nursery:
        nursery.start_soon(_pump, inside, outside, nursery.cancel_scope)
        nursery.start_soon(_pump, outside, inside, nursery.cancel_scope)


async def _pump(source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope) -> None:
    try:
        async for data in source:
            await sink.send_all(data)
        await sink.send_eof()  # half-closed: an answer may still be on its way
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        both.cancel()
