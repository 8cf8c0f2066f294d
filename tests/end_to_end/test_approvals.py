"""An agent asks for what is not its to take; the owner decides, in the chat and on the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.end_to_end.house import Event, Talk, running
from tests.end_to_end.test_guards import actions, allow, project
from tests.end_to_end.test_looking_in import pynchy


def said(talk: Talk, pattern: str) -> re.Match[str]:
    """The next message to this chat that has it."""

    def fits(event: Event) -> bool:
        return (
            event["event"] == "message"
            and event["chat"] == talk.chat
            and re.search(pattern, event["text"]) is not None
        )

    found = re.search(pattern, talk.wait(fits)["text"])
    assert found is not None
    return found


def waiting(home: Path, *more: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(pynchy(home, "approvals", "list", *more, "--json"))
    return found


def test_a_person_in_main_decides_what_an_agent_asks_for(tmp_path: Path) -> None:
    # threat I5, I6, invariant 158
    home, site = tmp_path / "home", project(tmp_path)
    with running(home, "bwrap") as daemon, daemon.talk() as owner:
        allow(home, tmp_path / "projects")
        pynchy(home, "groups", "add", "console:kids", "--no-trigger")
        with daemon.talk("console:kids") as kids:
            # In the chat of main, by a person there; the agent hears of it in a turn of its own.
            kids.say(f'use request_mount {{"path": "{site}"}}')
            code = said(kids, r"waiting for approval (\w{8})")[1]
            assert f"path = {site}" in said(owner, r"The agent of kids asks[^\0]*")[0]
            [request] = waiting(home)
            assert (request["code"], request["folder"], request["state"]) == (code, "kids", "asked")
            kids.say(f"/approve {code}")  # there it is mere talk
            said(kids, r"/approve|approve")
            assert waiting(home) == [request]
            owner.say(f"/approve {code}")
            said(owner, "Approved, for kids")
            said(kids, "A person in main approved it")
            seen = ""
            while "a page of ours" not in seen:  # from the next run on; one that is busy ends first
                seen = kids.ask(
                    "bash cat /workspace/extra/site/page.txt /workspace/extra/site/.env"
                )
            assert "CANARY" not in seen
            owner.say(f"/approve {code}")
            said(owner, "it was approved")

            # On the command line, and denied.
            kids.say('use request_host {"host": "example.org"}')
            other = said(kids, r"waiting for approval (\w{8})")[1]
            assert "host = example.org" in pynchy(home, "approvals")
            assert "Denied" in pynchy(home, "approvals", "deny", other)
            said(kids, "A person in main denied it")
            pynchy(home, "approvals", "approve", other, exits=2)
            pynchy(home, "approvals", "approve", "00000000", exits=2)

            # A group of an agent's making, even when the owner's own turn asks for it.
            pynchy(home, "groups", "add", "console:club", "--folder", "club")
            pynchy(home, "groups", "remove", "club")
            wish = {"chat": "console:club", "name": "Club", "folder": "club2"}
            owner.say(f"use register_group {json.dumps(wish)}")
            third = said(owner, r"waiting for approval (\w{8})")[1]
            assert "club2" not in pynchy(home, "groups", "list")
            assert (
                json.loads(pynchy(home, "approvals", "approve", third, "--json"))["state"] == "done"
            )
            assert re.search(r"^club2 +Club ", pynchy(home, "groups", "list"), re.MULTILINE)
            assert (home / "groups" / "club2").is_dir()
        states = [each["state"] for each in waiting(home, "--all")]
        assert states == ["done", "denied", "done"]
        assert {"approval asked", "approved", "denied", "mount added"} <= set(actions(home))


def test_what_was_asked_waits_over_a_kill(tmp_path: Path) -> None:
    import signal

    home = tmp_path / "home"
    with running(home, "bwrap") as daemon, daemon.talk() as owner:
        owner.say('use request_host {"host": "example.org"}')
        code = said(owner, r"waiting for approval (\w{8})")[1]
        daemon.stop(signal.SIGKILL)
    with running(home, "bwrap") as daemon, daemon.talk() as owner:
        assert [each["code"] for each in waiting(home)] == [code]
        owner.say(f"/approve {code}")
        said(owner, "A person in main approved it")
        assert waiting(home) == []
