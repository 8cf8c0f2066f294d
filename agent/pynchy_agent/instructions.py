"""Put the system prompt together: what the host says, which programs are here, and both pages of memory.

Pure text from plain arguments. The host knows whom the agent works for; only the container knows what is installed in
it. The two CLAUDE.md files are read by the runner and capped here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

MAX_MEMORY: Final = 32_000  # characters of one CLAUDE.md: every call of the model carries them

#: Programs that a model would try, and should know of before it does.
PROGRAMS: Final = (
    "bash", "python3", "pip", "uv", "node", "npm", "git", "curl", "jq", "sqlite3", "zip", "unzip", "rg",
    "pdftotext", "pdftoppm", "tesseract", "ffmpeg", "opusdec", "libreoffice", "pandoc", "agent-browser",
)  # fmt: skip


def instructions(
    about: str,
    *,
    programs: Sequence[str],
    shared_memory: str | None,
    own_memory: str | None,
) -> str:
    """The whole system prompt. ``about`` is the host's part, ``programs`` those of `PROGRAMS` that are here."""
    missing = [name for name in PROGRAMS if name not in programs]
    parts = [about] if about else []
    parts.append("# Programs")
    if programs:
        parts[-1] += f"\n- Here: {', '.join(programs)}."
    if missing:
        parts[-1] += f"\n- Not here: {', '.join(missing)}."
    if shared_memory:
        parts.append(f"# Shared memory (/workspace/global/CLAUDE.md)\n{_capped(shared_memory)}")
    if own_memory:
        parts.append(f"# Your memory (/workspace/group/CLAUDE.md)\n{_capped(own_memory)}")
    return "\n\n".join(parts)


def _capped(text: str) -> str:
    if len(text) <= MAX_MEMORY:
        return text
    return f"{text[:MAX_MEMORY]}\n[cut: the file has {len(text)} characters, only the first {MAX_MEMORY} are shown]"
