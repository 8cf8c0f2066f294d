"""A store in memory, its clock, its chance, and short words for what happens in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache

import attrs

from pynchy.model import MAIN, MAIN_CONSOLE, ChatId, GroupId, Message, Micros, RunId, SenderId
from pynchy.policy.failures import Trouble
from pynchy.store import claims, groups, holds, messages, outbox, results, runs, turn_failures
from pynchy.store.connection import Connection, configure
from pynchy.store.database import Tx, open_memory

FAMILY = GroupId("family")
CHAT = ChatId("120363@g.us")
BEGINNING = Micros(1_750_000_000_000_000)
ANNA = SenderId("4917@s.whatsapp.net")


@cache
def _template() -> Connection:
    return open_memory()


def fresh() -> Connection:
    """A store in memory, as new; a copy, since making one takes a hundred times as long."""
    connection = sqlite3.connect(":memory:", isolation_level=None, factory=Connection)
    _template().backup(connection)
    configure(connection)
    return connection


@attrs.define
class World:
    """Everything a test of the store says, with the clock and the ids filled in."""

    db: Connection = attrs.field(factory=fresh)
    now: Micros = BEGINNING
    boot: str = "boot-1"
    _count: int = 0

    @classmethod
    def with_family(cls, *, requires_trigger: bool = True) -> World:
        """A world with main and one other group of one chat."""
        world = cls()
        groups.ensure_main(Tx(world.db, world.now), name="Main", trigger="Pynchy")
        world.register(FAMILY, CHAT, requires_trigger=requires_trigger)
        return world

    def new_id(self) -> str:
        self._count += 1
        return f"{self._count:032x}"

    def passes(self, seconds: float) -> Micros:
        self.now = Micros(self.now + round(seconds * 1_000_000))
        return self.now

    def register(self, folder: GroupId, *chats: ChatId, requires_trigger: bool = True) -> None:
        groups.register(
            Tx(self.db, self.now),
            folder=folder,
            name=folder.title(),
            chats=chats,
            trigger="Pynchy",
            requires_trigger=requires_trigger,
        )

    def hear(
        self,
        text: str,
        *,
        id: str | None = None,
        chat: ChatId = CHAT,
        sender: SenderId = ANNA,
        command: bool = False,
        edits: str | None = None,
        revokes: str | None = None,
        sent_at: Micros | None = None,
        from_me: bool = False,
    ) -> messages.Received:
        message = Message(
            chat=chat,
            id=id if id is not None else f"m{self.new_id()}",
            sender=sender,
            sender_name="Anna",
            sent_at=self.now if sent_at is None else sent_at,
            text=text,
            edits=edits,
            revokes=revokes,
            from_me=from_me,
        )
        return messages.receive(Tx(self.db, self.passes(0.001)), message, command=command)

    def begin(self, folder: GroupId = FAMILY, kind: runs.Kind = "session") -> RunId:
        run = RunId(self.new_id()[-16:])
        runs.begin(
            Tx(self.db, self.passes(0.001)),
            runs.RunStart(
                run=run, folder=folder, kind=kind, container=f"pynchy-test-{run}", boot=self.boot
            ),
        )
        return run

    def claim(
        self, run: RunId, folder: GroupId = FAMILY, *, chat: ChatId | None = None
    ) -> claims.Claimed:
        found = self.try_claim(run, folder, chat=chat)
        assert found is not None, "nothing was due"
        return found

    def try_claim(
        self, run: RunId, folder: GroupId = FAMILY, *, chat: ChatId | None = None
    ) -> claims.Claimed | None:
        return claims.claim(Tx(self.db, self.passes(0.001), self.new_id), run, chat=chat)

    def commit(
        self,
        run: RunId,
        *answered: claims.Claimed,
        say: Sequence[str] = (),
        session: str | None = None,
        reached: bool = True,
    ) -> results.Committed:
        return results.commit(
            Tx(self.db, self.passes(0.001), self.new_id),
            run,
            results.Reply(
                answered=[each.prompt_id for each in answered],
                pieces=say,
                session=session,
                reached=reached,
            ),
        )

    def fail(
        self,
        run: RunId,
        kind: str = "agent",
        *,
        jitter: float = 0.0,
        message: str = "it broke",
        sure: bool = False,
        moment: Micros | None = None,
        bought: bool = False,
    ) -> list[turn_failures.Failure]:
        return turn_failures.fail(
            Tx(self.db, self.passes(0.001), self.new_id),
            run,
            Trouble(kind, message, moment, sure, bought),
            jitter=jitter,
        )

    def end(self, run: RunId, reason: str = "closed") -> list[turn_failures.Failure]:
        return runs.end(Tx(self.db, self.passes(0.001), self.new_id), run, reason=reason)

    def restart(self) -> list[str]:
        """The daemon dies and starts again: what it does first."""
        self.boot = f"boot-{self.new_id()[-4:]}"
        left = runs.interrupt_others(Tx(self.db, self.passes(0.001), self.new_id), boot=self.boot)
        holds.recover(Tx(self.db, self.now))
        outbox.recover(Tx(self.db, self.now))
        return left

    def say(self, text: str, *, chat: ChatId = CHAT, turn: claims.Claimed | None = None) -> int:
        """The agent says something while it works (or the host, without a turn)."""
        by = outbox.Author(FAMILY, chat, None if turn is None else turn.turn)
        (entry,) = outbox.enqueue(Tx(self.db, self.now, self.new_id), by, (text,))
        return entry

    def send_all(self) -> list[tuple[ChatId, str]]:
        """Send whatever is due, every try a success."""
        said: list[tuple[ChatId, str]] = []
        while heads := outbox.heads(Tx(self.db, self.now)):
            for head in heads:
                out = outbox.take(Tx(self.db, self.now), head.out.id)
                assert out is not None
                said.append((out.chat, out.text))
                outbox.sent(Tx(self.db, self.passes(0.001)), out.id)
        return said

    def waiting(self) -> list[GroupId]:
        return messages.waiting_groups(Tx(self.db, self.now))

    def cursor(self, chat: ChatId = CHAT) -> int:
        row = self.db.execute("SELECT done_seq FROM chats WHERE chat = ?", (chat,)).fetchone()
        return int(row[0])


__all__ = ["ANNA", "CHAT", "FAMILY", "MAIN", "MAIN_CONSOLE", "World"]
