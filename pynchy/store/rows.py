"""Rows become values and values rows: which columns an attrs class is kept in, and the readers of rows.

A field is the column of its name unless `column` says another; a field that is itself made of columns says so.
A tuple is kept as JSON.
A reader of values is given what follows the columns: ``read_one(db, Turn, "FROM turns WHERE id = ?", (turn,))``.
`Tx.insert` writes a row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final, TypeVar, cast

import attrs

from pynchy.store.database import Database

T = TypeVar("T")
Params = Sequence[Any] | dict[str, Any]

_COLUMN: Final = "column"
_READ: Final = "read"
_PARTS: Final = "parts"


def column(name: str = "", *, read: Callable[[Any], Any] | None = None) -> dict[str, Any]:
    """Metadata of a field that is kept in a column of another name, or is made of it by ``read``."""
    return {_COLUMN: name, _READ: read}


def parts(kind: type[Any]) -> dict[str, Any]:
    """Metadata of a field that is a value of its own, kept in columns beside the others."""
    return {_PARTS: kind}


def tuple_of_json(text: str | None) -> tuple[Any, ...] | None:
    return None if text is None else tuple(json.loads(text))


@cache
def columns(kind: type[Any]) -> str:
    """The columns of a class, in the order in which `to_value` reads them."""
    return ", ".join(
        columns(inner)
        if (inner := each.metadata.get(_PARTS))
        else each.metadata.get(_COLUMN) or each.name
        for each in attrs.fields(kind)
    )


def read_one(db: Database, kind: type[T], rest: str, params: Params = ()) -> T | None:
    """The first row as a value; None without one."""
    row = db.execute(_select(kind, rest), params).fetchone()
    return None if row is None else to_value(kind, row)


def read_all(db: Database, kind: type[T], rest: str, params: Params = ()) -> list[T]:
    """All rows as values."""
    found = db.execute(_select(kind, rest), params).fetchall()
    return [to_value(kind, row) for row in found]


def _select(kind: Any, rest: str) -> str:
    return f"SELECT {columns(kind)} {rest}"


def scalar(db: Database, kind: Callable[[Any], T], sql: str, params: Params = ()) -> T | None:
    """The first column of the first row; None without a row, or if it is NULL."""
    row = db.execute(sql, params).fetchone()
    return None if row is None or row[0] is None else kind(row[0])


def scalars(db: Database, kind: Callable[[Any], T], sql: str, params: Params = ()) -> list[T]:
    """The first column of all rows."""
    return [kind(row[0]) for row in db.execute(sql, params).fetchall()]


def number(db: Database, sql: str, params: Params = ()) -> int:
    """What a question for a count or a sum answers; 0 without a row, or if it is NULL."""
    return scalar(db, int, sql, params) or 0


def exists(db: Database, sql: str, params: Params = ()) -> bool:
    """Whether there is such a row."""
    return db.execute(sql, params).fetchone() is not None


def from_value(value: Any) -> dict[str, Any]:
    """A value as a row, by column; `to_value` makes the same of it again."""
    row: dict[str, Any] = {}
    for each in attrs.fields(type(value)):
        part = getattr(value, each.name)
        if each.metadata.get(_PARTS):
            row |= from_value(part)
        else:
            name = each.metadata.get(_COLUMN) or each.name
            row[name] = json.dumps(part) if isinstance(part, tuple) else part
    return row


def to_value(kind: type[T], row: Sequence[Any]) -> T:
    """A row of `columns` as a value."""
    made, left = _taken(kind, row)
    if left:
        raise ValueError(f"{len(left)} columns more than {kind.__name__} has")
    return cast("T", made)


def _taken(kind: type[Any], row: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
    values: list[Any] = []
    for each in attrs.fields(kind):
        if (inner := each.metadata.get(_PARTS)) is not None:
            made, row = _taken(inner, row)
        else:
            read = each.metadata.get(_READ) or _reader(each.type)
            made, row = (row[0] if read is None else read(row[0])), row[1:]
        values.append(made)
    return kind(*values), row


def _reader(kind: Any) -> Callable[[Any], Any] | None:
    """How a field of a type is read that is not kept as it is: flags, and tuples as JSON."""
    if kind in (bool, "bool"):
        return bool
    return tuple_of_json if str(kind).startswith("tuple[") else None
