"""The time zone of this machine by its IANA name, and whether a name is one.

The rule that keeps it so: a zone is a name of the IANA list or it is not known; an offset is no zone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def is_zone(name: str) -> bool:
    """Whether this is a time zone of the IANA list, such as ``Europe/Berlin``."""
    from zoneinfo import ZoneInfo  # here: most starts never need it

    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        return False
    return True


def machine_timezone(environ: Mapping[str, str]) -> str | None:
    """The machine's own zone by its IANA name; UTC where it has none, None where its name cannot be told."""
    named = environ.get("TZ", "").strip().removeprefix(":")
    if named and named not in ("/etc/localtime", "localtime"):
        return _zone_at(named)
    try:
        return _zone_at(str(Path("/etc/localtime").readlink()))
    except FileNotFoundError:
        return _zone_in_words() or "UTC"
    except OSError:  # it is a copy, which does not say of what
        return _zone_in_words()


def _zone_in_words() -> str | None:
    """The zone that Debian's /etc/timezone names."""
    try:
        return _zone_at(Path("/etc/timezone").read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError):
        return None


def _zone_at(place: str) -> str | None:
    """The zone of a name, or of a file with one below a zoneinfo folder."""
    name = place.rpartition("/zoneinfo/")[2].removeprefix("posix/").removeprefix("right/")
    return name if name and not name.startswith("/") and is_zone(name) else None
