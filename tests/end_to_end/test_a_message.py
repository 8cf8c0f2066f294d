"""A message, door to door, with everything real but the model."""

from __future__ import annotations

import json
import signal
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.end_to_end.house import Daemon, running, sandboxes_of


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_a_message_is_answered_and_a_tool_speaks(home: Path, runtime_name: str) -> None:
    with running(home, runtime_name) as daemon, daemon.talk() as talk:
        assert "offline" in talk.ask("hello").lower()
        call = json.dumps({"text": "said by the tool"})
        assert talk.ask(f"use send_message {call}") == "said by the tool"
        assert talk.reply()  # the turn's own result comes after it
        assert talk.ask("echo the container is warm") == "the container is warm"
        assert daemon.stop() == 0
    assert sandboxes_of(home) == []


def test_a_follow_up_reaches_the_agent_in_mid_turn(home: Path) -> None:
    with running(home, "bwrap") as daemon, daemon.talk() as talk:
        first = talk.say("bash sleep 2; echo done")
        assert talk.turn("started")["seqs"] == [first]
        second = talk.say("echo and this one too")
        assert talk.turn("started")["seqs"] == [second]  # handed over, with no second container
        talk.turn("done")
        talk.turn("done")
        assert _runs(daemon) == 1


def test_the_session_is_resumed_after_a_restart(home: Path) -> None:
    with running(home, "bwrap") as daemon, daemon.talk() as talk:
        talk.ask("echo first life")
        session = _session(daemon)
        assert daemon.stop() == 0
    with running(home, "bwrap") as daemon, daemon.talk() as talk:
        assert talk.ask("echo second life") == "second life"
        assert _session(daemon) == session  # invariant 98


def test_sigterm_in_mid_turn_drains_and_leaves_no_container(home: Path) -> None:
    # invariant 111
    with running(home, "bwrap", "limits.drain=20 s") as daemon, daemon.talk() as talk:
        talk.say("bash sleep 2; echo finished")
        talk.turn("started")
        assert daemon.stop(signal.SIGTERM) == 0
        assert "finished" in talk.reply()  # it came before the connection ended
    assert sandboxes_of(home) == []


def test_a_second_signal_ends_it_at_once_and_the_answer_comes_in_the_next_life(home: Path) -> None:
    with running(home, "bwrap", "limits.drain=5 min") as daemon, daemon.talk() as talk:
        talk.say("bash sleep 30; echo finished")
        talk.turn("started")
        daemon.process.send_signal(signal.SIGTERM)
        daemon.process.send_signal(signal.SIGINT)
        assert daemon.process.wait(30) == 0
    assert sandboxes_of(home) == []


def test_whoever_waits_for_an_answer_hears_that_the_turn_was_stopped(home: Path) -> None:
    with running(home, "bwrap") as daemon, daemon.talk() as waiting, daemon.talk() as other:
        waiting.say("slow 1000")
        waiting.turn("started")
        assert "Stopped" in other.ask("/stop")
        waiting.turn("cancelled")


def test_whoever_waits_for_another_try_hears_that_it_was_stopped(home: Path) -> None:
    with running(home, "bwrap") as daemon, daemon.talk() as waiting:
        waiting.say("error 401")
        turn = waiting.turn("started")["turn"]
        waiting.turn("retry")
        assert "The owner has to renew it" in waiting.reply()
        with daemon.talk() as other:
            assert "Stopped" in other.ask("/stop")
        assert waiting.turn("cancelled")["turn"] == turn


def test_whoever_waits_for_a_group_that_is_removed_hears_it(home: Path) -> None:
    with running(home, "bwrap") as daemon, daemon.talk("console:family") as waiting:
        waiting.call("groups.add", chat="console:family", requires_trigger=False)
        waiting.say("slow 1000")
        waiting.turn("started")
        waiting.call("groups.remove", folder="family")
        waiting.turn("cancelled")


def test_a_killed_daemon_leaves_no_orphan_and_the_next_one_answers(home: Path) -> None:
    with running(home, "bwrap") as daemon, daemon.talk() as talk:
        talk.say("bash sleep 1; echo after the crash")
        talk.turn("started")
        daemon.stop(signal.SIGKILL)
    with running(home, "bwrap") as daemon, daemon.talk() as talk:
        assert "after the crash" in talk.reply()
        assert len(sandboxes_of(home)) <= 4  # the new run's own processes, none of the old one's


def test_a_second_daemon_on_the_same_home_is_refused(home: Path) -> None:
    with (  # invariant 32
        running(home, "bwrap"),
        pytest.raises(AssertionError, match="is running"),
        running(home, "bwrap"),
    ):
        pass


def _runs(daemon: Daemon) -> int:
    return len(list(daemon.home.run_logs.glob("*.log"))) or 1


def _session(daemon: Daemon) -> set[str]:
    transcripts = daemon.home.data.glob("sessions/main/.claude/projects/*/*.jsonl")
    return {each.stem for each in transcripts}


def test_a_task_made_in_chat_fires_and_speaks(home: Path) -> None:
    # invariant 133: the list is what the host has now
    with (
        running(home, "bwrap", "assistant.timezone=Europe/Berlin") as daemon,
        daemon.talk() as talk,
    ):
        soon = (datetime.now(ZoneInfo("Europe/Berlin")) + timedelta(seconds=25)).isoformat()
        call = {
            "prompt": "echo the time has come",
            "schedule_type": "once",
            "schedule_value": soon[:19],
            "context_mode": "isolated",
        }
        assert "scheduled as" in talk.ask(f"use schedule_task {json.dumps(call)}")
        assert "the next run is" in talk.ask("use list_tasks {}")
        assert "the time has come" in talk.reply()
