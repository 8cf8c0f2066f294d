"""A request that needs a person's approval: its form, and how it is shown to them.

The rule that keeps it so: pure, and what is shown is the whole of what is carried out. Nothing is cut,
and nothing that would be shown as something else, or as nothing, is shown as itself.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any, Final

import attrs

from pynchy.model import GroupId
from pynchy.text.reply import NOTICE_PREFIX
from pynchy.text.safe import unmarked

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # no I, L, O, U
PIECE: Final = 3_000  # characters of a request in one message

WHAT: Final[Mapping[str, str]] = {
    "register_group": "to be let into a chat",
    "schedule_task": "for a task in another group",
    "request_mount": "for a folder or file of this machine",
    "request_host": "for a host to connect to",
    "request_tool": "for a tool or a model",
}


@attrs.frozen
class Request:
    """What the agent of ``folder`` asks for: a command with all its arguments, defaults too."""

    folder: GroupId
    command: str
    args: Mapping[str, Any]

    @property
    def canonical(self) -> str:
        """The one way to write it: the same text exactly for the same request."""
        whole = {"args": dict(self.args), "command": self.command, "group": self.folder}
        return json.dumps(whole, sort_keys=True, separators=(",", ":"), allow_nan=False)


def read(canonical: str) -> Request:
    """The request that `Request.canonical` was written from."""
    whole = json.loads(canonical)
    return Request(GroupId(whole["group"]), whole["command"], whole["args"])


def digest(canonical: str) -> str:
    """What an approval is bound to."""
    return sha256(canonical.encode()).hexdigest()


# --- codes ---------------------------------------------------------------------------------------


def code_of(id: str) -> str:
    """A code from the last 40 bits of an id of hex digits."""
    number = int(id[-10:], 16)
    return "".join(ALPHABET[number >> shift & 31] for shift in range(35, -1, -5))


def read_code(written: str) -> str:
    """The code that a person wrote: in small letters too, with hyphens, an O for a nought."""
    return written.upper().replace("-", "").translate(_MISREAD)


_MISREAD: Final = str.maketrans("ILO", "110")

# --- for people ----------------------------------------------------------------------------------


def lines(request: Request) -> list[str]:
    """The whole request as a person reads it, a line for each argument."""
    head = f"{request.folder}: {visible(request.command)}"
    shown = (f"{name} = {visible(_value(request.args[name]))}" for name in sorted(request.args))
    return [head, *shown]


def question(request: Request, *, code: str, minutes: int) -> list[str]:
    """What main is told, in as many messages as it takes. Each says whose request it shows."""
    pieces = list(_pieces("\n".join(lines(request))))
    whole = len(pieces)
    said = []
    for number, piece in enumerate(pieces, start=1):
        part = f", part {number} of {whole}" if whole > 1 else ""
        what = WHAT.get(request.command, "")
        said.append(f"{NOTICE_PREFIX}The agent of {request.folder} asks {what}{part}:")
        said[-1] += f"\n```\n{piece}\n```"
    short = digest(request.canonical)[:12]
    said[-1] += (
        f"\n/approve {code} or /deny {code}, within {minutes} minutes. (Request {short}; "
        "a backslash stands before what cannot be seen.)"
    )
    return said


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def visible(text: str) -> str:
    r"""One line in which every character can be seen, and told from every other line.

    What moves, hides, reverses or joins is spelled ``\u{202E}``; a line end ``\n``, a backslash ``\\``.
    """
    return "".join(_units(text))


def _units(text: str) -> Iterator[str]:
    marks = MOST_MARKS  # none stands alone, and no pile of them hides a line
    for character in text:
        is_mark = unicodedata.category(character) in ("Mn", "Mc")
        marks = marks + 1 if is_mark else 0 if character.isalpha() else MOST_MARKS
        if character == "\\":
            yield "\\\\"
        elif character == "\n":
            yield "\\n"
        elif _is_plain(character) and (not is_mark or marks <= MOST_MARKS):
            yield character
        else:
            yield f"\\u{{{ord(character):04X}}}"


MOST_MARKS: Final = 2  # on one letter
# Letters and marks that are drawn as nothing, and what would end the block that a request is shown in.
_UNSEEN: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0`")


def _is_plain(character: str) -> bool:
    kind = unicodedata.category(character)
    if character in _UNSEEN or 0xFE00 <= ord(character) <= 0xFE0F or ord(character) >= 0xE0000:
        return False
    if unmarked(character) != character:  # what only the host's own lines begin with
        return False
    return character == " " or (kind[0] in "LNPSM" and kind != "Me")


def _pieces(text: str) -> Iterator[str]:
    """The text in parts of at most `PIECE` characters, never cut within one that is spelled out."""
    while len(text) > PIECE:
        at = PIECE
        spelled = text.rfind("\\u{", at - 8, at)
        if spelled >= 0 and text.find("}", spelled) >= at:
            at = spelled
        elif (len(text[:at]) - len(text[:at].rstrip("\\"))) % 2:
            at -= 1
        yield text[:at]
        text = text[at:]
    yield text
