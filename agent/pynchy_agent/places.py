"""Every path in the container."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs


@attrs.frozen
class Places:
    """The places that docs/wire.md names."""

    group: Path
    shared: Path
    media: Path
    commands: Path
    answers: Path
    config: Path

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Places:
        """The usual places, unless ``PYNCHY_WORKSPACE``, ``PYNCHY_ANSWERS`` or ``CLAUDE_CONFIG_DIR`` moves them."""
        root = Path(environ.get("PYNCHY_WORKSPACE", "/workspace"))
        return cls(
            group=root / "group",
            shared=root / "global",
            media=root / "media",
            commands=root / "ipc" / "commands",
            answers=Path(environ.get("PYNCHY_ANSWERS", "/tmp/pynchy-answers")),  # noqa: S108  (the container's own)
            config=Path(environ.get("CLAUDE_CONFIG_DIR", "/home/agent/.claude")),
        )
