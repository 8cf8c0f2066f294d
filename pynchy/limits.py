"""Fixed numbers that people notice: how many, how large, how long. Each stands only here.

The rule that keeps it so: a module takes its number from this table, docs/limits.md is written from it, and a test pins
every line. What can be set is in `pynchy.config.settings`, the limits of a tool's arguments are in
`pynchy.policy.tools`; what only a programmer meets stays where it is used. The agent in the container cannot import
this: the wire's numbers are taken from `pynchy_agent.wire`, and a test compares the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeVar

import attrs

from pynchy.model import DAY, HOUR, MINUTE, SECOND
from pynchy_agent import wire

T = TypeVar("T", int, float)
Unit = Literal["", "characters", "bytes", "tokens", "time"]


#: Only what a section needs: every start makes them all.
_section: Final = attrs.frozen(eq=False, repr=False, slots=False)


def number(value: T, unit: Unit, doc: str) -> T:
    """One number. It is an attrs field; its type is that of its value."""
    return attrs.field(default=value, init=False, metadata={"unit": unit, "doc": doc})


@_section
class Answers:
    """What an agent sends to a chat."""

    pieces: int = number(25, "", "messages of one answer; the rest is left out, and said to be")
    piece: int = number(4_000, "characters", "one message; a longer text is split")
    extra: int = number(
        100, "", "messages, files and reactions that one turn may send before its answer"
    )
    name: int = number(64, "", "letters of the name of a person, a chat or a helper that speaks")


@_section
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
    people: int = number(40, "", "people of a group who are named to its agent")
    hosts: int = number(40, "", "hosts of a group's list that are named to its agent")
    picture: int = number(
        5 << 20, "bytes", "a picture that the model is shown; a larger one is a file"
    )


@_section
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


@_section
class Approvals:
    """Requests that a person decides with `/approve` or `/deny`."""

    lifetime: float = number(1 * HOUR, "time", "how long one can be approved")
    open: int = number(3, "", "requests of one group that nobody has decided yet")
    a_day: int = number(12, "", "requests of one group in a day")


@_section
class Questions:
    """Questions of an agent to its chat."""

    wait: float = number(2 * MINUTE, "time", "how long the agent waits; a later answer wakes it")
    open: float = number(7 * DAY, "time", "after which a message is no answer any more")


@_section
class Helpers:
    """Helpers that an agent starts."""

    depth: int = number(2, "", "a helper may have helpers, and they none")
    group: int = number(32, "", "helpers of one group at once")
    answer: int = number(30_000, "characters", "the answer of one")


@_section
class Memories:
    """What agents note and search."""

    most: int = number(2_000, "", "notes of one group, and of all groups together")
    found: int = number(10, "", "results of a search that names no number")
    search: float = number(5.0, "time", "how long one search may take")
    text: int = number(4_000, "characters", "one note")


@_section
class Files:
    """Files that agents send."""

    one: int = number(64 << 20, "bytes", "one file")
    waiting: int = number(256 << 20, "bytes", "all files of one group that are not sent yet")


@_section
class Groups:
    """Groups, and what their agents may ask."""

    mounts: int = number(16, "", "folders of this machine that one group may have")
    commands: int = number(120, "", "tool calls of one group in a minute")
    allowlist: int = number(64 << 10, "bytes", "the file that says which folders may be mounted")
    searched: int = number(
        50_000, "", "entries of a folder that is searched for secrets before a mount"
    )


@_section
class Bots:
    """Other programs in a chat: who answers at once, again and again, is not answered for a while."""

    quick: float = number(10 * SECOND, "time", "an answer to ours within this time is quick")
    most: int = number(20, "", "quick answers in a row")
    hold: float = number(1 * HOUR, "time", "how long such a sender is not answered")


@_section
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


@_section
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


@_section
class Clients:
    """The control socket and the web page."""

    request: int = number(256 << 10, "bytes", "one request")
    most: int = number(64, "", "connections at once; the least active gives way")
    unread: int = number(4 << 20, "bytes", "what a client may leave unread before it is dropped")
    message: int = number(64 << 10, "characters", "one message")
    browsers: int = number(16, "", "browsers that are signed in; the oldest goes")
    answer: float = number(
        30 * SECOND, "time", "how long an answer may take before the daemon is not waited for"
    )
    streams: int = number(24, "", "pages that are open at once")
    cookie: int = number(30 * 24 * 3600, "time", "how long a browser stays signed in")


@_section
class Agents:
    """One agent at work: what the host takes from it, and what it keeps of it."""

    owed: int = number(
        32, "", "messages with one agent at once; more wait, and go together in one prompt"
    )
    line: int = number(wire.MAX_LINE, "bytes", "one line of its output")
    output: int = number(16 << 20, "bytes", "its output between two answers")
    bad_frames: int = number(20, "", "frames of one run that cannot be read before it is ended")
    command: int = number(wire.MAX_COMMAND, "bytes", "one command file")
    depth: int = number(
        wire.MAX_DEPTH, "", "objects and lists of a frame or a command, in each other"
    )
    values: int = number(wire.MAX_NODES, "", "values in a frame or a command")
    error: int = number(1_000, "characters", "the message of an error")
    skills: int = number(64, "", "skills of one group")


@_section
class Guest:
    """The agent that ships, inside its container. Its image has these numbers of its own."""

    answer: int = number(80_000, "characters", "one answer; the rest is left out, and said to be")
    memory: int = number(32_000, "characters", "what is read of one CLAUDE.md")
    output: int = number(32_000, "tokens", "one answer of the model")
    transcript: int = number(64 << 20, "bytes", "a conversation that is gone on with")
    script: float = number(1 * MINUTE, "time", "how long the script of a task may run")
    printed: int = number(16_000, "bytes", "what a script prints for the model")
    bash: float = number(2 * MINUTE, "time", "one command of a shell, if the model names no time")
    bash_longest: float = number(10 * MINUTE, "time", "the longest time that the model may name")


@_section
class Gateway:
    """The way out of one container."""

    connections: int = number(64, "", "connections at once; more are closed")
    calls: int = number(16, "", "calls of the model at once; more wait")
    tunnels: int = number(32, "", "connections to other hosts at once")
    head: int = number(64 << 10, "bytes", "the head of a request")
    body: int = number(32 << 20, "bytes", "the body of a request")
    buffered: int = number(48 << 20, "bytes", "all bodies at once")
    answer: int = number(16 << 20, "bytes", "an answer of the model that is not streamed")
    output: int = number(256_000, "tokens", "what one call may ask the model for")
    searches: int = number(3, "", "searches of the web that one call may have the model API make")
    head_time: float = number(20 * SECOND, "time", "how long the head of a request may take")
    body_time: float = number(1 * MINUTE, "time", "how long its body may take")
    unread: float = number(2 * MINUTE, "time", "how long an answer may stay unread")
    idle: float = number(5 * MINUTE, "time", "how long a connection may be silent")
    dial: float = number(
        10 * SECOND, "time", "finding a host, and connecting to each of its addresses"
    )


@_section
class WhatsApp:
    """Messages from WhatsApp."""

    text: int = number(65_000, "characters", "one message; the rest is left out, and said to be")
    quoted: int = number(4_000, "characters", "a message that is quoted in another")
    name: int = number(256, "characters", "the name of a person, a chat or a file")
    deliveries: int = number(3, "", "attempts to take a message in before it is set aside")
    aside: int = number(100, "", "messages that were set aside, the newest")
    fetch: float = number(1 * MINUTE, "time", "fetching one file")
    files: int = number(8, "", "files that are fetched at once; more wait")
    hanging: int = number(
        64, "", "files that may be under way, given up or not; beyond that none is fetched"
    )
    files_of_chat: int = number(3, "", "of these, and of voice notes, those of one chat")
    unread: int = number(100, "", "messages of a chat that are marked as read together")


@_section
class Voice:
    """Turning voice notes into words."""

    at_once: int = number(2, "", "voice notes at once; more wait")
    time: float = number(5 * MINUTE, "time", "how long one may take")
    length: float = number(
        15 * MINUTE, "time", "how much of one is listened to; the rest is left out, and said to be"
    )
    words: int = number(40_000, "characters", "the words of one")


@_section
class Lists:
    """How much of a long list is shown."""

    bills: int = number(30, "", "groups whose bills `pynchy status` shows, main first")
    usage: int = number(100, "", "days, models and groups of one answer about usage")
    chats: int = number(100, "", "chats that are not registered, for an agent")
    tasks: int = number(30, "", "tasks, in a chat")
    rows: int = number(500, "", "rows of one answer on the control socket")
    retries: int = number(50, "", "waiting turns of `pynchy status`")
    message: int = number(1_000, "characters", "a message or note that a search found")


@_section
class RunLogs:
    """The log of one run."""

    lines: int = number(2_000, "", "lines, the newest")
    line: int = number(2_000, "characters", "one line")
    stderr: int = number(64 << 10, "bytes", "what the container wrote to stderr, the newest")
    kept: int = number(500, "", "logs of runs")


@_section
class Services:
    """The daemon as a service."""

    lately: float = number(1 * HOUR, "time", "how long a crash counts")
    few: int = number(3, "", "crashes before a start waits")
    first: float = number(5 * SECOND, "time", "the first such wait; each is twice the one before")
    longest: float = number(160 * SECOND, "time", "the longest such wait")
    watchdog: int = number(120, "time", "without a sign of life until systemd restarts it")
    start: int = number(300, "time", "how long a start may take, besides waits that it tells of")


@_section
class Doctor:
    """When `pynchy doctor` warns."""

    backup: float = number(14 * DAY, "time", "the age of the newest backup")
    clock: float = number(2 * MINUTE, "time", "how far the clock may be off")
    prices: float = number(180 * DAY, "time", "the age of the table of prices")


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
AGENTS: Final = Agents()
GUEST: Final = Guest()
GATEWAY: Final = Gateway()
WHATSAPP: Final = WhatsApp()
VOICE: Final = Voice()
LISTS: Final = Lists()
RUN_LOGS: Final = RunLogs()
SERVICES: Final = Services()
DOCTOR: Final = Doctor()

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
    "agents": AGENTS,
    "guest": GUEST,
    "gateway": GATEWAY,
    "whatsapp": WHATSAPP,
    "voice": VOICE,
    "lists": LISTS,
    "run_logs": RUN_LOGS,
    "services": SERVICES,
    "doctor": DOCTOR,
}
