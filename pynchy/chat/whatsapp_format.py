"""Markdown, as models write it, in WhatsApp's own marks.

The rule that keeps it so: pure, line by line, and what is inside code is never touched. Where a
mark has no counterpart its text stays, so no word is ever lost. And no message is slow: what an
agent writes is translated on the daemon's one loop, so a pattern may look at a line again from each
mark, but never twice from one mark (hence the possessive ``*+`` and the looks behind).
"""

from __future__ import annotations

import re
from typing import Final

_FENCE: Final = re.compile(r"^\s{0,3}(```+|~~~+)")
_HEADING: Final = re.compile(r"^\s{0,3}#{1,6}\s+(.*)$")
_BULLET: Final = re.compile(r"^(\s*)[*+]\s+")
_RULE: Final = re.compile(r"^\s{0,3}([-*_])(\s*\1){2,}\s*$")
_CODE: Final = re.compile(r"(?<!`)(`++)(.+?)(?<!`)\1(?!`)")
_LINK: Final = re.compile(r"(!?)\[([^\]\n]*+)\]\(([^\s)]++)(?:\s++\"[^\"]*+\")?\)")
_BOLD_ITALIC: Final = re.compile(r"\*\*\*(?=\S)(.+?)(?<=\S)\*\*\*")
_BOLD: Final = re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*|(?<!\w)__(?=\S)(.+?)(?<=\S)__(?!\w|\.\w)")
_ITALIC: Final = re.compile(r"(?<![\w*])\*(?=[^\s*])([^*\n]*?)(?<=[^\s*])\*(?![\w*])")
_STRIKE: Final = re.compile(r"~~(?=\S)(.+?)(?<=\S)~~")

_HOLD: Final = "\x00"  # stands for a piece of code while the rest of its line is translated
_STAR: Final = "\x01"  # a star of WhatsApp's, which is not read as markdown again


def to_whatsapp(text: str) -> str:
    """The same text with WhatsApp's bold, italic, strike, code, lists and links."""
    lines: list[str] = []
    fence = ""
    for line in text.replace(_HOLD, "").replace(_STAR, "").split("\n"):
        found = _FENCE.match(line)
        if fence:
            closes = found is not None and found[1].startswith(fence) and not line.strip(" `~")
            lines.append("```" if closes else line)
            fence = "" if closes else fence
        elif found is not None:
            fence = found[1]
            lines.append("```")
        else:
            lines.append(_line(line))
    if fence:
        lines.append("```")
    return "\n".join(lines)


def _line(line: str) -> str:
    if _RULE.match(line):
        return "———"
    held: list[str] = []

    def hold(found: re.Match[str]) -> str:
        held.append(f"`{found[2].strip()}`")
        return _HOLD

    line = _CODE.sub(hold, line)
    heading = _HEADING.match(line)
    if heading:
        line = re.sub(r"\*\*|__", "", heading[1].rstrip().rstrip("#").rstrip())
    line = _BULLET.sub(r"\1- ", line)
    line = _LINK.sub(_link, line)
    line = _BOLD_ITALIC.sub(rf"{_STAR}_\1_{_STAR}", line)
    line = _BOLD.sub(lambda found: f"{_STAR}{found[1] or found[2]}{_STAR}", line)
    line = _ITALIC.sub(r"_\1_", line)
    line = _STRIKE.sub(r"~\1~", line)
    if heading and line:
        line = f"{_STAR}{line.replace(_STAR, '')}{_STAR}"
    line = line.replace(_STAR, "*")
    for code in held:
        line = line.replace(_HOLD, code, 1)
    return line


def _link(found: re.Match[str]) -> str:
    _, words, address = found.groups()
    bare = address.removeprefix("mailto:")
    return bare if not words or words == bare else f"{words} ({bare})"
