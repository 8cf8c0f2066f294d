"""Containers that are up before anybody asks: whom they serve, and when they go."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pynchy.model import GroupId
from tests.end_to_end.house import Talk, running
from tests.end_to_end.test_looking_in import pynchy

Run = dict[str, Any]

AGENT = Path(__file__).resolve().parents[1] / "agents" / "shell_agent.sh"


def runs_when(talk: Talk, as_wanted: Callable[[list[Run]], bool]) -> list[Run]:
    """The live runs, as soon as they are as wanted."""
    talk.call("watch")
    while True:
        runs: list[Run] = talk.call("status")["runs"]
        if as_wanted(runs):
            return runs
        talk.wait(lambda event: event["event"] == "changed")


def up(runs: list[Run], *folders: str) -> bool:
    """Whether these groups have a run each, and nobody else."""
    return {(run["folder"], run["state"]) for run in runs} == {(f, "running") for f in folders}


SCRIPTED = ("container.command=sh /workspace/group/agent.sh",)  # says back what it hears


def spoken_to(home: Path, *chats: str, settings: tuple[str, ...] = ()) -> None:
    """A life in which these chats were answered, in this order."""
    with running(home, "bwrap", *settings) as daemon:
        for chat in chats:
            folder = daemon.home.group(GroupId(chat.removeprefix("console:")))
            folder.mkdir(parents=True)
            shutil.copy(AGENT, folder / "agent.sh")
            pynchy(home, "groups", "add", chat, "--no-trigger")
            with daemon.talk(chat) as talk:
                assert "hello" in talk.ask("echo hello")
        assert daemon.stop() == 0


def prewarmed(talk: Talk, folder: str) -> str:
    """The container that is up for this group, which nobody has spoken to."""
    [run] = runs_when(talk, lambda runs: up(runs, folder))
    assert run["turns"] == []
    return str(run["run"])


def test_the_first_message_of_a_prewarmed_group_is_served_by_that_container(tmp_path: Path) -> None:
    home = tmp_path / "home"
    spoken_to(home, "console:kids", "console:work")
    with (
        running(home, "bwrap", "container.prewarm=1") as daemon,
        daemon.talk("console:work") as talk,
    ):
        run = prewarmed(talk, "work")  # it spoke last
        assert talk.ask("echo it was there") == "it was there"
        runs = runs_when(talk, lambda runs: up(runs, "work", "kids"))  # now the others' turn
        assert run in {each["run"] for each in runs}
        # Settings that change end it, and the next one is begun with those that hold now.
        pynchy(home, "groups", "set", "work", "egress", "none")
        runs_when(talk, lambda runs: run not in {each["run"] for each in runs})
        assert talk.ask("echo it is there again") == "it is there again"


def test_another_groups_message_takes_the_slot_of_a_prewarmed_container(tmp_path: Path) -> None:
    home = tmp_path / "home"
    spoken_to(home, "console:kids", "console:work", settings=SCRIPTED)
    with (
        running(home, "bwrap", *SCRIPTED, "container.prewarm=1", "limits.containers=1") as daemon,
        daemon.talk("console:kids") as talk,
    ):
        run = prewarmed(talk, "work")
        assert "let me in" in talk.ask("let me in")
        runs_when(talk, lambda runs: up(runs, "kids"))
        [_, ended, *_] = talk.call("runs")  # the newest first
        assert (ended["id"], ended["reason"]) == (run, "exited")
        assert "and stay" in talk.ask("and stay")


def test_a_prewarmed_container_that_nobody_speaks_to_ends_and_is_not_begun_again(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    spoken_to(home, "console:work", settings=SCRIPTED)
    settings = (*SCRIPTED, "container.prewarm=1", "limits.idle=1 s")
    with running(home, "bwrap", *settings) as daemon, daemon.talk("console:work") as talk:
        talk.call("watch")
        while len(runs := talk.call("runs")) < 2 or runs[0]["state"] != "gone":
            talk.wait(lambda event: event["event"] == "changed")
        assert "still here" in talk.ask("still here")  # after which one may be begun again
        assert talk.call("runs")[1]["id"] == runs[0]["id"]  # and none had been
