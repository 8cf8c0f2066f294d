"""What the failures that a person can mend mean: an exit code and a sentence each, in one place.

The rule that keeps it so: it is imported when something has failed, so it may import what it likes.
"""

from __future__ import annotations

from pynchy.cli.client import STOP_FIRST
from pynchy.config.paths import NotPrivate
from pynchy.config.sources import ConfigError
from pynchy.container.engines.runtime import NoRuntime
from pynchy.daemon.lock import AlreadyRunning
from pynchy.exits import Exit, is_of_disk, of_disk
from pynchy.store.connection import StoreDamaged, StoreError, StoreNotOurs, StoreTooNew


def verdict(error: BaseException) -> tuple[Exit, str] | None:
    """The exit code of a failure and what to tell the person, or None if it is a bug of ours."""
    match error:
        case NoRuntime():
            return Exit.NO_RUNTIME, str(error)
        case StoreTooNew() | StoreNotOurs():  # says what to do
            return Exit.STORE, str(error)
        case StoreDamaged():
            remedy = "pynchy restore lists the copies, and puts one back"
            return Exit.STORE, f"{error}; {remedy}"
        case StoreError():
            return Exit.STORE, f"{error}; pynchy doctor may say more"
        case AlreadyRunning():
            return Exit.ALREADY_RUNNING, f"{error}; {STOP_FIRST}"
        case ConfigError() | NotPrivate():
            return Exit.CONFIG, str(error)
        case OSError() if is_of_disk(error):
            return of_disk(error)
    return None
