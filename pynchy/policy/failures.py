"""What each failure means, in one table: retry, wait or give up, and what to tell people.

For each kind of failure a row says when the turn is tried again, whom it holds back, what becomes of the session, what
the chat hears, what the owner hears and what the owner can do. The retry, the session, the notices and `pynchy status`
all read it here. The rule that keeps it so: pure, and no row promises what the code does not do: "I go on trying until
16:05" is said only where it is tried until then.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

import attrs

from pynchy.limits import RETRIES
from pynchy.model import DAY, HOUR, MINUTE, SECOND, GroupId, Micros, after
from pynchy.policy.retries import spread
from pynchy.text.reply import NOTICE_PREFIX, within

LONGEST_WAIT: Final = 1.1 * RETRIES.long  # between two tries of what is not held back
FOREVER: Final = 3650.0 * DAY
#: A group whose turn failed tries a little later than the others: if its own message is the cause, they find out first.
STEP_BACK: Final = 2.0 * SECOND
#: A probe that nothing is heard of for so long is not waited for.
PROBE_LEASE: Final = 15.0 * MINUTE


class Again(enum.Enum):
    """When a failed turn is tried again."""

    BACKOFF = "after 5, 10, 20, 40 and 80 seconds, then every 5 minutes, up to limits.outage"
    MOMENT = "at the moment that was named, within a day; as an outage where none was"
    CHANGE = "when what it waits for has changed"
    HOURLY = "every hour"
    DAY = "when the day is over, or the budget is raised"
    ONCE = "once more"
    TWICE = "once as it was, once in a new conversation"
    NEVER = "not"

    @property
    def waits(self) -> bool:
        """Whether the turn is kept until something outside is well again."""
        return self in _WAITING


_WAITING: Final = frozenset({Again.BACKOFF, Again.MOMENT, Again.CHANGE, Again.HOURLY, Again.DAY})


class Scope(enum.Enum):
    """Whom a failure concerns: they all wait, and one of them tries for all."""

    MODEL = "every group"
    LIMIT = "every group with the same model"
    MACHINE = "every group, before a container is started"
    GROUP = "the group"
    TURN = "the turn alone"


@attrs.frozen
class Row:
    """What one kind of failure means. In the words, ``{until}`` is a time of day and ``{reason}`` what was reported.

    ``waits`` is said to the chat once when it has to wait, ``ends`` when the turn is given up, ``anew`` when a new
    conversation begins. ``owner`` and ``step`` are for the owner: what is wrong, and what to do. ``main``: main hears
    of each turn of another group that ends so. ``status`` is the line of `pynchy status`.
    """

    again: Again
    ends: str
    scope: Scope = Scope.TURN
    waits: str = ""
    anew: str = ""
    owner: str = ""
    step: str = ""
    main: bool = False
    status: str = ""


UNKNOWN: Final = "agent"

TABLE: Final[Mapping[str, Row]] = {
    "outage": Row(
        Again.BACKOFF,
        scope=Scope.MODEL,
        waits="The model does not answer. I go on trying until {until}.",
        ends="The model did not answer until {until}, and I gave up. Send your message again to have it asked anew.",
        main=True,
        status="the model does not answer",
    ),
    "rate_limit": Row(
        Again.MOMENT,
        scope=Scope.LIMIT,
        waits="The model's limit is reached until {until}. I go on then.",
        ends="The model's limit is reached until {until}, longer than I can wait. Send your message again then.",
        main=True,
        status="the model's limit is reached",
    ),
    "credential": Row(
        Again.CHANGE,
        scope=Scope.MODEL,
        waits="The model refuses our key. The owner has to renew it; I go on then.",
        ends="The model refuses our key. The owner has to renew it.",
        owner="The model refuses the key or token: {reason}.",
        step="Put a new one into the file .env of pynchy's home; `pynchy init` asks for it and tries it. It is read at "
        "once, and what waits is answered then.",
        status="the model refuses the key; a new one in .env is read at once",
    ),
    "billing": Row(
        Again.HOURLY,
        scope=Scope.MODEL,
        waits="The model's account cannot pay. The owner has to look at it; I ask again every hour.",
        ends="The model's account cannot pay. The owner has to look at it.",
        owner="The model's account cannot pay: {reason}.",
        step="Top it up where the key was made. I ask again every hour, and at once after `pynchy service restart`.",
        status="the model's account cannot pay",
    ),
    "budget": Row(
        Again.DAY,
        scope=Scope.GROUP,
        waits="Today's budget is used up. I go on at {until}, or when it is raised.",
        ends="The budget of a day does not pay for this: {reason}.",
        owner="Group {folder}: {reason}.",
        step="`pynchy groups set {folder} budget.day_dollars AMOUNT` raises it, and what waits is answered then.",
        status="its budget of the day is used up",
    ),
    "budget_of_all": Row(
        Again.DAY,
        scope=Scope.MODEL,
        waits="Today's budget of all groups is used up. I go on at {until}.",
        ends="The budget of a day does not pay for this: {reason}.",
        owner="All groups together: {reason}.",
        step="The setting is budget.total_day_dollars; a raised one holds after `pynchy service restart`, "
        "and what waits is answered then.",
        status="today's budget of all groups is used up",
    ),
    "run_budget": Row(
        Again.NEVER,
        ends="I had to stop: {reason}. The setting is budget.run_dollars or budget.run_tokens. Your next "
        "message begins with a new one.",
    ),
    "policy": Row(
        Again.NEVER,
        ends="I may not do that: {reason}.",
        main=True,
    ),
    "history": Row(
        Again.TWICE,
        anew="I had to begin a new conversation: the model refused the old one. Files and memory stay.",
        ends="The model cannot take this message: {reason}.",
    ),
    "session": Row(
        Again.ONCE,
        anew="I had to begin a new conversation: the old one could not be opened again. Files and memory stay.",
        ends="Our conversation cannot be opened: {reason}.",
        main=True,
    ),
    "context": Row(
        Again.ONCE,
        anew="I had to begin a new conversation: the old one had grown too long. Files and memory stay.",
        ends="That is too long for the model, even in a new conversation. Send me less of it, or as a file.",
    ),
    "refusal": Row(Again.NEVER, ends="The model refuses to answer this."),
    "output_limit": Row(
        Again.NEVER,
        ends="The answer is longer than the model can write at once, and nothing of it can be shown. Ask me "
        "for a part of it, or for a file.",
    ),
    "empty": Row(Again.NEVER, ends="The model gave no answer to this."),
    "max_turns": Row(
        Again.NEVER,
        ends="This takes more steps than one answer may have. Ask me for a part of it.",
    ),
    "machine": Row(
        Again.BACKOFF,
        scope=Scope.MACHINE,
        waits="I cannot start on this machine right now. I go on trying until {until}.",
        ends="I could not start until {until}, and gave up. Send your message again to have me try anew.",
        main=True,
        status="no container could be started",
    ),
    "quota": Row(
        Again.NEVER,
        ends="I had to stop: {reason}. I removed nothing: ask me to clear up, or ask the owner for more room.",
    ),
    "overfull": Row(
        Again.NEVER,
        ends="I cannot begin: {reason}. The owner has to remove some of them or to give more room.",
        main=True,
    ),
    "silent": Row(Again.ONCE, ends="I could not answer that: {reason}.", main=True),
    "too_slow": Row(
        Again.NEVER,
        ends="I had to stop: it took longer than one turn may (limits.turn). Ask me for a part of it.",
        main=True,
    ),
    UNKNOWN: Row(Again.ONCE, ends="I could not answer that: {reason}.", main=True),
}

#: What an answer that is not whole is followed by.
CUT: Final[Mapping[str, str]] = {
    "output_limit": "The answer is cut here: it is longer than the model can write at once. Ask me to go on.",
    "refusal": "The answer is cut here: the model refuses to go on.",
    "empty": "The answer may be cut here: the model ended without a last word.",
}
CUT_SHORT: Final = "The answer is cut here: it was longer than could be written. Ask me to go on."

BROKE_OFF: Final = (
    "The model's answer broke off {times} times. Each try is paid for, so I gave up. Ask me for a "
    "part of it."
)

#: Kinds that the gateway alone can vouch for: a container's word for them holds nobody back.
SEEN_BY_THE_HOST: Final = frozenset({
    "outage", "rate_limit", "credential", "billing", "budget", "budget_of_all", "run_budget", "policy",
})  # fmt: skip


def row_of(kind: str) -> Row:
    """What a kind of failure means; an unknown one is tried once more, and then final, in its own words."""
    return TABLE.get(kind, TABLE[UNKNOWN])


@attrs.frozen
class Terms:
    """What the owner decided: how long an outage is waited for, and whose clock people read."""

    outage: float = 6.0 * HOUR
    timezone: str = "UTC"


USUAL: Final = Terms()


@attrs.frozen
class Trouble:
    """A failure as it was reported. ``moment``: when it is over, where somebody said so. ``sure``: the host saw it
    with its own eyes, so that it may hold others back. ``bought``: output was paid for, and lost. ``repeated``: the
    same refusal came again in the same conversation."""

    kind: str
    message: str = ""
    moment: Micros | None = None
    sure: bool = False
    bought: bool = False
    repeated: bool = False


@attrs.frozen
class CallResult:
    """How the newest call of the model in a run ended, as the gateway saw it. ``kind`` is None if it was answered;
    ``whole`` once the answer was, to its end. ``repeated``: the call before it met the very same."""

    kind: str | None = None
    message: str = ""
    moment: float | None = None  # seconds since 1970
    bought: bool = False
    whole: bool = True
    repeated: bool = False


def judge(said: Trouble, seen: CallResult | None) -> Trouble:
    """What really failed, from what the container says and what the gateway saw: who saw it wins.

    What the gateway did not see, a container may be wrong or lying about, so its word for an outage, a limit or what
    only the owner could mend is not believed. An answer that was begun and not taken to its end is an outage for its
    own turn: the agent may have waited for the rest in vain.
    """
    if said.kind in _THE_HOSTS_OWN:
        return said
    if seen is not None and seen.kind is not None:
        moment = None if seen.moment is None else Micros(round(seen.moment * 1e6))
        return Trouble(
            seen.kind,
            seen.message or said.message,
            moment,
            sure=True,
            bought=seen.bought,
            repeated=seen.repeated,
        )
    if said.kind == "outage" and seen is not None and not seen.whole:
        return attrs.evolve(said, sure=False, bought=True)
    if said.kind in SEEN_BY_THE_HOST:
        return attrs.evolve(said, kind=UNKNOWN, message=f"{said.kind}: {said.message}", sure=False)
    if said.kind == "history":  # no call was refused: the agent itself cannot open it
        return attrs.evolve(said, kind="session")
    return said


_THE_HOSTS_OWN: Final = frozenset(
    {
        "machine", "quota", "overfull", "refusal", "output_limit", "empty", "max_turns", "superseded",
        "interrupted", "too_slow", "internal",
    }
)  # fmt: skip


@attrs.frozen
class Past:
    """What a turn has been through. ``same``: failures of this kind in a row, this one included; ``since``: when the
    first of them was; ``strikes``: failures that did not wait, this one included; ``attempts``: all of them."""

    same: int
    since: Micros
    strikes: int = 1
    attempts: int = 1
    bought: int = 0
    spoke: bool = False
    resumed: bool = False


@attrs.frozen
class Verdict:
    """What becomes of a turn that failed. ``retry_at`` is None if it is given up. ``until``: the time that its words
    name. ``anew``: it goes on in a new conversation. ``broke_off``: it is given up since what it buys is lost."""

    retry_at: Micros | None
    until: Micros | None = None
    anew: bool = False
    broke_off: bool = False


@attrs.frozen
class Deciding:
    """What a decision needs besides the failure: this try's chance, from -1 to 1, which moves a wait by up to a fifth
    either way, and what the owner decided."""

    jitter: float
    terms: Terms


def decide(trouble: Trouble, past: Past, by: Deciding, *, now: Micros) -> Verdict:
    """What becomes of a turn that failed so."""
    row = row_of(trouble.kind)
    if past.attempts >= RETRIES.attempts:
        return Verdict(None, until=now)
    if past.bought >= RETRIES.paid:
        return Verdict(None, until=now, broke_off=True)
    if row.again.waits:
        return _wait(row.again, trouble, past, by, now=now)
    tries = {Again.ONCE: 1, Again.TWICE: 2}.get(row.again, 0)
    same = past.same + (row.again is Again.TWICE and trouble.repeated)
    if same > tries or past.strikes > RETRIES.strikes or (past.spoke and past.resumed):
        return Verdict(None)
    anew = bool(row.anew) and same == tries
    at_once = past.spoke or bool(row.anew)
    return Verdict(now if at_once else after(now, backoff(past.strikes, by.jitter)), anew=anew)


def _wait(again: Again, trouble: Trouble, past: Past, by: Deciding, *, now: Micros) -> Verdict:
    soon = after(now, backoff(past.same, by.jitter))
    match again:
        case Again.CHANGE:
            return Verdict(after(now, FOREVER))
        case Again.HOURLY:
            return Verdict(after(now, HOUR))
        case Again.DAY if past.same > RETRIES.days:
            return Verdict(None)
        case Again.DAY:
            over = next_day(now, by.terms.timezone)
            return Verdict(over, until=over)
        case Again.MOMENT if trouble.moment is not None:
            if trouble.moment > after(past.since, RETRIES.limit):
                return Verdict(None, until=trouble.moment)
            at = max(soon, after(trouble.moment, 1.0 + by.jitter))
            return Verdict(at, until=max(soon, trouble.moment))
        case _:
            until = after(past.since, by.terms.outage)
            return Verdict(None if now >= until else min(soon, until), until=until)


def give_up_at(kind: str, since: Micros, *, named: bool, terms: Terms) -> Micros | None:
    """When a turn that has waited for this kind of trouble since ``since`` is given up, if it ever is. ``named``:
    somebody said when it is over."""
    match row_of(kind).again:
        case Again.MOMENT if named:
            return after(since, RETRIES.limit + MINUTE)
        case Again.BACKOFF | Again.MOMENT:
            return after(since, terms.outage)
        case _:
            return None


def longest_hold(kind: str) -> float | None:
    """Seconds that a next try can lie ahead at most; None where it waits for a change."""
    match row_of(kind).again:
        case Again.CHANGE:
            return None
        case Again.MOMENT | Again.DAY:
            return RETRIES.limit + 2 * HOUR
        case _:
            return HOUR + PROBE_LEASE


def backoff(failures: int, jitter: float) -> float:
    """Seconds until the next try after so many failures."""
    if failures > RETRIES.doublings:
        return RETRIES.long * spread(jitter, 0.05)
    return RETRIES.first * 2.0 ** (failures - 1) * spread(jitter, 0.2)


def stepping_back(probe_at: Micros, kind: str) -> Micros:
    """When a turn that failed is tried, if others may be tried at ``probe_at``: a little later than they."""
    return after(probe_at, STEP_BACK) if row_of(kind).again is Again.BACKOFF else probe_at


def scope_of(kind: str, folder: GroupId, model: str | None) -> str | None:
    """The name of what is held back by this kind of failure in this group; None for the turn alone."""
    match row_of(kind).scope:
        case Scope.MODEL:
            return "model"
        case Scope.LIMIT:
            return f"limit:{model or ''}"
        case Scope.MACHINE:
            return "machine"
        case Scope.GROUP:
            return f"group:{folder}"
        case Scope.TURN:
            return None


def scopes_over(folder: GroupId, model: str | None) -> tuple[str, ...]:
    """Everything that can hold a group back."""
    return ("machine", "model", f"limit:{model or ''}", f"group:{folder}")


# --- words ---------------------------------------------------------------------------------------


def waiting(
    kind: str, *, until: Micros | None, named: bool, now: Micros, terms: Terms, reason: str = ""
) -> str:
    """What a chat is told, once, when it has to wait. ``named``: somebody said when the trouble is over."""
    words = row_of(kind).waits
    if kind == "rate_limit" and not named:
        words = "The model's limit is reached. I go on trying until {until}."
    return NOTICE_PREFIX + _filled(words, until=until, now=now, terms=terms, reason=reason)


def given_up(
    trouble: Trouble, verdict: Verdict, *, spoke: bool, bought: int, now: Micros, terms: Terms
) -> str:
    """What the chat is told when its turn is given up."""
    words = row_of(trouble.kind).ends
    if verdict.broke_off:
        words = BROKE_OFF.replace("{times}", str(bought))
    text = _filled(words, until=verdict.until, now=now, terms=terms, reason=trouble.message)
    return NOTICE_PREFIX + text + (" What I said so far stands." if spoke else "")


def given_up_for_main(*, folder: str, kind: str, error: str) -> str:
    """What main is told of it."""
    return (
        f"{NOTICE_PREFIX}Group {folder}: a message could not be answered "
        f"({kind}: {within(error, 300)})."
    )


def begun_anew(kind: str) -> str:
    """What a chat is told when its conversation had to be given up."""
    return NOTICE_PREFIX + (row_of(kind).anew or TABLE["session"].anew)


def task_paused(name: str, reason: str, *, folder: str = "") -> str:
    """What a chat is told of a task that does not go on; main, with the ``folder`` that it is of."""
    return f"The task “{within(name, 60)}”{folder and f' of {folder}'} is paused: {reason}."


def for_owner(trouble: Trouble, *, folder: str) -> str | None:
    """What the owner is told, with what to do; None where there is nothing to be done."""
    row = row_of(trouble.kind)
    if not row.owner:
        return None
    words = f"{row.owner} {row.step}".strip()
    return words.replace("{folder}", folder).replace("{reason}", as_reason(trouble.message))


def cut(kind: str | None = None) -> str:
    """What follows an answer of which a part is missing."""
    return NOTICE_PREFIX + CUT.get(kind or "", CUT_SHORT)


def _filled(
    words: str, *, until: Micros | None, now: Micros, terms: Terms, reason: str = ""
) -> str:
    if "{until}" in words:
        shown = "some time" if until is None else moment(until, now=now, timezone=terms.timezone)
        words = words.replace("{until}", shown)
    return words.replace("{reason}", as_reason(reason))


def as_reason(message: str) -> str:
    """Somebody else's words as the end of a sentence of ours."""
    return within(message, 300).rstrip(".") or "no reason was given"


def moment(at: Micros, *, now: Micros, timezone: str) -> str:
    """A moment as people say it: the time of day, and the day where it is not today."""
    from datetime import UTC, datetime  # here: a start needs neither
    from zoneinfo import ZoneInfo

    zone = ZoneInfo(timezone)
    then = datetime.fromtimestamp(at / 1e6, UTC).astimezone(zone)
    today = datetime.fromtimestamp(now / 1e6, UTC).astimezone(zone)
    if then.date() == today.date():
        return f"{then:%H:%M}"
    return (
        f"{then:%H:%M} on {then:%A}"
        if (then.date() - today.date()).days < 7
        else f"{then:%Y-%m-%d %H:%M}"
    )


def next_day(now: Micros, timezone: str) -> Micros:
    """The first moment of tomorrow where the people are, as budgets count days."""
    from datetime import UTC, datetime, time, timedelta  # here: a start needs none of them
    from zoneinfo import ZoneInfo

    zone = ZoneInfo(timezone)
    today = datetime.fromtimestamp(now / 1e6, UTC).astimezone(zone).date()
    midnight = datetime.combine(today + timedelta(days=1), time(), zone)
    return Micros(round(midnight.timestamp() * 1e6))


# --- what the gateway sees -----------------------------------------------------------------------

_ENDS: Final = (
    "anthropic-ratelimit-unified-reset",
    "anthropic-ratelimit-tokens-reset",
    "anthropic-ratelimit-requests-reset",
)


def of_answer(
    status: int, headers: Iterable[tuple[str, str]], body: bytes, *, now: float
) -> CallResult:
    """What an answer of the model API means. ``now`` is in seconds since 1970."""
    if status < 300:
        return CallResult()
    message = _message(body) or f"the model API answered with {status}"
    lower = message.lower()
    if status == 429:
        return CallResult("rate_limit", message, _over(dict(headers), now=now))
    if status == 402 or any(words in lower for words in _CANNOT_PAY):
        return CallResult("billing", message)
    if status in (400, 403, 404) and any(words in lower for words in _NOT_THIS_MODEL):
        return CallResult(
            "policy", f"{message} (the setting is model.name, or /model in this chat)"
        )
    if status in (401, 403) or any(words in lower for words in _NOT_THIS_KEY):
        return CallResult("credential", message)
    if status == 413 or (status == 400 and any(words in lower for words in _TOO_LONG)):
        return CallResult("context", message)
    if status == 404:
        return CallResult("policy", f"{message} (the settings are model.name and model.base_url)")
    if 300 <= status < 400:
        return CallResult(
            "policy", f"the model API answered with {status}; the setting is model.base_url"
        )
    if status in (408, 409) or status >= 500:
        return CallResult("outage", message)
    return CallResult("history", message)


def of_budget(period: str, reason: str) -> CallResult:
    """What it means that a budget is used up: that of a run, of a group's day, or of everybody's."""
    if period.startswith("run "):
        return CallResult("run_budget", reason)
    return CallResult("budget_of_all" if period.endswith("of all") else "budget", reason)


def worth_another_try_at_once(call: CallResult, *, now: float) -> bool:
    """Whether the agent itself may try again while its container stands."""
    soon = call.moment is not None and call.moment - now <= SOON
    return call.kind == "outage" or (call.kind == "rate_limit" and soon)


SOON: Final = 20.0 * SECOND
_TOO_LONG: Final = (
    "prompt is too long", "context window", "context limit", "input length and",
    # As others word it who speak the Messages API.
    "context length", "context_length", "context size", "input is too long", "maximum prompt length",
)  # fmt: skip
#: What the API words as a bad request, though every other request would fail the same.
_CANNOT_PAY: Final = ("credit balance", "usage limits", "organization has been disabled")
_NOT_THIS_KEY: Final = ("credential is only authorized",)
#: The key and the conversation are well: another model would answer.
_NOT_THIS_MODEL: Final = (
    "the specified model", "model_not_found", "model not found", "not a valid model", "invalid model", "unknown model",
    "access to the model", "access to model", "permission to use the model", "no such model",
)  # fmt: skip

#: The status that stands for each kind of error that an answer may end in; all others are outages.
_STATUS_OF: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
}


def of_event(event: Mapping[str, Any], *, bought: bool, now: float) -> CallResult:
    """What an error in the midst of an answer means: the same as if it had come instead of one. ``bought``: the
    answer had begun."""
    error = event.get("error")
    kind = error.get("type") if isinstance(error, dict) else None
    status = _STATUS_OF.get(kind, 529) if isinstance(kind, str) else 529
    body = json.dumps(event).encode()
    said = of_answer(status, (), body, now=now)
    if not _message(body):
        said = attrs.evolve(said, message="the model's answer ended in an error")
    return attrs.evolve(said, bought=bought)


def _message(body: bytes) -> str:
    try:
        error: Any = json.loads(body)
        said = error["error"]["message"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return ""
    return within(said, 300) if isinstance(said, str) else ""


def _over(headers: Mapping[str, str], *, now: float) -> float | None:
    """When a limit is over, by the headers that say so; the past and nonsense are nobody's word."""
    retry, retry_ms = headers.get("retry-after", ""), headers.get("retry-after-ms", "")
    ends = [headers.get(name, "") for name in _ENDS]
    told = [now + _number(retry), now + _number(retry_ms) / 1000, _date(retry)]
    for end in ends:
        told += [_number(end), _date(end)]
    return next((at for at in told if now <= at < now + 366 * DAY), None)


def _number(text: str) -> float:
    """A number as a header writes it; NaN, which lies nowhere, if it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _date(text: str) -> float:
    """Seconds since 1970, from a date as HTTP or RFC 3339 writes it; NaN if it is none."""
    from datetime import datetime  # here: a start needs neither
    from email.utils import parsedate_to_datetime

    for read in (parsedate_to_datetime, datetime.fromisoformat):
        with suppress(ValueError, OverflowError):
            if (found := read(text)).tzinfo is not None:
                return found.timestamp()
    return math.nan
