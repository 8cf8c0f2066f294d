"""The log and the runs, as the owner asks for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.end_to_end.house import HANG, environment, running
from tests.end_to_end.test_looking_in import asked, pynchy


def test_runs_and_the_log(tmp_path: Path) -> None:
    home = tmp_path / "home"
    pynchy(home, "logs", exits=4)
    with running(home, "bwrap"):
        pynchy(home, "send", "main", "echo hello there")
        [run] = asked(home, "runs")
        assert (run["group"], run["kind"], run["ended_at"]) == ("main", "session", None)
        assert asked(home, "runs", "--limit", "1") == [run]
        pynchy(home, "runs", "--group", "nowhere", exits=2)
        assert "ready" in pynchy(home, "logs")
        assert pynchy(home, "logs", "--group", "no-such-group") == ""
    [run] = asked(home, "runs")  # with the daemon down, too
    assert run["ended_at"] is not None
    assert "ready" in pynchy(home, "logs", "-n", "500")  # with the daemon down, too


def test_the_log_is_followed_over_a_rotation(tmp_path: Path) -> None:
    log = tmp_path / "home" / "logs" / "pynchy.log"
    log.parent.mkdir(parents=True)
    log.write_text("one\n")
    with subprocess.Popen(
        [sys.executable, "-m", "pynchy", "logs", "-f"],
        env=environment(tmp_path / "home") | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as follower:
        try:
            assert follower.stdout is not None
            assert follower.stdout.readline() == "one\n"
            with log.open("a") as file:
                file.write("two\n")
            assert follower.stdout.readline() == "two\n"
            log.rename(log.with_suffix(".1"))
            log.write_text("three\n")
            assert follower.stdout.readline() == "three\n"
        finally:
            follower.kill()
            follower.wait(HANG)
