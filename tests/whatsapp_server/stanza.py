"""Stanzas, and the binary XML in which they travel."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final

import attrs

from tests.whatsapp_server.tokens import Tokens

EMPTY, LIST_8, LIST_16 = 0, 248, 249
DOUBLE: Final = 236  # the first of the four dictionaries
DEVICE_JID, JID_PAIR = 247, 250
HEX_8, NIBBLE_8 = 251, 255
BINARY_8, BINARY_20, BINARY_32 = 252, 253, 254
_NIBBLES: Final = "0123456789-.????"
_HEX: Final = "0123456789ABCDEF"
_COMPRESSED: Final = 2
#: The servers of ids that have a device, by their number on the wire.
_DEVICE_SERVERS: Final = ("s.whatsapp.net", "lid")


class Jid(str):
    """An id as an attribute: ``user@server``, ``user:device@server``, or a server alone."""

    __slots__ = ()

    @property
    def user(self) -> str:
        """Whom it means, without device and server."""
        return self.partition("@")[0].partition(":")[0] if "@" in self else ""

    @property
    def server(self) -> str:
        return self.rpartition("@")[2]


SERVER: Final = Jid("s.whatsapp.net")


def number_jid(user: str) -> Jid:
    return Jid(f"{user}@s.whatsapp.net")


def hidden_jid(user: str) -> Jid:
    return Jid(f"{user}@lid")


@attrs.define(eq=False)
class Node:
    """A stanza, or a part of one. What is in it is either more of them, or bytes."""

    tag: str
    attributes: dict[str, str | Jid] = attrs.field(factory=dict)
    content: Sequence[Node] | bytes | None = None

    @property
    def children(self) -> Sequence[Node]:
        return self.content if isinstance(self.content, list | tuple) else ()

    @property
    def data(self) -> bytes:
        """The bytes in it; none where there are others."""
        return self.content if isinstance(self.content, bytes) else b""

    @property
    def first(self) -> Node:
        """Its first child, or an empty node."""
        return self.children[0] if self.children else Node("")

    @property
    def id(self) -> str:
        return self.attributes.get("id", "")

    @property
    def type(self) -> str:
        return self.attributes.get("type", "")

    def jid(self, attribute: str) -> Jid:
        """The id in this attribute, or an empty one."""
        return Jid(self.attributes.get(attribute, ""))

    def child(self, tag: str) -> Node:
        """Its first child of this tag, or an empty node."""
        return next((each for each in self.children if each.tag == tag), Node(""))


class Codec:
    """Nodes to bytes and back, with the words of one build of the library."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def encode(self, node: Node) -> bytes:
        return b"\0" + _node(node)

    def decode(self, data: bytes) -> Node:
        if data[0] & _COMPRESSED:
            data = b"\0" + zlib.decompress(data[1:])
        return _Reader(data, self._tokens).node()


# Nothing is abbreviated on the way out: the client must read what is written in full as well.


def _node(node: Node) -> bytes:
    parts = [_list(1 + 2 * len(node.attributes) + (node.content is not None)), _text(node.tag)]
    for name, value in node.attributes.items():
        parts += [_text(name), _jid(value) if isinstance(value, Jid) else _text(value)]
    if isinstance(node.content, bytes):
        parts.append(_binary(node.content))
    elif node.content is not None:
        parts += [_list(len(node.content)), *map(_node, node.content)]
    return b"".join(parts)


def _list(size: int) -> bytes:
    if size == 0:
        return bytes([EMPTY])
    return bytes([LIST_8, size]) if size < 256 else bytes([LIST_16]) + size.to_bytes(2, "big")


def _text(text: str) -> bytes:
    return _binary(text.encode())


def _binary(data: bytes) -> bytes:
    if len(data) < 1 << 8:
        return bytes([BINARY_8, len(data)]) + data
    if len(data) < 1 << 20:
        return bytes([BINARY_20]) + len(data).to_bytes(3, "big") + data
    return bytes([BINARY_32]) + len(data).to_bytes(4, "big") + data


def _jid(jid: Jid) -> bytes:
    user = jid.rpartition("@")[0]
    name, _, device = user.partition(":")
    if device:
        server = _DEVICE_SERVERS.index(jid.server)
        return bytes([DEVICE_JID, server, int(device)]) + _text(name)
    return bytes([JID_PAIR]) + (_text(user) if user else bytes([EMPTY])) + _text(jid.server)


class _Reader:
    def __init__(self, data: bytes, tokens: Tokens) -> None:
        self._data, self._at, self._tokens = data, 1, tokens

    def node(self) -> Node:
        size = self._size(self._byte())
        tag = self._string()
        attributes = {self._string(): self._string() for _ in range((size - 1) // 2)}
        return Node(tag, attributes, self._content() if size % 2 == 0 else None)

    def _content(self) -> Sequence[Node] | bytes | None:
        kind = self._byte()
        if kind in (LIST_8, LIST_16):
            return [self.node() for _ in range(self._size(kind))]
        if kind == EMPTY:
            return None
        data = self._bytes(kind)
        return self._word(kind).encode() if data is None else data

    def _string(self) -> str | Jid:
        kind = self._byte()
        if kind == EMPTY:
            return ""
        if kind == JID_PAIR:
            user, server = self._string(), self._string()
            return Jid(f"{user}@{server}" if user else server)
        if kind == DEVICE_JID:
            server, device = _DEVICE_SERVERS[self._byte()], self._byte()
            return Jid(f"{self._string()}:{device}@{server}")
        data = self._bytes(kind)
        return self._word(kind) if data is None else data.decode("utf-8", "replace")

    def _bytes(self, kind: int) -> bytes | None:
        """What is written in full; None if it is not of such a kind."""
        width = {BINARY_8: 1, BINARY_20: 3, BINARY_32: 4}.get(kind)
        return None if width is None else self._take(self._number(width))

    def _word(self, kind: int) -> str:
        if kind in (NIBBLE_8, HEX_8):
            return self._packed(_NIBBLES if kind == NIBBLE_8 else _HEX)
        if DOUBLE <= kind < DOUBLE + len(self._tokens.double):
            return self._tokens.double[kind - DOUBLE][self._byte()]
        return self._tokens.single[kind]

    def _packed(self, letters: str) -> str:
        """Two letters a byte; the highest bit of the length says that the last one does not count."""
        length = self._byte()
        data = self._take(length & 127)
        text = "".join(letters[byte >> 4] + letters[byte & 15] for byte in data)
        return text[:-1] if length & 128 else text

    def _size(self, kind: int) -> int:
        return 0 if kind == EMPTY else self._number(1 if kind == LIST_8 else 2)

    def _byte(self) -> int:
        return self._number(1)

    def _number(self, width: int) -> int:
        return int.from_bytes(self._take(width), "big")

    def _take(self, length: int) -> bytes:
        self._at += length
        return self._data[self._at - length : self._at]
