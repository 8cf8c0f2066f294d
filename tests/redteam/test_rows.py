"""The page of threats and the tests say the same."""

from __future__ import annotations

import re

from tests.redteam.rows import PAGE, commented, rows


def test_every_row_has_a_test_that_is_there_or_says_why_not() -> None:
    found = rows()
    assert len({row.id for row in found}) == len(found) > 80
    for row in found:
        assert row.tests or row.proof != "test", f"{row.id} claims a test and names none"
        assert row.why or row.proof == "test", row.id


def test_no_test_is_about_a_threat_that_is_not_on_the_page() -> None:
    assert commented().keys() <= {row.id for row in rows()}


def test_what_is_open_is_said_again_at_the_end_of_the_page() -> None:
    table, _, summary = PAGE.read_text(encoding="utf-8").partition("## Not yet")
    whole, _, parts = summary.partition("Parts of rows")
    assert re.findall(r"\b[LMSIPKNXD]\d+\b", whole) == [
        row.id for row in rows() if row.proof == "not yet"
    ]
    lines = re.findall(r"^\| ([LMSIPKNXD]\d+) \| .*\*open:\*", table, re.MULTILINE)
    assert re.findall(r"\b[LMSIPKNXD]\d+\b", parts) == lines
