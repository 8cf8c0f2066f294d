"""A hostile agent at full speed, and what it gains: nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.redteam.siege import besiege

SECONDS = int(os.environ.get("PYNCHY_TEST_SIEGE", "5"))


@pytest.mark.limit(300.0 + 5.0 * SECONDS)
def test_an_agent_that_tries_everything_gains_nothing(tmp_path: Path) -> None:
    # threats L1, L3, L5, L7, L8, L9, I1, I2, I8, K1, K5, N1, N2, S1, S4, X1, X3, X5, X10, X13
    account = besiege(tmp_path, SECONDS)
    sys.stderr.write(f"\n{account}\n")
    assert account.wrong == []
    assert account.besieged
    assert account.held, "nobody measured the loop"
    assert account.main
    assert len(account.tried) > 10, "most of the attacks did not even begin"
