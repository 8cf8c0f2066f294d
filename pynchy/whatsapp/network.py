"""Hear of it when this machine gets a way to the internet again: the kernel tells of a new default route."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Final

import trio

from pynchy.logs import logger

_ROUTES: Final = 0x40 | 0x400  # the kernel's groups: routes of IPv4 and of IPv6
_NEW_ROUTE: Final = 24  # the kind of a message
_MAIN: Final = 254  # the table of routes that programs use
_HEAD: Final = struct.Struct("=IHHII")  # length, kind, …
_ROUTE: Final = struct.Struct("=BBBBBBBBI")  # family, bits of the destination, …, table, …


async def watch(changed: Callable[[], None]) -> None:
    """Call this at each new default route. Runs until cancelled, or returns where no kernel tells."""
    if sys.platform != "linux":
        await trio.lowlevel.checkpoint()
        return
    try:
        listener = trio.socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    except OSError as error:  # not in every sandbox
        logger.info("no word of the network's return: {}", error)
        return
    with listener:
        await listener.bind((0, _ROUTES))
        while True:
            try:
                told = await listener.recv(65536)
            except OSError:  # there was more than the kernel keeps for us, so perhaps that too
                changed()
                continue
            if any(_default_routes(told)):
                changed()


def _default_routes(told: bytes) -> Iterator[bool]:
    """For each message of the kernel's, whether it is of a new default route."""
    at = 0
    while at + _HEAD.size + _ROUTE.size <= len(told):
        length, kind, *_ = _HEAD.unpack_from(told, at)
        _, bits, _, _, table, *_ = _ROUTE.unpack_from(told, at + _HEAD.size)
        yield kind == _NEW_ROUTE and bits == 0 and table == _MAIN
        at += max(_HEAD.size, (length + 3) & ~3)
