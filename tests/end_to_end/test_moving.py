"""A home of another program brought over, and the daemon started on it: what was left open there is closed here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.edges import test_import as nanoclaw
from tests.end_to_end.house import running
from tests.end_to_end.test_looking_in import asked, pynchy


def test_what_was_not_answered_there_is_answered_here_and_nothing_else(tmp_path: Path) -> None:
    old, home = tmp_path / "nanoclaw", tmp_path / "home"
    nanoclaw.database(old, state=True, bot=True)
    nanoclaw.files(old)
    assert asked(home, "import", str(old))["groups"][1]["unanswered"] == 1
    with running(home, "bwrap") as daemon, daemon.talk() as talk:
        talk.call("watch")
        while (life := _life(talk.call("why", message="A4")))["state"] != "answered":
            talk.wait(lambda event: event["event"] == "changed")
        states = {each: _life(talk.call("why", message=each)) for each in ("A1", "A2", "A3", "M1")}
        assert not any("claimed" in _steps(each) for each in (states["A1"], states["M1"]))
        assert "claimed" in _steps(life)
        (run,) = talk.call("runs", limit=50)
        assert run["group"] == "family-chat"
    assert "wrong" not in pynchy(home, "config", "check")


def _life(found: Any) -> dict[str, Any]:
    (life,) = found
    assert isinstance(life, dict), json.dumps(found)
    return life


def _steps(life: dict[str, Any]) -> list[str]:
    return [step["what"] for step in life["steps"]]
