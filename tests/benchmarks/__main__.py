"""`just bench`: what the whole of it costs, on real parts, as a table and as JSON.

A daemon is started as a user would start it and talked to over its control socket; the times come from its own rows
(microseconds of one clock) and from the clock of this process. Each figure is a median and a 99th percentile over
several runs; the load of the machine is noted, for a busy one makes other figures. Nothing here is a test.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import select
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs

from pynchy.config.paths import Home
from pynchy.model import GroupId
from tests.benchmarks import first_request, gateway, observed, peers
from tests.edges.test_whatsapp import link
from tests.end_to_end.house import Daemon, Talk, environment, running
from tests.processes import below, processor_time, switches, until_quiet

Row = dict[str, Any]

AGENT = Path(__file__).resolve().parents[1] / "agents" / "shell_agent.sh"
CONSUMER = Path(__file__).resolve().parents[1] / "edges" / "whatsapp_consumer.py"
FILLING = 30  # days until what has a bound is full: pages of the database, arenas of memory
SPEAKERS = 64  # of the flood: connections that each wait for their own answers


@attrs.frozen
class Size:
    """How much is measured."""

    runs: int  # of each figure
    bursts: tuple[int, ...]  # groups that speak at once
    pairs: int  # of calls, with and without the gateway
    week: int  # messages of a week
    large: bool  # over 10,000 groups and a million messages, and a flood from WhatsApp


WHOLE = Size(runs=10, bursts=(200, 1000), pairs=300, week=1400, large=True)
QUICK = Size(runs=3, bursts=(60,), pairs=60, week=0, large=False)  # within a minute


def main() -> None:
    parser = argparse.ArgumentParser(prog="just bench")
    parser.add_argument("--quick", action="store_true", help="within a minute, and rough")
    parser.add_argument("--runs", type=int, default=None, help="of each figure (default 10)")
    parser.add_argument("--engine", default="bwrap", help="which container engine (default bwrap)")
    parser.add_argument("--page", type=Path, default=None, help="write docs/performance.md here")
    parser.add_argument("--json", type=Path, default=None, help="write the figures here, too")
    parser.add_argument("--taken", type=Path, nargs="+", help="from such files, for the page")
    parser.add_argument("--peers", action="store_true", help="the daemon beside other assistants")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("A", "B"), help="two such files")
    options = parser.parse_args()
    if options.compare:
        compare(*options.compare)
        return
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else every start compiles everything
    size = QUICK if options.quick else WHOLE
    if options.runs:
        size = attrs.evolve(size, runs=options.runs)
    if options.taken:
        figures = [row for file in options.taken for row in json.loads(file.read_text())]
    elif options.peers:
        book = Book(options.json)
        for name, unit, values in peers.measured(options.engine, options.runs or 5):
            book.take(name, unit, values)
        figures = book.rows
    else:
        figures = measure(options.engine, size, options.json)
    show(figures)
    if options.page:
        options.page.write_text(page(figures), encoding="utf-8")


@attrs.frozen
class Book:
    """The figures, in the order in which they were taken."""

    file: Path | None = None  # where they are kept as they come, for a run may break off
    rows: list[Row] = attrs.field(factory=list)

    def take(self, name: str, unit: str, values: Sequence[float], aim: str = "") -> None:
        self.rows.append(
            {
                "figure": name,
                "unit": unit,
                "best": round(max(values) if aim.startswith(">") else min(values), 2),
                "median": round(statistics.median(values), 2),
                "p99": round(max(values) if len(values) < 100 else _percentile(values, 0.99), 2),
                "runs": len(values),
                "aim": aim,
                "load": round(os.getloadavg()[0], 1),
            }
        )
        if self.file:
            self.file.write_text(json.dumps(self.rows, indent=2) + "\n", encoding="utf-8")


def measure(engine: str, size: Size, file: Path | None) -> list[Row]:
    book = Book(file)
    with tempfile.TemporaryDirectory(prefix="pynchy-bench-") as folder:
        root = Path(folder)
        _at_rest(book, root / "home", engine, size)
        _messages(book, root / "home", engine, size)
        with first_request.open_requests(root / "first", engine) as ask:
            for group in ("family", "main"):
                sent = ask(group, f"hello from {group}")
                book.take(f"first request of {group}", "bytes", [sent.size], "<= 28000")
        _tasks(book, root / "tasks", engine, 2 * size.runs)
        _prewarmed(book, root / "prewarmed", engine, size)
        _gateway(book, root / "gateway", size)
        with running(root / "flood", engine) as daemon:
            book.take(STORED, "per s", [_flood(daemon, 100)], ">= 3000")
        for burst in size.bursts:
            _burst(book, root / f"burst{burst}", engine, burst)
        if size.week:
            _week(book, root / "week", engine, size.week)
        if size.large:
            book.take("WhatsApp events into the store", "per s", [_events(root / "events")])
            late = _latencies(root / "paced")
            book.take("WhatsApp event to its row, 100 a second", "ms", late, "<= 20")
            _large(book, root / "large", engine, size)
    return book.rows


STORED = "messages stored, durable"


def _at_rest(book: Book, home: Path, engine: str, size: Size) -> None:
    """What it costs to start it and to have it."""
    book.take("pynchy --version", "ms", [_version(home) for _ in range(size.runs)], "<= 100")
    book.take("flush of the disk that the store is on", "ms", _flushes(home.parent))
    _start(home, engine)  # the first one makes the store, and compiles what is new
    starts = [_start(home, engine) for _ in range(size.runs)]
    book.take("start to ready", "ms", [wall for wall, _ in starts], "<= 280")
    book.take("start to ready, processor time", "ms", [busy for _, busy in starts], "<= 280")
    with running(home, engine) as daemon:
        time.sleep(2)  # what is loaded later is loaded now
        book.take("idle memory, private and shared", "MB", [_memory(daemon)], "<= 45")
        book.take("idle wake-ups", "per s", [_wakeups(daemon)], "< 1")


def _messages(book: Book, home: Path, engine: str, size: Size) -> None:
    """A message on its way, by the rows that it leaves."""
    with running(home, engine, f"limits.containers={size.runs + 2}") as daemon:
        _cold(daemon, "cold", size.runs)
        _warm(daemon, 3 * size.runs)
        _commands(daemon, size.runs)
    with running(home, engine, "limits.containers=1") as daemon:
        _cold(daemon, "crowded", size.runs // 2 + 2)
    with sqlite3.connect(home / "store" / "pynchy.db") as db:
        for name, sql, unit, aim in FIGURES:
            if values := [float(row[0]) for row in db.execute(sql)]:
                book.take(name, unit, values, aim)
        # A command's name begins with the nanosecond at which it was written.
        written = db.execute("SELECT command_id, at FROM journal").fetchall()
        spent = [at / 1000 - int(id[:16], 16) / 1e6 for id, at in written]
        book.take("command file written to its effect", "ms", spent, "<= 3")


def _tasks(book: Book, home: Path, engine: str, runs: int) -> None:
    """Tasks of a group each, one after the other: how long after its minute a run is announced."""
    with running(home, engine, SCRIPTED, f"limits.containers={runs + 1}") as daemon:
        with daemon.talk() as talk:
            groups = [_scripted(daemon, talk, f"task{number}") for number in range(runs)]
            first = datetime.now(UTC) + timedelta(seconds=6 + runs * 0.02)  # no sooner than in 5 s
            for number, chat in enumerate(groups):
                due = first + timedelta(seconds=0.3 * number)
                words = {"prompt": "hello", "kind": "once", "value": due.isoformat()}
                talk.call("tasks.add", group=chat.removeprefix("console:"), **words)
        _until(home / "store" / "pynchy.db", "SELECT count(*) FROM fires WHERE state = 'ran'", runs)
    with sqlite3.connect(home / "store" / "pynchy.db") as db:
        late = db.execute(
            "SELECT (started_at - due_at) / 1000.0 FROM fires JOIN turns ON turns.id = turn_id "
            "JOIN runs ON runs.id = run_id"
        ).fetchall()
    book.take("task due to run announced", "ms", [row[0] for row in late], "<= 10")


def _prewarmed(book: Book, home: Path, engine: str, size: Size) -> None:
    """The first words of groups whose containers are up before they speak, two groups at a time."""
    chats = ["console:ready0", "console:ready1"]
    with running(home, engine) as daemon:
        for chat in chats:
            with daemon.talk(chat) as talk:
                talk.call("groups.add", chat=chat, requires_trigger=False)
                talk.say("echo before", message_id=f"before-{chat[8:]:0>8}")
                talk.turn("done")
    for number in range((size.runs + 1) // 2):
        with running(home, engine, "container.prewarm=2") as daemon:
            with daemon.talk() as owner:
                while len(owner.call("status")["runs"]) < len(chats):
                    time.sleep(0.1)
            # The agents have connected, and do nothing.
            until_quiet(lambda: sum(map(processor_time, below(daemon.process.pid))))
            for chat in chats:
                with daemon.talk(chat) as talk:
                    talk.say("echo at last", message_id=f"ready-{number}-{chat[8:]:0>8}")
                    talk.turn("done")
    with sqlite3.connect(home / "store" / "pynchy.db") as db:
        found = db.execute(TO_MODEL.format("message_id LIKE 'ready%'")).fetchall()
        fresh = db.execute("SELECT count(DISTINCT run_id) FROM turns WHERE ended_at").fetchone()[0]
    assert fresh == len(chats) + len(found), "one was not served by a container of its own"
    name = "message stored to model request, pre-warmed"
    book.take(name, "ms", [row[0] for row in found], "<= 150")


def _gateway(book: Book, folder: Path, size: Size) -> None:
    found, busy = gateway.added(folder / "calls", size.pairs)
    book.take("gateway, added to the first byte", "ms", found, "<= 2")
    book.take("gateway, processor time of a call", "ms", [busy])
    spent = gateway.streams(folder / "streams", 50, 4)
    book.take("gateway, 50 streams at once", "% of a core", [spent], "<= 25")


def _large(book: Book, home: Path, engine: str, size: Size) -> None:
    """What was measured with ten groups, with very many: how it starts, and how much slower all else is."""
    with running(home, engine):
        pass  # makes the schema
    _fill(home / "store" / "pynchy.db", groups=10_000, each=100)
    for number in range(10_000):  # as registering them would have left them
        Home(home).group(GroupId(f"large{number}")).mkdir(parents=True)
    starts = [_start(home, engine) for _ in range(3)]
    name = "start to ready, 10,000 groups and 1 M messages"
    book.take(name, "ms", [wall for wall, _ in starts], "<= 600")
    many = Book()
    _messages(many, home, engine, size)
    _tasks(many, home, engine, 2 * size.runs)
    with running(home, engine) as daemon:
        many.take(STORED, "per s", [_flood(daemon, 100)], "")
    few = {row["figure"]: row["median"] for row in book.rows}
    for row in many.rows:
        name, ratio = row["figure"], row["median"] / few[row["figure"]]
        slower = 1 / ratio if name == STORED else ratio
        book.take(f"with 10,000 groups and 1 M messages: {name}", "x", [slower], "<= 1.5")


TO_MODEL = (
    "SELECT (min(usage.created_at) - received_at) / 1000.0 FROM inbox "
    "JOIN turn_inputs USING (seq) JOIN turns ON turns.id = turn_id "
    "JOIN usage ON usage.run_id = turns.run_id AND usage.created_at >= received_at "
    "WHERE {} GROUP BY inbox.seq"
)

TO_RUN = (
    "SELECT (runs.started_at - received_at) / 1000.0 FROM inbox JOIN turn_inputs USING (seq) "
    "JOIN turns ON turns.id = turn_id JOIN runs ON runs.id = turns.run_id "
    "WHERE inbox.chat LIKE '{}'"
)

#: From the rows: name, one value per event, unit, aim.
FIGURES = [
    ("message stored to run announced", TO_RUN.format("console:cold%"), "ms", "<= 3"),
    (
        "the same, when an agent that rests must go first",
        TO_RUN.format("console:crowded%") + " AND inbox.chat <> 'console:crowded0'",
        "ms",
        "",
    ),
    (
        "message stored to first model request, cold",
        TO_MODEL.format("inbox.chat LIKE 'console:cold%'"),
        "ms",
        "<= 1000",
    ),
    (
        "message stored to model request, warm",
        TO_MODEL.format("inbox.chat = 'console:warm' AND message_id NOT LIKE 'first%'"),
        "ms",
        "<= 40",
    ),
    (
        "result committed to sent",
        "SELECT (sent_at - created_at) / 1000.0 FROM outbox WHERE state = 'sent'",
        "ms",
        "<= 2",
    ),
]


def _events(folder: Path, count: int = 5_000) -> float:
    """How many real events a second come through the real callbacks, the bridge and the receiver."""
    folder.mkdir()
    link(folder / "store")
    argv = [sys.executable, str(CONSUMER), str(folder), str(count)]
    return float(subprocess.run(argv, stdout=subprocess.PIPE, timeout=600, check=True).stdout)


def _latencies(folder: Path, count: int = 500) -> list[float]:
    """Milliseconds from the library's callback to the committed row, of events that do not crowd each other."""
    folder.mkdir()
    link(folder / "store")
    argv = [sys.executable, str(CONSUMER), str(folder), str(count), "0.01"]
    subprocess.run(argv, stdout=subprocess.PIPE, timeout=600, check=True)
    return [int(line) / 1000 for line in (folder / "latency").read_text().split()]


def _version(home: Path) -> float:
    began = time.perf_counter()
    argv = [str(Path(sys.executable).with_name("pynchy")), "--version"]
    subprocess.run(argv, env=environment(home), check=True, capture_output=True)
    return (time.perf_counter() - began) * 1000


def _start(home: Path, engine: str) -> tuple[float, float]:
    """How long it took, and how much of a processor: the one is the machine's, the other is ours."""
    began = time.perf_counter()
    with running(home, engine) as daemon:
        wall = (time.perf_counter() - began) * 1000
        return wall, processor_time(daemon.process.pid) * 1000


def _flushes(folder: Path) -> list[float]:
    """What one durable write costs here at least; a commit is one, and no program is faster."""
    found = []
    with (folder / "flushed").open("wb", buffering=0) as file:
        for _ in range(100):
            file.write(bytes(4096))
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            found.append((time.perf_counter() - began) * 1000)
    return found


def _flood(daemon: Daemon, each: int) -> float:
    """Messages a second that are stored and acknowledged, from many speakers who do not wait."""
    with daemon.talk() as talk:
        talk.call("groups.add", chat="console:flood", folder="flood", requires_trigger=True)
    speakers = []
    for _ in range(SPEAKERS):
        ours = socket.socket(socket.AF_UNIX)
        ours.connect(str(daemon.home.control_socket))
        speakers.append(ours)
    asked = b"".join(
        json.dumps({"id": n + 1, "op": "send", "chat": "console:flood", "text": "hello"}).encode()
        + b"\n"
        for n in range(each)
    )
    began = time.perf_counter()
    for ours in speakers:
        ours.sendall(asked)
    missing = dict.fromkeys(speakers, each)
    while missing:
        for ours in select.select(list(missing), [], [], 60)[0]:
            missing[ours] -= ours.recv(65536).count(b"\n")
            if missing[ours] <= 0:
                del missing[ours]
    spent = time.perf_counter() - began
    for ours in speakers:
        ours.close()
    return SPEAKERS * each / spent


SCRIPTED = "container.command=sh /workspace/group/agent.sh"  # it stays warm until it is told to end


@contextmanager
def _observed(home: Path, engine: str) -> Iterator[tuple[Daemon, Path]]:
    """A daemon with five slots and scripted agents, and the file where it tells of itself."""
    file = home.with_suffix(".seen")
    with running(
        home,
        engine,
        SCRIPTED,
        "limits.containers=5",
        "logging.level=warning",  # nobody reads what it says, and a pipe holds no more than 64 kB
        module="tests.benchmarks.observed",
        PYNCHY_TEST_OBSERVED=str(file),
    ) as daemon:
        yield daemon, file


def _scripted(daemon: Daemon, talk: Talk, name: str) -> str:
    """A group whose agent is a script; its chat."""
    chat = f"console:{name}"
    talk.call("groups.add", chat=chat, folder=name, requires_trigger=False)
    place = daemon.home.group(GroupId(name))
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(AGENT, place / "agent.sh")
    return chat


def _burst(book: Book, home: Path, engine: str, count: int) -> None:
    """Every group says something at once, on five slots; each agent stays warm until it has to go."""
    with _observed(home, engine) as (daemon, file):
        database = home / "store" / "pynchy.db"
        with daemon.talk() as talk:
            chats = [_scripted(daemon, talk, f"burst{number}") for number in range(count)]
            observed.look(daemon.process.pid, file)
            began = time.perf_counter()
            for chat in chats:
                talk.call("send", chat=chat, text="hello")
            _until(database, "SELECT count(*) FROM turns WHERE state = 'done'", count)
            seconds = time.perf_counter() - began
        stall = observed.look(daemon.process.pid, file)
        daemon.stop()
    with sqlite3.connect(database) as db:
        # What its runs took, one after the other on five slots: no slot stood empty if that is all.
        worked = db.execute("SELECT sum(ended_at - started_at) / 1e6 FROM runs").fetchone()[0] / 5
        served = db.execute(
            "SELECT chat FROM turns JOIN runs ON runs.id = run_id ORDER BY started_at, runs.rowid"
        ).fetchall()
    late = sum(row[0] != chat for row, chat in zip(served, chats, strict=True))
    book.take(f"burst of {count} groups on 5 slots, drained", "s", [seconds])
    book.take(f"burst of {count}, by what its runs took over 5", "x", [seconds / worked], "<= 1.05")
    book.take(f"burst of {count}, not served in order of arrival", "groups", [late], "<= 0")
    book.take(f"burst of {count}, longest step of the loop", "ms", [stall["wall"]], "<= 20")
    book.take(f"burst of {count}, the same in processor time", "ms", [stall["cpu"]], "<= 20")


def _until(database: Path, counts: str, enough: int) -> None:
    with sqlite3.connect(database) as db:
        while db.execute(counts).fetchone()[0] < enough:
            time.sleep(0.1)


def _week(book: Book, home: Path, engine: str, messages: int) -> None:
    """As many messages as ten groups say in a week, as fast as they are answered, and what is left of them."""
    seen: list[tuple[float, int, int]] = []
    with _observed(home, engine) as (daemon, file), daemon.talk() as talk:
        chats = [_scripted(daemon, talk, f"week{number}") for number in range(10)]
        for _ in range(FILLING + 7):
            for number in range(messages // 7):
                talk.call("send", chat=chats[number * 7 % 10], text=f"hello {number}")
                if number % 50 == 49:
                    _until_answered(home / "store" / "pynchy.db")
            _until_answered(home / "store" / "pynchy.db")
            talk.events.clear()
            files = len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir()))
            tasks = observed.look(daemon.process.pid, file)["tasks"]
            seen.append((_memory(daemon), files, tasks))  # with five agents that stay warm
    week = seen[FILLING:]
    slope = statistics.linear_regression(range(7), [memory for memory, _, _ in week]).slope
    name = f"a week of {messages} messages"
    book.take(f"{name}, growth of memory", "MB", [slope * 7])
    for column, what in ((1, "descriptors"), (2, "tasks")):  # one look may meet an agent that goes
        first, last = (min(day[column] for day in days) for days in (week[:3], week[-3:]))
        book.take(f"{name}, more {what}", "", [last - first], "<= 0")


def _until_answered(database: Path) -> None:
    with sqlite3.connect(database) as db:
        while db.execute("SELECT 1 FROM chats WHERE wanted_seq > done_seq LIMIT 1").fetchone():
            time.sleep(0.02)


def _fill(database: Path, *, groups: int, each: int) -> None:
    """Rows as they would be after years: written straight to the tables, for speed."""
    now = time.time_ns() // 1000
    with sqlite3.connect(database) as db:
        db.executemany(
            "INSERT INTO groups (folder, name, trigger, requires_trigger, is_main, epoch, created_at) "
            "VALUES (?, ?, 'Pynchy', 1, 0, 1, ?)",
            ((f"large{n}", f"Large {n}", now) for n in range(groups)),
        )
        db.executemany(
            "INSERT INTO chats (chat, name, last_at, folder) VALUES (?, ?, ?, ?)",
            ((f"console:large{n}", f"Large {n}", now, f"large{n}") for n in range(groups)),
        )
        db.executemany(
            "INSERT INTO inbox (chat, sender, sender_name, message_id, sent_at, received_at, kind, "
            "text, triggers, own) VALUES (?, 'someone', 'Someone', ?, ?, ?, 'text', ?, 0, 0)",
            (
                (f"console:large{n % groups}", f"m{n}", now, now, "a message of some length " * 4)
                for n in range(groups * each)
            ),
        )


def _memory(daemon: Daemon) -> float:
    status = Path(f"/proc/{daemon.process.pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def _wakeups(daemon: Daemon) -> float:
    """Voluntary context switches of all its threads, in a second."""

    def count() -> int:
        return sum(switches(daemon.process.pid).values())

    before = count()
    time.sleep(5)
    return (count() - before) / 5


def _cold(daemon: Daemon, name: str, runs: int) -> None:
    """Groups that speak for the first time, one after the other; their agents stay, and rest."""
    for number in range(runs):
        chat = f"console:{name}{number}"
        with daemon.talk(chat) as talk:
            talk.call("groups.add", chat=chat, folder=f"{name}{number}", requires_trigger=False)
            talk.say("echo cold")
            talk.turn("done")


def _warm(daemon: Daemon, runs: int) -> None:
    with daemon.talk("console:warm") as talk:
        talk.call("groups.add", chat="console:warm", folder="warm", requires_trigger=False)
        for number in range(runs + 2):
            talk.say("echo warm", message_id=f"{'first' if number < 2 else 'later'}-{number:06d}")
            talk.turn("done")
            talk.reply()
            time.sleep(0.05)  # the agent has said that it is idle


def _commands(daemon: Daemon, runs: int) -> None:
    with daemon.talk("console:warm") as talk:
        for _ in range(runs):
            talk.say('use send_message {"text": "from a tool"}')
            talk.turn("done")


def _percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def show(figures: Sequence[Row]) -> None:
    print(f"{platform.platform()}, {os.cpu_count()} processors, Python {platform.python_version()}")
    line: Callable[..., str] = "{:46} {:>10} {:>10} {:>10} {:6} {:>8} {:>5} {:>6}".format
    print(line("figure", "median", "best", "p99", "", "aim", "runs", "load"))
    for row in figures:
        print(
            line(
                row["figure"],
                row["median"],
                row["best"],
                row["p99"],
                row["unit"],
                row["aim"],
                row["runs"],
                row["load"],
            )
        )


IMPORTS = (
    "imports, all but a tenth: of the processor time of a start trio is four tenths, making our attrs "
    "classes three; a machine with other work takes longer on the wall than on the processor"
)

#: Why a figure may be missed, and what bounds it: by a part of its name, the first that fits.
REASONS = {
    "the same in processor time": "what the first run loads, or a collection of garbage",
    "start to ready": IMPORTS,
    "must go first": "an agent that is told to end takes as long as its CLI does",
    "task due to run announced": "two commits lie between, and a timer",
    "message stored to run announced": "one commit, so one flush of the disk, lies between",
    "message stored to first model request, cold": "the imports of the agent and the start of its CLI",
    "message stored to model request, warm": "two commits lie between, so two flushes of the disk",
    "message stored to model request, pre-warmed": "as with a warm one, and what the CLI does before "
    "its first turn",
    "result committed to sent": "a commit, so a flush of the disk, and two changes of thread lie between",
    "command file": "one commit, so one flush of the disk, lies between",
    "gateway, added": "a commit, so a flush of the disk: what a call may cost is written down before it is made",
    "messages stored, durable": "a burst shares a commit; the rest is one request, one answer each",
    "burst": "one that stays warm must be ended before its slot is free; a step on the wall is as long "
    "as the machine's other work makes it",
}


FINDINGS = """
## Where the time goes

Found with `python -X importtime`, `cProfile`, the processor time of whole processes, and the rows of the store; on
two busy processors.

- Start: 210 ms of processor time, of which the interpreter is 10, trio 100, and making our attrs classes 70: half of
  that is `compile`, of the methods that attrs writes for each of some 200 of them (0.39 ms for each of three fields;
  0.23 without a repr, 0.15 without comparison either). From the imports to ready it is 20 ms, with loguru (35 ms,
  asyncio among it), the gateway's connections and h11 loaded only after that. What a start has made is kept
  from Python's collector of garbage, which took up to 50 ms to go through it.
  A start without `.pyc` files takes 100 ms more, so the bench lets them be written.
- Message to run: one commit, which is one flush of the disk (the second line of the table), and one hop to the
  store's thread.
- Result to sent: one commit, of the result and of its first piece as "about to be sent" together. Both must be on the
  disk before the channel is called, or a crash could lose a reply or forget that it may have been sent. Where
  something is in front of it, where a channel is down or an account has used up its pace, the sender takes it later,
  with a commit of its own.
- A run's start asks nothing of other groups, unless its own has mounts: then of those that have.
- Memory: over 24,000 messages it grew by 3 MB in the first 3,000, as pages of the database and arenas fill, and by
  0.4 MB in the last 15,000.
- Gateway: a commit before each call (what it may cost is in the book before it is made), then reading 60 kB of JSON,
  writing it again, and one hop more over loopback.
- Watching for blocked loops: two calls for each batch of the event loop, 3 µs, and a thread that sleeps while the loop
  waits and looks twice a second while it works: no wake-ups when idle.
- A pre-warmed container is up and connected and has been sent nothing: its group's first words cost what a warm
  one's do, and what the CLI does before its first turn. It takes some 200 MB until it is spoken to or has been idle for
  `limits.idle`, which is why `container.prewarm` is 0 unless the owner says otherwise.
"""


def missed(row: Row) -> bool:
    """Whether the median is on the wrong side of the aim."""
    if not row["aim"]:
        return False
    sign, bound = row["aim"].split()
    value = float(row["median"])
    return value < float(bound) if sign == ">=" else value > float(bound)


def page(figures: Sequence[Row]) -> str:
    """docs/performance.md: the table as it was measured, and each miss with its reason."""
    beside = peers.section(figures)
    figures = [row for row in figures if not peers.concerns(row)]
    lines = [
        "# What it costs",
        "",
        "Written by `just bench --page docs/performance.md`; not edited by hand. Whole-system figures "
        "on real parts: a daemon started as a user would, real sandboxes, the real CLI, the offline model.",
        "",
        f"Machine: {platform.platform()}, {os.cpu_count()} processors, Python "
        f"{platform.python_version()}. Load is the one-minute average when a figure was taken: above "
        "the number of processors, the median says more about the machine's other work than about us; the "
        "best of many comes nearest to what it costs alone. "
        "Lines with different loads may come from different runs; medians over few runs are rough.",
        "",
        "| figure | median | best | p99 (or worst) | aim | runs | load |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in figures:
        mark = " (missed)" if missed(row) else ""
        lines.append(
            f"| {row['figure']} | {row['median']} {row['unit']}{mark} | {row['best']} | {row['p99']} "
            f"| {row['aim']} | {row['runs']} | {row['load']} |"
        )
    late = [row for row in figures if missed(row)]
    if late:
        lines += ["", "Missed, and what bounds it:", ""]
        lines += [f"- {row['figure']}: {_reason(row['figure'])}." for row in late]
    return "\n".join(lines) + "\n" + FINDINGS + beside


def _reason(figure: str) -> str:
    found = (reason for name, reason in REASONS.items() if name in figure)
    return next(found, "not looked into yet")


def compare(first: Path, second: Path) -> None:
    """The second run as a ratio of the first, figure by figure."""
    before = {row["figure"]: row for row in json.loads(first.read_text(encoding="utf-8"))}
    for row in json.loads(second.read_text(encoding="utf-8")):
        old = before.get(row["figure"])
        ratio = f"{row['median'] / old['median']:.2f} x" if old and old["median"] else "new"
        print(f"{row['figure']:46} {row['median']:>10} {row['unit']:6} {ratio:>8}")


if __name__ == "__main__":
    main()
