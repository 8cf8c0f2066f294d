"""A reader of OpenMetrics 1.0 text that takes nothing the standard does not have.

Its grammar is the standard's own (openmetrics.io, section ABNF), for the kinds that we use.
"""

from __future__ import annotations

import re
from typing import Final

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]

_NAME: Final = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_TEXT: Final = r'(?:[^"\\\n]|\\[\\"n])*'
_META: Final = re.compile(rf"# (TYPE|UNIT|HELP) ({_NAME}) (.*)")
_LABEL: Final = re.compile(rf'([a-zA-Z_][a-zA-Z0-9_]*)="({_TEXT})"')
_SAMPLE: Final = re.compile(
    rf"({_NAME})(?:\{{((?:[a-zA-Z_][a-zA-Z0-9_]*=\"{_TEXT}\",?)*)\}})? "
    r"([+-]?(?:\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|Inf)|NaN)"
)
_SUFFIXES: Final = {"counter": ("_total", "_created"), "gauge": ("",), "info": ("_info",)}


def read(text: str) -> Samples:
    """Every sample by its name and labels. Raises AssertionError for what is not of the format."""
    assert text.endswith("\n# EOF\n") or text == "# EOF\n", "it does not end as it must"
    samples: Samples = {}
    seen: set[str] = set()
    family, kind, unit, met = "", "", "", set[str]()
    for line in text.removesuffix("# EOF\n").split("\n")[:-1]:
        if meta := _META.fullmatch(line):
            word, name, rest = meta.groups()
            if name != family:
                assert name not in seen, f"{name} comes twice"
                seen.add(name)
                family, kind, unit, met = name, "", "", set()
            assert word not in met, f"two {word} of {name}"
            assert "SAMPLE" not in met, f"{word} of {name} behind its samples"
            met.add(word)
            if word == "TYPE":
                assert rest in _SUFFIXES, rest
                kind = rest
            elif word == "UNIT":
                unit = rest
                assert name.endswith(f"_{unit}"), f"{name} does not end in {unit}"
            else:
                assert re.fullmatch(_TEXT, rest), f"help of {name}"
            continue
        sample = _SAMPLE.fullmatch(line)
        assert sample, f"no line of the format: {line!r}"
        name, inner, value = sample.groups()
        assert any(name == family + suffix for suffix in _SUFFIXES[kind]), f"{name} in {family}"
        labels = tuple(_LABEL.findall(inner or ""))
        assert ",".join(f'{key}="{text}"' for key, text in labels) == (inner or "")
        assert len({key for key, _ in labels}) == len(labels), f"a label twice: {line}"
        key = (name, tuple(sorted(labels)))
        assert key not in samples, f"a sample twice: {line}"
        number = float(value)
        if kind == "counter":
            assert number >= 0, line
        if kind == "info":
            assert number == 1, line
        samples[key] = number
        met.add("SAMPLE")
    return samples
