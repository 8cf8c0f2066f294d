"""The kinds of values that only the host has: times, sizes, money, names and addresses as people write them.

The rule that keeps it so: pure. What a kind is, and all the others, are in `pynchy_agent.values`; what needs the
machine to be checked (a path below a home folder, a time zone) stands with the settings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import Any, Final

import attrs

from pynchy.model import DAY, HOUR, MINUTE, SECOND
from pynchy_agent.values import Choice, Kind, Number, Pattern, Unfit, number_in

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
TIB: Final = 1024 * GIB

_AMOUNT: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.ASCII | re.IGNORECASE)
_TIME_UNITS: Final = {
    "": 1.0,
    "s": SECOND,
    "sec": SECOND,
    "second": SECOND,
    "m": MINUTE,
    "min": MINUTE,
    "minute": MINUTE,
    "h": HOUR,
    "hour": HOUR,
    "d": DAY,
    "day": DAY,
}
#: Powers of 1024, also where the B is written: so do the engines take it.
_SIZE_UNITS: Final = {
    "": 1,
    "b": 1,
    "k": KIB,
    "kb": KIB,
    "kib": KIB,
    "m": MIB,
    "mb": MIB,
    "mib": MIB,
    "g": GIB,
    "gb": GIB,
    "gib": GIB,
    "t": TIB,
    "tb": TIB,
    "tib": TIB,
}


@attrs.frozen
class Seconds(Kind[float]):
    """A time of ``least`` to ``most`` seconds; also 0 if ``or_zero``. A person may give it a unit."""

    least: float
    most: float
    or_zero: bool = False

    @property
    def expected(self) -> str:
        zero = "0, or " if self.or_zero else ""
        return f'{zero}a time such as 90, "30 min" or "1 h", from {spell_time(self.least)} to {spell_time(self.most)}'

    def _take(self, value: object) -> float:
        seconds = Number()._take(value)
        if not (self.least <= seconds <= self.most or (self.or_zero and seconds == 0)):
            raise Unfit
        return seconds

    def _parse(self, value: object) -> float:
        return self._take(_amount(value, _TIME_UNITS))

    def spell(self, value: Any) -> str:
        return "0" if self.or_zero and not value else spell_time(value)

    def schema(self) -> dict[str, Any]:
        return Number(0 if self.or_zero else self.least, self.most).schema()


@attrs.frozen
class Size(Kind[int]):
    """A number of bytes from ``least`` to ``most``. A person may give it a unit."""

    least: int
    most: int

    @property
    def expected(self) -> str:
        return f'a size such as "512m" or "2g", from {spell_size(self.least)} to {spell_size(self.most)}'

    def _take(self, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Unfit
        if not self.least <= value <= self.most:
            raise Unfit
        return value

    def _parse(self, value: object) -> int:
        amount = _amount(value, _SIZE_UNITS)
        return self._take(int(amount) if isinstance(amount, float) else amount)

    def spell(self, value: Any) -> str:
        return spell_size(value)

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@attrs.frozen
class Money(Number):
    """An amount of dollars."""

    least: float | None = 0

    @property
    def expected(self) -> str:
        return super().expected.replace("a number", "an amount of dollars", 1)


@attrs.frozen
class Cap(Kind[float | None]):
    """An amount of dollars that may be spent. None where nobody has said one."""

    amount: Money

    @property
    def expected(self) -> str:
        return self.amount.expected

    def _take(self, value: object) -> float | None:
        return None if value is None else self.amount.take(value)

    def _parse(self, value: object) -> float | None:
        return None if value in (None, "") else self.amount.parse(value)

    def spell(self, value: Any) -> str:
        return "" if value is None else self.amount.spell(value)

    def schema(self) -> dict[str, Any]:
        return self.amount.schema()


@attrs.frozen
class Line(Kind[str]):
    """A text of one line with ``least`` to ``most`` characters, without blanks around it."""

    most: int | None = None
    least: int = 0
    words: str = "a text of one line"

    @property
    def expected(self) -> str:
        return self.words

    def _take(self, value: object) -> str:
        if not isinstance(value, str) or any(ord(char) < 32 or ord(char) == 127 for char in value):
            raise Unfit
        line = value.strip()
        if len(line) < self.least or (self.most is not None and len(line) > self.most):
            raise Unfit
        return line

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


@attrs.frozen
class Address(Pattern):
    """An address on the web, or nothing if that may be left ``empty``; without the ``ends`` that it may have."""

    empty: bool = False
    ends: tuple[str, ...] = ("/",)

    def _take(self, value: object) -> str:
        address = Line()._take(value)
        if self.empty and not address:
            return address
        address = super()._take(address).rstrip("/")
        for end in self.ends:
            address = address.removesuffix(end).rstrip("/")
        return address


@attrs.frozen
class Words(Kind[tuple[str, ...]]):
    """A command: a list of texts, or the same as a line of a shell."""

    @property
    def expected(self) -> str:
        return (
            'a list of texts, such as ["python3", "-m", "agent"], or the same as a line of a shell'
        )

    def _take(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise Unfit
        return tuple(Line(least=1)._take(item) for item in value)

    def _parse(self, value: object) -> tuple[str, ...]:
        try:
            return self._take(_split(value) if isinstance(value, str) else value)
        except ValueError:  # of an item, of TOML, of a quote that is not closed
            raise Unfit from None

    def spell(self, value: Any) -> str:
        import shlex  # here: only what is shown needs it

        return shlex.join(value)

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": {"type": "string"}}


@attrs.frozen
class HostList(Kind[tuple[str, ...]]):
    """Hosts as the variable NO_PROXY names them: a list of texts, or one text with commas or blanks between them."""

    @property
    def expected(self) -> str:
        return "hosts with commas between them, as example.org (with all below it), 10.0.0.0/8, 192.168.1.9 or *"

    def _take(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise Unfit
        return tuple(self._entry(item) for item in value)

    def _entry(self, item: object) -> str:
        entry = Line(253, 1)._take(item).lower()
        with suppress(ValueError):
            return str(ip_network(entry, strict=False)) if "/" in entry else str(ip_address(entry))
        if not _EXCEPTED.fullmatch(entry):
            raise Unfit
        return entry

    def _parse(self, value: object) -> tuple[str, ...]:
        if isinstance(value, str):
            value = value.replace(",", " ").split()
        return self._take(value)

    def spell(self, value: Any) -> str:
        return ",".join(value)


_EXCEPTED: Final = re.compile(r"\*|\*?\.?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?", re.ASCII)
EGRESS: Final = Choice(("none", "allowlist", "public"))
NAME: Final = Line(64, 1, "a name of 1 to 64 characters")
IMAGE: Final = Pattern(
    re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}"),
    "the name of an image, with a tag or a digest",
)
API_URL: Final = Address(
    re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?"),
    "an http or https address without a query",
    ends=("/messages", "/v1"),
)
DOWNLOADS: Final = Address(
    re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?"), "an http or https address without a query"
)
SPEECH_MODEL: Final = Pattern(
    re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"), "the name of a model, such as base or small.en"
)
LANGUAGE: Final = Pattern(
    re.compile(r"|[a-z]{2,3}"), "the code of a language such as de, or nothing"
)
PROXY: Final = Address(
    re.compile(r"https?://[^\s/?#@]+/?"),
    "the address of an HTTP proxy without a password, as http://proxy:3128 (a socks proxy does not do)",
    empty=True,
)


def _amount(value: object, units: Mapping[str, float]) -> object:
    """The amount that a person wrote, perhaps with a unit."""
    if not isinstance(value, str):
        return number_in(value)
    if not (parts := _AMOUNT.fullmatch(value)):
        raise Unfit
    unit = parts[2].lower()
    unit = unit if unit in units else unit.removesuffix("s")
    if unit not in units:
        raise Unfit
    return float(parts[1]) * units[unit]


def _split(text: str) -> object:
    """Words as a shell takes them, or a list as config.toml has it."""
    if text.lstrip().startswith("["):
        import tomllib  # here: hardly any start has a list outside of its file

        found = tomllib.loads(f"words = {text}")  # its errors are ValueErrors
        if len(found) > 1:
            raise Unfit
        return found["words"]
    import shlex  # here: as above

    return shlex.split(text)


def spell_time(value: float) -> str:
    for unit, length in (("d", DAY), ("h", HOUR), ("min", MINUTE)):
        if value >= length and value % length == 0:
            return f"{value / length:g} {unit}"
    return f"{value:g} s"


def spell_size(value: int) -> str:
    for unit, length in (("g", GIB), ("m", MIB), ("k", KIB)):
        if value >= length and value % length == 0:
            return f"{value // length}{unit}"
    return str(value)
