"""A few real kills with every test run; `just torture N` does as many as one likes."""

import os
from pathlib import Path

import pytest

from tests.torture.kills import report, torture, torture_limit

KILLS = int(os.environ.get("PYNCHY_TEST_KILLS", "10"))


@pytest.mark.limit(torture_limit(KILLS))
def test_nothing_is_lost_or_said_twice_over_real_kills(tmp_path: Path) -> None:  # threat D2
    # invariants 1, 3, 17, 20, 22, 31, 81, 179, 180, 185
    account = torture(tmp_path / "home", KILLS)
    assert account.stored > KILLS
    assert account.sound, report(account)
