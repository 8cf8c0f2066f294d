"""What a value may be: the one checker of settings, arguments of tools and of the control socket, and wire fields.

A `Kind` says what is expected in words, takes a value or raises `Wrong`, and writes itself as JSON Schema. `take` is
for what a program wrote (JSON: a number is no text), `parse` for what a person wrote (settings, a command line).

Pure; attrs is all that it imports. The guest may not import the host, so what both check lives here; the host's own
kinds (times, sizes, addresses) are in `pynchy.config.values`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import NoneType
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    Literal,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

import attrs

T = TypeVar("T")
SHOWN: Final = 40  # characters of a value that a message repeats


class Wrong(ValueError):
    """A value is not of its kind. The text says where in it, what was expected and what was found."""


class Unfit(ValueError):
    """Raised by a kind's own `_take` and `_parse`; `Kind` turns it into a `Wrong` that says what is expected."""


class Kind(ABC, Generic[T]):
    """A sort of value."""

    @property
    @abstractmethod
    def expected(self) -> str:
        """What it is, for messages and docs: "a whole number from 1 to 5"."""

    def take(self, value: object) -> T:
        """The value as a program wrote it, or `Wrong`."""
        return self._or_wrong(value, written=False)

    def parse(self, value: object) -> T:
        """The value as a person wrote it, in a file of settings or as text; or `Wrong`."""
        return self._or_wrong(value, written=True)

    def wrong(self, value: object) -> str | None:
        """What is wrong with a value that a program wrote, or None."""
        try:
            self.take(value)
        except Wrong as error:
            return str(error)
        return None

    def schema(self) -> dict[str, Any]:
        """The same as JSON Schema. TypeError for a kind that is only of settings, and never shown to a model."""
        raise TypeError(f"{type(self).__name__} has no JSON Schema")

    def spell(self, value: Any) -> str:
        """A value of this kind as a person would write it; nothing for what is empty."""
        if isinstance(value, bool):
            return str(value).lower()
        return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)

    def _or_wrong(self, value: object, *, written: bool) -> T:
        try:
            return self._parse(value) if written else self._take(value)
        except Wrong:
            raise
        except (ValueError, OverflowError):
            raise Wrong(f"expected {self.expected}, found {found(value)}") from None

    @abstractmethod
    def _take(self, value: object) -> T:
        """The value, or `Wrong`; ValueError and OverflowError mean the same, in the words of `expected`."""

    def _parse(self, value: object) -> T:
        return self._take(value)


def found(value: object) -> str:
    """A value in a message: as it is if it is short, else what it is."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str() if len(value) > SHOWN:
            return f"a text of {len(value)} characters"
        case str() | int() | float():
            shown = repr(value)
            return shown if len(shown) <= 2 * SHOWN else "a number with many digits"
        case list() | tuple():
            return f"a list of {len(value)}"
        case dict():
            return "an object"
    return f"a {type(value).__name__}"


# --- single values -------------------------------------------------------------------------------


@attrs.frozen
class Text(Kind[str]):
    """A text of ``least`` to ``most`` characters."""

    most: int | None = None
    least: int = 1

    @property
    def expected(self) -> str:
        return "a text" + _range(self.least, self.most, of=" of", unit=" characters", nothing=0)

    def _take(self, value: object) -> str:
        if not isinstance(value, str):
            raise Unfit
        _within(len(value), self.least, self.most)
        return value

    def schema(self) -> dict[str, Any]:
        most = {} if self.most is None else {"maxLength": self.most}
        return {"type": "string", "minLength": self.least, **most}


@attrs.frozen
class Pattern(Kind[str]):
    """A text that a regular expression matches as a whole; ``expected`` says it in words."""

    pattern: re.Pattern[str]
    words: str

    @property
    def expected(self) -> str:
        return self.words

    def _take(self, value: object) -> str:
        if not isinstance(value, str) or self.pattern.fullmatch(value) is None:
            raise Unfit
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^(?:{self.pattern.pattern})$"}


@attrs.frozen
class Number(Kind[float]):
    """A finite number from ``least`` to ``most``."""

    least: float | None = None
    most: float | None = None

    @property
    def expected(self) -> str:
        return "a number" + _range(self.least, self.most, of=" from")

    def _take(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Unfit
        number = float(value)
        if number - number != 0.0:  # an infinity or NaN
            raise Unfit
        _within(number, self.least, self.most)
        return number

    def _parse(self, value: object) -> float:
        return self._take(number_in(value))

    def schema(self) -> dict[str, Any]:
        return {"type": "number", **_bounds(self.least, self.most)}


@attrs.frozen
class Whole(Kind[int]):
    """A whole number from ``least`` to ``most``; no text that looks like one."""

    least: int | None = None
    most: int | None = None

    @property
    def expected(self) -> str:
        return "a whole number" + _range(self.least, self.most, of=" from")

    def _take(self, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Unfit
        _within(value, self.least, self.most)
        return value

    def _parse(self, value: object) -> int:
        number = number_in(value)
        if isinstance(number, float):
            if not number.is_integer():
                raise Unfit
            number = int(number)
        return self._take(number)

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", **_bounds(self.least, self.most)}


@attrs.frozen
class Flag(Kind[bool]):
    """True or false."""

    @property
    def expected(self) -> str:
        return "true or false"

    def _take(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise Unfit
        return value

    def _parse(self, value: object) -> bool:
        if isinstance(value, str):
            word = value.strip().lower()
            if word not in _FLAGS:
                raise Unfit
            return _FLAGS[word]
        return self._take(value)

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


_FLAGS: Final = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}


@attrs.frozen
class Choice(Kind[str]):
    """One of some words."""

    words: tuple[str, ...]

    @property
    def expected(self) -> str:
        return "one of " + ", ".join(self.words)

    def _take(self, value: object) -> str:
        if not isinstance(value, str) or value not in self.words:
            raise Unfit
        return value

    def _parse(self, value: object) -> str:
        return self._take(value.strip().lower() if isinstance(value, str) else value)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.words)}


# --- made of others ------------------------------------------------------------------------------


@attrs.frozen
class Either(Kind[Any]):
    """A value of the one kind or the other; the first that takes it."""

    kinds: tuple[Kind[Any], ...]

    @property
    def expected(self) -> str:
        return " or ".join(kind.expected for kind in self.kinds)

    def _take(self, value: object) -> Any:
        for kind in self.kinds:
            if kind.wrong(value) is None:
                return kind.take(value)
        raise Unfit

    def schema(self) -> dict[str, Any]:
        """The limits of each are about its own type alone, so they can stand side by side."""
        schemas = [kind.schema() for kind in self.kinds]
        merged = {key: value for schema in schemas for key, value in schema.items()}
        return {**merged, "type": [schema["type"] for schema in schemas]}


@attrs.frozen
class Optional(Kind[T | None]):
    """A value of a kind, or null."""

    kind: Kind[T]

    @property
    def expected(self) -> str:
        return f"{self.kind.expected} or null"

    def _take(self, value: object) -> T | None:
        return None if value is None else self.kind.take(value)

    def _parse(self, value: object) -> T | None:
        return None if value is None else self.kind.parse(value)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [self.kind.schema(), {"type": "null"}]}


@attrs.frozen
class Items(Kind[tuple[T, ...]]):
    """A list of at most ``most`` values of one kind. A person writes them with commas between."""

    kind: Kind[T]
    most: int | None = None

    @property
    def expected(self) -> str:
        most = "" if self.most is None else f"at most {self.most}, "
        return f"a list ({most}each {self.kind.expected})"

    def _take(self, value: object) -> tuple[T, ...]:
        if not isinstance(value, list | tuple):
            raise Unfit
        _within(len(value), 0, self.most)
        taken = []
        for number, item in enumerate(value, start=1):
            try:
                taken.append(self.kind.take(item))
            except Wrong as error:
                raise Wrong(f"item {number}: {error}") from None
        return tuple(taken)

    def _parse(self, value: object) -> tuple[T, ...]:
        if isinstance(value, str):
            value = [word for each in value.split(",") if (word := each.strip())]
        return self._take(value)

    def schema(self) -> dict[str, Any]:
        most = {} if self.most is None else {"maxItems": self.most}
        return {"type": "array", "items": self.kind.schema(), **most}


@attrs.frozen
class Record(Kind[dict[str, Any]]):
    """An object with exactly these fields: those that it ``needs``, and those that it ``may`` have."""

    needs: Mapping[str, Kind[Any]] = attrs.field(factory=dict)
    may: Mapping[str, Kind[Any]] = attrs.field(factory=dict)

    @property
    def expected(self) -> str:
        return f"an object with {', '.join(self.fields) or 'nothing in it'}"

    @property
    def fields(self) -> dict[str, Kind[Any]]:
        return {**self.needs, **self.may}

    def _take(self, value: object) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise Unfit
        fields = self.fields
        for key in value:
            if key not in fields:
                name = key if str(key).isidentifier() and len(key) <= SHOWN else found(key)
                raise Wrong(f"{name}: unknown; known: {', '.join(fields) or 'none'}")
        for key in self.needs:
            if key not in value:
                raise Wrong(f"{key}: missing")
        taken = {}
        for key, item in value.items():
            try:
                taken[key] = fields[key].take(item)
            except Wrong as error:
                raise Wrong(f"{key}: {error}") from None
        return taken

    def schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": {name: kind.schema() for name, kind in self.fields.items()},
            "required": list(self.needs),
            "additionalProperties": False,
        }


@attrs.frozen
class Instance(Kind[T]):
    """An object with the fields of an attrs class, each of the kind that its annotation says; what is taken is one.

    A field that is missing has the class's default, or is null where that is allowed. Others are passed over.
    """

    cls: type[T]
    fields: Mapping[str, Kind[Any]]
    expected = "an object"

    @classmethod
    def of(cls, type_: type[T]) -> Instance[T]:
        hints = get_type_hints(type_, include_extras=True)
        return cls(type_, {name: kind_of(hint) for name, hint in hints.items()})

    def _take(self, value: object) -> T:
        if not isinstance(value, Mapping):
            raise Unfit
        taken = {}
        for field in attrs.fields(self.cls):  # type: ignore[arg-type]  # it is an attrs class
            if field.name in value or field.default is attrs.NOTHING:
                try:
                    taken[field.name] = self.fields[field.name].take(value.get(field.name))
                except Wrong as error:
                    raise Wrong(f"{field.name}: {error}") from None
        return self.cls(**taken)


class AnyObject(Kind[Mapping[str, Any]]):
    """An object, whatever is in it."""

    expected = "an object"

    def _take(self, value: object) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            raise Unfit
        return value


_PLAIN: Final[dict[type, Kind[Any]]] = {
    str: Text(least=0),
    bool: Flag(),
    int: Whole(),
    float: Number(),
}


def kind_of(hint: Any) -> Kind[Any]:
    """The kind of value that an annotation stands for; ``Annotated`` names one itself."""
    hint = getattr(hint, "__supertype__", hint)  # of a NewType
    if hint in _PLAIN:
        return _PLAIN[hint]
    match get_origin(hint), get_args(hint):
        case (origin, (_, Kind() as kind)) if origin is Annotated:
            return kind
        case (origin, words) if origin is Literal:
            return Choice(words)
        case (origin, (item, _)) if origin is tuple:
            return Items(kind_of(item))
        case (origin, _) if origin is Mapping:
            return AnyObject()
        case (_, (some, nothing)) if nothing is NoneType:
            return Optional(kind_of(some))
    return Instance.of(hint)


# --- bounds and numbers --------------------------------------------------------------------------

_NUMBER: Final = re.compile(r"\s*[+-]?\d+(?:\.\d+)?(?:e[+-]?\d{1,3})?\s*", re.ASCII | re.IGNORECASE)


def number_in(value: object) -> object:
    """The number that a person wrote as a text; whatever is no text is left as it is."""
    if not isinstance(value, str):
        return value
    if len(value) > 2 * SHOWN or not _NUMBER.fullmatch(value):
        raise Unfit
    return int(value) if value.strip().lstrip("+-").isdigit() else float(value)


def _within(value: float, least: float | None, most: float | None) -> None:
    if (least is not None and value < least) or (most is not None and value > most):
        raise Unfit


def _bounds(least: float | None, most: float | None) -> dict[str, Any]:
    bounds = {"minimum": least, "maximum": most}
    return {name: bound for name, bound in bounds.items() if bound is not None}


def _range(
    least: float | None,
    most: float | None,
    *,
    of: str,
    unit: str = "",
    nothing: float | None = None,
) -> str:
    """ " from 1 to 5", or as much of it as there is; ``nothing`` is a least bound that says nothing."""
    if least is not None and most is not None:
        return f"{of} {_plain(least)} to {_plain(most)}{unit}"
    alone = of if unit else ","
    if most is not None:
        return f"{alone} at most {_plain(most)}{unit}"
    if least is not None and least != nothing:
        return f"{alone} {_plain(least)} or more{unit}"
    return ""


def _plain(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"
