"""Save the conversation as a Markdown page before the agent compacts its context, and after it is over.

A transcript is read line by line and only words are kept: what people wrote, also in the middle of a turn, and what
the agent answered. Its tools, its thinking and the CLI's own notes are left out.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import attrs
import trio

MAX_TITLE: Final = 40  # characters of the title in a file's name
MAX_PAGES: Final = 1000  # of one day and title

_PROMPT: Final = re.compile(r"^<prompt\b.*</prompt>$", re.DOTALL | re.MULTILINE)

Hook = Callable[[Any, str | None, Any], Awaitable[Any]]


def hook(folder: Path, now: Callable[[], datetime]) -> Hook:
    """The PreCompact hook: it writes a page into ``folder``. A failure is a line on stderr and stops no compaction."""

    async def before_compaction(given: Any, _tool_use: str | None, _context: Any) -> Any:
        await trio.to_thread.run_sync(keep, Path(given["transcript_path"]), folder, now())
        return {}

    return before_compaction


def keep(transcript: Path, folder: Path, now: datetime) -> None:
    """Archive a conversation; a failure is a line on stderr."""
    try:
        archive(transcript, folder, now)
    except (OSError, ValueError) as error:
        print(f"the conversation was not archived: {error}", file=sys.stderr)  # noqa: T201  (stderr is the log)


def transcript_of(config: Path, session: str) -> Path | None:
    """Where the CLI keeps what was said in a session, if it does; ``config`` is its folder."""
    if not re.fullmatch(r"[0-9A-Za-z-]{1,64}", session):
        return None
    return next(config.glob(f"projects/*/{session}.jsonl"), None)


@attrs.frozen
class Said:
    """One thing somebody said."""

    by_agent: bool
    text: str


def archive(transcript: Path, folder: Path, now: datetime) -> Path | None:
    """Write what was said since the last compaction as ``<date>-<title>.md``; None if nothing was."""
    with transcript.open("rb") as lines:
        said = read_transcript(lines)
    if not said:
        return None
    first = next((item.text for item in said if not item.by_agent), said[0].text)
    page = render_page(said, now)
    folder.mkdir(exist_ok=True)
    for number in range(MAX_PAGES):
        path = folder / f"{now:%Y-%m-%d}-{title_of(first)}{f'-{number + 1}' if number else ''}.md"
        if not path.exists() or _continues(
            page, path.read_text(encoding="utf-8", errors="replace")
        ):
            aside = path.with_suffix(".tmp")
            aside.write_text(page, encoding="utf-8")
            aside.replace(path)
            return path
    raise ValueError(f"{folder} has {MAX_PAGES} pages of this day and title")


def _continues(page: str, older: str) -> bool:
    """Whether a page begins with all of an older one, its heading aside: a compaction may be called off."""
    return page.partition("\n")[2].startswith(older.partition("\n")[2].rstrip("\n"))


def read_transcript(lines: Iterable[bytes]) -> list[Said]:
    """What was said, in order, since the last compaction. Lines that cannot be read are passed over."""
    said: list[Said] = []
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue  # the last line may be half written
        if not isinstance(entry, dict) or entry.get("isSidechain"):
            continue
        if entry.get("type") == "system" and entry.get("subtype") == "compact_boundary":
            said.clear()
            continue
        item = _said(entry)
        if item is not None and item.text.strip():
            said.append(item)
    return said


def _said(entry: dict[str, Any]) -> Said | None:
    match entry:
        case {"isMeta": True} | {"isCompactSummary": True} | {"isApiErrorMessage": True}:
            return None
        case {"type": "user", "message": {"content": content}}:
            text = _words(content)
            # What the CLI notes about its own commands and interruptions in the user's name.
            if text.startswith(("<command-", "<local-command-", "[Request interrupted")):
                return None
            return Said(by_agent=False, text=readable(text))
        case {"type": "assistant", "message": {"content": content}}:
            return Said(by_agent=True, text=_words(content))
        case {"type": "attachment", "attachment": {"type": "queued_command", "prompt": prompt}}:
            return Said(by_agent=False, text=readable(_words(prompt)))
        case _:
            return None


def _words(content: Any) -> str:
    """The text blocks of a message, and only they."""
    if isinstance(content, str):
        return _whole(content)
    if not isinstance(content, list):
        return ""
    texts = (
        block.get("text")
        for block in content
        if isinstance(block, dict) and block.get("type") == "text"
    )
    return "\n\n".join(_whole(text) for text in texts if isinstance(text, str))


def _whole(text: str) -> str:
    """The text without halves of characters: the CLI cuts between two of them, and no file and no parser takes one."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def readable(prompt: str) -> str:
    """A prompt of the host as its messages, one paragraph each; any other text as it is."""
    found = _PROMPT.search(prompt)
    if found is None:
        return prompt
    try:
        root = ElementTree.fromstring(found.group())  # noqa: S314  (written by the host, which escapes every text)
    except ElementTree.ParseError:
        return prompt
    paragraphs = [
        f"**{item.get('sender', 'somebody')}** ({item.get('time', '')}): {item.findtext('text', '')}"
        if item.tag == "message"
        else f"**{item.tag}**: {item.text or ''}"
        for item in root
        if item.tag in ("message", "task", "notice")
    ]
    return "\n\n".join(paragraphs) or prompt


def render_page(said: Iterable[Said], now: datetime) -> str:
    """The page: a heading with the moment, then what was said."""
    parts = [f"# Conversation up to {now:%Y-%m-%d %H:%M %Z}".rstrip()]
    for item in said:
        parts.append(
            f"**You answered**:\n\n{item.text.strip()}" if item.by_agent else item.text.strip()
        )
    return "\n\n---\n\n".join(parts) + "\n"


def title_of(text: str) -> str:
    """A few words of ``text`` as part of a file's name."""
    words = re.sub(r"^\*\*.*?\*\*(?: \([^)]*\))?: ", "", text)
    return re.sub(r"\W+", "-", words.lower())[:MAX_TITLE].strip("-") or "conversation"


def local_time(zone: str) -> Callable[[], datetime]:
    """A clock of the named zone; of UTC where the container does not know it."""
    try:
        known: tzinfo = ZoneInfo(zone)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        known = UTC
    return lambda: datetime.now(known)
