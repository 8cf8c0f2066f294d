"""Rows become values: columns and order come from the class, kinds from its fields."""

from __future__ import annotations

import attrs
import pytest

from pynchy.store.rows import column, columns, parts, to_value, tuple_of_json


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
