"""Whatever figures and labels there are, the text is of the format and says them back."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy.control.openmetrics import Family, by, counter, gauge, render
from tests import openmetrics

NUMBERS = st.floats(min_value=0) | st.integers(0, 2**53).map(float)


@given(st.dictionaries(st.text(), NUMBERS), st.text(), NUMBERS)
def test_what_is_rendered_reads_back(values: dict[str, float], help: str, total: float) -> None:
    families = [
        by("pynchy_things", help, "name", values),
        counter("pynchy_all", help, total),
        Family("pynchy", "info", "x", (({"version": help}, 1),)),
    ]
    found = openmetrics.read(render(families))
    assert found["pynchy_all_total", ()] == total
    assert sum(name == "pynchy_things" for name, _ in found) == len(values)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: gauge("2fast", "", 1),
        lambda: by("pynchy_x", "", "a-b", {"k": 1}),
        lambda: counter("pynchy_x", "", -1),
        lambda: counter("pynchy_x", "", math.nan),
        lambda: Family("pynchy_x", "gauge", "", (({"a": "1"}, 1), ({"a": "1"}, 2))),
    ],
)
def test_what_the_format_forbids_cannot_be_said(wrong: object) -> None:
    assert callable(wrong)
    with pytest.raises(ValueError, match=r"is no name|cannot be|two samples"):
        wrong()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pynchy_x 1\n# EOF\n",
        "# TYPE pynchy_x gauge\npynchy_x 1\n",
        "# TYPE pynchy_x counter\npynchy_x 1\n# EOF\n",
        '# TYPE pynchy_x gauge\npynchy_x{a="b" 1\n# EOF\n',
        '# TYPE pynchy_x gauge\npynchy_x{a="b\\z"} 1\n# EOF\n',
        "# TYPE pynchy_x gauge\npynchy_x 1\npynchy_x 2\n# EOF\n",
        "# TYPE pynchy_x gauge\npynchy_x  1\n# EOF\n",
    ],
)
def test_the_reader_of_these_tests_is_strict(text: str) -> None:
    with pytest.raises((AssertionError, KeyError)):
        openmetrics.read(text)
