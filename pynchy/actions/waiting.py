"""Commands that are answered later: questions to people, and work for a helper agent.

Procedure. Each act does its part now and says what its answer waits for; `later` gives it. Both stand in rows of
their own, so the audit has none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pynchy.actions.actor import Actor
from pynchy.actions.call import Call, Done
from pynchy.actions.effects import Awaits, Delegated, Effects
from pynchy.actions.messages import agent_of, author
from pynchy.actions.refused import Refused
from pynchy.limits import HELPERS
from pynchy.model import TurnId
from pynchy.store import delegates, outbox, questions
from pynchy.store.database import Tx
from pynchy.text.reply import clean_reply
from pynchy.text.splitting import split_reply

#: What a call is told that was asked again after a crash, and one that waited in vain.
ASKED: Final = (
    "asked; nobody has answered yet. You will be woken with the answer, whenever it comes:"
    " end your turn, without asking again"
)


def ask_user(
    tx: Tx, actor: Actor, question: str, options: Sequence[str] = ()
) -> tuple[Awaits, Effects]:
    """Ask people in the actor's chat. The answer comes later, to the call or as a new turn."""
    asked = clean_reply(question)
    if asked is None:
        raise Refused("nothing is left of the question without what is internal; it was not asked")
    choices = [" ".join((clean_reply(each) or "").split()) for each in options]
    if "" in choices or len({each.casefold() for each in choices}) < len(choices):
        raise Refused("the options must be different texts for the chat, none of them empty")
    lines = [f"{number}. {option}" for number, option in enumerate(choices, start=1)]
    pieces = split_reply("\n".join([asked, *lines]))
    caller = agent_of(actor)
    entries = outbox.enqueue(tx, author(tx, caller, says=len(pieces)), pieces)
    id = questions.ask(tx, caller, asked, choices, entry=entries[-1])
    return Awaits("answer", id), Effects(speaks=True)


def delegate(tx: Tx, actor: Actor, prompt: str, *, waits: bool) -> tuple[TurnId, Effects]:
    """Give work to a helper, which begins as soon as a slot is free; ``waits``: the actor's turn waits for it."""
    caller = agent_of(actor)
    if caller.depth and not waits:
        raise Refused("a helper cannot be woken later; wait for the answer")
    if caller.depth >= HELPERS.depth:
        raise Refused("a helper's helper has no helpers of its own; do it yourself")
    if delegates.at_work(tx, caller.folder) >= HELPERS.group:
        raise Refused(f"{HELPERS.group} helpers are at work already; wait for one")
    turn = delegates.ask(tx, caller, prompt, waits=waits)
    above = caller.turn if caller.depth else None
    return turn, Effects(delegated=(Delegated(caller.folder, turn, above, waits),))


# --- the commands of agents ----------------------------------------------------------------------


def _ask_user(call: Call) -> Done:
    options = call.args.get("options", ())
    awaits, effects = ask_user(call.tx, call.actor, call.args["question"], options)
    return Done.now(ASKED, effects, awaits)


def _delegate(call: Call) -> Done:
    waits = call.args.get("wait", True)
    if not waits and not call.host.bounds.background:
        raise Refused("there are too few slots for helpers that you do not wait for; wait for it")
    turn, effects = delegate(call.tx, call.actor, call.args["prompt"], waits=waits)
    awaits = Awaits("delegate", str(turn)) if waits else None
    return Done.now(
        f"helper {turn} has the work; you will be woken with its answer", effects, awaits
    )


HANDLERS: Final[Mapping[str, Callable[[Call], Done]]] = {
    "ask_user": _ask_user,
    "delegate": _delegate,
}
