"""The outbox: messages to be sent, durable and in order.

The rule: an entry is over only when the channel has confirmed it (`sent`), or when it was given up and people were
told (`failed`). Its message id is chosen before the first try and never changes, so that a repeated try shows people
no second message. In each chat the oldest open entry is sent first, one at a time.

    pending -> sending -> sent
    sending -> pending     refused, tried again later
    sending -> uncertain   no answer from the channel, or we died: tried again under the same id
    pending, uncertain -> failed   refused for good, too often, or a day old
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs

from pynchy.limits import SENDING
from pynchy.model import MAIN, ChatId, GroupId, Micros, Outgoing, RunId, TurnId, after
from pynchy.policy import retries
from pynchy.policy.effect_limits import Kind
from pynchy.store import cooldown, effect_counts, groups, inbox_notices, search
from pynchy.store.database import Database, Tx
from pynchy.store.rows import columns, number, parts, read_one, scalar, scalars, to_value
from pynchy.text.reply import notice as in_the_hosts_name


@attrs.frozen
class Author:
    """Who says something, and where. With a ``turn`` it is output of that turn, which is then never replayed.

    ``notice``: it is the host's word and not the agent's. ``answer``: it is what a person asked for.
    """

    folder: GroupId
    chat: ChatId
    turn: TurnId | None = None
    run: RunId | None = None
    notice: bool = False
    answer: bool = False


@attrs.frozen
class Head:
    """The oldest open entry of a chat, due now. ``uncertain``: it may have been sent already.
    ``attempt`` counts the tries before this one."""

    out: Outgoing = attrs.field(metadata=parts(Outgoing))
    uncertain: bool
    attempt: int


@attrs.frozen
class Failed:
    """An entry that was given up. The agent has been told, unless it was a notice; main too, once for
    each chat in a while."""

    id: int
    chat: ChatId
    reason: str


_OPEN: Final = "sent_at IS NULL AND failed_at IS NULL"

QUOTED: Final = 1_000  # characters of a quoted message

#: Entries as `Head` and `Outgoing` have them. Phones know an edited message by its first id.
_OUT: Final = f"""
    FROM (SELECT outbox.id, outbox.chat, outbox.message_id, outbox.kind, outbox.text, path,
        coalesce(aim.edits, target) AS target, plain, turn_id AS turn, aim.sender AS target_sender,
        substr(coalesce(aim.text, ''), 1, {QUOTED}) AS target_text, state = 'uncertain' AS uncertain, attempt
    FROM outbox LEFT JOIN inbox AS aim ON aim.seq = (
        SELECT seq FROM inbox INDEXED BY inbox_message
        WHERE inbox.message_id = outbox.target AND inbox.chat = outbox.chat LIMIT 1)
"""

#: The first open entry of each chat, by hopping over the index: the cost is in chats with something
#: to send, not in entries.
_HEADS: Final = f"""
    WITH RECURSIVE
    waiting (chat) AS (
        SELECT min(chat) FROM outbox WHERE {_OPEN}
        UNION ALL
        SELECT (SELECT min(chat) FROM outbox WHERE {_OPEN} AND chat > waiting.chat)
        FROM waiting WHERE waiting.chat IS NOT NULL
    ),
    heads (id) AS (
        SELECT (SELECT min(id) FROM outbox WHERE {_OPEN} AND outbox.chat = waiting.chat)
        FROM waiting WHERE waiting.chat IS NOT NULL
    )
"""


def enqueue(tx: Tx, by: Author, texts: Sequence[str], *, quotes: str | None = None) -> list[int]:
    """Put texts, in order, at the end of a chat's list; the first one quotes.

    A notice gets the host's mark, where it has none, and no second one. What a turn says is counted as an
    effect of the group, unless it is the answer to a person.
    """
    if by.notice:
        texts = [in_the_hosts_name(text) for text in texts]
    else:
        _count(tx, by, "messages", many=max(1, len(texts)))
    ids = []
    for text in texts:
        ids.append(_add(tx, by, "text", text, target=quotes))
        search.put(tx, "outbox_fts", ids[-1], text, by.folder)
        quotes = None
    return ids


def send_file(
    tx: Tx, by: Author, path: str, *, caption: str = "", quotes: str | None = None
) -> int:
    """Put a file at the end of a chat's list."""
    _count(tx, by, "files")
    return _add(tx, by, "file", caption, path=path, target=quotes)


def react(tx: Tx, by: Author, emoji: str, *, to: str) -> int:
    """Put a reaction to a message at the end of a chat's list."""
    _count(tx, by, "messages")
    return _add(tx, by, "reaction", emoji, target=to)


def _count(tx: Tx, by: Author, kind: Kind, *, many: int = 1) -> None:
    if by.turn is not None and not by.notice and not by.answer:
        effect_counts.count(tx, by.folder, kind, many=many)


def _add(
    tx: Tx, by: Author, kind: str, text: str, *, path: str | None = None, target: str | None = None
) -> int:
    next_of_turn = "SELECT max(ord) + 1 FROM outbox WHERE turn_id = ?"
    return tx.insert(
        "outbox",
        folder=by.folder,
        chat=by.chat,
        turn_id=by.turn,
        run_id=by.run,
        ord=None if by.turn is None else number(tx, next_of_turn, (by.turn,)),
        message_id=tx.new_id(),
        kind=kind,
        text=text,
        path=path,
        target=target,
        notice=by.notice,
        state="pending",
        next_at=tx.now,
        created_at=tx.now,
    )


def heads(tx: Tx) -> list[Head]:
    """What may be sent now: the first entry of each chat, where it is due and none is in flight."""
    due = "WHERE outbox.id IN (SELECT id FROM heads) AND state <> 'sending' AND next_at <= ?"
    rows = tx.execute(f"{_HEADS} SELECT {columns(Head)} {_OUT} {due}) ORDER BY id", (tx.now,))
    return [to_value(Head, row) for row in rows]


def next_due(tx: Tx) -> Micros | None:
    """When the next entry falls due that waits for a later try, or for the end of its day."""
    later = scalar(
        tx,
        Micros,
        f"{_HEADS} SELECT min(next_at) FROM outbox "
        "WHERE id IN (SELECT id FROM heads) AND state <> 'sending' AND next_at > ?",
        (tx.now,),
    )
    oldest = scalar(
        tx,
        Micros,
        f"SELECT min(created_at) FROM outbox INDEXED BY outbox_age WHERE {_OPEN} "
        "AND state <> 'sending'",
    )
    moments = [] if later is None else [later]
    if oldest is not None:
        moments.append(max(tx.now, after(oldest, SENDING.expiry)))
    return min(moments, default=None)


def take(tx: Tx, entry: int) -> Outgoing | None:
    """Begin a try. None if it is not at the head of its chat, not due, or another is in flight."""
    taken = tx.execute(
        "UPDATE outbox SET state = 'sending', attempt = attempt + 1, tried_at = ?2 WHERE id = ?1 "
        "AND state IN ('pending', 'uncertain') AND next_at <= ?2 AND NOT EXISTS ("
        "  SELECT 1 FROM outbox AS earlier WHERE earlier.chat = outbox.chat "
        "  AND earlier.id < outbox.id AND earlier.sent_at IS NULL AND earlier.failed_at IS NULL)",
        (entry, tx.now),
    )
    if not taken.rowcount:
        return None
    return read_one(tx, Outgoing, f"{_OUT} WHERE outbox.id = ?)", (entry,))


def sent(tx: Tx, entry: int) -> bool:
    """The channel has it: by its acknowledgement, or because it says so when asked after doubt."""
    changed = tx.execute(
        "UPDATE outbox SET state = 'sent', sent_at = ?, error = NULL "
        "WHERE id = ? AND state IN ('sending', 'uncertain')",
        (tx.now, entry),
    )
    return changed.rowcount == 1


def refused(tx: Tx, entry: int, *, reason: str, permanent: bool, jitter: float) -> Failed | None:
    """The channel did not take it. It is tried again later, after some tries as plain text, and given
    up when refused for good or too often: what was given up is returned."""
    row = tx.execute(
        "SELECT attempt, kind, plain, created_at FROM outbox WHERE id = ? AND state = 'sending'",
        (entry,),
    ).fetchone()
    if row is None:
        return None
    attempt, kind, plain, created_at = row
    if permanent and kind == "text" and not plain:
        # The formatting may be what is refused. One more try without it, at once.
        tx.execute(
            "UPDATE outbox SET state = 'pending', plain = 1, next_at = ?, error = ? WHERE id = ?",
            (tx.now, reason, entry),
        )
        return None
    if permanent or attempt >= SENDING.attempts or _is_old(created_at, tx.now):
        return failed(tx, entry, reason=reason)
    tx.execute(
        "UPDATE outbox SET state = 'pending', plain = max(plain, ?), next_at = ?, error = ? "
        "WHERE id = ?",
        (
            attempt >= SENDING.plain and kind == "text",
            retries.send_retry(attempt=attempt, now=tx.now, jitter=jitter),
            reason,
            entry,
        ),
    )
    return None


def uncertain(tx: Tx, entry: int, *, reason: str, jitter: float) -> Failed | None:
    """No word from the channel: it may or may not have been sent. Tried again under its id, but not
    for ever; what was given up is returned."""
    row = tx.execute(
        "UPDATE outbox SET state = 'uncertain', error = ? WHERE id = ? AND state = 'sending' "
        "RETURNING attempt, created_at",
        (reason, entry),
    ).fetchone()
    if row is None:
        return None
    attempt, created_at = row
    if attempt >= SENDING.uncertain or _is_old(created_at, tx.now):
        return failed(tx, entry, reason=reason)
    next_at = retries.send_retry(attempt=attempt, now=tx.now, jitter=jitter)
    tx.execute("UPDATE outbox SET next_at = ? WHERE id = ?", (next_at, entry))
    return None


def postponed(db: Database, entry: int, *, until: Micros) -> None:
    """Nothing was tried after all (not connected): back as it was, and not counted as a try."""
    db.execute(
        "UPDATE outbox SET state = CASE WHEN error IS NULL AND attempt = 1 THEN 'pending' "
        "ELSE 'uncertain' END, attempt = attempt - 1, next_at = ? "
        "WHERE id = ? AND state = 'sending'",
        (until, entry),
    )


def expire(tx: Tx, *, limit: int = 100) -> list[Failed]:
    """Give up what could not be sent for a day; call it again while it returns anything."""
    rows = tx.execute(
        f"SELECT id FROM outbox INDEXED BY outbox_age WHERE {_OPEN} AND state <> 'sending' "
        "AND created_at <= ? ORDER BY created_at, id LIMIT ?",
        (after(tx.now, -SENDING.expiry), limit),
    ).fetchall()
    found = [failed(tx, row[0], reason="not sent within a day") for row in rows]
    return [each for each in found if each is not None]


def recover(tx: Tx) -> int:
    """At start: what was in flight when we died is uncertain now, and due at once."""
    return tx.execute(
        "UPDATE outbox SET state = 'uncertain', next_at = ?, error = 'interrupted' "
        f"WHERE state = 'sending' AND {_OPEN}",
        (tx.now,),
    ).rowcount


def count_said(db: Database, turn: TurnId) -> int:
    """How many entries a turn has made so far."""
    return number(db, "SELECT count(*) FROM outbox WHERE turn_id = ?", (turn,))


def open_files(db: Database, folder: GroupId) -> set[str]:
    """The paths of files of a group that are still to be sent."""
    sql = f"SELECT path FROM outbox WHERE {_OPEN} AND folder = ? AND path IS NOT NULL"
    return set(scalars(db, str, sql, (folder,)))


def sent_in(db: Database, chat: ChatId, *, limit: int) -> list[dict[str, Any]]:
    """The newest entries that were sent to a chat, the oldest of them first."""
    rows = db.query(
        "SELECT id, turn_id AS turn, message_id, sent_at AS at, kind, text, path FROM outbox "
        "WHERE chat = ? AND sent_at IS NOT NULL ORDER BY id DESC LIMIT ?",
        (chat, limit),
    )
    return list(rows)[::-1]


def open_by_state(db: Database) -> dict[str, int]:
    """How many entries are in each state, of those that were neither sent nor given up."""
    return dict(
        db.execute(f"SELECT state, count(*) FROM outbox WHERE {_OPEN} GROUP BY state").fetchall()
    )


def recent(db: Database, *, limit: int) -> list[dict[str, Any]]:
    """The newest entries first, what is still to be sent before all others; texts cut short."""
    rows = db.query(
        "SELECT id, folder, chat, kind, substr(text, 1, 200) AS text, notice, state, attempt, created_at, "
        "next_at, sent_at, failed_at, error FROM outbox WHERE id IN ("
        f"SELECT * FROM (SELECT id FROM outbox WHERE {_OPEN} ORDER BY id LIMIT ?1) "
        "UNION SELECT * FROM (SELECT id FROM outbox ORDER BY id DESC LIMIT ?1)) "
        f"ORDER BY ({_OPEN}) DESC, id DESC LIMIT ?1",
        (limit,),
    )
    return list(rows)


def failed(tx: Tx, entry: int, *, reason: str) -> Failed | None:
    """Give an entry up at once, and tell its agent and main; None if it has ended before."""
    row = tx.execute(
        "UPDATE outbox SET state = 'failed', failed_at = ?, error = ? "
        f"WHERE id = ? AND {_OPEN} RETURNING chat, message_id, text, notice",
        (tx.now, reason, entry),
    ).fetchone()
    if row is None:
        return None
    chat, message_id, text, notice = row
    if not notice:
        inbox_notices.add_notice(
            tx,
            chat,
            id=f"undelivered:{message_id}",
            text=retries.undelivered_for_agent(text=text, reason=reason),
        )
        words = retries.undelivered_for_main(chat=groups.chat_name(tx, chat) or chat, reason=reason)
        main = groups.main_chat(tx, but=chat)
        if main is not None and cooldown.may_tell(tx, main, f"undelivered:{chat}"):
            enqueue(tx, Author(MAIN, main, notice=True), (words,))
    return Failed(entry, chat, reason)


def _is_old(created_at: int, now: Micros) -> bool:
    return created_at <= after(now, -SENDING.expiry)
