"""A store in memory, its clock, its chance, and short words for what happens in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache

import attrs

from pynchy.model import MAIN, MAIN_CONSOLE, ChatId, GroupId, Message, Micros, RunId, SenderId
from pynchy.policy.failures import Trouble
from pynchy.store import groups, holds, messages, outbox, runs, turns
from pynchy.store.database import Connection, configure, open_memory

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
        groups.ensure_main(world.db, name="Main", trigger="Pynchy", now=world.now)
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
            self.db,
            folder=folder,
            name=folder.title(),
            chats=chats,
            trigger="Pynchy",
            requires_trigger=requires_trigger,
            now=self.now,
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
        return messages.receive(self.db, message, now=self.passes(0.001), command=command)

    def begin(self, folder: GroupId = FAMILY, kind: runs.Kind = "session") -> RunId:
        run = RunId(self.new_id()[-16:])
        runs.begin(
            self.db,
            run=run,
            folder=folder,
            kind=kind,
            container=f"pynchy-test-{run}",
            boot=self.boot,
            now=self.passes(0.001),
        )
        return run

    def claim(
        self, run: RunId, folder: GroupId = FAMILY, *, chat: ChatId | None = None
    ) -> turns.Claimed:
        found = self.try_claim(run, folder, chat=chat)
        assert found is not None, "nothing was due"
        return found

    def try_claim(
        self, run: RunId, folder: GroupId = FAMILY, *, chat: ChatId | None = None
    ) -> turns.Claimed | None:
        return turns.claim(
            self.db, folder, run, now=self.passes(0.001), new_id=self.new_id, chat=chat
        )

    def commit(
        self,
        run: RunId,
        *answered: turns.Claimed,
        say: Sequence[str] = (),
        session: str | None = None,
        reached: bool = True,
    ) -> turns.Committed:
        return turns.commit(
            self.db,
            run,
            answered=[each.prompt_id for each in answered],
            pieces=say,
            session=session,
            reached=reached,
            now=self.passes(0.001),
            new_id=self.new_id,
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
    ) -> list[turns.Failure]:
        return turns.fail(
            self.db,
            run,
            Trouble(kind, message, moment, sure, bought),
            now=self.passes(0.001),
            jitter=jitter,
            new_id=self.new_id,
        )

    def end(self, run: RunId, reason: str = "closed") -> list[turns.Failure]:
        return runs.end(self.db, run, reason=reason, now=self.passes(0.001), new_id=self.new_id)

    def restart(self) -> list[str]:
        """The daemon dies and starts again: what it does first."""
        self.boot = f"boot-{self.new_id()[-4:]}"
        left = runs.interrupt_others(
            self.db, boot=self.boot, now=self.passes(0.001), new_id=self.new_id
        )
        holds.recover(self.db, now=self.now)
        outbox.recover(self.db, now=self.now)
        return left

    def say(self, text: str, *, chat: ChatId = CHAT, turn: turns.Claimed | None = None) -> int:
        """The agent says something while it works (or the host, without a turn)."""
        (entry,) = outbox.enqueue(
            self.db,
            folder=FAMILY,
            chat=chat,
            texts=(text,),
            turn=None if turn is None else turn.turn,
            now=self.now,
            new_id=self.new_id,
        )
        return entry

    def send_all(self) -> list[tuple[ChatId, str]]:
        """Send whatever is due, every try a success."""
        said: list[tuple[ChatId, str]] = []
        while heads := outbox.heads(self.db, now=self.now):
            for head in heads:
                out = outbox.take(self.db, head.out.id, now=self.now)
                assert out is not None
                said.append((out.chat, out.text))
                outbox.sent(self.db, out.id, now=self.passes(0.001))
        return said

    def waiting(self) -> list[GroupId]:
        return messages.waiting_groups(self.db, now=self.now)

    def cursor(self, chat: ChatId = CHAT) -> int:
        row = self.db.execute("SELECT done_seq FROM chats WHERE chat = ?", (chat,)).fetchone()
        return int(row[0])


__all__ = ["ANNA", "CHAT", "FAMILY", "MAIN", "MAIN_CONSOLE", "World"]
