"""Each tool, called by the model in a real sandbox, and what came of it as others see it."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pynchy.policy.tools import TOOLS
from tests.end_to_end.house import HANG, Event, Talk, running
from tests.end_to_end.test_looking_in import asked, pynchy


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def use(talk: Talk, tool: str, **arguments: Any) -> str:
    """Let the model call a tool; what the tool told it."""
    talk.say(f"use {tool} {json.dumps(arguments)}")
    told = talk.wait(
        lambda event: event["event"] == "message" and "The tool said: " in event["text"]
    )
    return str(told["text"]).removeprefix("The tool said: ")


def until(what: Callable[[], bool]) -> None:
    """For what no event tells: a file in the sandbox, another process's row."""
    deadline = time.monotonic() + HANG
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def shown(talk: Talk, kind: str) -> Event:
    return talk.wait(lambda event: event["event"] == "message" and event["kind"] == kind)


def test_a_conversation_that_is_over_is_archived_and_a_fact_outlives_it(home: Path) -> None:
    pages = home / "groups" / "main" / "conversations"
    with running(home, "bwrap") as daemon, daemon.talk() as talk:
        talk.ask("echo the boats leave at nine")
        assert "remembered" in use(talk, "remember", text='when I write "gm", give me my day')
        talk.say("/new")
        assert "new conversation" in talk.reply()
        talk.ask("echo gm")
        (page,) = pages.iterdir()
        assert "the boats leave at nine" in page.read_text()
        assert "give me my day" in use(talk, "recall", query="writing gm")
        (kept,) = asked(home, "memory", "list")
        assert (kept["text"], kept["group"]) == ('when I write "gm", give me my day', "main")
        short = kept["id"][:8]
        assert "good morning" in pynchy(home, "memory", "edit", short, "gm means good morning")
        assert "good morning" in use(talk, "recall", query="what does gm mean")
        assert asked(home, "memory", "delete", short)["id"] == kept["id"]
        assert "nothing that was remembered fits" in use(talk, "recall", query="gm")
        pynchy(home, "memory", "delete", short, exits=2)
        earlier = {"prompt": "tea", "schedule_type": "interval", "schedule_value": "7200"}
        told = use(talk, "schedule_task", **earlier, target_group_jid="console:main")
        assert "target_group_jid is called target_group here" in told
        assert [each["value"] for each in asked(home, "tasks", "list")] == ["7200"]
        assert asked(home, "memory", "add", "bins on Tuesday")["text"] == "bins on Tuesday"
    with running(home, "bwrap") as daemon, daemon.talk() as talk:
        assert "Tuesday" in use(talk, "recall", query="when are the bins emptied?")


def test_what_is_said_sent_and_reacted_to_is_in_the_chat(home: Path) -> None:
    with running(home, "bwrap") as daemon, daemon.talk() as talk:
        assert "sent to the chat" in use(talk, "send_message", text="by the way", sender="Cook")
        assert talk.reply() == "*Cook:* by the way"
        talk.ask("bash mkdir -p out; echo a list > out/list.txt; ln -s /etc/passwd out/p")
        assert "list.txt (7 bytes)" in use(talk, "send_file", path="out/list.txt", caption="here")
        sent = shown(talk, "file")
        assert (sent["text"], Path(sent["path"]).read_text()) == ("here", "a list\n")
        assert "not sent" in use(talk, "send_file", path="out/p")
        assert "reacted with" in use(talk, "react", emoji="🎉")
        said = shown(talk, "reaction")
        assert said["text"] == "🎉"
        assert said["target"] in {
            line["message_id"] for line in talk.call("history", chat=talk.chat)
        }


def test_a_tasks_life_is_what_the_command_line_shows(home: Path) -> None:
    with (
        running(home, "bwrap", "assistant.timezone=Europe/Berlin") as daemon,
        daemon.talk() as talk,
    ):
        made = use(
            talk, "schedule_task", prompt="echo the first words", schedule_type="cron",
            schedule_value="30 2 * * sun", context_mode="isolated",
        )  # fmt: skip
        task = made.partition("scheduled as ")[2].partition(";")[0]
        assert task in use(talk, "list_tasks")
        [listed] = asked(home, "tasks", "list")
        assert (listed["id"], listed["value"], listed["state"]) == (task, "30 2 * * sun", "active")
        told = use(talk, "update_task", task_id=task, prompt="echo other words", schedule_type="interval",
            schedule_value=3600)  # fmt: skip
        assert told.startswith("changed"), told
        assert "3600" in use(talk, "get_task", task_id=task)
        assert asked(home, "tasks", "show", task)["prompt"] == "echo other words"
        for tool, state in (("pause_task", "paused"), ("resume_task", "active")):
            use(talk, tool, task_id=task)
            assert asked(home, "tasks", "show", task)["state"] == state
        use(talk, "run_task_now", task_id=task)
        assert talk.reply() == "other words"
        use(talk, "cancel_task", task_id=task)
        assert asked(home, "tasks", "show", task)["state"] == "cancelled"
        assert asked(home, "tasks", "list") == []


def test_what_is_remembered_is_found_and_can_be_forgotten(home: Path) -> None:
    with running(home, "bwrap") as daemon, daemon.talk() as talk:
        use(talk, "remember", text="Anna likes cherry cake")
        [kept] = asked(home, "memory", "search", "cherry")
        assert "cherry cake" in use(talk, "recall", query="what cake")
        assert "cherry" in use(talk, "search_history", query="cherry")
        use(talk, "forget", memory_id=kept["id"])
        assert asked(home, "memory", "search", "cherry") == []
        [used] = asked(home, "usage")
        told = re.search(rf"{used['model']}: (\d+) calls", use(talk, "get_usage"))
        assert told is not None
        assert int(told[1]) > used["calls"]  # to ask was a call


def test_a_group_comes_is_changed_goes_and_is_forgotten(home: Path) -> None:
    # threat I7, K9, invariant 175
    with running(home, "bwrap") as daemon, daemon.talk() as owner:
        pynchy(home, "groups", "add", "console:cooks", "--folder", "old-cooks")
        pynchy(home, "groups", "remove", "old-cooks")  # the chat was seen, and is nobody's now
        assert "console:cooks" in use(owner, "list_groups")
        assert "the messenger is asked" in use(owner, "refresh_groups")
        told = use(owner, "register_group", chat="console:cooks", name="The cooks", folder="cooks",
                   requires_trigger=False)  # fmt: skip
        if found := re.search(r"waiting for approval (\w{8})", told):
            owner.say(f"/approve {found[1]}")
        _until_group(owner, home, "cooks")
        folder = daemon.home.groups / "cooks"
        assert (folder / "CLAUDE.md").read_text().startswith("# The cooks")
        with daemon.talk("console:cooks") as cooks:
            assert cooks.ask("bash echo soup > recipe.txt; echo done").endswith("done")
            use(owner, "update_group", folder="cooks", name="Cooks and eaters", paused=True)
            [cooking] = [
                each for each in asked(home, "groups", "list") if each["folder"] == "cooks"
            ]
            assert (cooking["name"], cooking["paused"]) == ("Cooks and eaters", True)
            use(owner, "unregister_group", folder="cooks")
            assert [each["folder"] for each in asked(home, "groups", "list")] == ["main"]
            assert (folder / "recipe.txt").read_text() == "soup\n"
            # It comes back to what it left.
            pynchy(home, "groups", "add", "console:cooks", "--no-trigger")
            assert "soup" in cooks.ask("bash cat recipe.txt")
        # A warm container is no way to outlive it.
        gone = json.loads(pynchy(home, "groups", "forget", "cooks", "--yes", "--json"))
        assert gone["left"] == []
        assert gone["messages"] >= 2
        assert list(home.rglob("cooks")) == []
        assert asked(home, "audit")[0]["action"] == "group forgotten"
        pynchy(home, "groups", "forget", "cooks", "--yes", exits=2)
        pynchy(home, "groups", "forget", "main", "--yes", exits=2)
        owner.say("echo still here")
        owner.wait(lambda event: event.get("text") == "still here")


def _until_group(talk: Talk, home: Path, folder: str) -> None:
    """Until it is registered: every answer to us is a moment to look."""
    while folder not in [each["folder"] for each in asked(home, "groups", "list")]:
        talk.reply()


def test_a_task_survives_kills_and_speaks_once(home: Path) -> None:
    runs = home / "groups" / "main" / "runs"
    with running(home, "bwrap") as daemon, daemon.talk() as talk:
        made = use(
            talk, "schedule_task", prompt="bash echo once more >> runs; sleep 3; echo the time has come",
            schedule_type="interval", schedule_value=86_400, context_mode="isolated",
        )  # fmt: skip
        task = made.partition("scheduled as ")[2].partition(";")[0]
        daemon.stop(signal.SIGKILL)  # before it is due
    with running(home, "bwrap") as daemon:
        pynchy(home, "tasks", "run", task)
        until(runs.exists)
        daemon.stop(signal.SIGKILL)  # while it works
    with running(home, "bwrap") as daemon, daemon.talk() as talk:
        until(lambda: bool(said(talk)))
        daemon.stop(signal.SIGKILL)  # when it has spoken
    with running(home, "bwrap") as daemon, daemon.talk() as talk:
        [slot] = asked(home, "tasks", "show", task)["slots"]
        assert slot["state"] in ("ran", "late")
        assert len(said(talk)) == 1
    assert set(runs.read_text().splitlines()) == {"once more"}


def said(talk: Talk) -> list[str]:
    """What the task has said so far, in whichever life."""
    lines = talk.call("history", chat=talk.chat)
    return [line["text"] for line in lines if not line["from"] and "has come" in line["text"]]


def test_no_tool_is_left_out() -> None:
    """Whoever adds a tool shows here, or beside, what it does."""
    shown = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert [tool for tool in TOOLS if not re.search(rf"[\" ]{tool}[\" ]", shown)] == []
