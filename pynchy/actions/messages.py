"""What an agent says in its chat: messages, files and reactions.

Procedure. What is said stands in the outbox with the turn that said it, which is record enough: the audit has no row
of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from pynchy.actions.actor import Actor
from pynchy.actions.call import Call, Done
from pynchy.actions.effects import Effects
from pynchy.actions.refused import Refused
from pynchy.limits import ANSWERS
from pynchy.model import Staged, Unfit
from pynchy.policy.tools import Caller
from pynchy.store import messages, outbox
from pynchy.store.database import Database, Tx
from pynchy.text.names import clean_name
from pynchy.text.reply import clean_reply
from pynchy.text.splitting import is_one_grapheme, split_reply

MOST_SAID: Final = ANSWERS.extra

_SPEAKS: Final = Effects(speaks=True)


def send(
    tx: Tx, actor: Actor, text: str, *, voice: str = "", quotes: str | None = None
) -> tuple[int, Effects]:
    """Say a text in the actor's chat, under the name of a ``voice`` if one is given; in how many parts."""
    cleaned = clean_reply(text)
    if cleaned is None:
        raise Refused("nothing is left of the text without what is internal; nothing was sent")
    if (name := clean_name(voice, fallback="")) != "":
        cleaned = f"*{name}:* {cleaned}"
    caller = agent_of(actor)
    if quotes is not None:
        _check_message(tx, caller, quotes)
    pieces = split_reply(cleaned)
    outbox.enqueue(tx, author(tx, caller, says=len(pieces)), pieces, quotes=quotes)
    return len(pieces), _SPEAKS


def send_file(tx: Tx, actor: Actor, file: Staged, caption: str = "") -> Effects:
    """Send the copy of a file to the actor's chat."""
    by = author(tx, agent_of(actor))
    outbox.send_file(tx, by, file.path, caption=clean_reply(caption) or "")
    return _SPEAKS


def react(tx: Tx, actor: Actor, emoji: str, to: str | None = None) -> Effects:
    """React to a message of the actor's chat: to the last one that its turn answers, if none is named."""
    cleaned = clean_reply(emoji)
    if cleaned is None or not is_one_grapheme(cleaned) or cleaned.isalnum():
        raise Refused("a reaction is one emoji")
    caller = agent_of(actor)
    target = to or messages.last_asked(tx, caller.turn)
    if target is None:
        raise Refused("there is no message to react to; name one by its message_id")
    if to is not None:
        _check_message(tx, caller, to)
    outbox.react(tx, author(tx, caller), cleaned, to=target)
    return _SPEAKS


def agent_of(actor: Actor) -> Caller:
    """The agent that acts. Raises `Refused` for anybody else."""
    if actor.caller is None:
        raise Refused("that is for agents, in their turn")
    return actor.caller


def author(tx: Tx, caller: Caller, *, says: int = 1) -> outbox.Author:
    """The author of what an agent says in its chat. Raises `Refused` if its turn has said enough."""
    if outbox.count_said(tx, caller.turn) + says > MOST_SAID:
        raise Refused(f"this turn has said {MOST_SAID} things; say the rest in your answer")
    return outbox.Author(caller.folder, caller.chat, caller.turn, caller.run)


def _check_message(db: Database, caller: Caller, id: str) -> None:
    if not messages.is_in(db, caller.chat, id):
        raise Refused("there is no message of that id in this chat; nothing was sent")


# --- the commands of agents ----------------------------------------------------------------------


def _send_message(call: Call) -> Done:
    voice, quotes = call.args.get("sender", ""), call.args.get("reply_to")
    parts, effects = send(call.tx, call.actor, call.args["text"], voice=voice, quotes=quotes)
    return Done.now("sent to the chat" + f", in {parts} parts" * (parts > 1), effects)


def _send_file(call: Call) -> Done:
    match call.file:
        case Staged(name=name, size=size) as file:
            effects = send_file(call.tx, call.actor, file, call.args.get("caption", ""))
            return Done.now(f"{name} ({size} bytes) was sent to the chat", effects)
        case Unfit(reason):
            raise Refused(f"the file was not sent: {reason}")
        case None:
            raise Refused("the file was not sent: files cannot be sent from here")


def _react(call: Call) -> Done:
    emoji = call.args["emoji"]
    effects = react(call.tx, call.actor, emoji, call.args.get("message_id"))
    return Done.now(f"reacted with {clean_reply(emoji)}", effects)


HANDLERS: Final[Mapping[str, Callable[[Call], Done]]] = {
    "send_message": _send_message,
    "send_file": _send_file,
    "react": _react,
}
