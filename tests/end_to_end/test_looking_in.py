"""What the owner asks on the command line, of a daemon that really runs and of one that does not."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from tests import openmetrics
from tests.end_to_end.house import HANG, environment, running


def pynchy(home: Path, *argv: str, exits: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pynchy", *argv],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    assert done.returncode == exits, done.stderr + done.stdout
    return done.stdout


def asked(home: Path, *argv: str, exits: int = 0) -> Any:
    return json.loads(pynchy(home, *argv, "--json", exits=exits))


def test_the_life_of_a_message_its_tasks_memory_and_cost(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running(home, "bwrap"):
        pynchy(home, "send", "main", "echo hello there")
        [life] = asked(home, "why", "1")
        assert life["state"] == "answered"
        steps = [step["what"] for step in life["steps"]]
        assert steps.index("stored") < steps.index("claimed") < steps.index("sent")
        assert asked(home, "why", "--unended") == []
        pynchy(home, "why", "nobody-wrote-this", exits=2)

        pynchy(home, "send", "main", 'use remember {"text": "Anna likes cherry cake"}')
        assert [each["text"] for each in asked(home, "memory", "search", "cherry")] == [
            "Anna likes cherry cake"
        ]
        assert asked(home, "history", "hello")[0]["text"]
        said = asked(home, "history", "main", "--since", "1h")["said"]
        assert [(each["who"] is None, each["text"]) for each in said[:2]] == [
            (False, "echo hello there"),
            (True, "hello there"),
        ]
        assert "echo hello there" in pynchy(home, "history", "--day", "today")
        assert asked(home, "history", "main", "--day", "yesterday")["said"] == []
        pynchy(home, "history", "main", "--day", "tomorrow", exits=2)
        pynchy(home, "history", "nowhere", "--day", "today", exits=2)
        [line] = asked(home, "usage")
        assert line["group"] == "main"
        assert line["calls"] >= 2

        made = asked(home, "tasks", "add", "main", "echo ding", "--every", "3600")
        assert [task["id"] for task in asked(home, "tasks", "list")] == [made["id"]]
        assert asked(home, "tasks", "pause", made["id"])["state"] == "paused"
        assert asked(home, "tasks", "resume", made["id"])["state"] == "active"
        pynchy(home, "tasks", "run", made["id"])
        assert asked(home, "tasks", "remove", made["id"])["state"] == "cancelled"
        pynchy(home, "tasks", "add", "main", "too often", "--every", "5", exits=2)
        pynchy(home, "tasks", "add", "nowhere", "echo", "--every", "3600", exits=2)
        assert isinstance(asked(home, "audit"), list)
        pynchy(home, "restore", str(home / "store" / "pynchy.db"), exits=2)
        pynchy(home, "backup", str(tmp_path / "copy.db"))
        pynchy(home, "restore", str(tmp_path / "copy.db"), exits=75)
        assert "nothing to do" in pynchy(home, "upgrade", "--check")
        pynchy(home, "upgrade", exits=75)
        figures = openmetrics.read(pynchy(home, "metrics"))
        assert figures["pynchy_messages_received_total", ()] >= 2
        assert figures["pynchy_turns_dead_total", ()] == 0
        assert figures["pynchy_containers", (("kind", "session"),)] in (0, 1)
        assert figures["pynchy_channel_up", (("channel", "console"),)] == 1
        assert figures["process_open_fds", ()] > 3
        pynchy(home, "metrics", "--output", str(tmp_path / "pynchy.prom"))
        assert openmetrics.read((tmp_path / "pynchy.prom").read_text()).keys() == figures.keys()
        assert "sonnet" in pynchy(home, "groups", "show", "main")
        pynchy(home, "groups", "set", "main", "model", "opus")
        settings = {each["key"]: each for each in asked(home, "groups", "show", "main")["settings"]}
        assert (settings["model"]["value"], settings["model"]["source"]) == ("opus", "this group")
        assert settings["disk"]["source"] == "config: disk.group"
        assert "budget.day_dollars" in pynchy(home, "groups", "set", "main")
        pynchy(home, "groups", "mount", "main", str(tmp_path / "nowhere"), exits=2)
        pynchy(home, "groups", "add", "console:kids", "--trigger", " @", exits=2)
        up = asked(home, "export", "main", str(tmp_path / "main.tar.gz"))
        assert up["messages"] >= 4
        assert (up["memories"], up["tasks"]) == (1, 1)
    down = asked(home, "export", "main", str(tmp_path / "again.tar.gz"))
    assert down["messages"] >= up["messages"]  # the task may have said its word in between


def test_a_task_goes_by_its_name_or_the_beginning_of_its_id(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running(home, "bwrap"):
        add = ("tasks", "add", "main", "echo ding", "--every", "2h", "--name")
        made, other = asked(home, *add, "Briefing"), asked(home, *add, "twin")
        twin = asked(home, *add, "twin")
        assert made["value"] == "7200"
        assert asked(home, "tasks", "pause", "briefing")["id"] == made["id"]
        assert asked(home, "tasks", "resume", made["id"][:8])["id"] == made["id"]
        pynchy(home, "tasks", "pause", "twin", exits=2)  # which of them?
        assert asked(home, "tasks", "remove", other["id"])["state"] == "cancelled"
        assert asked(home, "tasks", "pause", "twin")["id"] == twin["id"]  # the one that is not over
        pynchy(home, "tasks", "show", made["id"][:3], exits=2)
        pynchy(home, "tasks", "add", "main", "x", "--every", "soon", exits=2)


def test_it_says_what_waits_for_another_try_and_why(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running(home, "bwrap") as daemon, daemon.talk() as talk:
        talk.say("error 401")
        talk.turn("retry")
        [retry] = asked(home, "status")["retries"]
        assert (retry["folder"], retry["attempt"]) == ("main", 1)
        said = pynchy(home, "status")
        assert "held back  the model refuses the key" in said
        assert "main: try 2 then" in said
        talk.ask("/stop")
        assert asked(home, "status")["retries"] == []


def test_whoever_asks_why_it_is_down_is_answered_from_the_rows(tmp_path: Path) -> None:
    home = tmp_path / "home"
    questions = (
        ("why", "1"),
        ("why",),
        ("why", "--unended"),
        ("runs",),
        ("usage",),
        ("audit",),
        ("tasks", "list"),
        ("tasks", "show", "briefing"),
        ("history", "hello"),
        ("history", "main"),
        ("memory", "search", "tea"),
    )
    pynchy(home, "runs", exits=4)  # nothing to read in
    with running(home, "bwrap") as daemon:
        pynchy(home, "send", "main", "echo hello")
        pynchy(home, "send", "main", 'use remember {"text": "Anna likes tea"}')
        pynchy(home, "tasks", "add", "main", "x", "--cron", "0 8 * * *", "--name", "briefing")
        pynchy(home, "send", "main", "/stop")
        up = [asked(home, *question) for question in questions]
        assert [each["state"] for each in up[1] if each["seq"] == 1] == ["answered"]
        daemon.stop(signal.SIGKILL)
    down = [asked(home, *question) for question in questions]
    assert down == up
    assert asked(home, "status", exits=4)["last"]
    pynchy(home, "tasks", "pause", "briefing", exits=4)  # that needs somebody who does it
    with closing(sqlite3.connect(home / "store" / "pynchy.db")) as other:
        other.execute("PRAGMA user_version = 1")
    pynchy(home, "why", exits=4)  # its rows may mean something else
    (home / "store" / "pynchy.db").write_bytes(b"no database at all" * 100)
    pynchy(home, "why", exits=73)


def test_a_copy_made_while_it_runs_brings_everything_back(tmp_path: Path) -> None:
    home, copy = tmp_path / "home", tmp_path / "copy.db"
    with running(home, "bwrap"):
        pynchy(home, "send", "main", "echo remember me")
        pynchy(home, "backup", str(copy))
        assert copy.stat().st_mode & 0o777 == 0o600  # threat K10
    (home / "store" / "pynchy.db").write_bytes(b"no database at all")
    pynchy(home, "restore", str(copy))
    with running(home, "bwrap"):
        assert asked(home, "why", "1")[0]["state"] == "answered"
    pynchy(home, "backup", str(tmp_path / "again.db"))  # with nobody running, too
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(copy.read_bytes()[:5000])
    pynchy(home, "restore", str(damaged), exits=73)
