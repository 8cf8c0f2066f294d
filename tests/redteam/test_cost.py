"""What somebody sends costs the loop: never so much at once that others notice, whatever it is."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import trio

from tests.redteam.cost import LONGEST, ask, besieged, look

TRIES = int(os.environ.get("PYNCHY_TEST_COST", "12"))  # for each reader


def test_no_reader_holds_the_loop_whatever_is_sent(tmp_path: Path) -> None:  # threat N9
    found = look(tmp_path, tries=TRIES, seed=TRIES)
    sys.stderr.write("".join(f"\n{each}" for each in found) + "\n")
    held = [str(each) for each in found if each.longest > LONGEST]
    assert held == []


async def test_main_is_served_while_another_run_sends_what_costs_most(  # threat N9
    tmp_path: Path,
) -> None:
    with trio.fail_after(60):
        async with besieged(tmp_path, b"1\r\n \r\n") as path:
            for _ in range(10):
                assert b"200" in (await ask(path)).split(b"\r\n")[0]
