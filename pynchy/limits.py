"""Fixed numbers that people notice: how many, how large, how long. Each stands only here.

The rule that keeps it so: a module takes its number from this table, docs/limits.md is written from it, and a test pins
every line. What can be set is in `pynchy.config.settings`; what only a programmer meets stays where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeVar

import attrs

from pynchy.model import DAY, HOUR, MINUTE, SECOND

T = TypeVar("T", int, float)
Unit = Literal["", "characters", "bytes", "time"]


def number(value: T, unit: Unit, doc: str) -> T:
    """One number. It is an attrs field; its type is that of its value."""
    return attrs.field(default=value, init=False, metadata={"unit": unit, "doc": doc})


@attrs.frozen
class Answers:
    """What an agent sends to a chat."""

    pieces: int = number(25, "", "messages of one answer; the rest is left out, and said to be")
    piece: int = number(4_000, "characters", "one message; a longer text is split")
    extra: int = number(
        100, "", "messages, files and reactions that one turn may send before its answer"
    )
    name: int = number(64, "", "letters of the name of a person, a chat or a helper that speaks")


@attrs.frozen
class Prompts:
    """What an agent is given to read."""

    message: int = number(65_536, "characters", "one message")
    quoted: int = number(2_000, "characters", "a message that is quoted in another")
    said: int = number(
        4_000, "characters", "each message that the agent had sent since its last turn"
    )
    all: int = number(400_000, "characters", "all messages of one prompt")
    kept: int = number(
        2_000, "characters", "what remains of a message that asks, when the prompt is full"
    )
    messages: int = number(200, "", "messages that ask, and as many that are context, in one turn")
    asking: int = number(
        256 << 10, "bytes", "messages that ask in one turn; the rest is for the next"
    )
    context: int = number(64 << 10, "bytes", "context in one turn; the oldest is left out")
    picture: int = number(
        5 << 20, "bytes", "a picture that the model is shown; a larger one is a file"
    )


@attrs.frozen
class Tasks:
    """Scheduled tasks."""

    group: int = number(50, "", "tasks of one group, active or paused")
    depth: int = number(2, "", "a task may make a task, and that one another, so often")
    every: int = number(300, "time", "the shortest time between two runs")
    every_main: int = number(60, "time", "the same in main")
    longest: int = number(31_536_000, "time", "the longest interval")
    soonest: int = number(5, "time", "from now to a task that runs once, at least")
    latest: float = number(5 * 366 * DAY, "time", "the same, at most")
    cron: int = number(256, "characters", "a cron line")
    failures: int = number(5, "", "runs in a row that failed before a task is paused")
    missed: float = number(1 * DAY, "time", "how far back missed runs are counted")
    late: float = number(
        1 * MINUTE, "time", "a task that does not catch up skips a run that is later"
    )


@attrs.frozen
class Approvals:
    """Requests that a person decides with `/approve` or `/deny`."""

    lifetime: float = number(1 * HOUR, "time", "how long one can be approved")
    open: int = number(3, "", "requests of one group that nobody has decided yet")
    a_day: int = number(12, "", "requests of one group in a day")


@attrs.frozen
class Questions:
    """Questions of an agent to its chat."""

    wait: float = number(2 * MINUTE, "time", "how long the agent waits; a later answer wakes it")
    open: float = number(7 * DAY, "time", "after which a message is no answer any more")


@attrs.frozen
class Helpers:
    """Helpers that an agent starts."""

    depth: int = number(2, "", "a helper may have helpers, and they none")
    group: int = number(32, "", "helpers of one group at once")
    answer: int = number(30_000, "characters", "the answer of one")


@attrs.frozen
class Memories:
    """What agents note and search."""

    most: int = number(2_000, "", "notes of one group, and of all groups together")
    found: int = number(10, "", "results of a search that names no number")


@attrs.frozen
class Files:
    """Files that agents send."""

    one: int = number(64 << 20, "bytes", "one file")
    waiting: int = number(256 << 20, "bytes", "all files of one group that are not sent yet")


@attrs.frozen
class Groups:
    """Groups, and what their agents may ask."""

    mounts: int = number(16, "", "folders of this machine that one group may have")
    commands: int = number(120, "", "tool calls of one group in a minute")


@attrs.frozen
class Bots:
    """Other programs in a chat: who answers at once, again and again, is not answered for a while."""

    quick: float = number(10 * SECOND, "time", "an answer to ours within this time is quick")
    most: int = number(20, "", "quick answers in a row")
    hold: float = number(1 * HOUR, "time", "how long such a sender is not answered")


@attrs.frozen
class Retries:
    """A turn that failed."""

    first: float = number(5 * SECOND, "time", "the first wait; each is twice the one before")
    doublings: int = number(5, "", "waits that double")
    long: float = number(5 * MINUTE, "time", "every wait after those")
    limit: float = number(1 * DAY, "time", "the longest wait for a limit of the account to be over")
    strikes: int = number(5, "", "failures that are a message's own before it is given up")
    attempts: int = number(400, "", "attempts of any kind before it is given up")
    days: int = number(2, "", "days on which its budget may be used up before it is given up")
    paid: int = number(
        3, "", "answers of the model that are paid for and lost before it is given up"
    )
    interruptions: int = number(20, "", "interrupted attempts before it is given up")
    notice: float = number(15 * MINUTE, "time", "between two notices of an outage in one chat")


@attrs.frozen
class Sending:
    """A message that the channel does not take."""

    attempts: int = number(8, "", "attempts that the channel refused before it is given up")
    plain: int = number(4, "", "the attempt from which it is sent without quote and formatting")
    uncertain: int = number(
        40, "", "attempts without a word from the channel before it is given up"
    )
    first: float = number(2 * SECOND, "time", "the first wait; each is twice the one before")
    longest: float = number(5 * MINUTE, "time", "the longest wait")
    expiry: float = number(1 * DAY, "time", "how long it is tried at all")
    silent: float = number(2 * MINUTE, "time", "how long one attempt may take")


@attrs.frozen
class Clients:
    """The control socket and the web page."""

    request: int = number(256 << 10, "bytes", "one request")
    most: int = number(64, "", "connections at once; the least active gives way")
    unread: int = number(4 << 20, "bytes", "what a client may leave unread before it is dropped")
    message: int = number(64 << 10, "characters", "one message")
    browsers: int = number(16, "", "browsers that are signed in; the oldest goes")
    cookie: int = number(30 * 24 * 3600, "time", "how long a browser stays signed in")


ANSWERS: Final = Answers()
PROMPTS: Final = Prompts()
TASKS: Final = Tasks()
APPROVALS: Final = Approvals()
QUESTIONS: Final = Questions()
HELPERS: Final = Helpers()
MEMORIES: Final = Memories()
FILES: Final = Files()
GROUPS: Final = Groups()
BOTS: Final = Bots()
RETRIES: Final = Retries()
SENDING: Final = Sending()
CLIENTS: Final = Clients()

TABLE: Final[Mapping[str, Any]] = {
    "answers": ANSWERS,
    "prompts": PROMPTS,
    "tasks": TASKS,
    "approvals": APPROVALS,
    "questions": QUESTIONS,
    "helpers": HELPERS,
    "memories": MEMORIES,
    "files": FILES,
    "groups": GROUPS,
    "bots": BOTS,
    "retries": RETRIES,
    "sending": SENDING,
    "clients": CLIENTS,
}
