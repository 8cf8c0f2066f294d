"""Read the host name in a TLS ClientHello.

Pure, over bytes of which none is trusted. It exists so that a tunnel asked for one host is not used
for another behind the same address. So a hello may hold no second, encrypted one (ECH): the server
takes the name in that, which nobody on the way can read, and the plain one may say anything.
"""

from __future__ import annotations

from typing import Final

from pynchy.gateway.policy import Refusal

MAX_HELLO: Final = 16 << 10
_SERVER_NAME: Final = 0
_ENCRYPTED: Final = (0xFE0D, 0xFFCE)  # a hello, or as drafts had it only a name, that is not for us


def server_name(data: bytes) -> str | None:
    """The host that a TLS client asks for, from its first bytes; None while more are needed.

    Raises `Refusal` where they are no client hello with exactly one plain host name.
    """
    hello = _handshake(data)
    if hello is None:
        if len(data) > MAX_HELLO:
            raise _not_tls()
        return None
    try:
        return _name_in(hello)
    except IndexError:
        raise _not_tls() from None


def _handshake(data: bytes) -> bytes | None:
    """The first handshake message, put together from its records."""
    message, at = bytearray(), 0
    while True:
        head = data[at : at + 5]
        if head[:1] not in (b"", b"\x16") or head[1:2] not in (b"", b"\x03"):
            raise _not_tls()
        if len(head) < 5:
            return None
        size = int.from_bytes(head[3:5])
        if not 0 < size <= MAX_HELLO:
            raise _not_tls()
        message += data[at + 5 : at + 5 + size]
        if message[:1] != b"\x01" and message:
            raise _not_tls()
        if len(message) >= 4:
            whole = 4 + int.from_bytes(message[1:4])
            if whole > MAX_HELLO:
                raise _not_tls()
            if len(message) >= whole:
                return bytes(message[4:whole])
        if at + 5 + size > len(data):
            return None
        at += 5 + size


def _name_in(hello: bytes) -> str:
    reader = _Reader(hello)
    reader.take(2 + 32)  # version, random
    reader.take(reader.number(1))  # session
    reader.take(reader.number(2))  # ciphers
    reader.take(reader.number(1))  # compressions
    extensions = _Reader(reader.take(reader.number(2)))
    names: list[bytes] = []
    while extensions.left():
        kind = extensions.number(2)
        content = _Reader(extensions.take(extensions.number(2)))
        if kind in _ENCRYPTED:
            raise Refusal(403, "permission_error", "TLS that hides its host (ECH) does not pass")
        if kind == _SERVER_NAME:
            entries = _Reader(content.take(content.number(2)))
            while entries.left():
                if entries.number(1) != 0:
                    raise _not_tls()
                names.append(entries.take(entries.number(2)))
    if len(names) != 1:
        raise _not_tls()
    return names[0].decode("latin-1").lower()


class _Reader:
    """Takes bytes from the front; IndexError where there are too few."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        if len(part) != size:
            raise IndexError
        self._at += size
        return part

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def left(self) -> bool:
        return self._at < len(self._data)


def _not_tls() -> Refusal:
    return Refusal(403, "permission_error", "only TLS that names its host passes through CONNECT")
