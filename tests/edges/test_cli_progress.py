"""A bar is shown where somebody looks on, and nowhere else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

COPIES = """
import sys
from pathlib import Path
from pynchy.cli.progress import growing
part, whole = Path(sys.argv[1]), int(sys.argv[2])
with growing(part, whole, "copying"):
    with part.open("wb") as file:
        for _ in range(4):
            file.write(bytes(whole // 4))
            file.flush()
    input()
"""
LARGE = 40 << 20


def test_on_a_terminal_it_says_how_much_is_there(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-c", COPIES, str(tmp_path / "part"), str(LARGE)]
    environ = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=theirs, stderr=theirs, env=environ
    ) as process:
        os.close(theirs)
        seen = b""
        while b"41.9/41.9 MB" not in seen:
            seen += os.read(ours, 4096)  # ends with the process, if that never says it
        process.communicate(b"\n", timeout=60)
        with suppress(OSError):
            os.read(ours, 4096)
    os.close(ours)
    assert b"copying" in seen
    assert process.returncode == 0


def test_elsewhere_and_for_little_nothing_is_shown(tmp_path: Path) -> None:
    for size in (LARGE, 1000):
        argv = [sys.executable, "-c", COPIES, str(tmp_path / "part"), str(size)]
        done = subprocess.run(argv, input=b"\n", capture_output=True, timeout=60, check=True)
        assert (done.stdout, done.stderr) == (b"", b"")
