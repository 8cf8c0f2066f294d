"""Answer a question from the daemon or, while none runs, from the database file.

So one need not start it to learn why it stopped. The rule that keeps it so: nothing is written, and what only a
running daemon knows is not made up.
"""

from __future__ import annotations

import os
from typing import Any, Final

import click

from pynchy.cli.client import NotRunning, Refused, open_connection
from pynchy.config.paths import Home

DOWN: Final = "(pynchy is not running; this is what its database says)"


def ask(op: str, **arguments: object) -> Any:
    """What the daemon answers or, while none runs, what the database says; the latter is told on stderr.

    Raises `NotRunning` where there is no database either, and `StoreNotOurs` where there was one.
    """
    home = Home.of(os.environ)
    try:
        with open_connection(home) as connection:
            return connection.ask(op, **arguments)
    except NotRunning:
        if not home.database.exists():
            from pynchy.store.database import see_that_it_is_ours  # here: as below

            see_that_it_is_ours(home.database, home.store_mark)
            raise
    found = _read(home, op, arguments)
    click.echo(DOWN, err=True)
    return found


def _read(home: Home, op: str, arguments: dict[str, object]) -> Any:
    # Imported here: a daemon that runs is asked in no time.
    from functools import partial

    import trio

    from pynchy.actions.usage import Terms, budget_of
    from pynchy.config.sources import ConfigError, from_environ
    from pynchy.config.timezone import machine_timezone
    from pynchy.control.ops.acting import Acting
    from pynchy.control.ops.looking import LookingOps
    from pynchy.control.ops.memory import MemoryOps
    from pynchy.control.ops.tasks import TaskOps
    from pynchy.control.server import OpFailed, ops_of
    from pynchy.store.offline_reader import OtherSchema, open_unowned

    async def nothing(effects: object) -> None:
        raise AssertionError("a question has no effects")

    try:
        config = from_environ(os.environ)
        timezone = config.assistant.timezone
        costs = Terms(
            config.model.name,
            timezone,
            partial(budget_of, config.budget, billed=config.is_billed),
            free=config.model.offline or config.credential is None,
            billed=lambda: config.is_billed,
        )
    except ConfigError:  # `pynchy config check` says what is wrong with it
        timezone = machine_timezone(os.environ) or "UTC"
        costs = Terms(timezone=timezone)
    try:
        with open_unowned(home.database) as store:
            looking = LookingOps(store, home.backups, timezone, costs)
            acting = Acting(store, nothing)
            question = ops_of(looking, TaskOps(acting, timezone), MemoryOps(acting, timezone))[op]

            async def put() -> object:
                return await question(None, **arguments)

            return trio.run(put)
    except OpFailed as error:
        raise Refused(error.code, str(error)) from None
    except OtherSchema as error:
        raise NotRunning(f"pynchy is not running, and {error}: pynchy upgrade --check") from None
