"""One field of the table: what came of one program and one way out."""

from __future__ import annotations

import enum

from tests.clients.programs import PAGE, Program
from tests.clients.rig import Rig

#: Of each refusal the words that a person or an agent needs.
WORDS = {
    "not listed": "is not on this group's list of hosts; ask for it with the tool request_host",
    "none": "this group's egress is none",
}


class Cell(enum.Enum):
    GOT = "works"
    TOLD = "refused, says why"
    REFUSED = "refused"
    WRONG = "FAILS"
    LEAKED = "GOT OUT"


def attempt(rig: Rig, program: Program, mode: str) -> tuple[Cell, str]:
    """Let a program try, and say what came of it."""
    before = len(rig.net.seen())
    ran = rig.run(mode, program.script)
    reached = len(rig.net.seen()) > before
    got = ran.code == 0 and PAGE in ran.output
    if mode not in WORDS:
        return (Cell.GOT if got and reached else Cell.WRONG), ran.output
    if reached or got:
        return Cell.LEAKED, ran.output
    if ran.code == 0:
        return Cell.WRONG, ran.output
    return (Cell.TOLD if WORDS[mode] in ran.output else Cell.REFUSED), ran.output
