"""One group's agent takes all it can get; main and the other groups are served all the same."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pynchy.config.paths import Home
from tests.end_to_end.house import Daemon, Talk, running

AGENT = Path(__file__).with_name("selfish_agent.py")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@contextmanager
def three_groups(home: Path, *settings: str) -> Iterator[tuple[Daemon, Talk]]:
    """A daemon with main, a group whose agent is selfish, and another one. All have the same program."""
    command = "container.command=python3 -u /workspace/group/agent.py"
    with running(home, "bwrap", command, *settings) as daemon, daemon.talk() as main:
        for folder in ("selfish", "other"):
            chat = f"console:{folder}"
            main.call("groups.add", chat=chat, folder=folder, requires_trigger=False)
        for folder in ("main", "selfish", "other"):
            shutil.copy(AGENT, home / "groups" / folder / "agent.py")
        yield daemon, main


def runs_of(talk: Talk, folder: str) -> list[str]:
    return [run["kind"] for run in talk.call("status")["runs"] if run["folder"] == folder]


def test_main_and_others_are_served_while_a_group_has_all_the_helpers_it_can_get(
    home: Path,
) -> None:  # invariant 192; threat X5
    with (
        three_groups(home, "limits.containers=5") as (daemon, main),
        daemon.talk("console:selfish") as selfish,
        daemon.talk("console:other") as other,
    ):
        assert selfish.ask("take every slot") == "ten helpers are asked for"
        for _ in ("its own turn", "in its slot", "beside it", "beside it"):
            selfish.turn("started")
        assert main.ask("are you there?") == "at your service"
        assert other.ask("are you there?") == "at your service"
        helpers = runs_of(main, "selfish").count("delegate")
        assert 2 <= helpers <= 3, f"{helpers} helpers: one in its slot, two beside it"
        assert runs_of(main, "main") == ["session"]


def test_tasks_that_run_each_other_end_and_a_flood_of_words_is_held_back(home: Path) -> None:
    # threats I13, X5
    with three_groups(home, "effects.messages=20") as (daemon, main):
        with daemon.talk("console:selfish") as selfish:
            selfish.say("run in a circle")
            told = main.wait(lambda event: "/resume selfish" in event.get("text", ""))
            assert "more than 20 messages besides its answers" in told["text"]
            for _ in range(2):
                selfish.wait(lambda event: event["event"] == "turn" and event["state"] == "done")
            selfish.say("are you there?")
            selfish.wait(lambda event: event.get("text") == "at your service")
            assert counted(home, "kind = 'task'") == 2, "the second may not run the first again"
            assert counted(home, "kind = 'task' AND state = 'done'") <= 2
            said = counted(home, "chat = 'console:selfish' AND notice = 0", table="outbox")
            assert said <= 20 + 3, "the limit, and what people asked for"
        [held] = [each for each in main.call("groups.list") if each["held_back"]]
        assert (held["folder"], held["held_back"]) == ("selfish", "messages")
        assert main.ask("/resume selfish").endswith("selfish goes on.")
        assert not any(each["held_back"] for each in main.call("groups.list"))


def counted(home: Path, where: str, table: str = "turns") -> int:
    with closing(sqlite3.connect(f"file:{Home(home).database}?mode=ro", uri=True)) as db:
        return int(db.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()[0])  # noqa: S608
