"""Rows become values here: which columns an attrs class is read from, and the one converter that reads them.

A field is the column of its name unless `column` says another; a field that is itself made of columns says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final, TypeVar, cast

import attrs

T = TypeVar("T")

_COLUMN: Final = "column"
_READ: Final = "read"
_PARTS: Final = "parts"


def column(name: str = "", *, read: Callable[[Any], Any] | None = None) -> dict[str, Any]:
    """Metadata of a field that is kept in a column of another name, or is made of it by ``read``."""
    return {_COLUMN: name, _READ: read}


def parts(kind: type[Any]) -> dict[str, Any]:
    """Metadata of a field that is a value of its own, kept in columns beside the others."""
    return {_PARTS: kind}


def tuple_of_json(text: str) -> tuple[Any, ...]:
    return tuple(json.loads(text))


@cache
def columns(kind: type[Any]) -> str:
    """The columns of a class, in the order in which `to_value` reads them."""
    return ", ".join(
        columns(inner)
        if (inner := each.metadata.get(_PARTS))
        else each.metadata.get(_COLUMN) or each.name
        for each in attrs.fields(kind)
    )


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
            read = each.metadata.get(_READ) or (bool if each.type in (bool, "bool") else None)
            made, row = (row[0] if read is None else read(row[0])), row[1:]
        values.append(made)
    return kind(*values), row
