"""The credential of the model API, read again when its file changes.

The rule that keeps it so: the kernel reports changes, so nothing polls; and a file that cannot be read, or has no
credential, changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import trio

from pynchy.files.changes import Watches
from pynchy.logs import logger

T = TypeVar("T")


async def run(
    folder: Path,
    watches: Watches,
    *,
    read: Callable[[], T | None],
    use: Callable[[T], None],
    changed: Callable[[], Awaitable[None]],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> NoReturn:
    """Hand what ``read`` finds to ``use`` whenever something in ``folder`` has changed it, and tell ``changed``.
    Runs until cancelled."""
    known = await trio.to_thread.run_sync(read)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with watches.of(fd) as watch:
            task_status.started()
            while True:
                await watch.changed()
                found = await trio.to_thread.run_sync(read)
                if found is None or found == known:
                    continue
                known = found
                use(found)
                logger.info("the credential of the model API was read again")
                await changed()
    finally:
        os.close(fd)
