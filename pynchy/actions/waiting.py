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
from pynchy.limits import ANSWERS
from pynchy.store import authority, delegates, outbox, questions
from pynchy.text.reply import clean_reply
from pynchy.text.splitting import split_reply

#: What a call is told that was asked again after a crash, and one that waited in vain.
ASKED: Final = (
    "asked; nobody has answered yet. You will be woken with the answer, whenever it comes:"
    " end your turn, without asking again"
)
MOST_SAID: Final = ANSWERS.extra


def _ask_user(call: Call) -> Done:
    question = clean_reply(call.args["question"])
    if question is None:
        raise Refused("nothing of the question is for the chat; it was not asked")
    options = [" ".join((clean_reply(each) or "").split()) for each in call.args.get("options", [])]
    if "" in options or len({each.casefold() for each in options}) < len(options):
        raise Refused("the options must be different texts for the chat, none of them empty")
    lines = [f"{number}. {option}" for number, option in enumerate(options, start=1)]
    pieces = split_reply("\n".join([question, *lines]))
    caller = call.caller
    if authority.count_said(call.tx, caller.turn) + len(pieces) > MOST_SAID:
        raise Refused(f"this turn has said {MOST_SAID} things; ask in your answer")
    entries = outbox.enqueue(
        call.tx,
        folder=caller.folder,
        chat=caller.chat,
        texts=pieces,
        turn=caller.turn,
        run=caller.run,
    )
    id = call.tx.new_id()
    questions.ask(
        call.tx,
        id=id,
        folder=caller.folder,
        chat=caller.chat,
        run=caller.run,
        turn=caller.turn,
        entry=entries[-1],
        question=question,
        options=options,
    )
    return Done.now(ASKED, Effects(speaks=True), Awaits("answer", id))


def _delegate(call: Call) -> Done:
    waits = call.args.get("wait", True)
    caller = call.caller
    if caller.depth and not waits:
        raise Refused("a helper is not woken again; wait for its helpers")
    if not waits and not call.host.bounds.background:
        raise Refused("there are too few slots for helpers that you do not wait for; wait for it")
    try:
        turn = delegates.ask(
            call.tx,
            folder=caller.folder,
            chat=caller.chat,
            parent=caller.turn,
            run=caller.run,
            prompt=call.args["prompt"],
            waits=waits,
        )
    except delegates.TooMany as error:
        raise Refused(str(error)) from None
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
