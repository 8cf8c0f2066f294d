"""Carry out the commands that people type in a chat (`/stop`, `/pause` …): one function for each.

Procedure. Each is called in the transaction that stores the order's message, so an order takes effect exactly once,
answers exactly once, and a crash leaves either all of it or nothing. What is not in the database (ending a run, ringing
a bell) is returned, to be done after the commit.

The rule that keeps it so: no order waits for anything, and every one is answered with one line or more in its chat.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import attrs

from pynchy.actions import approvals
from pynchy.actions.call import Done, Scaffold, no_folders
from pynchy.chat.commands import Order, help_text
from pynchy.chat.receiver import Asked
from pynchy.groups import queue
from pynchy.model import DAY, ChatId, Group, GroupId, Micros, after
from pynchy.policy import failures
from pynchy.policy.requests import read_code
from pynchy.store import (
    breakers,
    groups,
    holds,
    ledger,
    messages,
    notices,
    questions,
    runs,
    turn_rows,
    turns,
)
from pynchy.store.database import Database, NewId, Tx
from pynchy.text.reply import NOTICE_PREFIX, within
from pynchy.text.triggers import is_owner

Then = Callable[[], Awaitable[None]]
Stop = Callable[[GroupId, Sequence[turn_rows.Turn]], Awaitable[None]]  # with what was cancelled


@attrs.frozen
class _Hands:
    """Where an order was given, and what it may set in motion after its commit."""

    chat: ChatId
    by: str  # who gave it, for the audit
    new_id: NewId
    stop: Stop
    tell: Callable[[queue.Event], Awaitable[None]]
    committed: Callable[[Done], None]
    scaffold: Scaffold


def carry_out(
    tx: Tx,
    asked: Asked,
    /,
    *,
    stop: Stop,
    tell: Callable[[queue.Event], Awaitable[None]],
    committed: Callable[[Done], None],
    scaffold: Scaffold = no_folders,
) -> Then | None:
    """Do what was ordered, answer it in its chat, and say what is left to do after the commit."""
    if asked.refusal is not None:
        text, then = asked.refusal, None
    else:
        message = asked.message
        by = "owner" if is_owner(message) else message.sender
        hands = _Hands(message.chat, by, tx.new_id, stop, tell, committed, scaffold)
        text, then = ORDERS[asked.order.name](tx, asked.group, asked.order, tx.now, hands)
    notices.tell(tx, asked.message.chat, f"{NOTICE_PREFIX}{text}")
    return then


_Answer = tuple[str, Then | None]


def _help(db: Database, group: Group, order: Order, now: Micros, hands: _Hands) -> _Answer:
    return help_text(group), None


def _stop(db: Database, group: Group, order: Order, now: Micros, hands: _Hands) -> _Answer:
    stopped = turns.cancel(Tx(db, now), group.folder)
    asked = questions.drop(db, group.folder)
    live = [run for run in runs.live(db, group.folder) if run.kind != "task" or stopped]

    async def then() -> None:
        await hands.stop(group.folder, stopped)

    if stopped:
        text = "Stopped."
    elif asked:
        text = "Stopped: I wait for no answer any more."
    elif live:
        text = "I was working on nothing; what I still had running is ended."
    else:
        text = "There is nothing to stop."
    return text, (
        then if stopped or live else None
    )  # an agent that has answered may still run programs


def _new(db: Database, group: Group, order: Order, now: Micros, hands: _Hands) -> _Answer:
    stopped = turns.cancel(Tx(db, now), group.folder)
    questions.drop(db, group.folder)
    groups.new_session(db, group.folder)

    async def then() -> None:
        await hands.stop(group.folder, stopped)

    return "A new conversation begins. Files and memory stay.", then


def _compact(db: Database, group: Group, order: Order, now: Micros, hands: _Hands) -> _Answer:
    if group.session is None:
        return "There is no conversation yet.", None
    turn_rows.add(
        Tx(db, now),
        folder=group.folder,
        chat=hands.chat,
        kind="notice",
        prompt="/compact",
        source=turns.COMPACT,
        steps=0,
    )

    async def then() -> None:
        await hands.tell(queue.Arrived(group.folder))

    return "I shorten our conversation.", then


def _status(db: Database, group: Group, order: Order, now: Micros, hands: _Hands) -> _Answer:
    live = runs.live(db, group.folder)
    owed = sum(len(turns.held(db, run.id)) for run in live)
    lines = [f"Working on {owed} request{'s' * (owed != 1)}." if owed else "Idle."]
    if live:
        lines.append(f"Container up for {_spell((now - live[0].started_at) / 1e6)}.")
    retry = messages.next_retry(db, group.folder)
    held = holds.closed(holds.over(db, group.folder), now=now)
    if retry is not None and held is not None:
        words = failures.row_of(held.kind).status
        lines.append(f"A request waits: {words}.")
    if retry is not None and now < retry < after(now, 2 * DAY):
        lines.append(f"It is tried again in {_spell((retry - now) / 1e6)}.")
    lines.append("A conversation is under way." if group.session else "No conversation yet.")
    return " ".join(lines), None


def _tasks(db: Database, group: Group, order: Order, now: Micros, hands: _Hands) -> _Answer:
    rows = db.execute(
        "SELECT name, kind, value, state, prompt FROM tasks WHERE state IN ('active', 'paused') "
        "AND (?1 OR folder = ?2) ORDER BY next_run IS NULL, next_run LIMIT 30",
        (group.is_main, group.folder),
    ).fetchall()
    if not rows:
        return "Nothing is scheduled.", None
    lines = [
        f"{within(name or prompt, 40)}: {kind} {value} ({state})"
        for name, kind, value, state, prompt in rows
    ]
    return "\n".join(lines), None


def _usage(db: Database, group: Group, order: Order, now: Micros, hands: _Hands) -> _Answer:
    group_id = None if group.is_main else group.folder
    day = ledger.summed(db, group_id, since=Micros(now - DAY_MICROS))
    said = f"In the last 24 hours: {day.calls} calls, {day.tokens} tokens, ${day.cost / 1e6:.2f}"
    if day.estimated:
        said += f", of which ${day.estimated / 1e6:.2f} is the most it can be"
    return f"{said}.", None


DAY_MICROS: Final = 24 * 3600 * 1_000_000


def _model(db: Database, group: Group, order: Order, now: Micros, hands: _Hands) -> _Answer:
    if not order.argument:
        return f"Model: {group.model or 'the default'}.", None
    model = None if order.argument == "default" else order.argument
    groups.set_model(db, group.folder, model)

    async def then() -> None:
        await hands.tell(queue.Outdated(group.folder))

    return f"From the next conversation start on: {order.argument}.", then


def _groups(db: Database, group: Group, order: Order, now: Micros, hands: _Hands) -> _Answer:
    lines = []
    held = breakers.held_back(db)
    for each in groups.list_groups(db):
        chats = ", ".join(groups.chats_of(db, each.folder)) or "no chat"
        state = ", paused" * each.paused + ", held back" * (each.folder in held)
        lines.append(f"{each.folder} ({within(each.name)}): {chats}{state}")
    return "\n".join(lines), None


def _pause(db: Database, group: Group, order: Order, now: Micros, hands: _Hands) -> _Answer:
    folder = GroupId(order.argument)
    if groups.get(db, folder) is None:
        return f"There is no group {folder}.", None
    if not groups.set_paused(db, folder, paused=True):
        return f"{folder} is paused already.", None

    async def then() -> None:
        await hands.tell(queue.Paused(folder))

    return f"{folder} is paused: its messages are kept and not answered.", then


def _resume(db: Database, group: Group, order: Order, now: Micros, hands: _Hands) -> _Answer:
    folder = GroupId(order.argument)
    if groups.get(db, folder) is None:
        return f"There is no group {folder}.", None
    resumed = groups.set_paused(db, folder, paused=False)
    if breakers.let_go_on(Tx(db, now), folder, by=hands.by):
        resumed = True
    if not resumed:
        return f"{folder} is neither paused nor held back.", None

    async def then() -> None:
        hands.committed(Done(ok=True, text="", schedules=True))
        await hands.tell(queue.Resumed(folder))
        await hands.tell(queue.Arrived(folder))
        await hands.tell(queue.TaskDue(folder))

    return f"{folder} goes on.", then


def _approve(db: Database, group: Group, order: Order, now: Micros, hands: _Hands) -> _Answer:
    return _decide(db, order, now, hands, approve=True)


def _deny(db: Database, group: Group, order: Order, now: Micros, hands: _Hands) -> _Answer:
    return _decide(db, order, now, hands, approve=False)


def _decide(db: Database, order: Order, now: Micros, hands: _Hands, *, approve: bool) -> _Answer:
    try:
        decided = approvals.decide(
            Tx(db, now, hands.new_id),
            read_code(order.argument),
            approve=approve,
            by=hands.by,
            scaffold=hands.scaffold,
        )
    except approvals.CannotDecide as error:
        return str(error), None

    async def then() -> None:
        hands.committed(decided.done)

    return decided.text, then


def _spell(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


ORDERS: Final[dict[str, Callable[[Database, Group, Order, Micros, _Hands], _Answer]]] = {
    "help": _help,
    "stop": _stop,
    "new": _new,
    "compact": _compact,
    "status": _status,
    "tasks": _tasks,
    "usage": _usage,
    "model": _model,
    "groups": _groups,
    "pause": _pause,
    "resume": _resume,
    "approve": _approve,
    "deny": _deny,
}
