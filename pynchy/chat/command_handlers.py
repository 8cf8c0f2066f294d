"""Carry out the commands that people type in a chat: one function for each.

Procedure. Each is called in the transaction that stores the command's message, so it takes effect exactly once, is
answered exactly once, and a crash leaves either all of it or nothing. What follows after the commit is returned.

The rule that keeps it so: what a command does is an act, the same whoever asks for it; here are the words.
No command waits for anything, and every one is answered with one line or more in its chat.
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


@attrs.frozen
class Context:
    """Who gave a command, in which group, and with which argument."""

    actor: Actor
    group: Group
    argument: str
    scaffold: Scaffold
    costs: usage.Terms

    def bill(self, tx: Tx) -> usage.Bill:
        """What the group pays."""
        return usage.bill(tx, self.actor, self.group, self.costs)


def carry_out(
    tx: Tx,
    asked: Asked,
    /,
    *,
    scaffold: Scaffold = no_folders,
    costs: usage.Terms = usage.NO_TERMS,
) -> Effects:
    """Do what was asked, answer it in its chat, and say what follows after the commit."""
    text, effects = asked.refusal, NOTHING
    if text is None:
        actor = actor_of(asked.message, asked.group)
        context = Context(actor, asked.group, asked.command.argument, scaffold, costs)
        try:
            with tx.undone_if_raised():
                text, effects = HANDLERS[asked.command.name](tx, context)
        except Refused as error:
            text = _sentence(error, context)
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


def _sentence(error: Refused, context: Context) -> str:
    if error.code == "unknown_group":
        return f"There is no group {context.argument}."
    text = str(error)
    return text if text.endswith(".") else f"{text[:1].upper()}{text[1:]}."


_Answer = tuple[str, Effects]


def _help(tx: Tx, context: Context) -> _Answer:
    return help_text(context.group), NOTHING


def _stop(tx: Tx, context: Context) -> _Answer:
    ended, effects = groups.stop(tx, context.actor, context.group.folder)
    if ended.turns:
        text = "Stopped."
    elif ended.questions:
        text = "Stopped. I no longer wait for an answer."
    elif ended.agent:
        text = "I was not answering anything; what was still running is stopped."
    else:
        text = "There is nothing to stop."
    return text, effects


def _new(tx: Tx, context: Context) -> _Answer:
    effects = groups.begin_anew(tx, context.actor, context.group.folder)
    return "A new conversation begins. Files and memory stay.", effects


def _compact(tx: Tx, context: Context) -> _Answer:
    effects = groups.compact(tx, context.actor, context.group.folder)
    return (
        "I am shortening our conversation." if effects else "There is no conversation yet.",
        effects,
    )


def _status(tx: Tx, context: Context) -> _Answer:
    group, now = context.group, tx.now
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
    bill = context.bill(tx)
    lines.append(f"Model: {usage.model_words(bill)}. {_budgets(context, bill)}")
    return " ".join(lines), NOTHING


def _budgets(context: Context, bill: usage.Bill, of: str = "Today") -> str:
    """What may be spent, what is, and what a message costs. Of all groups together main alone is told."""
    said = f"{of}: {usage.budget_words(bill, of_all=False)}."
    if context.group.is_main and bill.of_all.limit is not None:
        said += f" All groups: {usage.budget_words(bill, of_all=True)}."
    return f"{said} A message now costs {usage.message_words(bill)}."


def _tasks(tx: Tx, context: Context) -> _Answer:
    found = tasks.of_group(tx, None if context.group.is_main else context.group.folder)[
        : LISTS.tasks
    ]
    if not found:
        return "Nothing is scheduled.", NOTHING
    lines = [
        f"{within(each.name or each.prompt, 40)}: {each.schedule.kind} {each.schedule.value} ({each.state})"
        for each in found
    ]
    return "\n".join(lines), NOTHING


def _usage(tx: Tx, context: Context) -> _Answer:
    folder = None if context.group.is_main else context.group.folder
    today = usage.total(
        usage.used(tx, context.actor, folder, days=1, timezone=context.costs.timezone)
    )
    said = f"Today: {today.calls} calls, {today.tokens} tokens, ${today.cost / 1e6:.2f}"
    if today.estimated:
        said += f", of which ${today.estimated / 1e6:.2f} is the most it can be"
    here = "This group today" if folder is None else "Budget"
    return f"{said}. {_budgets(context, context.bill(tx), here)}", NOTHING


def _model(tx: Tx, context: Context) -> _Answer:
    if not context.argument:
        bill = context.bill(tx)
        return f"Model: {usage.model_words(bill)}. {_budgets(context, bill)}", NOTHING
    model = None if context.argument == "default" else context.argument
    effects = groups.set_model(tx, context.actor, context.group.folder, model)
    return f"The model from the next conversation on: {context.argument}.", effects


def _groups(tx: Tx, context: Context) -> _Answer:
    lines = []
    held = breakers.held_back(tx)
    for each in rows.list_groups(tx):
        chats = ", ".join(rows.chats_of(tx, each.folder)) or "no chat"
        state = ", paused" * each.paused + ", held back" * (each.folder in held)
        lines.append(f"{each.folder} ({within(each.name)}): {chats}{state}")
    return "\n".join(lines), NOTHING


def _pause(tx: Tx, context: Context) -> _Answer:
    folder = GroupId(context.argument)
    effects = groups.pause(tx, context.actor, folder)
    if not effects:
        return f"{folder} is paused already.", effects
    return f"{folder} is paused: its messages are kept and not answered.", effects


def _resume(tx: Tx, context: Context) -> _Answer:
    folder = GroupId(context.argument)
    effects = groups.resume(tx, context.actor, folder)
    return (
        f"{folder} goes on." if effects else f"{folder} is neither paused nor held back.",
        effects,
    )


def _decide(tx: Tx, context: Context, *, approve: bool) -> _Answer:
    code = read_code(context.argument)
    decided, effects = approvals.decide(
        tx, context.actor, code, approve=approve, scaffold=context.scaffold
    )
    return decided.text, effects


def _spell(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


HANDLERS: Final[dict[str, Callable[[Tx, Context], _Answer]]] = {
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
