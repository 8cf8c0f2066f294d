"""Run an agent's command: one function for each, in one transaction with the journal.

Procedure. A command takes effect exactly once and is answered always: who asks again is told what
was done, and who uses an id for something else is refused. The rule that keeps it so: what a handler
wrote before it raised `Refused` is undone, and it touches nothing but the database; registering makes
the group's folders, too, before the commit, so that there is no row without them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from pynchy.actions import approvals, groups, memory, tasks, usage, waiting
from pynchy.actions.call import HOST, Call, Done, Given, Host
from pynchy.actions.effects import Effects
from pynchy.actions.refused import Refused
from pynchy.actions.waiting import author
from pynchy.limits import GROUPS
from pynchy.model import MINUTE, Staged, Unfit
from pynchy.policy import effect_limits, tools
from pynchy.store import authority, breakers, journal, outbox
from pynchy.store.database import Tx
from pynchy.text.names import clean_name
from pynchy.text.reply import clean_reply
from pynchy.text.splitting import is_one_grapheme, split_reply

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
    if authority.count_commands(tx, given.folder, seconds=MINUTE) >= MOST_COMMANDS:
        text = f"more than {MOST_COMMANDS} commands within a minute; wait a little"
        return Done(ok=False, text=text, offence="flood")  # not in the journal: it may come again
    done = _carry_out(tx, given, host)
    journal.record(tx, given.folder, given.id, given.sha256, ok=done.ok, text=done.text)
    return done


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
    call = Call(tx, caller, command.args, given.file, host)
    try:
        with tx.undone_if_raised():
            if tools.asks(caller, command.name, command.args):
                return approvals.ask(call, command.name)
            return ACTS[command.name](call)
    except Refused as error:
        where = "; list_groups shows them" if error.code == "unknown_group" else ""
        return Done(ok=False, text=f"{error}{where}")


# --- in the chat ---------------------------------------------------------------------------------


def _send_message(call: Call) -> Done:
    text = clean_reply(call.args["text"])
    if text is None:
        raise Refused("nothing of the text is for the chat; nothing was sent")
    if (sender := clean_name(call.args.get("sender", ""), fallback="")) != "":
        text = f"*{sender}:* {text}"
    quotes = call.args.get("reply_to")
    if quotes is not None and not authority.has_message(call.tx, call.caller.chat, quotes):
        raise Refused("there is no message of that id in this chat; nothing was sent")
    pieces = split_reply(text)
    outbox.enqueue(call.tx, author(call, says=len(pieces)), pieces, quotes=quotes)
    parts = "" if len(pieces) == 1 else f", in {len(pieces)} parts"
    return Done.now(f"sent to the chat{parts}", Effects(speaks=True))


def _send_file(call: Call) -> Done:
    match call.file:
        case Staged(path, name, size):
            caption = clean_reply(call.args.get("caption", "")) or ""
            outbox.send_file(call.tx, author(call), path, caption=caption)
            text = f"{name} ({size} bytes) was sent to the chat"
            return Done.now(text, Effects(speaks=True))
        case Unfit(reason):
            raise Refused(f"the file was not sent: {reason}")
        case None:
            raise Refused("the file was not sent: files cannot be sent from here")


def _react(call: Call) -> Done:
    emoji = clean_reply(call.args["emoji"])
    if emoji is None or not is_one_grapheme(emoji) or emoji.isalnum():
        raise Refused("a reaction is one emoji")
    target = call.args.get("message_id")
    if target is None:
        target = authority.last_asked(call.tx, call.caller.turn)
        if target is None:
            raise Refused("there is no message to react to; name one by its message_id")
    elif not authority.has_message(call.tx, call.caller.chat, target):
        raise Refused("there is no message of that id in this chat")
    outbox.react(call.tx, author(call), emoji, to=target)
    return Done.now(f"reacted with {emoji}", Effects(speaks=True))


ACTS: Final[Mapping[str, Callable[[Call], Done]]] = {
    "send_message": _send_message,
    "send_file": _send_file,
    "react": _react,
    **tasks.HANDLERS,
    **memory.HANDLERS,
    **groups.HANDLERS,
    **waiting.HANDLERS,
    **usage.HANDLERS,
}
