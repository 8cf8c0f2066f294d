"""A reader with a bug that chance does not find: each byte of three must be right before the next is looked at."""

from __future__ import annotations

from collections.abc import Iterator

from tests.redteam.readers import Reader


def readers() -> Iterator[Reader]:
    yield Reader("a planted bug", _planted, (b"hello",), (ValueError,))


def _planted(data: bytes) -> None:
    if data[:1] != b"B":
        raise ValueError
    if data[1:2] != b"U":
        raise ValueError
    if data[2:3] == b"\xee":
        raise KeyError("found")
