"""Fetch the file that a message speaks of."""

from __future__ import annotations

import mimetypes
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pynchy.limits import WHATSAPP
from pynchy.whatsapp import read as reading

if TYPE_CHECKING:
    from pynchy.whatsapp.library import Client

FETCH_WAIT: Final = WHATSAPP.fetch

_in_hand: Final = threading.BoundedSemaphore(WHATSAPP.hanging)


class NotFetched(Exception):
    """Why a file was not fetched, for the agent to read."""


def fetch(
    media: reading.Media, source: bytes, folder: Path, *, limit: int, client: Callable[[], Client]
) -> tuple[str, int]:
    """Put the file of a message into the group's media folder, under a name of ours. Returns the name and its size."""
    if media.size > limit:
        raise NotFetched(f"{media.size} bytes are too many")
    connected = client()
    if not _in_hand.acquire(blocking=False):
        raise NotFetched("too many others did not come")
    worker = ThreadPoolExecutor(1)  # not waited for: the library may never come back
    download = worker.submit(connected.download, source)
    download.add_done_callback(lambda _: _in_hand.release())
    try:
        content = download.result(FETCH_WAIT)
    except TimeoutError:
        raise NotFetched("no answer") from None
    except Exception as error:  # the library has one sort of error, with words in it
        raise NotFetched(str(error)) from None
    if len(content) > limit:
        raise NotFetched(f"{len(content)} bytes are too many")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = secrets.token_hex(8) + (mimetypes.guess_extension(media.media_type) or ".bin")
    (folder / name).write_bytes(content)
    return name, len(content)
