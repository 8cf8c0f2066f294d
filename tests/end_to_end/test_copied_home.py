"""A copy of a home, tried beside the original."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.end_to_end.house import environment, running


def runs(home: Path) -> list[Any]:
    argv = [sys.executable, "-m", "pynchy", "status", "--json"]
    done = subprocess.run(argv, env=environment(home), capture_output=True, check=True, timeout=60)
    found: list[Any] = json.loads(done.stdout)["runs"]
    return found


def test_a_copy_of_a_live_home_leaves_the_originals_agents_alone(
    runtime_name: str, tmp_path: Path
) -> None:
    # invariant 34
    home, copy = tmp_path / "home", tmp_path / "copy"
    with running(home, runtime_name) as daemon, daemon.talk() as talk:
        assert talk.ask("echo before") == "before"
        [before] = runs(home)
        subprocess.run(["cp", "-a", home, copy], check=True)
        with running(copy, runtime_name) as other, other.talk() as beside:
            assert beside.ask("echo beside") == "beside"
            assert talk.ask("echo after") == "after"
            [after] = runs(home)
            assert other.stop() == 0
        assert daemon.stop() == 0
    assert after["run"] == before["run"], "the original's agent was left alone"
    assert "copied or moved here" in (copy / "logs" / "pynchy.log").read_text()
