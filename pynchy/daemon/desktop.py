"""Show a notification on the owner's desktop, if there is one.

The rule that keeps it so: it is one more way to be heard and never the only one, so nothing waits for
it long, and no trouble of it is anybody's trouble.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

import trio

from pynchy.logs import logger
from pynchy.model import SECOND

LIMIT: Final = 10 * SECOND

#: Programs that show a notification, and what comes before title and text. The words are arguments of
#: their own: none of them is ever read as a script or as an option.
_SCRIPT: Final = (
    "on run argv",
    "display notification (item 2 of argv) with title (item 1 of argv)",
    "end run",
)
PROGRAMS: Final[Mapping[str, Sequence[str]]] = {
    "osascript": [word for line in _SCRIPT for word in ("-e", line)],
    "notify-send": ["--app-name=Pynchy", "--"],
}


async def notify(title: str, text: str) -> None:
    """Show it, if there is a program that can. Never raises for the weather."""
    found = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    if found is None:
        await trio.lowlevel.checkpoint()
        return
    words = PROGRAMS[found.rpartition("/")[2]]
    text = text.translate(_PLAIN)
    try:
        with trio.move_on_after(LIMIT):
            await trio.run_process(
                [found, *words, title, text],
                stdin=b"",
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
    except OSError as error:
        logger.info("no notification on the desktop: {}", error)


_PLAIN: Final = {ord(sign): " " for sign in "<>&"}  # some desktops read markup in it
