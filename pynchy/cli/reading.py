"""Answer a question from the daemon or, while none runs, from the database file.

Whoever wants to know why it stopped need not start it first. The rule that keeps it so: nothing is written, and what
only a living daemon knows is not made up.
"""

from __future__ import annotations

import os
from typing import Any, Final

import click

from pynchy.cli.client import Failure, NotRunning, Refused, open_connection
from pynchy.config.paths import Home
from pynchy.exits import Exit

DOWN: Final = "(pynchy is not running; this is what its database says)"


def ask(op: str, **arguments: object) -> Any:
    """What the daemon answers to a question; or what it would, from the rows it left. The second is said on stderr.

    Raises `NotRunning` where there is no database, either.
    """
    home = Home.of(os.environ)
    try:
        with open_connection(home) as connection:
            return connection.ask(op, **arguments)
    except NotRunning:
        if not home.database.exists():
            raise
    found = _read(home, op, arguments)
    click.echo(DOWN, err=True)
    return found


def _read(home: Home, op: str, arguments: dict[str, object]) -> Any:
    # Imported here: a daemon that runs is asked in no time.

    import trio

    from pynchy.config.sources import ConfigError, from_environ
    from pynchy.config.timezone import machine_timezone
    from pynchy.control.ops.acting import Acting
    from pynchy.control.ops.looking import LookingOps
    from pynchy.control.ops.tasks import TaskOps
    from pynchy.control.server import OpFailed
    from pynchy.store.connection import StoreError
    from pynchy.store.offline_reader import OtherSchema, open_unowned

    async def nothing(effects: object) -> None:
        raise AssertionError("a question has no effects")

    try:
        timezone = from_environ(os.environ).assistant.timezone
    except ConfigError:  # `pynchy config check` says what is wrong with it
        timezone = machine_timezone(os.environ) or "UTC"
    try:
        with open_unowned(home.database) as store:
            looking = LookingOps(store, home.backups, timezone)
            tasks = TaskOps(Acting(store, nothing), timezone)
            question: Any = {**looking.questions, **tasks.questions}[op]

            async def put() -> object:
                return await question(None, **arguments)

            return trio.run(put)
    except OpFailed as error:
        raise Refused(error.code, str(error)) from None
    except OtherSchema as error:
        raise NotRunning(f"pynchy is not running, and {error}: pynchy upgrade --check") from None
    except StoreError as error:
        raise Failure(f"{error}; pynchy doctor", Exit.STORE) from None
