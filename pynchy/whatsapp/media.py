"""Fetch the file that a message speaks of."""

from __future__ import annotations

import mimetypes
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pynchy.limits import WHATSAPP
from pynchy.whatsapp import read as reading
from pynchy.whatsapp.questions import NoAnswer, Questions

if TYPE_CHECKING:
    from pynchy.whatsapp.library import Client

FETCH_WAIT: Final = WHATSAPP.fetch

_downloads: Final = Questions(WHATSAPP.hanging, "too many others did not come")


class NotFetched(Exception):
    """Why a file was not fetched, for the agent to read."""


def fetch(
    media: reading.Media, source: bytes, folder: Path, *, limit: int, client: Callable[[], Client]
) -> tuple[str, int]:
    """Put the file of a message into the group's media folder, under a name of ours. Returns the name and its size."""
    if media.size > limit:
        raise NotFetched(f"{media.size} bytes are too many")
    connected = client()
    try:
        content = _downloads.ask(partial(connected.download, source), FETCH_WAIT)
    except NoAnswer as none:
        raise NotFetched(str(none)) from None
    if len(content) > limit:
        raise NotFetched(f"{len(content)} bytes are too many")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = secrets.token_hex(8) + (mimetypes.guess_extension(media.media_type) or ".bin")
    (folder / name).write_bytes(content)
    return name, len(content)
