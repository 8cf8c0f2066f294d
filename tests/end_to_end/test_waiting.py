"""What an agent waits for, with everything real but the model: people's answers, and helpers."""

from __future__ import annotations

import json
import signal
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.end_to_end.house import Daemon, running, sandboxes_of


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def use(tool: str, arguments: object) -> str:
    return f"use {tool} {json.dumps(arguments)}"


def test_a_question_is_answered_within_the_call(home: Path) -> None:
    with running(home, "bwrap") as daemon, daemon.talk() as talk:
        asked = talk.ask(use("ask_user", {"question": "Which?", "options": ["Tea", "Coffee"]}))
        assert asked == "Which?\n1. Tea\n2. Coffee"
        assert "answered: Coffee" in talk.ask("2")
        assert "answered: neither of them" in _free(daemon)


def _free(daemon: Daemon) -> str:
    with daemon.talk() as talk:
        assert talk.ask(use("ask_user", {"question": "And what else?"})) == "And what else?"
        return talk.ask("neither of them")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_an_answer_after_a_restart_wakes_the_agent(home: Path, how: signal.Signals) -> None:
    with running(home, "bwrap", "limits.drain=1 s") as daemon, daemon.talk() as talk:
        assert talk.ask(use("ask_user", {"question": "Still there?"})) == "Still there?"
        daemon.stop(how)
    assert _states(home) in (
        ["open"],
        ["waiting"],
    )  # nobody was there to write it when it was killed
    with running(home, "bwrap") as daemon, daemon.talk() as talk:
        talk.say("yes, here")
        said = talk.wait(lambda event: "answered: yes, here" in str(event.get("text")))
        assert "You asked: Still there?" in said["text"]
    assert _states(home)[0] == "answered"


def test_stop_takes_a_question_back(home: Path) -> None:
    with running(home, "bwrap") as daemon, daemon.talk() as talk:
        talk.ask(use("ask_user", {"question": "Go on?"}))
        assert "Stopped" in talk.ask("/stop")
        assert talk.ask("echo something else") == "something else"
    assert _states(home) == ["dropped"]


def _states(home: Path) -> list[str]:
    with sqlite3.connect(f"file:{home}/store/pynchy.db?mode=ro", uri=True) as db:
        return [row[0] for row in db.execute("SELECT state FROM questions ORDER BY asked_at")]


def test_a_helper_does_its_work_and_its_answer_is_the_calls(home: Path) -> None:
    with running(home, "bwrap") as daemon, daemon.talk() as talk:
        talk.ask("bash echo kept > note.txt")
        script = "cat note.txt; touch mine || echo read-only; touch /workspace/scratch/a && echo ok"
        said = talk.ask(use("delegate", {"prompt": f"bash {script}"}))
        assert "kept" in said
        assert "read-only" in said
        assert "ok" in said
        # A helper says nothing in the chat and is offered nothing that could.
        said = talk.ask(use("delegate", {"prompt": use("send_message", {"text": "hello"})}))
        assert "No tool 'send_message' was offered" in said
        assert daemon.stop() == 0
    assert sandboxes_of(home) == []
    assert list((home / "data" / "scratch").iterdir()) == []


def test_a_helper_that_is_not_waited_for_wakes_the_agent(home: Path) -> None:
    with running(home, "bwrap") as daemon, daemon.talk() as talk:
        call = use("delegate", {"prompt": "echo from afar", "wait": False})
        assert "has the work" in talk.ask(call)
        assert "from afar" in talk.reply()


def test_a_helper_of_a_task_that_never_began_is_told_all_the_same(home: Path) -> None:
    # The one slot for helpers is taken, so the task's run ends before its helper could begin; nobody writes after
    # that.
    later = (datetime.now(UTC) + timedelta(days=2)).isoformat()[:19]
    with running(home, "bwrap", "limits.containers=4") as daemon, daemon.talk() as talk:
        busy = talk.ask(use("delegate", {"prompt": "slow 600", "wait": False}))
        assert "has the work" in busy
        call = {
            "prompt": use("delegate", {"prompt": "echo from afar", "wait": False}),
            "schedule_type": "once",
            "schedule_value": later,
            "context_mode": "isolated",
        }
        made = talk.ask(use("schedule_task", call))
        task = made.partition("scheduled as ")[2].partition(";")[0]
        talk.ask(use("run_task_now", {"task_id": task}))
        assert "has the work" in talk.reply()
        assert "the run that asked for it ended" in talk.reply()


def test_helpers_have_helpers_but_no_deeper(home: Path) -> None:
    with running(home, "bwrap", "limits.containers=1") as daemon, daemon.talk() as talk:
        innermost = use("delegate", {"prompt": "echo too deep"})
        said = talk.ask(use("delegate", {"prompt": use("delegate", {"prompt": innermost})}))
        assert "has no helpers of its own" in said


def test_ten_helpers_on_two_slots(home: Path) -> None:
    with running(home, "bwrap", "limits.containers=2") as daemon, daemon.talk() as talk:
        calls = [{"prompt": f"echo part {number} is done"} for number in range(10)]
        said = talk.ask(use("delegate", calls))
        for number in range(10):
            assert f"part {number} is done" in said
    assert sandboxes_of(home) == []


def test_a_conversation_is_shortened_when_it_is_ordered(home: Path) -> None:
    # invariant 105
    with running(home, "bwrap") as daemon, daemon.talk() as talk:
        assert "no conversation yet" in talk.ask("/compact")
        for number in range(3):
            assert talk.ask(f"echo line {number}") == f"line {number}"
        assert "I am shortening" in talk.ask("/compact")
        assert "is shortened" in talk.reply()
        assert talk.ask("echo warm") == "warm"
        assert daemon.stop() == 0
    with running(home, "bwrap") as daemon, daemon.talk() as talk:  # now with no container there
        assert "I am shortening" in talk.ask("/compact")
        assert "is shortened" in talk.reply()
        assert talk.ask("echo and on") == "and on"
    assert len(list((home / "groups" / "main" / "conversations").iterdir())) >= 1


def test_a_tasks_script_decides_whether_its_agent_is_woken(home: Path) -> None:
    # invariant 135
    later = (datetime.now(UTC) + timedelta(days=2)).isoformat()[:19]
    with running(home, "bwrap") as daemon, daemon.talk() as talk:
        for script in ("test -e flag", "echo the flag is up"):
            made = talk.ask(
                use(
                    "schedule_task",
                    {
                        "prompt": "bash touch woken; ls",
                        "schedule_type": "once",
                        "schedule_value": later,
                        "context_mode": "isolated",
                        "script": script,
                    },
                )
            )
            assert "scheduled as" in made
            task = made.partition("scheduled as ")[2].partition(";")[0]
            talk.ask(use("run_task_now", {"task_id": task}))
            for _ in ("it was made", "it was begun", "it ran"):
                talk.turn("done")
            assert (daemon.home.groups / "main" / "woken").exists() == ("up" in script)
