"""Rows become values and values rows: columns and order come from the class, kinds from its fields."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import attrs
import pytest

from pynchy.model import Micros
from pynchy.store.connection import connect
from pynchy.store.database import Tx
from pynchy.store.rows import (
    column,
    columns,
    exists,
    from_value,
    number,
    parts,
    read_all,
    read_one,
    scalar,
    scalars,
    to_value,
    tuple_of_json,
)


@attrs.frozen
class Place:
    x: int
    y: int


@attrs.frozen
class Thing:
    id: str
    run: str = attrs.field(metadata=column("run_id"))
    place: Place = attrs.field(metadata=parts(Place))
    words: tuple[str, ...] = attrs.field(metadata=column(read=tuple_of_json))
    fine: bool
    note: str | None = None


def test_the_columns_are_those_of_the_class() -> None:
    assert columns(Thing) == "id, run_id, x, y, words, fine, note"


def test_a_row_becomes_a_value() -> None:
    made = to_value(Thing, ("a", "r", 1, 2, '["b", "c"]', 1, None))
    assert made == Thing("a", "r", Place(1, 2), ("b", "c"), True, None)
    assert made.fine is True


@pytest.mark.parametrize(
    "row", [("a", "r", 1, 2, "[]", 1), ("a", "r", 1, 2, "[]", 1, None, "more")]
)
def test_a_row_of_another_length_is_refused(row: tuple[object, ...]) -> None:
    with pytest.raises((ValueError, IndexError)):
        to_value(Thing, row)


THINGS = [
    Thing("a", "r", Place(1, 2), ("b", "c"), True, None),
    Thing("z", "s", Place(3, 4), (), False, "a note"),
]


@pytest.fixture
def tx() -> Iterator[Tx]:
    with closing(connect(":memory:")) as db:
        db.execute("CREATE TABLE things (id PRIMARY KEY, run_id, x, y, words, fine, note)")
        tx = Tx(db, Micros(0))
        for place, thing in enumerate(THINGS, 1):
            assert tx.insert("things", **from_value(thing)) == place
        yield tx


def test_what_is_inserted_is_read_again(tx: Tx) -> None:
    assert read_all(tx, Thing, "FROM things ORDER BY id") == THINGS
    assert read_one(tx, Thing, "FROM things WHERE id = ?", ("z",)) == THINGS[1]
    assert read_one(tx, Thing, "FROM things WHERE id = 'other'") is None


def test_a_row_that_is_there_is_left_or_replaced(tx: Tx) -> None:
    assert tx.insert_new("things", id="a", note="left out") is None
    assert tx.insert_new("things", id="b") == 3
    assert scalar(tx, str, "SELECT note FROM things WHERE id = 'a'") is None
    tx.replace("things", id="a", note="another")
    assert scalar(tx, str, "SELECT note FROM things WHERE id = 'a'") == "another"


def test_one_column_is_read_without_unpacking(tx: Tx) -> None:
    assert scalars(tx, str, "SELECT id FROM things ORDER BY id") == ["a", "z"]
    assert number(tx, "SELECT sum(x) FROM things") == 4
    assert number(tx, "SELECT sum(x) FROM things WHERE id = 'other'") == 0
    assert exists(tx, "SELECT 1 FROM things WHERE fine")
    assert not exists(tx, "SELECT 1 FROM things WHERE x > 100")
