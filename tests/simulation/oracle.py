"""The judge: what must be true of the world, whatever happened to the daemon.

It reads ground truth only: what the server was told, what phones show, which containers exist, and
the rows that are left. It never asks the daemon, and shares no query with it.

    I1  acknowledged => stored
    I2  every message that asks has one outcome: a reply, the agent's silence, a failure that the
        chat was told of, or a person's /stop
    I3  nothing is on a phone twice
    I4  replies are on the phone in the order of the outbox, and answer in the order of asking
    I5  a command takes effect once, and what its agent was told of it is so
    I6  nobody waits while they could be served
    I7  no container without a live run; never too many; never two in a group (the world looks)
    I8  what was given up was said
    T1  every moment at which a task was due has one row, which says what became of it
    T2  a scheduled turn speaks once, and is silent only if its agent was
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Final

import attrs
import trio

from pynchy.model import MAIN, Micros
from pynchy.schedule.times import slots
from pynchy.store import tasks
from pynchy.text.reply import NOTICE_PREFIX
from tests.simulation.world import ASK, World

HALF: Final = re.compile(r"\[h\d+\]")
PATIENCE: Final = 90.0  # seconds that somebody may wait although they could be served
LONGEST_RETRY: Final = 340.0  # seconds
SEEN_TO: Final = 60_000_000  # microseconds within which a slot has its row
ORPHANED: Final = 30.0  # seconds that a container may exist without a run, once the daemon is up


#: Ways in which people speak to the assistant, or of it: what is said, what it quotes, and the least that a group must
#: answer for this to ask something. Written down, and not asked of the daemon.
WAYS: Final = (
    ("@Pynchy do", "", "mention"),
    ("do that, @pynchy, do", "", "mention"),
    ("@Pynchy do", "theirs", "mention"),
    ("do", "ours", "reply"),
    ("Pynchy, do", "", "name"),
    ("[voice note] pynchy do", "", "name"),
    ("so I said", "", "all"),
    ("so I said", "theirs", "all"),
    ("Pynchy said so", "", "all"),
    ("write to me@pynchy.org", "", "all"),
)
LADDER: Final = ("mention", "reply", "name", "all")


def ways(answers: str, *, asking: bool, spoke: bool) -> list[tuple[str, str]]:
    """Texts, and what they quote, that ask a group of these ``answers`` something, or do not. ``spoke``: it said
    something that can be quoted."""
    return [
        (text, quotes)
        for text, quotes, least in WAYS
        if (LADDER.index(least) <= LADDER.index(answers)) == asking and (spoke or quotes != "ours")
    ]


@attrs.define
class Watch:
    """What has been wrong since when, while the world turns."""

    world: World
    since: dict[str, float] = attrs.Factory(dict)

    def look(self) -> None:
        """Called every few seconds. Something that stays wrong for too long is a violation."""
        life = self.world.life
        # A retry that the wall clock jumped over is still waited for by the other clock.
        lenient = trio.current_time() - self.world.jumped < LONGEST_RETRY
        if life is None or life.dead or not life.is_up or lenient:
            self.since.clear()
            return
        wrong = dict(self._starving()) | dict(self._orphans())
        now = trio.current_time()
        self.since = {what: self.since.get(what, now) for what in wrong}
        for what, begun in self.since.items():
            if now - begun > wrong[what]:
                self.world.violated(f"{what} for {now - begun:.0f} s")
                self.since[what] = math.inf  # once

    def _starving(self) -> Iterator[tuple[str, float]]:
        world = self.world
        boxes = {box.group: box for box in world.alive()}
        kept = world.swarm.capacity > 1  # a slot, for main
        room = world.swarm.capacity - kept
        busy = sum(box.busy for box in boxes.values() if not (kept and box.group == MAIN))
        now = world.now()
        rows = world.db.execute(
            "SELECT chats.folder, chats.chat, min(inbox.seq) FROM inbox JOIN chats USING (chat) "
            "JOIN groups ON groups.folder = chats.folder "
            "LEFT JOIN turn_inputs USING (seq) LEFT JOIN turns ON turns.id = turn_id "
            "WHERE triggers = 1 AND gone IS NULL AND paused = 0 "
            "AND (turns.id IS NULL OR turns.state = 'waiting') "
            "AND inbox.seq > chats.done_seq AND NOT EXISTS ("
            "  SELECT 1 FROM turns AS ahead WHERE ahead.chat = chats.chat "
            "  AND ahead.state = 'waiting' AND ahead.retry_at > ?) "
            "GROUP BY chats.chat",
            (now,),
        ).fetchall()
        for folder, chat, _ in rows:
            box = boxes.get(folder)
            if box is None and ((kept and folder == MAIN) or busy < room):
                yield f"I6: {chat} waits while a slot is free", PATIENCE
            if box is not None and not box.busy:
                yield f"I6: {chat} waits while its own agent idles", PATIENCE
        due = world.db.execute(
            "SELECT DISTINCT folder FROM turns JOIN groups USING (folder) WHERE kind = 'task' "
            "AND state = 'waiting' AND retry_at <= ? AND paused = 0",
            (now,),
        ).fetchall()
        for (folder,) in due:
            box = boxes.get(folder)
            if box is None and ((kept and folder == MAIN) or busy < room):
                yield f"I6: a task of {folder} waits while a slot is free", PATIENCE
            if box is not None and not box.busy:
                yield f"I6: a task of {folder} waits while its group's agent idles", PATIENCE
        heads = world.db.execute(
            "SELECT chat, min(id), next_at FROM outbox WHERE sent_at IS NULL "
            "AND failed_at IS NULL GROUP BY chat"
        ).fetchall()
        connected = all(channel.connected for channel in world.channels)
        for chat, entry, next_at in heads:
            if connected and next_at <= now:
                yield f"I6: entry {entry} of the outbox of {chat} stands still", 400.0

    def _orphans(self) -> Iterator[tuple[str, float]]:
        live = {
            name
            for (name,) in self.world.db.execute("SELECT container FROM runs WHERE state <> 'gone'")
        }
        boxes = {box.name for box in self.world.alive()}
        for name in sorted(boxes - live):
            yield f"I7: {name} exists and no run owns it", ORPHANED
        for name in sorted(live - boxes):
            yield f"I7: the run of {name} lives on without a container", ORPHANED


def judge(world: World) -> None:
    """When all is calm: look at everything once more."""
    _stored(world)
    _outcomes(world)
    _commands(world)
    _phones(world)
    _ledger(world)
    _leftovers(world)
    for check in world.checks:
        check(world)


def _stored(world: World) -> None:
    rows = world.db.execute("SELECT chat, message_id FROM inbox").fetchall()
    stored = set(rows)
    if len(stored) != len(rows):
        world.violated("I2: a message was stored twice")
    for mails in world.mail.values():
        for mail in mails:
            if mail.acknowledged and (mail.message.chat, mail.message.id) not in stored:
                world.violated(f"I1: {mail.token} was acknowledged and is not stored")
            if not mail.acknowledged:
                world.violated(f"I1: {mail.token} was never acknowledged")


def _outcomes(world: World) -> None:
    states = {
        (chat, message): (state, seq)
        for chat, message, state, seq in world.db.execute(
            "SELECT inbox.chat, message_id, turns.state, inbox.seq FROM inbox "
            "LEFT JOIN turn_inputs USING (seq) LEFT JOIN turns ON turns.id = turn_id"
        )
    }
    given_up = {
        text for (text,) in world.db.execute("SELECT text FROM outbox WHERE state = 'failed'")
    }
    lost = {token for text in given_up for token in ASK.findall(text)}
    replies = _replies(world)
    everything = {sent.text for sents in world.phones.values() for sent in sents} | given_up
    for token, last in world.long.items():
        begun = any(f"{token}\n\nand so on" in text for text in everything)
        if begun and not any(text.endswith(last) for text in everything):
            world.violated(f"I2: the end of the answer to {token} was never shown")
    for token, mail in world.asked.items():
        chat = mail.message.chat
        state, _ = states.get((chat, mail.message.id), (None, 0))
        shown = len(replies.get(token, []))
        if shown > 1:
            world.violated(f"I3: {token} was answered {shown} times")
        elif shown == 1 and state != "done":
            world.violated(f"I2: {token} was answered and its turn is {state}")
        elif shown == 0 and state == "done":
            if token not in world.silences and token not in lost:
                world.violated(f"I2: {token} is done, and the phone shows nothing")
        elif shown == 0 and state == "dead":
            if not any(_is_notice(sent.text) for sent in world.phones.get(chat, [])):
                world.violated(f"I8: {token} was given up and {chat} was not told")
        elif shown == 0 and state == "cancelled":
            if chat not in world.stopped:
                world.violated(f"I2: {token} was cancelled, and nobody said so")
        elif shown == 0:
            world.violated(f"I2: {token} was never answered ({state})")


def _commands(world: World) -> None:
    shown: dict[str, int] = {}
    for sents in world.phones.values():
        for sent in sents:
            for half in HALF.findall(sent.text):
                shown[half] = shown.get(half, 0) + 1
    failed = {
        half
        for (text,) in world.db.execute("SELECT text FROM outbox WHERE state = 'failed'")
        for half in HALF.findall(text)
    }
    for half, count in sorted(shown.items()):
        if count > 1:
            world.violated(f"I5: {half} took effect {count} times")
    for half in sorted(world.said_ok - set(shown) - failed):
        world.violated(f"I5: the agent was told that {half} is sent, and no phone shows it")
    known = set(world.db.execute("SELECT folder, command_id FROM journal").fetchall())
    for folder, ids in world.spooled.items():
        for lost in [id for id in ids if (folder, id) not in known]:
            world.violated(f"I5: command {lost[-8:]} of {folder} was never carried out")
    for folder, files in world.spool.items():
        if files:
            world.violated(f"I5: {len(files)} commands of {folder} were left lying")


def _replies(world: World) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for sents in world.phones.values():
        for sent in sents:
            for token in dict.fromkeys(ASK.findall(sent.text)):
                found.setdefault(token, []).append(sent.id)
    return found


def _is_notice(text: str) -> bool:
    return text.startswith(NOTICE_PREFIX)


def _phones(world: World) -> None:
    order = {
        message_id: (entry, state)
        for entry, message_id, state in world.db.execute("SELECT id, message_id, state FROM outbox")
    }
    for chat, sents in world.phones.items():
        ids = [sent.id for sent in sents]
        if len(set(ids)) != len(ids):
            world.violated(f"I3: {chat} shows a message twice")
        unknown = [each for each in ids if each not in order]
        if unknown:
            world.violated(f"I3: {chat} shows what the outbox does not know")
            continue
        entries = [order[each][0] for each in ids]
        if entries != sorted(entries):
            world.violated(f"I4: {chat} shows replies out of order")
        answered = [int(token[2:-1]) for sent in sents for token in ASK.findall(sent.text)]
        if answered != sorted(answered) and world.swarm.disorder == 0:
            world.violated(f"I4: {chat} was not answered in the order of asking")
    for message_id, (_, state) in order.items():
        if state == "sent" and message_id not in world.shown:
            world.violated(f"I2: {message_id} is called sent, and no phone shows it")
        if state not in ("sent", "failed"):
            world.violated(f"I2: {message_id} was never sent ({state})")


def _ledger(world: World) -> None:
    """Scheduled work. Where the clock was set, the moments that were due are anybody's guess."""
    by_entry: dict[str, int] = dict(
        world.db.execute("SELECT message_id, turn_id FROM outbox WHERE turn_id NOT NULL").fetchall()
    )
    spoke: dict[int, int] = {}
    for sents in world.phones.values():
        for sent in sents:
            if "re [t" in sent.text and (turn := by_entry.get(sent.id)) is not None:
                spoke[turn] = spoke.get(turn, 0) + 1
    for turn, count in spoke.items():
        if count > 1:
            world.violated(f"T2: the scheduled turn {turn} spoke {count} times")
    mute = 0
    for task in tasks.of_group(world.db, None, ended=True):
        rows = world.db.execute(
            "SELECT slot, fires.state, turns.state, turns.id, EXISTS ("
            "  SELECT 1 FROM outbox WHERE outbox.turn_id = turns.id) "
            "FROM fires LEFT JOIN turns ON turns.id = turn_id WHERE task_id = ?",
            (task.id,),
        ).fetchall()
        for slot, state, turn_state, turn, said in rows:
            if state == "waiting":
                world.violated(f"T1: what became of {task.id} at {slot} is not known")
            if state in ("ran", "late") and turn_state != "done":
                world.violated(f"T1: {task.id} at {slot} {state}, and its turn is {turn_state}")
            mute += turn_state == "done" and not said
            if turn_state != "done" and turn in spoke:
                world.violated(f"T2: {task.id} at {slot} spoke, and its turn is {turn_state}")
        if task.reason == "calm" and world.jumped == -math.inf:
            due = {
                slot.key
                for slot in slots(task.schedule, Micros(task.created_at - 1), world.tasks_paused)
                if slot.at <= world.tasks_paused - SEEN_TO
            }
            for slot in sorted(due - {row[0] for row in rows}):
                world.violated(f"T1: {task.id} was due at {slot}, and nothing tells of it")
    if mute > world.task_silences:
        world.violated(f"T2: {mute} scheduled turns said nothing, {world.task_silences} agents")


def _leftovers(world: World) -> None:
    for box in world.alive():
        world.violated(f"I7: {box.name} was left behind")
    for name, state in world.db.execute(
        "SELECT container, state FROM runs WHERE state <> 'gone'"
    ).fetchall():
        world.violated(f"I7: the run of {name} is still {state}")
    for turn, state in world.db.execute(
        "SELECT id, state FROM turns WHERE ended_at IS NULL"
    ).fetchall():
        world.violated(f"I2: turn {turn} is still {state}")


def settled(world: World) -> bool:
    """Whether nothing is left to do: the play may end."""
    open_mail = any(not mail.acknowledged for mails in world.mail.values() for mail in mails)
    waits = world.db.execute(
        "SELECT EXISTS (SELECT 1 FROM turns WHERE ended_at IS NULL) OR EXISTS ("
        "  SELECT 1 FROM outbox WHERE sent_at IS NULL AND failed_at IS NULL) OR EXISTS ("
        "  SELECT 1 FROM inbox JOIN chats USING (chat) LEFT JOIN turn_inputs USING (seq) "
        "  WHERE triggers = 1 AND gone IS NULL AND folder IS NOT NULL AND turn_id IS NULL)"
    ).fetchone()[0]
    return not open_mail and not waits
