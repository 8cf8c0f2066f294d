"""A part of `just errands`: in each engine other ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.errands.errands import ERRANDS, carry_out
from tests.errands.household import open_house
from tests.internet import Internet

PART = {
    "bwrap": ("three laptops", "a page that changes"),
    "podman": ("a spreadsheet", "a long PDF"),
    "docker": ("a package",),
}


@pytest.mark.limit(300)
def test_errands_are_done(tmp_path: Path, internet: Internet, runtime_name: str) -> None:
    with open_house(tmp_path / "home", runtime_name, internet) as house:
        done = [carry_out(house, each) for each in ERRANDS if each.name in PART[runtime_name]]
    assert len(done) == len(PART[runtime_name])
    assert not [each.line for each in done if each.why]
