"""Convert models' Markdown to WhatsApp's own formatting.

Words, addresses, paths and code stay as they are; only what is certainly a mark is converted. So a mark counts
at the edges of words alone (``2**10``, ``src/**/*.ts`` and ``snake_case`` have none), which is stricter than
Markdown. What WhatsApp has no counterpart for stays as text.

Pure, line by line, in time linear in the line's length: it runs on the daemon's event loop.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import attrs

_FENCE: Final = re.compile(
    r"^(?P<before>\s*+(?:(?:>|[-*+]|\d{1,9}[.)])\s++)*+)(?:(?P<fence>```++)[^`]*+|(?P<tildes>~~~++).*+)$"
)
_HEADING: Final = re.compile(r"^\s{0,3}#{1,6}\s+(.*)$")
_CLOSING: Final = re.compile(r"(?:^|(?<=\s))#++$")  # of a heading: apart from its words
_BULLET: Final = re.compile(r"^(\s*)[*+]\s+")
_RULE: Final = re.compile(r"^\s{0,3}([-*_])(\s*\1){2,}\s*$")
_ITEM: Final = re.compile(r"^\s*+(?:[-*+]|\d{1,9}[.)])\s")
_INDENTED: Final = re.compile(r"^(?: {4}|\t)")

_PIECES: Final = re.compile(
    r"(?P<path>(?<=[\w:])\\\*(?=\.\w))"  # C:\*.txt
    r"|\\(?P<escaped>[*_~`#\[\]])"
    r"|(?<!`)(?P<ticks>`++)(?P<code>.+?)(?<!`)(?P=ticks)(?!`)"
    r"|(?P<stray>`++)"
    r"|<(?P<address>[A-Za-z][A-Za-z0-9+.-]{1,31}:[^\s<>]*+)>"
    r"|(?<![\w)\]])(?:!?)\[(?P<words>[^\[\]\n]*+)\]\((?P<target>[^\s()]*+(?:\([^\s()]*+\)[^\s()]*+)*+)"
    r"(?:\s++\"[^\"]*+\")?+\)"
    r"|(?P<url>[A-Za-z][A-Za-z0-9+.-]{1,31}://[^\s<>`|]++|(?<!\w)www\.[^\s<>`|]++)"
    r"|(?P<marks>\*++|_++|~~++)"
)

_MARKS: Final = {"*": ("", "_", "*"), "_": ("", "_", "*"), "~": ("", "", "~")}  # by length
_BEFORE: Final = frozenset("([{<\"'|>:,;-\N{EN DASH}\N{EM DASH}\N{LEFT DOUBLE QUOTATION MARK}"
    "\N{LEFT SINGLE QUOTATION MARK}\N{LEFT-POINTING DOUBLE ANGLE QUOTATION MARK}"
    "\N{DOUBLE LOW-9 QUOTATION MARK}\N{SINGLE LOW-9 QUOTATION MARK}*_~")  # fmt: skip
_NO_BEGINNING: Final = frozenset("/\\,;:!?)]}>=|&%^")
_AFTER: Final = frozenset(".,;:!?)]}>\"'|-\N{EN DASH}\N{EM DASH}\N{HORIZONTAL ELLIPSIS}"
    "\N{RIGHT DOUBLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}"
    "\N{LEFT DOUBLE QUOTATION MARK}\N{LEFT SINGLE QUOTATION MARK}"
    "\N{RIGHT-POINTING DOUBLE ANGLE QUOTATION MARK}*_~")  # fmt: skip
_NO_END: Final = frozenset("/\\")
#: Names that look like bold text between underscores.
_NAMES: Final = frozenset(
    "init main name file all doc dict class call str repr len iter next enter exit new del eq ne lt le gt"
    " ge hash bool getattr setattr delattr getitem setitem delitem contains add sub mul slots version"
    " author path future pycache import builtins annotations module post_init aenter aexit aiter"
    " anext await qualname mro subclasses typename".split()
)
#: Before a mark of WhatsApp's that is none of ours: for it, a mark in the middle of a word is text.
_JOINER: Final = "\N{WORD JOINER}"


def to_whatsapp(text: str) -> str:
    """The same text with WhatsApp's bold, italic, strike, code, lists and links."""
    lines: list[str] = []
    fence = ""
    blank = True  # the line before was, or was code of this kind
    listed = False  # the block is in a list
    for line in text.split("\n"):
        found = _FENCE.match(line)
        if fence:
            closes = line.strip(" \t>").startswith(fence) and not line.strip(" \t>").strip(fence[0])
            lines.append("```" if closes else line)
            fence = "" if closes else fence
        elif found is not None:
            fence = found["fence"] or found["tildes"]
            lines.append((found["before"] if found["before"].strip() else "") + "```")
        elif _INDENTED.match(line) and blank and not listed and line.strip():
            lines.append(line)
            continue
        else:
            if line.strip() and not _INDENTED.match(line):
                listed = _ITEM.match(line) is not None or (listed and line.startswith(" "))
            lines.append(_line(line))
        blank = not line.strip()
    if fence:
        lines.append("```")
    return "\n".join(lines)


def _line(line: str) -> str:
    if _RULE.match(line):
        return "\N{EM DASH}" * 3
    heading = _HEADING.match(line)
    if heading:
        words = _CLOSING.sub("", heading[1].rstrip()).rstrip()
        inner = _translated(words, bold=False).strip()
        return f"*{inner}*" if inner else ""
    bullet = _BULLET.match(line)
    if bullet:
        return f"{bullet[1]}- {_translated(line[bullet.end() :])}"
    return _translated(line)


@attrs.define
class _Piece:
    """A part of a line. ``run``: what is left of a run of marks; ``text``: what is written there."""

    text: str
    literal: bool = True  # of the words, so that WhatsApp may take marks in it for its own
    run: str = ""
    opens: bool = False
    closes: bool = False


def _translated(line: str, *, bold: bool = True) -> str:
    pieces = list(_pieces(line))
    _match(pieces, bold=bold)
    return _guarded(pieces)


def _pieces(line: str) -> Iterator[_Piece]:
    at = 0
    counts = {"*": 0, "_": 0, "~": 0}  # runs so far that are at the edge of a word
    position = 0
    while (found := _PIECES.search(line, position)) is not None:
        if found.start() > at:
            yield _Piece(line[at : found.start()])
        at = position = found.end()
        if found["path"] is not None:
            yield _Piece(found[0])
        elif found["escaped"] is not None:
            yield _Piece(found["escaped"])
        elif found["ticks"] is not None:
            yield _Piece(f"`{_code(found['code'])}`", literal=False)
        elif found["stray"] is not None:
            yield _Piece(found[0])
        elif found["address"] is not None:
            yield _Piece(found["address"], literal=False)
        elif found["target"] is not None:
            yield from _link(found["words"], found["target"])
        elif found["url"] is not None:
            address = _without_end(found["url"], counts)
            at = position = found.start() + len(address)
            yield _Piece(address, literal=False)
        else:
            piece = _run(line, found)
            counts[piece.run[0]] += piece.opens or piece.closes
            yield piece
    if at < len(line):
        yield _Piece(line[at:])


def _code(text: str) -> str:
    """What is between the ticks, less the one space on each side that is there for the ticks' sake."""
    padded = text.startswith(" ") and text.endswith(" ") and text.strip(" ")
    return text[1:-1] if padded else text


def _link(words: str, target: str) -> Iterator[_Piece]:
    bare = target.removeprefix("mailto:")
    if words and words != bare:
        yield _Piece(_translated(words), literal=False)
        yield _Piece(f" ({bare})" if bare else "", literal=False)
    else:
        yield _Piece(bare, literal=False)


_STOPS: Final = ".,;:!?)\"'"


def _without_end(address: str, counts: dict[str, int]) -> str:
    """An address without the marks at its end that close what was opened before it."""
    end = len(address.rstrip("*_~" + _STOPS))
    tail = address[end:]
    for at, char in enumerate(tail):
        if char not in counts or tail[at:].strip(char + _STOPS):
            continue
        closes = len(tail[at:].rstrip(_STOPS))
        if counts[char] % 2 and address.count(char) % (2 * closes):
            return address[: end + at]
    return address


def _run(line: str, found: re.Match[str]) -> _Piece:
    run, start, end = found["marks"], found.start(), found.end()
    before = line[start - 1] if start else " "
    after = line[end] if end < len(line) else " "
    if len(run) > 3 or (run[0] == "~" and len(run) != 2):
        return _Piece(run, run=run)
    dots = after == "." and (len(run) == 1 or not line[end + 1 : end + 2].isalnum())
    begins = not after.isspace() and after not in _NO_BEGINNING and not dots
    opens = begins and (before.isspace() or before in _BEFORE)
    ends = not before.isspace() and before not in _NO_END
    closes = ends and (after.isspace() or after in _AFTER)
    if run == "__" and opens:
        name = re.compile(r"(\w+?)__(?!\w)").match(line, end)
        opens = name is None or name[1] not in _NAMES
    return _Piece(run, run=run, opens=opens, closes=closes)


def _match(pieces: list[_Piece], *, bold: bool) -> None:
    """Write WhatsApp's marks where a run that opens meets one that closes; each run is looked at once."""
    opened: list[int] = []
    of_char: dict[str, list[int]] = {"*": [], "_": [], "~": []}
    left: dict[int, int] = {}  # marks of an opener that are not matched yet
    written: dict[int, str] = {}
    for at, piece in enumerate(pieces):
        if not piece.run:
            continue
        char, rest, closing = piece.run[0], len(piece.run), ""
        mine = of_char[char]
        while piece.closes and rest and mine:
            opener = mine[-1]
            size = 2 if rest >= 2 and left[opener] >= 2 else 1
            size = 1 if rest == left[opener] == 3 else size
            if char == "~" and size != 2:
                break
            if opener == at - 1:
                break  # nothing between them
            while opened[-1] != opener:  # what was opened in between is text
                of_char[pieces[opened[-1]].run[0]].pop()
                opened.pop()
            mark = _MARKS[char][size]
            mark = "" if size == 2 and mark == "*" and not bold else mark
            closing += mark
            written[opener] = mark + written.get(opener, "")
            left[opener] -= size
            rest -= size
            if not left[opener]:
                opened.pop()
                mine.pop()
        if rest == len(piece.run) and piece.opens:
            left[at] = rest
            opened.append(at)
            mine.append(at)
        elif rest < len(piece.run):
            piece.text, piece.literal = closing + char * rest, False
    for opener, marks in written.items():
        piece = pieces[opener]
        piece.text, piece.literal = piece.run[0] * left[opener] + marks, False


_LITERAL: Final = re.compile(r"\*++|_++|~++|`++")


def _guarded(pieces: list[_Piece]) -> str:
    """The line, with what keeps WhatsApp from taking a mark of the words for one of its own."""
    text = "".join(piece.text for piece in pieces)
    begin: list[tuple[str, int]] = []  # marks of the words with which WhatsApp's could begin …
    last: dict[str, int] = {}  # … and the last of each kind with which they could end
    position = 0
    for piece in pieces:
        for found in _LITERAL.finditer(piece.text) if piece.literal or piece.run else ():
            at, end = position + found.start(), position + found.end()
            before = text[at - 1] if at else " "
            after = text[end] if end < len(text) else " "
            ends = after.isspace() or after in _AFTER
            if ends and not before.isspace() and before not in _NO_END:
                last[found[0][0]] = at
            begins = before.isspace() or before in "([{\"'|>"
            if piece.literal and begins and not after.isspace() and len(found[0]) == 1:
                begin.append((found[0], at))
        position += len(piece.text)
    out, done = [], 0
    for mark, at in begin:
        if last.get(mark, -1) > at + 1:
            out += [text[done:at], _JOINER]
            done = at
    return "".join([*out, text[done:]])
