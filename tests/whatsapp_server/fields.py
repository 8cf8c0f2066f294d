"""Protocol buffers without a schema: Signal's messages are in none of the library's files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
_WIDTHS: Final = {_FIXED_64: 8, _FIXED_32: 4}

Fields = dict[int, int | bytes]


def write(values: Mapping[int, int | bytes | None]) -> bytes:
    """A message of these fields; None is left out."""
    parts = []
    for number, value in values.items():
        if isinstance(value, int):
            parts.append(_varint(number << 3 | _VARINT) + _varint(value))
        elif value is not None:
            parts.append(_varint(number << 3 | _BYTES) + _varint(len(value)) + value)
    return b"".join(parts)


def read(data: bytes) -> Fields:
    """The fields of a message, of each number the last one."""
    found: Fields = {}
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            found[key >> 3], at = _read_varint(data, at)
            continue
        if kind == _BYTES:
            length, at = _read_varint(data, at)
        else:
            length = _WIDTHS[kind]
        found[key >> 3] = data[at : at + length]
        at += length
    return found


def data(found: Fields, number: int) -> bytes:
    """A field that holds bytes; empty if it is not there."""
    value = found.get(number, b"")
    assert isinstance(value, bytes)
    return value


def number(found: Fields, number: int) -> int:
    """A field that holds a number; 0 if it is not there."""
    value = found.get(number, 0)
    assert isinstance(value, int)
    return value


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
