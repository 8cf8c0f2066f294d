"""What putting voice notes into words needs on this machine: packages and a model, and whether they are there.

The packages are an environment apart from ours, for the Python that sandboxes of the engine have. No program of this
machine imports them.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Final

import attrs

from pynchy.config.paths import Home
from pynchy.config.settings import Voice
from pynchy.voice.models import KNOWN, MAGIC, file_of

LOCK: Final = Path(__file__).resolve().parents[2] / "requirements" / "voice.lock"
OF_THE_IMAGE: Final = "3.11"  # the Python of the agent's image
STAMP: Final = "installed"  # in the packages' folder: the lock that they are from


@attrs.frozen
class Parts:
    """Where they are, or belong."""

    packages: Path
    model: Path
    python: str  # the version of Python that imports the packages


def parts_of(home: Home, voice: Voice, *, engine: str) -> Parts:
    python = (
        OF_THE_IMAGE if engine != "bwrap" else f"{sys.version_info.major}.{sys.version_info.minor}"
    )
    return Parts(home.voice / f"python{python}", home.voice / file_of(voice.model), python)


def missing(parts: Parts, voice: Voice) -> str:
    """What is missing, as the end of a sentence; empty if nothing is."""
    return packages_lack(parts) or wrong_with(parts.model, voice.model)


def packages_lack(parts: Parts) -> str:
    """The same of the packages alone."""
    try:
        stamp = (parts.packages / STAMP).read_text(encoding="ascii")
    except OSError:
        return f"the packages for Python {parts.python} are not installed"
    if LOCK.exists() and stamp != stamp_of(LOCK):
        return "the packages are of another version of Pynchy"
    return ""


def wrong_with(file: Path, model: str) -> str:
    """What is wrong with a model's file, as far as its size and its beginning tell."""
    try:
        with file.open("rb") as opened:
            beginning, size = opened.read(len(MAGIC)), file.stat().st_size
    except OSError:
        return f"the model {model} was not fetched"
    if beginning != MAGIC:
        return f"{file.name} is no model of whisper.cpp"
    known = KNOWN.get(model)
    if known is not None and size != known.size:
        return f"{file.name} has {size} bytes, and not {known.size}"
    return ""


def stamp_of(lock: Path) -> str:
    return hashlib.sha256(lock.read_bytes()).hexdigest()
