"""A run's result, written down: its turns are done, its replies are to be sent, its session is kept.

The rule: all of that is one commit, so a crash leaves all of it or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from pynchy.model import ChatId, GroupId, Outgoing, RunId, TurnId
from pynchy.policy.effect_limits import UNBOUNDED, Bounds
from pynchy.store import breakers, groups, holds, outbox, turns
from pynchy.store.database import Database, Tx
from pynchy.store.rows import read_one, scalars
from pynchy.store.turns import Turn


@attrs.frozen
class Reply:
    """What a run's agent came to: the prompts that this answers, and what is to be said. ``reached``: the model
    has answered, so whatever held the group back is well again."""

    answered: Sequence[str]
    pieces: Sequence[str]
    session: str | None
    reached: bool = False


@attrs.frozen
class Committed:
    """What a result came to. ``superseded``: nothing was written, the run is of an older epoch.
    ``unknown``: prompts it named that were not its to answer. ``taken``: the first of ``outbox``, its try begun.
    ``released``: groups whose work is due again, since the model has answered. ``held``: what it said was left
    out, for the group did too much by itself."""

    turns: tuple[TurnId, ...]
    outbox: tuple[int, ...]
    chat: ChatId | None
    superseded: bool = False
    unknown: tuple[str, ...] = ()
    taken: Outgoing | None = None
    released: tuple[GroupId, ...] = ()
    held: bool = False


def commit(
    tx: Tx, run: RunId, reply: Reply, *, take: ChatId | None = None, bounds: Bounds = UNBOUNDED
) -> Committed:
    """A result: the turns it names are done, its pieces are to be sent, the session is kept; at once.

    No pieces is a success too: the agent had nothing to say. A prompt that is not this run's, or was
    answered or cancelled, is not answered (again). Pieces of a result that names none of its turns are
    the run's afterthought: they go to the chat of its last turn, unless that one was cancelled, and
    are dropped if it names only turns that are not its own any more. Pieces that these turns have said
    already, by a tool, are not said again. What is no answer to a person counts against the ``bounds`` of its
    group, and is left out when it is held back. In the chat ``take`` the first piece's try begins with this, if
    nothing is in front of it.
    """
    row = tx.execute(
        "SELECT runs.kind, folder FROM runs JOIN groups USING (folder) "
        "WHERE runs.id = ? AND groups.epoch = runs.epoch",
        (run,),
    ).fetchone()
    if row is None:
        return Committed((), (), None, superseded=True)
    run_kind, folder = row
    if reply.session is not None:
        groups.set_session(tx, run, reply.session)

    held = {turn.prompt_id: turn for turn in turns.held(tx, run)}
    named = dict.fromkeys(reply.answered)
    done = [held[prompt] for prompt in named if prompt in held]
    speaker = done[-1] if done else None if named else _last_turn(tx, run)

    pieces = reply.pieces if speaker is not None else ()
    is_answer = any(not turn.steps for turn in done)  # a person waits for it
    stop: breakers.Held | None = None
    if pieces and not is_answer and run_kind != "delegate":
        stop = breakers.held(tx, folder, "messages", bounds=bounds)
        pieces = () if stop is not None else pieces
    entries: list[int] = []
    if speaker is not None and pieces:
        if run_kind == "delegate":
            tx.execute(
                "UPDATE turns SET result = ? WHERE id = ?", ("\n\n".join(pieces), speaker.id)
            )
        elif not _was_said(tx, speaker, done, pieces):
            by = outbox.Author(folder, speaker.chat, speaker.id, run, answer=is_answer)
            entries = outbox.enqueue(tx, by, pieces)
    for turn in done:
        turns.end(tx, turn.id, "done")
        if speaker is not None and pieces:
            tx.execute("UPDATE turns SET answered_by = ? WHERE id = ?", (speaker.id, turn.id))
    at_once = entries and speaker is not None and speaker.chat == take
    return Committed(
        turns=tuple(turn.id for turn in done),
        outbox=tuple(entries),
        chat=None if speaker is None else speaker.chat,
        unknown=tuple(prompt for prompt in named if prompt not in held),
        taken=outbox.take(tx, entries[0]) if at_once else None,
        released=tuple(holds.lift_over(tx, folder)) if reply.reached else (),
        held=stop is not None,
    )


def _was_said(tx: Tx, speaker: Turn, done: Sequence[Turn], pieces: Sequence[str]) -> bool:
    """Whether these very words are on their way to the chat already, or there."""
    sql = (
        "SELECT text FROM outbox WHERE turn_id = ? AND chat = ? AND kind = 'text' "
        "AND notice = 0 AND state <> 'failed' ORDER BY id"
    )
    ids = sorted({speaker.id, *(turn.id for turn in done)})
    said = [text for id in ids for text in scalars(tx, _plain, sql, (id, speaker.chat))]
    words = [_plain(piece) for piece in pieces]
    return any(said[at : at + len(words)] == words for at in range(len(said)))


def _plain(text: str) -> str:
    """A text for comparison: how it is spaced is no difference."""
    return " ".join(text.split())


def _last_turn(db: Database, run: RunId) -> Turn | None:
    """The turn that a run had last, for its afterthoughts; None if that one was cancelled."""
    last = "FROM turns WHERE run_id = ? ORDER BY claimed_at DESC, id DESC LIMIT 1"
    turn = read_one(db, Turn, last, (run,))
    return None if turn is None or turn.state == "cancelled" else turn
