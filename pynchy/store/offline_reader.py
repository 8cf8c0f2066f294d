"""Read the database file while no daemon runs.

The rule: the file is opened to be read, so that nothing here can change it, and only where its rows mean what our
questions think they do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar, cast

import trio

from pynchy.store import migrations
from pynchy.store.connection import StoreBroken, StoreError, open_reader
from pynchy.store.database import Opened, RunSync, Store, Tx

P = ParamSpec("P")
T = TypeVar("T")


class OtherSchema(StoreError):
    """Another version wrote it."""


@contextmanager
def open_unowned(path: Path) -> Iterator[Store]:
    """A store whose calls only read. Raises `OtherSchema`, and `StoreBroken` for what cannot be read."""
    try:
        with open_reader(path) as reader:
            schema = reader.execute("PRAGMA user_version").fetchone()[0]
            if schema != migrations.SCHEMA:
                raise OtherSchema(f"{path} has schema {schema}, not {migrations.SCHEMA}")
            yield _Unowned(Opened(reader, path), cast("RunSync", trio.to_thread.run_sync))
    except sqlite3.Error as error:
        raise StoreBroken(f"{path}: {error}") from error


class _Unowned(Store):
    async def call(
        self, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        await trio.lowlevel.checkpoint()
        return fn(self._begun(), *args, **kwargs)  # in no transaction: nobody else writes

    read = call
