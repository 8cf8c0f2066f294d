"""A household with a daemon of its own, on an internet of the test's: each errand in a group of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs

from tests.end_to_end.house import Daemon, Talk, running
from tests.end_to_end.scripted import KEY, open_scripted
from tests.end_to_end.test_looking_in import asked, pynchy
from tests.errands.model import Model, Step
from tests.internet import Internet

WORK = "/workspace/group"  # where an agent sees its group's folder


@attrs.frozen
class Spent:
    """What the daemon's own ledger has for a group."""

    calls: int
    tokens: int  # that were sent
    dollars: float


@attrs.define(eq=False)
class House:
    """What people see and do: the command line, the chats, the files."""

    root: Path
    engine: str
    internet: Internet
    model: Model
    _stack: ExitStack = attrs.field(factory=ExitStack)
    daemon: Daemon = attrs.field(init=False)
    talk: Talk = attrs.field(init=False)  # with the events of all chats

    def start(self) -> None:
        settings = (
            f"model.base_url={self.internet.model_url}",
            f"gateway.ca_file={self.internet.ca_file}",
            "gateway.egress=public",
            "assistant.timezone=Europe/Berlin",
            "budget.day_dollars=50",
        )
        self.daemon = self._stack.enter_context(
            running(
                self.root,
                self.engine,
                *settings,
                inside=self.internet,
                ANTHROPIC_API_KEY=KEY,
            )
        )
        self.talk = self._stack.enter_context(self.daemon.talk("*"))

    def stop(self) -> None:
        """End the daemon as a person does."""
        assert self.daemon.stop() == 0
        self._stack.close()

    def pynchy(self, *words: str) -> str:
        return pynchy(self.root, *words)

    def asked(self, *words: str) -> Any:
        return asked(self.root, *words)

    def room(self, folder: str) -> Room:
        """A new chat of the household, answered always, with a folder of its own."""
        self.pynchy("groups", "add", f"console:{folder}", "--no-trigger")
        room = Room(self, folder)
        room.files.mkdir(parents=True, exist_ok=True)
        return room

    def spent(self, folder: str) -> Spent:
        rows = self.asked("usage", "--group", folder)
        tokens = sum(int(row["input"] + row["cache_read"] + row["cache_write"]) for row in rows)
        return Spent(
            sum(int(row["calls"]) for row in rows),
            tokens,
            sum(float(row["cost"]) for row in rows),
        )


@attrs.frozen
class Room:
    """One group of the household."""

    house: House
    folder: str

    @property
    def chat(self) -> str:
        return f"console:{self.folder}"

    @property
    def files(self) -> Path:
        return self.house.daemon.home.groups / self.folder

    def plays(self, words: str, *steps: Step) -> None:
        """Say what the model does when it is given these words."""
        self.house.model.plays[words] = steps

    def say(self, words: str, *steps: Step, sender: str = "") -> str:
        """Say something, by `pynchy send`; the words and the files that come back, a line each."""
        if steps:
            self.plays(words, *steps)
        who = ["--sender", sender] if sender else []
        return self.house.pynchy("send", self.chat, words, "--wait", "80", *who)

    def hears(self, part: str) -> str:
        """Wait for a message with these words in it."""
        return str(self._wait(lambda event: part in str(event.get("text")))["text"])

    def is_sent(self, name: str) -> Path:
        """Wait for a file of this name in the chat; where it is."""
        return Path(self._wait(lambda event: str(event.get("path")).endswith(name))["path"])

    def ends_silently(self) -> None:
        """Wait for a turn that ends without a word."""
        self.house.talk.wait(
            lambda event: (
                event["event"] == "turn"
                and event["chat"] == self.chat
                and event["state"] == "done"
                and not event["replies"]
            )
        )

    def tasks(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.house.asked("tasks", "list", "--group", self.folder)
        return found

    def _wait(self, what: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        return self.house.talk.wait(
            lambda event: event["event"] == "message" and event["chat"] == self.chat and what(event)
        )


@contextmanager
def open_house(root: Path, engine: str, internet: Internet) -> Iterator[House]:
    """A household on that engine, until the block ends."""
    model = Model()
    with open_scripted(internet, model.answer), ExitStack() as stack:
        house = House(root, engine, internet, model, stack)
        house.start()
        yield house
