"""Let a script of any name work: in the toolbox's Python what is installed wins over files beside the script.

Python looks beside the script first, so an agent's own `queue.py` or `docx.py` would be imported by the library that
meant the real one. This file is copied into the toolbox, where each start of its Python loads it; nothing of ours does.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

#: Names that packages install by mistake, and people give to folders of their own.
COMMON = frozenset({"test", "tests", "docs", "examples", "scripts"})


class InstalledFirst:
    """Finds a module of the standard library or of the toolbox there, wherever the script is."""

    def __init__(self, prefixes: tuple[str, ...]) -> None:
        self._prefixes = prefixes

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None or name in COMMON:
            return None
        places = [place for place in sys.path if place.startswith(self._prefixes)]
        found = PathFinder.find_spec(name, places, target)
        # A folder without __init__.py is no module that somebody installed.
        return found if found is not None and found.loader is not None else None


def use() -> None:
    """Ask it before the usual finder, and after those for built-in and frozen modules."""
    prefixes = tuple({f"{prefix}/lib" for prefix in (sys.prefix, sys.base_prefix)})
    at = sys.meta_path.index(PathFinder)
    sys.meta_path.insert(at, InstalledFirst(prefixes))
