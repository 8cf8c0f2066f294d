"""The words that WhatsApp's binary XML abbreviates, read out of the library's own shared object.

Both sides need the same lists, and they change with the library, so nothing is copied here. Go keeps an array of
strings as pairs of pointer and length, and the linker notes each pointer as a relative relocation; so an array is found
by the words that it is known to begin with. ELF of 64 bits, little endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Final

import attrs

FIRST_SINGLE: Final = ("xmlstreamstart", "xmlstreamend", "s.whatsapp.net", "type", "participant")
FIRST_DOUBLE: Final = ("read-self", "active")
SINGLES: Final = 236  # words of one byte; the first of them is the empty one
DICTIONARIES: Final = 4  # of words of two bytes …
WORDS: Final = 256  # … in each
_LOAD, _RELA = 1, 4  # kinds of segments and sections
_RELATIVE: Final = (8, 1027)  # kinds of relocations: x86_64 and aarch64
_STRING: Final = 16  # bytes of a Go string in memory: pointer and length
_SLICE: Final = 24  # of a slice: pointer, length and capacity


class NotFound(Exception):
    """This build of the library keeps its words differently."""


@attrs.frozen
class Tokens:
    """The words by their numbers."""

    single: Sequence[str]
    double: Sequence[Sequence[str]]


@cache
def read_tokens(library: Path) -> Tokens:
    """The words of this shared object."""
    image = _Image(library.read_bytes())
    first = image.find_array(FIRST_SINGLE) - _STRING
    inner = image.find_array(FIRST_DOUBLE)
    return Tokens(
        single=[image.string(first + _STRING * number) for number in range(SINGLES)],
        double=image.dictionaries(inner),
    )


class _Image:
    """The shared object as it lies in memory once it is loaded."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._segments = [
            (self._number(at + 16), self._number(at + 8), self._number(at + 32))
            for at in self._table(table=32, size=54, count=56)
            if self._number(at, 4) == _LOAD
        ]
        self._pointers = dict(self._relocations())

    def find_array(self, first: Sequence[str]) -> int:
        """The address of the array of strings that begins with these."""
        start = first[0].encode()
        for slot, target in self._pointers.items():
            at = self._offset(target)
            if at is None or not self._data.startswith(start, at):
                continue
            found = [self.string(slot + _STRING * n) for n in range(len(first))]
            if found == list(first):
                return slot
        raise NotFound(f"no words that begin with {first}")

    def string(self, slot: int) -> str:
        """The Go string at this address; empty for what is none."""
        at = self._offset(slot + 8)
        length = 0 if at is None else self._number(at)
        start = self._offset(self._pointers.get(slot, -1))
        if start is None or not 0 < length < 300:
            return ""
        return self._data[start : start + length].decode("latin1")

    def dictionaries(self, first: int) -> list[list[str]]:
        """The dictionaries of which the first one lies at this address."""
        for slot in [slot for slot, target in self._pointers.items() if target == first]:
            found = [self._dictionary(slot + _SLICE * number) for number in range(DICTIONARIES)]
            if all(len(words) == WORDS for words in found):
                return found
        raise NotFound("no dictionaries")

    def _dictionary(self, slot: int) -> list[str]:
        at, start = self._offset(slot + 8), self._pointers.get(slot)
        if at is None or start is None or self._number(at) != WORDS:
            return []
        return [self.string(start + _STRING * number) for number in range(WORDS)]

    def _relocations(self) -> Iterator[tuple[int, int]]:
        for section in self._table(table=40, size=58, count=60):
            if self._number(section + 4, 4) != _RELA:
                continue
            start, length = self._number(section + 24), self._number(section + 32)
            table = memoryview(self._data)[start : start + length]
            for slot, info, target in struct.iter_unpack("<QQq", table):
                if info & 0xFFFFFFFF in _RELATIVE:
                    yield slot, target

    def _table(self, *, table: int, size: int, count: int) -> range:
        """Where the entries of a table lie that the file's header tells of."""
        start, step = self._number(table), self._number(size, 2)
        return range(start, start + step * self._number(count, 2), step)

    def _number(self, at: int, length: int = 8) -> int:
        return int.from_bytes(self._data[at : at + length], "little")

    def _offset(self, address: int) -> int | None:
        """Where in the file lies what will be at this address."""
        for start, offset, length in self._segments:
            if start <= address < start + length:
                return address - start + offset
        return None
