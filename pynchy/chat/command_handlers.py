"""Carry out the commands that people type in a chat: one function for each.

Procedure. Each is called in the transaction that stores the order's message, so an order takes effect exactly once,
answers exactly once, and a crash leaves either all of it or nothing. What follows after the commit is returned.

The rule that keeps it so: what an order does is an act, the same by whatever door it is asked for; here are the words.
No order waits for anything, and every one is answered with one line or more in its chat.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import attrs

from pynchy.actions import approvals, groups, usage
from pynchy.actions.actor import Actor
from pynchy.actions.call import Scaffold, no_folders
from pynchy.actions.effects import NOTHING, Effects
from pynchy.actions.refused import Refused
from pynchy.chat.commands import help_text
from pynchy.chat.receiver import Asked
from pynchy.limits import LISTS
from pynchy.model import DAY, Group, GroupId, Message, after
from pynchy.policy import failures
from pynchy.policy.requests import read_code
from pynchy.store import breakers, holds, messages, notices, runs, tasks, turns
from pynchy.store import groups as rows
from pynchy.store.database import Tx
from pynchy.text.reply import NOTICE_PREFIX, within
from pynchy.text.triggers import is_owner

MOST_TASKS: Final = LISTS.tasks


@attrs.frozen
class Order:
    """What somebody ordered in a chat, and who they are."""

    actor: Actor
    group: Group
    argument: str
    scaffold: Scaffold
    timezone: str


def carry_out(
    tx: Tx, asked: Asked, /, *, scaffold: Scaffold = no_folders, timezone: str = "UTC"
) -> Effects:
    """Do what was ordered, answer it in its chat, and say what follows after the commit."""
    text, effects = asked.refusal, NOTHING
    if text is None:
        actor = actor_of(asked.message, asked.group)
        order = Order(actor, asked.group, asked.order.argument, scaffold, timezone)
        try:
            with tx.undone_if_raised():
                text, effects = ORDERS[asked.order.name](tx, order)
        except Refused as error:
            text = _sentence(error, order)
    notices.tell(tx, asked.message.chat, f"{NOTICE_PREFIX}{text}")
    return effects


def actor_of(message: Message, group: Group) -> Actor:
    """Who speaks: the owner, or a person, whom the group's owner may have named."""
    own = is_owner(message)
    named = group.allowed_senders is not None and message.sender in group.allowed_senders
    return Actor(
        "owner" if own else "person",
        "owner" if own else message.sender,
        folder=group.folder,
        is_main=group.is_main,
        trusted=own or named,
        chat=message.chat,
    )


def _sentence(error: Refused, order: Order) -> str:
    if error.code == "unknown_group":
        return f"There is no group {order.argument}."
    text = str(error)
    return text if text.endswith(".") else f"{text[:1].upper()}{text[1:]}."


_Answer = tuple[str, Effects]


def _help(tx: Tx, order: Order) -> _Answer:
    return help_text(order.group), NOTHING


def _stop(tx: Tx, order: Order) -> _Answer:
    ended, effects = groups.stop(tx, order.actor, order.group.folder)
    if ended.turns:
        text = "Stopped."
    elif ended.questions:
        text = "Stopped: I wait for no answer any more."
    elif ended.agent:
        text = "I was working on nothing; what I still had running is ended."
    else:
        text = "There is nothing to stop."
    return text, effects


def _new(tx: Tx, order: Order) -> _Answer:
    effects = groups.begin_anew(tx, order.actor, order.group.folder)
    return "A new conversation begins. Files and memory stay.", effects


def _compact(tx: Tx, order: Order) -> _Answer:
    effects = groups.compact(tx, order.actor, order.group.folder)
    return "I shorten our conversation." if effects else "There is no conversation yet.", effects


def _status(tx: Tx, order: Order) -> _Answer:
    group, now = order.group, tx.now
    live = runs.live(tx, group.folder)
    owed = sum(len(turns.held(tx, run.id)) for run in live)
    lines = [f"Working on {owed} request{'s' * (owed != 1)}." if owed else "Idle."]
    if live:
        lines.append(f"Container up for {_spell((now - live[0].started_at) / 1e6)}.")
    retry = messages.next_retry(tx, group.folder)
    held = holds.closed(holds.over(tx, group.folder), now=now)
    if retry is not None and held is not None:
        words = failures.row_of(held.kind).status
        lines.append(f"A request waits: {words}.")
    if retry is not None and now < retry < after(now, 2 * DAY):
        lines.append(f"It is tried again in {_spell((retry - now) / 1e6)}.")
    lines.append("A conversation is under way." if group.session else "No conversation yet.")
    return " ".join(lines), NOTHING


def _tasks(tx: Tx, order: Order) -> _Answer:
    found = tasks.of_group(tx, None if order.group.is_main else order.group.folder)[:MOST_TASKS]
    if not found:
        return "Nothing is scheduled.", NOTHING
    lines = [
        f"{within(each.name or each.prompt, 40)}: {each.schedule.kind} {each.schedule.value} ({each.state})"
        for each in found
    ]
    return "\n".join(lines), NOTHING


def _usage(tx: Tx, order: Order) -> _Answer:
    folder = None if order.group.is_main else order.group.folder
    today = usage.total(usage.used(tx, order.actor, folder, days=1, timezone=order.timezone))
    said = f"Today: {today.calls} calls, {today.tokens} tokens, ${today.cost / 1e6:.2f}"
    if today.estimated:
        said += f", of which ${today.estimated / 1e6:.2f} is the most it can be"
    return f"{said}.", NOTHING


def _model(tx: Tx, order: Order) -> _Answer:
    if not order.argument:
        return f"Model: {order.group.model or 'the default'}.", NOTHING
    model = None if order.argument == "default" else order.argument
    effects = groups.set_model(tx, order.actor, order.group.folder, model)
    return f"From the next conversation start on: {order.argument}.", effects


def _groups(tx: Tx, order: Order) -> _Answer:
    lines = []
    held = breakers.held_back(tx)
    for each in rows.list_groups(tx):
        chats = ", ".join(rows.chats_of(tx, each.folder)) or "no chat"
        state = ", paused" * each.paused + ", held back" * (each.folder in held)
        lines.append(f"{each.folder} ({within(each.name)}): {chats}{state}")
    return "\n".join(lines), NOTHING


def _pause(tx: Tx, order: Order) -> _Answer:
    folder = GroupId(order.argument)
    effects = groups.pause(tx, order.actor, folder)
    if not effects:
        return f"{folder} is paused already.", effects
    return f"{folder} is paused: its messages are kept and not answered.", effects


def _resume(tx: Tx, order: Order) -> _Answer:
    folder = GroupId(order.argument)
    effects = groups.resume(tx, order.actor, folder)
    return (
        f"{folder} goes on." if effects else f"{folder} is neither paused nor held back.",
        effects,
    )


def _decide(tx: Tx, order: Order, *, approve: bool) -> _Answer:
    code = read_code(order.argument)
    decided, effects = approvals.decide(
        tx, order.actor, code, approve=approve, scaffold=order.scaffold
    )
    return decided.text, effects


def _spell(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


ORDERS: Final[dict[str, Callable[[Tx, Order], _Answer]]] = {
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
    "approve": partial(_decide, approve=True),
    "deny": partial(_decide, approve=False),
}
