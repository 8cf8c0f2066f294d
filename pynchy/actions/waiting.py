"""Commands that are answered later: questions to people, and work for a helper agent.

Procedure: the handlers of one subject. Each does its part now and says in `Done.awaits` what its answer
waits for; `later` gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from pynchy.actions.call import Call, Done
from pynchy.actions.effects import Awaits, Delegated, Effects
from pynchy.actions.refused import Refused
from pynchy.limits import ANSWERS, HELPERS
from pynchy.store import authority, delegates, outbox, questions
from pynchy.text.reply import clean_reply
from pynchy.text.splitting import split_reply

#: What a call is told that was asked again after a crash, and one that waited in vain.
ASKED: Final = (
    "asked; nobody has answered yet. You will be woken with the answer, whenever it comes:"
    " end your turn, without asking again"
)
MOST_SAID: Final = ANSWERS.extra


def author(call: Call, *, says: int = 1) -> outbox.Author:
    """The author of what a call says in its chat. Raises `Refused` if its turn has said enough."""
    caller = call.caller
    if authority.count_said(call.tx, caller.turn) + says > MOST_SAID:
        raise Refused(f"this turn has said {MOST_SAID} things; say the rest in your answer")
    return outbox.Author(caller.folder, caller.chat, caller.turn, caller.run)


def _ask_user(call: Call) -> Done:
    question = clean_reply(call.args["question"])
    if question is None:
        raise Refused("nothing of the question is for the chat; it was not asked")
    options = [" ".join((clean_reply(each) or "").split()) for each in call.args.get("options", [])]
    if "" in options or len({each.casefold() for each in options}) < len(options):
        raise Refused("the options must be different texts for the chat, none of them empty")
    lines = [f"{number}. {option}" for number, option in enumerate(options, start=1)]
    pieces = split_reply("\n".join([question, *lines]))
    entries = outbox.enqueue(call.tx, author(call, says=len(pieces)), pieces)
    id = questions.ask(call.tx, call.caller, question, options, entry=entries[-1])
    return Done.now(ASKED, Effects(speaks=True), Awaits("answer", id))


def _delegate(call: Call) -> Done:
    waits = call.args.get("wait", True)
    caller = call.caller
    if caller.depth and not waits:
        raise Refused("a helper is not woken again; wait for its helpers")
    if not waits and not call.host.bounds.background:
        raise Refused("there are too few slots for helpers that you do not wait for; wait for it")
    if caller.depth >= HELPERS.depth:
        raise Refused("a helper's helper has no helpers of its own; do it yourself")
    if delegates.at_work(call.tx, caller.folder) >= HELPERS.group:
        raise Refused(f"{HELPERS.group} helpers are at work already; wait for one")
    turn = delegates.ask(call.tx, caller, call.args["prompt"], waits=waits)
    above = caller.turn if caller.depth else None
    return Done.now(
        f"helper {turn} has the work; you will be woken with its answer",
        Effects(delegated=(Delegated(caller.folder, turn, above, waits),)),
        Awaits("delegate", str(turn)) if waits else None,
    )


HANDLERS: Final[Mapping[str, Callable[[Call], Done]]] = {
    "ask_user": _ask_user,
    "delegate": _delegate,
}
