"""This home's installation id, and the engine it used last.

An engine's containers carry the installation's id, and whoever has that id may remove them. So the id belongs to a
place: a home that was copied or moved is another installation, and never takes the original's containers for its own.

The rule that keeps it so: a few short files in the home, each replaced in one step.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from pynchy.config.paths import Home
from pynchy.files.writing import replace
from pynchy.logs import logger

MACHINE_ID: Final = Path("/etc/machine-id")
_NOBODY: Final = "00000000"  # the id of no installation


def install_id(home: Home, *, machine_id: Path = MACHINE_ID) -> str:
    """This installation's id: 8 hex digits, made at the first start, and again if the home was copied or moved."""
    here = _place(home, machine_id)
    known, place = _read(home.install_id), _read(home.install_place)
    if known and place in ("", here):
        if not place:  # of a version that did not note it
            replace(home.install_place, f"{here}\n")
        return known
    made = secrets.token_hex(4)
    replace(home.install_id, f"{made}\n")
    replace(home.install_place, f"{here}\n")
    if known:
        logger.warning(
            "this home was copied or moved here, so it has an id of its own now; containers of the original"
            " are not touched"
        )
    return made


def known_install_id(home: Home, *, machine_id: Path = MACHINE_ID) -> str:
    """The id, without making one: an id that nobody has if the home is new, copied or moved."""
    try:
        known, place = _read(home.install_id), _read(home.install_place)
    except (OSError, UnicodeDecodeError):
        return _NOBODY
    return known if known and place in ("", _place(home, machine_id)) else _NOBODY


def last_engine(home: Home) -> str | None:
    """The engine that held this home's agents last where it chose by itself; None before the first start."""
    try:
        return _read(home.engine) or None
    except (OSError, UnicodeDecodeError):
        return None


def remember_engine(home: Home, name: str) -> None:
    if last_engine(home) != name:
        replace(home.engine, f"{name}\n")


def _place(home: Home, machine_id: Path) -> str:
    try:
        machine = machine_id.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        machine = ""
    return ascii(f"{machine} {home.root.resolve()}")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""
