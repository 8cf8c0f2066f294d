"""Tables are whole for programs, and fit for people."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

TABLE = """
from pynchy.cli.table import table
rows = [(1, "main", "a " + "long " * 30 + "end"), (22, "family\\x1b[31m", "two\\nlines")]
for line in table(("n", "group", "what"), rows):
    print(line)
"""


def shown(columns: int | None) -> list[str]:
    argv = [sys.executable, "-c", TABLE]
    if columns is None:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.splitlines()
    ours, theirs = pty.openpty()
    environ = os.environ | {"TERM": "xterm", "COLUMNS": str(columns)}
    with subprocess.Popen(argv, stdout=theirs, env=environ) as process:
        os.close(theirs)
        seen = b""
        while b"two lines" not in seen:
            seen += os.read(ours, 4096)  # ends with the process, if that never says it
        process.wait(60)
    os.close(ours)
    return seen.decode().splitlines()


def test_through_a_pipe_nothing_is_cut_and_a_row_is_a_line() -> None:
    head, first, second = shown(None)
    assert head == " N  GROUP       WHAT"
    assert first.startswith(" 1  main        a long long")
    assert first.endswith("long end")
    assert second == "22  family[31m  two lines"  # and no colour of somebody else's


def test_on_a_terminal_a_row_is_as_long_as_a_line() -> None:
    head, first, _ = shown(60)
    assert head == " N  GROUP       WHAT"
    assert (len(first), first[-1]) == (60, "…")


def test_where_it_is_too_narrow_the_last_column_is_below_the_others() -> None:
    head, what, first, more, *_ = shown(30)
    assert (head, what) == (" N  GROUP", "    WHAT")
    assert first == " 1  main"
    assert (len(more), more[:10], more[-1]) == (30, "    a long", "…")
