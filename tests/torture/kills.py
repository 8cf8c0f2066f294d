"""Real SIGKILLs of the real daemon, on a real database with real sandboxes, while people write.

Several chats are written to without a pause. At a random moment the daemon is killed, and started again, so many times.
Then the writers stop, what is owed is waited for, and the account is drawn up from outside: what people were told is
stored, against what was sent to them. The agent is the thirty-line one in shell, which says its prompt back, so every
message can be found in the replies by its number.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import sqlite3
import threading
import time
from collections import Counter
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import attrs

from tests.end_to_end.house import Daemon, Talk, running, sandboxes_of

AGENT = Path(__file__).parent.parent / "agents" / "shell_agent.sh"
CHATS = 4
LAST_ANSWERS = 180.0  # seconds for what is owed when the kills are over
_NUMBER = re.compile(r"number-(\d{6})")


@attrs.define
class Account:
    """What it came to, as counted from outside."""

    kills: int = 0
    stored: int = 0  # messages whose writer was told that they are stored
    answered: int = 0
    told: int = 0  # given up with a word to the chat
    lost: list[str] = attrs.Factory(list)
    doubled: list[str] = attrs.Factory(list)
    unordered: list[str] = attrs.Factory(list)
    orphans: int = 0
    seconds: float = 0.0

    @property
    def sound(self) -> bool:
        return not (self.lost or self.doubled or self.unordered or self.orphans)

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.stored} messages stored, {self.answered} answered, "
            f"{self.told} given up and told, {len(self.lost)} lost, {len(self.doubled)} doubled, "
            f"{len(self.unordered)} unordered, {self.orphans} orphans; {self.seconds:.0f} s"
        )


class Writer(threading.Thread):
    """Somebody who writes to one chat, again and again until told that it is stored."""

    def __init__(self, number: int, house: House) -> None:
        super().__init__(name=f"writer {number}", daemon=True)
        self.chat = f"console:torture{number}"
        self._house = house
        self.stored: list[int] = []
        self.enough = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.enough.is_set():
            with (
                suppress(OSError, ConnectionError, AssertionError),
                self._house.talk(self.chat) as talk,
            ):
                while not self.enough.is_set():
                    self._say(talk, number)
                    self.stored.append(number)
                    number += 1
                    self.enough.wait(random.expovariate(1 / 0.05))
            self.enough.wait(0.02)

    def _say(self, talk: Talk, number: int) -> None:
        # The same id at each try: a message that was stored before its writer heard of it is one.
        id = f"{self.chat[8:]}-{number:06d}"
        talk.call("send", chat=self.chat, text=f"number-{number:06d}", message_id=id)
        talk.events.clear()


@attrs.define(eq=False)
class House:
    """The daemon of the moment."""

    daemon: Daemon | None = None

    def talk(self, chat: str):  # type: ignore[no-untyped-def]  # the context manager of `Daemon.talk`
        if self.daemon is None:
            raise ConnectionError("nobody is there")
        return self.daemon.talk(chat)


def torture_limit(kills: int) -> float:
    """Seconds after which so many kills count as hanging: each takes about two, and the end its own time."""
    return 180.0 + 10.0 * kills


def torture(home: Path, kills: int, *, seed: int | None = None) -> Account:
    """Kill a daemon on ``home`` so many times and draw up the account."""
    began = time.monotonic()
    dice = random.Random(seed)
    account = Account(kills=kills)
    agent = home / "groups" / "agent.sh"
    settings = (
        "container.command=sh /workspace/group/agent.sh",
        "limits.containers=3",
        "limits.idle=1 s",
    )
    house = House()
    writers = [Writer(number, house) for number in range(CHATS)]
    with running(home, "bwrap", *settings) as daemon, daemon.talk() as talk:
        for writer in writers:
            folder = writer.chat[8:]
            talk.call("groups.add", chat=writer.chat, folder=folder, requires_trigger=False)
            agent = home / "groups" / folder / "agent.sh"
            agent.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(AGENT, agent)
        daemon.stop()
    for writer in writers:
        writer.start()
    for _ in range(kills):
        with running(home, "bwrap", *settings) as daemon:
            house.daemon = daemon
            time.sleep(0.05 + dice.expovariate(1 / 0.5))
            house.daemon = None
            daemon.stop(signal.SIGKILL)
    with running(home, "bwrap", *settings) as daemon:
        house.daemon = daemon
        time.sleep(1.0)
        for writer in writers:
            writer.enough.set()
        for writer in writers:
            writer.join(30)
        _wait_for_the_last(daemon)
        daemon.stop()
    account.orphans = len(sandboxes_of(home))
    _draw_up(account, home, writers)
    account.seconds = time.monotonic() - began
    return account


def _wait_for_the_last(daemon: Daemon) -> None:
    """Until the daemon says that it owes nothing, or for so long."""
    deadline = time.monotonic() + LAST_ANSWERS
    with daemon.talk() as talk:
        while time.monotonic() < deadline:
            status = talk.call("status")
            open_entries = sum(
                status["outbox"].get(state, 0) for state in ("pending", "sending", "uncertain")
            )
            if not talk.call("unended", minutes=0) and not open_entries:
                return
            time.sleep(0.5)


def _draw_up(account: Account, home: Path, writers: list[Writer]) -> None:
    with sqlite3.connect(f"file:{home}/store/pynchy.db?mode=ro", uri=True) as db:
        for writer in writers:
            rows = db.execute(
                "SELECT text, turn_id, notice FROM outbox WHERE chat = ? AND state = 'sent' ORDER BY sent_at, id",
                (writer.chat,),
            ).fetchall()
            said = [
                int(number)
                for text, _, notice in rows
                if not notice
                for number in _NUMBER.findall(text)
            ]
            dead = {
                int(found[1])
                for (text,) in db.execute(
                    "SELECT inbox.text FROM inbox JOIN turn_inputs USING (seq) "
                    "JOIN turns ON turns.id = turn_id WHERE inbox.chat = ? AND turns.state = 'dead'",
                    (writer.chat,),
                )
                if (found := _NUMBER.search(text))
            }
            times = Counter(said)
            account.stored += len(writer.stored)
            account.answered += sum(number in times for number in writer.stored)
            account.told += sum(number in dead and number not in times for number in writer.stored)
            name = writer.chat
            account.lost += [
                f"{name} {number}"
                for number in writer.stored
                if number not in times and number not in dead
            ]
            account.doubled += [f"{name} {number}" for number, count in times.items() if count > 1]
            account.unordered += [
                f"{name} {later}" for earlier, later in pairwise(said) if later < earlier
            ]


def report(account: Account) -> str:
    """The findings, if there are any, and the figures as the last line."""
    lines = [
        json.dumps({kind: getattr(account, kind)[:20]})
        for kind in ("lost", "doubled", "unordered")
        if getattr(account, kind)
    ]
    return "\n".join([*lines, str(account)])
