"""Any history of messages, runs, failures, stops, edits and deaths, against what people would count.

The model knows what was said and what was heard, nothing of turns or cursors.
"""

from __future__ import annotations

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from pynchy.limits import RETRIES
from pynchy.model import ChatId, GroupId, RunId, Seq
from pynchy.policy.failures import TABLE
from pynchy.store import claims, groups, messages, trace, turns
from pynchy.store.database import Tx
from tests.rules.store_world import CHAT, FAMILY, MAIN, MAIN_CONSOLE, World
from tests.transactions import open_entries

SECOND_CHAT = ChatId("console:family")
CHATS = [CHAT, SECOND_CHAT, MAIN_CONSOLE]
FOLDERS = [FAMILY, MAIN]


@attrs.define
class Question:
    """A message that asks, as its writer sees it."""

    seq: Seq
    chat: ChatId
    id: str
    root: str  # the id of the message that it is, or is an edit of
    text: str
    asks: bool
    gone: bool = False
    answers: int = 0


class Histories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World.with_family()
        groups.add_chat(self.world.db, FAMILY, SECOND_CHAT)
        self.all: list[Question] = []
        self.paused: set[GroupId] = set()
        self.runs: dict[GroupId, RunId] = {}
        self.held: dict[GroupId, list[claims.Claimed]] = {folder: [] for folder in FOLDERS}
        self.offered: dict[ChatId, list[str]] = {chat: [] for chat in CHATS}
        self.cursors: dict[ChatId, int] = dict.fromkeys(CHATS, 0)

    # --- people ---

    @rule(chat=st.sampled_from(CHATS), asks=st.booleans())
    def somebody_writes(self, chat: ChatId, asks: bool) -> None:
        id = f"m{len(self.all)}"
        self._write(chat, id, root=id, asks=asks)

    @rule(data=st.data())
    @precondition(lambda self: self.all)
    def it_is_delivered_again(self, data: st.DataObject) -> None:
        message = data.draw(st.sampled_from(self.all))
        again = self.world.hear(message.text, id=message.id, chat=message.chat)
        assert again.seq is None
        assert not again.wakes

    @rule(data=st.data(), asks=st.booleans())
    @precondition(lambda self: self.all)
    def somebody_edits(self, data: st.DataObject, asks: bool) -> None:
        edited = data.draw(st.sampled_from(self.all))
        versions = [each for each in self.all if each.root == edited.root]
        states = [trace.why_seq(self.world.db, each.seq).state for each in versions]
        replaced = [each for each in versions if self._is_pending(each)]
        open_question = any(each.asks for each in replaced)
        may_ask = open_question or not {"answered", "silent", "failed", "cancelled"} & set(states)
        before = len(self.all)
        self._write(
            edited.chat,
            f"m{before}",
            root=edited.root,
            asks=asks,
            may_ask=may_ask,
            dropped="taken back" in states,
        )
        if len(self.all) > before:
            for each in replaced:
                each.gone = True

    @rule(data=st.data())
    @precondition(lambda self: self.all)
    def somebody_takes_it_back(self, data: st.DataObject) -> None:
        message = data.draw(st.sampled_from(self.all))
        for each in self.all:
            if each.root == message.root and self._is_pending(each):
                each.gone = True
        self.world.hear("", id="r", chat=message.chat, revokes=message.root)

    def _is_pending(self, message: Question) -> bool:
        state = trace.why_seq(self.world.db, message.seq).state
        if state in ("pending", "retrying", "context"):
            return True
        row = self.world.db.execute(
            "SELECT state FROM turns JOIN turn_inputs ON turn_id = id WHERE seq = ?",
            (message.seq,),
        ).fetchone()
        return state == "seen" and row == ("waiting",)

    def _write(
        self,
        chat: ChatId,
        id: str,
        *,
        root: str,
        asks: bool,
        may_ask: bool = True,
        dropped: bool = False,
    ) -> None:
        number = len(self.all)
        text = f"@Pynchy {number}" if asks else f"talk {number}"
        received = self.world.hear(text, id=id, chat=chat, edits=None if root == id else root)
        if dropped:
            assert received == messages.Received(None, self._folder(chat), wakes=False)
            return
        asks = (asks or chat == MAIN_CONSOLE) and may_ask
        assert received.seq is not None
        assert received.wakes == (asks and self._folder(chat) not in self.paused)
        self.all.append(Question(received.seq, chat, id, root, text, asks))

    @staticmethod
    def _folder(chat: ChatId) -> GroupId:
        return MAIN if chat == MAIN_CONSOLE else FAMILY

    @rule(folder=st.sampled_from(FOLDERS))
    def somebody_says_stop(self, folder: GroupId) -> None:
        turns.cancel(Tx(self.world.db, self.world.now), folder)
        self.held[folder] = []

    @rule(folder=st.sampled_from(FOLDERS))
    def somebody_says_new(self, folder: GroupId) -> None:
        turns.cancel(Tx(self.world.db, self.world.now), folder)
        groups.new_session(self.world.db, folder)
        self.held[folder] = []
        if (run := self.runs.pop(folder, None)) is not None:
            late = self.world.commit(run, say=["late"], session="old")
            assert late.superseded
            self.world.end(run)

    @rule(folder=st.sampled_from(FOLDERS), paused=st.booleans())
    def the_owner_pauses(self, folder: GroupId, paused: bool) -> None:
        groups.set_paused(self.world.db, folder, paused=paused)
        (self.paused.add if paused else self.paused.discard)(folder)

    # --- the daemon ---

    @rule(folder=st.sampled_from(FOLDERS))
    def a_run_begins(self, folder: GroupId) -> None:
        if folder not in self.runs:
            self.runs[folder] = self.world.begin(folder)

    @rule(folder=st.sampled_from(FOLDERS))
    def a_run_claims(self, folder: GroupId) -> None:
        if (run := self.runs.get(folder)) is None:
            return
        due = folder in self.world.waiting()
        claimed = self.world.try_claim(run, folder)
        if claimed is None:
            if due:  # everything of what waited was taken back
                assert folder not in self.world.waiting()
            return
        assert due
        self.held[folder].append(claimed)
        offered = self.offered[claimed.chat]
        fresh = [each.text for each in claimed.messages if each.text not in offered]
        assert claimed.attempt > 1 or claimed.resume or fresh or self._was_released(claimed)
        numbers = [int(text.split()[-1]) for text in offered + fresh]
        assert numbers == sorted(numbers), "order within a chat"
        offered.extend(fresh)

    @rule(data=st.data(), folder=st.sampled_from(FOLDERS), pieces=st.integers(0, 2))
    def a_result_comes(self, data: st.DataObject, folder: GroupId, pieces: int) -> None:
        if not self.held[folder]:
            return
        named = data.draw(
            st.lists(st.sampled_from(self.held[folder]), unique_by=lambda each: each.turn)
        )
        said = [f"reply {folder}"] * pieces if named else []
        committed = self.world.commit(self.runs[folder], *named, say=said, session="s")
        assert set(committed.turns) == {each.turn for each in named}
        assert len(committed.outbox) == len(said)
        for each in named:
            self.held[folder].remove(each)
            for message in each.messages:
                if message.triggers:
                    self._by_id(message.id).answers += 1

    @rule(folder=st.sampled_from(FOLDERS))
    def the_agent_says_something_meanwhile(self, folder: GroupId) -> None:
        if self.held[folder]:
            claimed = self.held[folder][-1]
            self.world.say("working on it", chat=claimed.chat, turn=claimed)

    @rule(
        folder=st.sampled_from(FOLDERS),
        kind=st.sampled_from(sorted(TABLE)),
        sure=st.booleans(),
    )
    def a_run_fails(self, folder: GroupId, kind: str, sure: bool) -> None:
        if (run := self.runs.pop(folder, None)) is None:
            return
        failures = self.world.fail(run, kind, sure=sure)
        assert {each.turn for each in failures} == {each.turn for each in self.held[folder]}
        self.held[folder] = []
        assert self.world.end(run, kind) == []

    @rule(folder=st.sampled_from(FOLDERS))
    def a_run_ends(self, folder: GroupId) -> None:
        if (run := self.runs.pop(folder, None)) is not None:
            self.world.end(run)
            self.held[folder] = []

    @rule()
    def the_daemon_dies(self) -> None:
        self.world.restart()
        self.runs.clear()
        self.held = {folder: [] for folder in FOLDERS}

    @rule(seconds=st.sampled_from([1, 6, 90, 100_000]))
    def time_passes(self, seconds: float) -> None:
        self.world.passes(seconds)

    @rule()
    def everything_is_sent(self) -> None:
        self.world.send_all()

    # --- what must hold at any moment ---

    @invariant()
    def a_question_is_answered_once_at_most(self) -> None:
        assert all(each.answers <= 1 for each in self.all)

    @invariant()
    def below_the_cursor_everything_has_ended(self) -> None:
        for chat in CHATS:
            cursor = self.world.cursor(chat)
            assert cursor >= self.cursors[chat]
            self.cursors[chat] = cursor
        for question in self.all:
            state = trace.why_seq(self.world.db, question.seq).state
            if question.asks and question.seq <= self.cursors[question.chat]:
                assert state not in ("pending", "working", "retrying", "passed over")
            if question.answers:
                assert state in ("answered", "silent")
            assert (state in ("edited", "taken back")) == question.gone

    @invariant()
    def whoever_waits_is_found(self) -> None:
        """The indexed question gives what looking at everything gives."""
        expected = set()
        for chat in CHATS:
            folder = self._folder(chat)
            states = [
                trace.why_seq(self.world.db, each.seq).state
                for each in self.all
                if each.chat == chat
            ]
            retry = self.world.db.execute(
                "SELECT min(retry_at) FROM turns WHERE chat = ? AND state = 'waiting'", (chat,)
            ).fetchone()[0]
            ready = "pending" in states if retry is None else retry <= self.world.now
            if ready and folder not in self.paused:
                expected.add(folder)
        assert set(self.world.waiting()) == expected

    def teardown(self) -> None:
        """From any point, a quiet daemon brings everything to an end that somebody hears of."""
        self.the_daemon_dies()
        for folder in FOLDERS:
            groups.set_paused(self.world.db, folder, paused=False)
        for _ in range(len(self.all) + 5):
            self.world.passes(100)
            for folder in self.world.waiting():
                self.a_run_begins(folder)
                while (claimed := self.world.try_claim(self.runs[folder], folder)) is not None:
                    self.world.commit(self.runs[folder], claimed, say=["well"])
        assert self.world.waiting() == []
        assert trace.unended(self.world.db, before=self.world.now, thorough=True) == []
        for question in self.all:
            state = trace.why_seq(self.world.db, question.seq).state
            if not question.asks and not question.gone:
                assert state in ("context", "seen", "passed over")
                continue
            ends = {"answered", "silent", "failed", "cancelled", "edited", "taken back"}
            assert state in ends, state
            if state == "failed":
                told = self.world.db.execute(
                    "SELECT count(*) FROM outbox JOIN turn_inputs USING (turn_id) "
                    "WHERE seq = ? AND notice = 1",
                    (question.seq,),
                ).fetchone()
                assert told == (1,)
        newest = self.world.db.execute(
            "SELECT chat, max(seq) FROM inbox WHERE triggers = 1 AND gone IS NULL GROUP BY chat"
        ).fetchall()
        for chat, seq in newest:
            assert self.world.cursor(chat) >= seq
        self.world.send_all()
        assert open_entries(self.world.db) == 0
        assert messages.next_retry(self.world.db, FAMILY) is None
        worst = self.world.db.execute("SELECT max(strikes) FROM turns").fetchone()
        assert worst[0] is None or worst[0] <= RETRIES.strikes + 1

    def _by_id(self, id: str) -> Question:
        return next(each for each in self.all if each.id == id)

    def _was_released(self, claimed: claims.Claimed) -> bool:
        row = self.world.db.execute(
            "SELECT interrupted FROM turns WHERE id = ?", (claimed.turn,)
        ).fetchone()
        return bool(row[0])


TestHistories = Histories.TestCase
TestHistories.settings = settings(stateful_step_count=40)
