"""Run an agent's command: one function for each, in one transaction with the journal.

Procedure. A command takes effect exactly once and is answered always: who asks again is told what
was done, and who uses an id for something else is refused. The rule that keeps it so: what a handler
wrote before it raised `Refused` is undone, and it touches nothing but the database; registering makes
the group's folders, too, before the commit, so that there is no row without them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import attrs

from pynchy.actions import approvals, groups, memory, messages, tasks, usage, waiting
from pynchy.actions.call import HOST, Call, Done, Given, Host
from pynchy.actions.effects import Effects
from pynchy.actions.refused import Refused
from pynchy.limits import GROUPS
from pynchy.model import MINUTE, ChatId
from pynchy.policy import earlier_tools, effect_limits, tools
from pynchy.store import authority, breakers, journal
from pynchy.store import groups as rows
from pynchy.store.connection import TooLong
from pynchy.store.database import Store, Tx

MOST_COMMANDS: Final = GROUPS.commands


def handle(tx: Tx, given: Given, host: Host = HOST) -> Done:
    """Carry a command out, or say what came of it before, or why it is refused.

    One transaction: the effects are there exactly if the answer is in the journal.
    """
    known = journal.answered(tx, given.folder, given.id, given.sha256)
    if isinstance(known, journal.Conflict):
        text = "this command id was used before, for something else"
        return Done(ok=False, text=text, offence="replay")
    if known is not None:
        return Done(ok=known.ok, text=known.text)
    if journal.count(tx, given.folder, seconds=MINUTE) >= MOST_COMMANDS:
        text = f"more than {MOST_COMMANDS} commands within a minute; wait a little"
        return Done(ok=False, text=text, offence="flood")  # not in the journal: it may come again
    given, notes = _read(tx, given)
    done = _carry_out(tx, given, host)
    if notes:
        done = attrs.evolve(done, text=f"{done.text}\nNote: {'; '.join(notes)}.")
    journal.record(tx, given.folder, given.id, given.sha256, ok=done.ok, text=done.text)
    return done


async def search(store: Store, given: Given, host: Host = HOST) -> Given:
    """Look beside the store's calls for what a search wants, before it is handled; other commands as they are."""
    if given.command.name not in memory.SEARCHES:
        return given
    try:
        return await store.read(_search, given, host)
    except TooLong as error:
        text = f"the search was given up: {error}; look for fewer or rarer words"
        return attrs.evolve(given, found=Done(ok=False, text=text))


def _read(tx: Tx, given: Given) -> tuple[Given, list[str]]:
    """The command with its arguments as they are called today, and a group that is named by its chat by its folder."""
    args, notes = earlier_tools.read(given.command.name, given.command.args)
    target = args.get("target_group")
    if isinstance(target, str) and (group := rows.by_chat(tx, ChatId(target))) is not None:
        args = {**args, "target_group": group.folder}
        notes.append(f"the group of that chat is {group.folder}")
    return attrs.evolve(given, command=attrs.evolve(given.command, args=args)), notes


def _search(tx: Tx, asked: Given, host: Host) -> Given:
    given, _ = _read(tx, asked)
    command = given.command
    caller = authority.caller_of(tx, given.folder, given.run)
    if (
        caller is None
        or tools.refusal(caller, command.name) is not None
        or tools.misfit(command.name, command.args) is not None
    ):
        return asked  # `handle` says so
    call = Call(tx, caller, command.args, given.file, host)
    return attrs.evolve(asked, found=ACTS[command.name](call))


def _carry_out(tx: Tx, given: Given, host: Host) -> Done:
    command = given.command
    caller = authority.caller_of(tx, given.folder, given.run)
    if caller is None:
        return Done(ok=False, text="this turn is over; nothing was done")
    if (reason := tools.refusal(caller, command.name)) is not None:
        return Done(ok=False, text=reason, offence="forbidden")
    if (reason := tools.misfit(command.name, command.args)) is not None:
        return Done(ok=False, text=reason, offence="misfit")
    kind = tools.TOOLS[command.name].effect
    if kind is not None:
        held = breakers.held(tx, given.folder, kind, bounds=host.bounds)
        if held is not None:
            text = effect_limits.refusal(held.kind)
            told = Effects(speaks=held.told)
            return Done(ok=False, text=text, effects=told, offence="too much", fresh=held.told)
    if given.found is not None:
        return given.found
    call = Call(tx, caller, command.args, given.file, host)
    try:
        with tx.undone_if_raised():
            if tools.asks(caller, command.name, command.args):
                return approvals.ask(call, command.name)
            return ACTS[command.name](call)
    except Refused as error:
        where = "; list_groups shows them" if error.code == "unknown_group" else ""
        return Done(ok=False, text=f"{error}{where}")


ACTS: Final[Mapping[str, Callable[[Call], Done]]] = {
    **messages.HANDLERS,
    **tasks.HANDLERS,
    **memory.HANDLERS,
    **groups.HANDLERS,
    **waiting.HANDLERS,
    **usage.HANDLERS,
}
