"""Change one setting in the user's own files and leave the rest as it is.

The rule that keeps it so: a file is written aside, for its owner alone, and renamed into its place.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from pynchy.config.dotenv import entries
from pynchy.files.writing import replace


def set_setting(path: Path, section: str, key: str, value: str) -> None:
    """Set ``section.key`` in a configuration file to ``value``, which is written as TOML would."""
    line = f"{key} = {value}"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    kept = text.split("\n")
    heads = [n for n, each in enumerate(kept) if each.split("#")[0].strip() == f"[{section}]"]
    if heads:
        start = heads[0] + 1
        rest = range(start, len(kept))
        end = next((n for n in rest if kept[n].lstrip().startswith("[")), len(kept))
        others = [each for each in kept[start:end] if each.split("=")[0].strip() != key]
        kept[start:end] = [line, *others]
        text = "\n".join(kept)
    else:
        head = text.rstrip("\n") + ("\n\n" if text.strip() else "")
        text = f"{head}[{section}]\n{line}\n"
    replace(path, text)


def set_secret(path: Path, name: str, value: str, *, instead_of: Collection[str]) -> None:
    """Set ``name`` in a ``.env`` file, and take the names out that it comes instead of."""
    data = path.read_bytes() if path.exists() else b""
    lines = data.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    gone: set[int] = set()
    for entry in entries(data):
        if entry.name in {name, *instead_of}:
            gone.update(range(entry.line, entry.line + entry.value.count("\n") + 1))
    kept = [line for number, line in enumerate(lines, start=1) if number not in gone]
    text = "\n".join(kept).rstrip("\n")
    written = value if re.fullmatch(r"[A-Za-z0-9_./+=:-]*", value) else f"'{value}'"
    replace(path, f"{text}\n{name}={written}\n".lstrip("\n"))
