"""The list of planted bugs follows the code: each has its place there, and fails by what it does alone."""

import subprocess
import sys
from pathlib import Path

from tests.simulation.mutants import BUGS, planted


def test_every_planted_bug_has_its_place_and_knows_every_name_it_uses(tmp_path: Path) -> None:
    # A name that is gone would bring the daemon down, and count as a bug that was noticed.
    for number, bug in enumerate(BUGS):
        name = bug.module.rpartition(".")[2]
        (tmp_path / f"{number:02}_{name}.py").write_text(planted(bug))
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821,E9"]
    done = subprocess.run(
        [*ruff, "--output-format", "concise", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
