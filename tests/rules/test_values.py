"""The one checker of values: what each kind takes, what it says of the rest, and that JSON Schema agrees."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, NewType

import attrs
import jsonschema  # type: ignore[import-untyped]  # ships no types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy_agent.values import (
    Choice,
    Either,
    Flag,
    Instance,
    Items,
    Kind,
    Number,
    Optional,
    Pattern,
    Record,
    Text,
    Whole,
    Wrong,
)

NAME = Text(3)
KINDS: dict[str, Kind[Any]] = {
    "text": NAME,
    "any text": Text(least=0),
    "whole": Whole(1, 5),
    "number": Number(0, 1.5),
    "flag": Flag(),
    "choice": Choice(("a", "b")),
    "pattern": Pattern(re.compile("[0-9a-f]{2}"), "two hex digits"),
    "either": Either((NAME, Whole())),
    "optional": Optional(Flag()),
    "items": Items(NAME, 2),
    "record": Record({"a": NAME}, {"b": Items(Flag())}),
}


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        ("text", "abcd", "expected a text of 1 to 3 characters, found 'abcd'"),
        ("text", "", "expected a text of 1 to 3 characters, found ''"),
        ("text", "x" * 41, "expected a text of 1 to 3 characters, found a text of 41 characters"),
        ("text", 3, "expected a text of 1 to 3 characters, found 3"),
        ("text", None, "expected a text of 1 to 3 characters, found nothing"),
        ("any text", ["x"], "expected a text, found a list of 1"),
        ("whole", 6, "expected a whole number from 1 to 5, found 6"),
        ("whole", True, "expected a whole number from 1 to 5, found true"),  # threat I10
        ("whole", "3", "expected a whole number from 1 to 5, found '3'"),
        ("whole", "\uff13", "expected a whole number from 1 to 5, found '\uff13'"),
        ("whole", 3.0, "expected a whole number from 1 to 5, found 3.0"),
        ("whole", 10**99, "expected a whole number from 1 to 5, found a number with many digits"),
        ("number", float("nan"), "expected a number from 0 to 1.5, found nan"),
        ("number", False, "expected a number from 0 to 1.5, found false"),
        ("number", 10**400, "expected a number from 0 to 1.5, found a number with many digits"),
        ("flag", 1, "expected true or false, found 1"),
        ("choice", "c", "expected one of a, b, found 'c'"),
        ("choice", ["a"], "expected one of a, b, found a list of 1"),
        ("pattern", "0g", "expected two hex digits, found '0g'"),
        (
            "either",
            False,
            "expected a text of 1 to 3 characters or a whole number, found false",
        ),
        ("optional", 0, "expected true or false, found 0"),
        ("items", "a", "expected a list (at most 2, each a text of 1 to 3 characters), found 'a'"),
        (
            "items",
            ["a", "b", "c"],
            "expected a list (at most 2, each a text of 1 to 3 characters), found a list of 3",
        ),
        ("items", ["a", 1], "item 2: expected a text of 1 to 3 characters, found 1"),
        ("record", [], "expected an object with a, b, found a list of 0"),
        ("record", {}, "a: missing"),
        ("record", {"a": "x", "c": 1}, "c: unknown; known: a, b"),
        ("record", {"a": "x", "c\n": 1}, "'c\\n': unknown; known: a, b"),
        ("record", {"a": "x", "c" * 99: 1}, "a text of 99 characters: unknown; known: a, b"),
        ("record", {"a": "x", "b": [1]}, "b: item 1: expected true or false, found 1"),
    ],
)
def test_a_value_that_does_not_fit_is_told_exactly(kind: str, value: object, says: str) -> None:
    assert KINDS[kind].wrong(value) == says
    with pytest.raises(Wrong, match=re.escape(says)):
        KINDS[kind].take(value)


@pytest.mark.parametrize(
    ("kind", "value", "seen"),
    [
        ("text", "abc", "abc"),
        ("any text", "", ""),
        ("whole", 5, 5),
        ("number", 1, 1.0),
        ("flag", False, False),
        ("choice", "b", "b"),
        ("pattern", "0f", "0f"),
        ("either", 7, 7),
        ("optional", None, None),
        ("items", ["a"], ("a",)),
        ("record", {"a": "x", "b": [True]}, {"a": "x", "b": (True,)}),
    ],
)
def test_a_value_that_fits_is_taken(kind: str, value: object, seen: object) -> None:
    assert KINDS[kind].take(value) == seen


@pytest.mark.parametrize(
    ("kind", "written", "seen"),
    [
        ("whole", " 3 ", 3),
        ("whole", "3.0", 3),
        ("whole", 3.0, 3),
        ("number", "1e0", 1.0),
        ("flag", "YES", True),
        ("flag", "off", False),
        ("choice", " B", "b"),
        ("items", "a, b,", ("a", "b")),
        ("items", "", ()),
    ],
)
def test_a_person_may_write_it_as_a_text(kind: str, written: object, seen: object) -> None:
    assert KINDS[kind].parse(written) == seen


@pytest.mark.parametrize(
    "written", ["", "1_0", "\uff13", "3.5", "1e999", "nan", "0x3", "9" * 99, True]
)
def test_what_is_no_whole_number_is_not_guessed_at(written: object) -> None:
    with pytest.raises(Wrong, match="expected a whole number from 1 to 5, found"):
        KINDS["whole"].parse(written)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.floats(-2, 9) | st.text(max_size=5)
    | st.sampled_from(["a", "b", "0f"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(kind=st.sampled_from(sorted(KINDS)), value=json_values)
def test_json_schema_agrees(kind: str, value: Any) -> None:
    """But for 3.0, which JSON Schema takes for a whole number and we do not, and a line break at the end."""
    schema = KINDS[kind].schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    if "\\n" not in json.dumps(value) and not _whole_float(value):
        valid = jsonschema.Draft202012Validator(schema).is_valid(value)
        assert (KINDS[kind].wrong(value) is None) == valid


def _whole_float(value: Any) -> bool:
    if isinstance(value, list | dict):
        return any(map(_whole_float, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and value.is_integer()


Id = NewType("Id", str)


@attrs.frozen
class Part:
    number: int


@attrs.frozen
class Sample:
    id: Id
    note: str | None
    short: Annotated[str, Text(3)] = "no"
    parts: tuple[Part, ...] = ()
    more: Mapping[str, Any] = attrs.field(factory=dict)


INSTANCE = Instance.of(Sample)


def test_an_object_becomes_an_instance_of_its_class() -> None:
    full = {"id": "a", "note": "b", "short": "c", "parts": [{"number": 1}], "more": {"x": []}}
    assert INSTANCE.take(full) == Sample(Id("a"), "b", "c", (Part(1),), {"x": []})
    assert INSTANCE.take({"id": "a", "unknown": 1}) == Sample(Id("a"), None)


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({}, "id: expected a text, found nothing"),
        ({"id": 1}, "id: expected a text, found 1"),
        ({"id": "a", "short": "long"}, "short: expected a text of 1 to 3 characters"),
        ({"id": "a", "short": None}, "short: expected"),
        ({"id": "a", "parts": [{"number": True}]}, "parts: item 1: number: expected a whole"),
        ({"id": "a", "more": []}, "more: expected an object"),
        ([], "expected an object, found a list of 0"),
    ],
)
def test_a_field_that_is_not_of_its_kind_is_named(given: Any, wrong: str) -> None:
    with pytest.raises(Wrong, match=re.escape(wrong)):
        INSTANCE.take(given)
