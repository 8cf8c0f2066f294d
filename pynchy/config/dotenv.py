"""Parse ``.env`` files: names and values, quoted as in a shell, with no substitution.

``NAME=value`` a line, ``export`` before it allowed. A value is bare (it ends at `` #`` or at the
line's end, blanks around it do not count), in single quotes (literal) or in double quotes (with the
escapes ``\\n``, ``\\t``, ``\\r`` and a backslash before ``"``, ``$``, a backtick or itself). Quoted values
may span lines. A dollar is a dollar. The last of two equal names wins.

The rule that keeps it so: pure, and an error never repeats a value, for it may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple, cast

_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r"}
_BLANK: Final = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_NAME: Final = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=", re.ASCII)
_SINGLE: Final = re.compile(r"'([^']*)'")
_DOUBLE: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BARE: Final = re.compile(r"[^\n]*")
_COMMENT: Final = re.compile(r"[ \t]#")
_BLANKS: Final = re.compile(r"[ \t]*")


class BadEnvFile(ValueError):
    """The file cannot be parsed. The message names the line, never its value."""


class Entry(NamedTuple):
    """One name with its value, and the line it begins on."""

    name: str
    value: str
    line: int


def parse_env(data: bytes) -> dict[str, str]:
    """The names and values of a ``.env`` file. Raises `BadEnvFile`."""
    return {entry.name: entry.value for entry in entries(data)}


def entries(data: bytes) -> Iterator[Entry]:
    """Yield each name and value in the order of the file. Raises `BadEnvFile` at the first mistake."""
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadEnvFile(f"line {line}: not UTF-8") from None
    at = 0
    while at < len(text):
        if blank := _BLANK.match(text, at):
            if blank.end() == at:
                break
            at = blank.end()
            continue
        line = text.count("\n", 0, at) + 1
        if not (name := _NAME.match(text, at)):
            raise BadEnvFile(f"line {line}: expected NAME=value")
        value, at = _value(text, name.end(), line, name[1])
        if "\0" in value:
            raise BadEnvFile(f"line {line}: a NUL in the value of {name[1]}")
        if not (rest := _BLANK.match(text, at)):
            raise BadEnvFile(f"line {line}: something follows the quoted value of {name[1]}")
        at = rest.end()
        yield Entry(name[1], value, line)


def _value(text: str, at: int, line: int, name: str) -> tuple[str, int]:
    """The value after the equals sign, and the position where it ends."""
    bare = cast("re.Match[str]", _BARE.match(text, at))
    start = cast("re.Match[str]", _BLANKS.match(text, at)).end()
    if text[start : start + 1] not in ("'", '"'):
        comment = _COMMENT.search(text, at, bare.end())
        return text[at : comment.start() if comment else bare.end()].strip(" \t"), bare.end()
    if single := _SINGLE.match(text, start):
        return single[1], single.end()
    if double := _DOUBLE.match(text, start):
        value = re.sub(r"\\(.)", lambda found: _unescape(found[1]), double[1], flags=re.DOTALL)
        return value, double.end()
    raise BadEnvFile(f"line {line}: the quote that opens the value of {name} is never closed")


def _unescape(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    return char if char in '"\\$`\n' else "\\" + char
