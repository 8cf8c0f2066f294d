"""Format metrics as OpenMetrics text, which Prometheus reads.

The rule that keeps it so: pure, and strict: what the format forbids cannot be said.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal

import attrs

Kind = Literal["counter", "gauge", "info"]

UNITS: Final = ("bytes", "dollars", "seconds", "tokens")
_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII)
_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)


@attrs.frozen
class Family:
    """One figure with its meaning. ``samples``: labels and value; no two have the same labels."""

    name: str
    kind: Kind
    help: str
    samples: tuple[tuple[Mapping[str, str], float], ...]

    @property
    def unit(self) -> str:
        """What it is counted in, which its name ends with; "" for mere numbers."""
        last = self.name.rpartition("_")[2]
        return last if last in UNITS else ""

    def __attrs_post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name} is no name of a metric")
        for labels, value in self.samples:
            if bad := [name for name in labels if not _LABEL.fullmatch(name)]:
                raise ValueError(f"{bad[0]} is no name of a label")
            if self.kind == "counter" and not value >= 0:
                raise ValueError(f"{self.name} counts, and cannot be {value}")
        seen = [tuple(sorted(labels.items())) for labels, _ in self.samples]
        if len(seen) != len(set(seen)):
            raise ValueError(f"{self.name} has two samples with the same labels")


def gauge(name: str, help: str, value: float) -> Family:
    """A figure that goes up and down."""
    return Family(name, "gauge", help, (({}, value),))


def counter(name: str, help: str, value: float) -> Family:
    """A figure that only grows."""
    return Family(name, "counter", help, (({}, value),))


def by(name: str, help: str, label: str, values: Mapping[str, float]) -> Family:
    """A gauge for each value of a label."""
    samples = tuple(({label: key}, value) for key, value in sorted(values.items()))
    return Family(name, "gauge", help, samples)


def render(families: Iterable[Family]) -> str:
    """The whole exposition."""
    return "".join(line + "\n" for family in families for line in _lines(family)) + "# EOF\n"


_SUFFIX: Final[Mapping[Kind, str]] = {"counter": "_total", "gauge": "", "info": "_info"}


def _lines(family: Family) -> Iterator[str]:
    yield f"# TYPE {family.name} {family.kind}"
    if family.unit:
        yield f"# UNIT {family.name} {family.unit}"
    yield f"# HELP {family.name} {_escaped(family.help)}"
    for labels, value in family.samples:
        inner = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
        head = f"{family.name}{_SUFFIX[family.kind]}"
        yield f"{head}{{{inner}}} {_number(value)}" if inner else f"{head} {_number(value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
