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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pynchy.model import GroupId
from tests.edges.test_whatsapp import link
from tests.end_to_end.house import Daemon, environment, running

Row = dict[str, Any]

AGENT = Path(__file__).resolve().parents[1] / "agents" / "shell_agent.sh"
CONSUMER = Path(__file__).resolve().parents[1] / "edges" / "whatsapp_consumer.py"
SPEAKERS = 64  # of the flood: connections that each wait for their own answers


def main() -> None:
    parser = argparse.ArgumentParser(prog="just bench")
    parser.add_argument("--runs", type=int, default=10, help="of each figure (default 10)")
    parser.add_argument("--engine", default="bwrap", help="which container engine (default bwrap)")
    parser.add_argument("--groups", type=int, default=200, help="in the burst (default 200)")
    parser.add_argument("--page", type=Path, default=None, help="write docs/performance.md here")
    parser.add_argument("--json", type=Path, default=None, help="write the figures here, too")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("A", "B"), help="two such files")
    options = parser.parse_args()
    if options.compare:
        compare(*options.compare)
        return
    figures = measure(options.engine, options.runs, options.groups)
    show(figures)
    if options.page:
        options.page.write_text(page(figures), encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def measure(engine: str, runs: int, burst: int) -> list[Row]:
    found: list[Row] = []

    def take(name: str, unit: str, values: Sequence[float], aim: str) -> None:
        found.append(
            {
                "figure": name,
                "unit": unit,
                "median": round(statistics.median(values), 2),
                "p99": round(max(values) if len(values) < 100 else _percentile(values, 0.99), 2),
                "runs": len(values),
                "aim": aim,
                "load": round(os.getloadavg()[0], 1),
            }
        )

    with tempfile.TemporaryDirectory(prefix="pynchy-bench-") as folder:
        home = Path(folder) / "home"
        take("pynchy --version", "ms", [_version(home) for _ in range(runs)], "<= 100")
        take("flush of the disk that the store is on", "ms", _flushes(Path(folder)), "")
        starts = [_start(home, engine) for _ in range(runs)]
        take("start to ready", "ms", [wall for wall, _ in starts], "<= 280")
        take("start to ready, processor time", "ms", [busy for _, busy in starts], "<= 280")
        with running(home, engine) as daemon:
            time.sleep(2)  # what is loaded later is loaded now
            take("idle memory, private and shared", "MB", [_memory(daemon)], "<= 45")
            take("idle wake-ups", "per s", [_wakeups(daemon)], "< 1")
            _cold(daemon, runs)
            _warm(daemon, 3 * runs)
            _commands(daemon, runs)
        with sqlite3.connect(home / "store" / "pynchy.db") as db:
            for name, sql, unit, aim in FIGURES:
                values = [float(row[0]) for row in db.execute(sql)]
                if values:
                    take(name, unit, values, aim)
            # A command's name begins with the nanosecond at which it was written.
            written = db.execute("SELECT command_id, at FROM journal").fetchall()
            spent = [at / 1000 - int(id[:16], 16) / 1e6 for id, at in written]
            take("command file written to its effect", "ms", spent, "<= 3")
        with running(Path(folder) / "flood", engine) as daemon:
            take("messages stored, durable", "per s", [_flood(daemon, 100)], ">= 3000")
        settings = ("container.command=sh /workspace/group/agent.sh", "limits.containers=5")
        with running(Path(folder) / "burst", engine, *settings) as daemon:
            ours = Path(folder) / "burst" / "store" / "pynchy.db"
            seconds, ideal = _burst(daemon, ours, burst)
            take(f"burst of {burst} groups on 5 slots, drained", "s", [seconds], "")
            take("the same, by what its runs took over 5", "x", [seconds / ideal], "<= 1.05")
        take("WhatsApp events into the store", "per s", [_events(Path(folder) / "events")], "")
        late = _latencies(Path(folder) / "paced")
        take("WhatsApp event to its row, 100 a second", "ms", late, "<= 20")
        large = Path(folder) / "large"
        with running(large, engine):
            pass  # makes the schema
        _fill(large / "store" / "pynchy.db", groups=10_000, each=100)
        starts = [_start(large, engine) for _ in range(3)]
        name = "start to ready, 10,000 groups and 1 M messages"
        take(name, "ms", [wall for wall, _ in starts], "<= 600")
    return found


#: From the rows: name, one value per event, unit, aim.
FIGURES = [
    (
        "message stored to run announced",
        "SELECT (runs.started_at - received_at) / 1000.0 FROM inbox JOIN turn_inputs USING (seq) "
        "JOIN turns ON turns.id = turn_id JOIN runs ON runs.id = turns.run_id "
        "WHERE inbox.chat LIKE 'console:cold%'",
        "ms",
        "<= 3",
    ),
    (
        "message stored to first model request, cold",
        "SELECT (min(usage.created_at) - received_at) / 1000.0 FROM inbox "
        "JOIN turn_inputs USING (seq) JOIN turns ON turns.id = turn_id "
        "JOIN usage ON usage.run_id = turns.run_id AND usage.created_at >= received_at "
        "WHERE inbox.chat LIKE 'console:cold%' GROUP BY inbox.seq",
        "ms",
        "<= 1000",
    ),
    (
        "message stored to model request, warm",
        "SELECT (min(usage.created_at) - received_at) / 1000.0 FROM inbox "
        "JOIN turn_inputs USING (seq) JOIN turns ON turns.id = turn_id "
        "JOIN usage ON usage.run_id = turns.run_id AND usage.created_at >= received_at "
        "WHERE inbox.chat = 'console:warm' AND message_id NOT LIKE 'first%' GROUP BY inbox.seq",
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
        stat = Path(f"/proc/{daemon.process.pid}/stat").read_text(encoding="ascii")
        ticks = [int(each) for each in stat.rpartition(")")[2].split()[11:13]]
        return wall, sum(ticks) * 1000 / os.sysconf("SC_CLK_TCK")


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


def _burst(daemon: Daemon, database: Path, count: int) -> tuple[float, float]:
    """Every group says something at once: seconds until all are answered, and what they would be if
    no slot ever stood empty between two runs."""
    with daemon.talk() as talk:
        chats = [f"console:burst{number}" for number in range(count)]
        for number, chat in enumerate(chats):
            talk.call("groups.add", chat=chat, folder=f"burst{number}", requires_trigger=False)
            place = daemon.home.group(GroupId(f"burst{number}"))
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(AGENT, place / "agent.sh")
        began = time.perf_counter()
        for chat in chats:
            talk.call("send", chat=chat, text="hello")
        with sqlite3.connect(database) as db:
            while (
                db.execute("SELECT count(*) FROM turns WHERE state = 'done'").fetchone()[0] < count
            ):
                time.sleep(0.1)
        seconds = time.perf_counter() - began
    daemon.stop()
    with sqlite3.connect(database) as db:
        worked = db.execute("SELECT sum(ended_at - started_at) / 1e6 FROM runs").fetchone()[0]
    return seconds, worked / 5


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
        total = 0
        for task in Path(f"/proc/{daemon.process.pid}/task").iterdir():
            text = (task / "status").read_text(encoding="ascii")
            line = next(x for x in text.splitlines() if x.startswith("voluntary"))
            total += int(line.split()[1])
        return total

    before = count()
    time.sleep(5)
    return (count() - before) / 5


def _cold(daemon: Daemon, runs: int) -> None:
    for number in range(runs):
        chat = f"console:cold{number}"
        with daemon.talk(chat) as talk:
            talk.call("groups.add", chat=chat, folder=f"cold{number}", requires_trigger=False)
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
    line: Callable[..., str] = "{:46} {:>10} {:>10} {:6} {:>8} {:>5} {:>6}".format
    print(line("figure", "median", "p99", "", "aim", "runs", "load"))
    for row in figures:
        print(
            line(
                row["figure"],
                row["median"],
                row["p99"],
                row["unit"],
                row["aim"],
                row["runs"],
                row["load"],
            )
        )


#: Why a figure may be missed, and what bounds it.
REASONS = {
    "start to ready": "imports: trio is half of them, the classes of ours a quarter",
    "start to ready, processor time": "imports: trio is half of them, the classes of ours a quarter",
    "message stored to run announced": "one commit, so one flush of the disk, lies between",
    "message stored to first model request, cold": "the imports of the agent and the start of its CLI",
    "message stored to model request, warm": "two commits lie between, so two flushes of the disk",
    "result committed to sent": "two commits: the result, and that it is about to be sent",
    "messages stored, durable": "a burst shares a commit; the rest is one request, one answer each",
    "the same, by what its runs took over 5": "one that stays warm must be ended before its slot is free",
    "start to ready, 10,000 groups and 1 M messages": "as a start with none",
}


FINDINGS = """
## Where the time goes

Found with `python -X importtime`, the processor time of whole processes, and the rows of the store; on two busy
processors.

- Start: the imports take 230 ms of processor time, of which the interpreter is 10 and trio 105. Making our attrs
  classes is the next share, by estimate a quarter: 0.35 ms for each of some 175, or 0.15 ms where neither
  comparison nor repr is made. Garbage collection during the imports is 3 %: not worth a switch. `h11` and the
  gateway's connections are loaded with the first run.
- Message to run: one commit, which is one flush of the disk (the second line of the table), and one hop to the
  store's thread.
- Result to sent: the commit of the result and the one that says "about to be sent". Both must be on the disk
  before the channel is called, or a crash could lose a reply or forget that it may have been sent.

Not measured yet: the gateway's share of a call, many streams at once, memory over a week.
Not built yet: warm containers for groups that have not spoken since the start.
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
    lines = [
        "# What it costs",
        "",
        "Written by `just bench --page docs/performance.md`; not edited by hand. Whole-system figures "
        "on real parts: a daemon started as a user would, real sandboxes, the real CLI, the offline model.",
        "",
        f"Machine: {platform.platform()}, {os.cpu_count()} processors, Python "
        f"{platform.python_version()}. Load is the one-minute average when a figure was taken: above "
        "the number of processors, the figure says more about the machine's other work than about us. "
        "Lines with different loads may come from different runs; medians over few runs are rough.",
        "",
        "| figure | median | p99 (or worst) | aim | runs | load |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in figures:
        mark = " (missed)" if missed(row) else ""
        lines.append(
            f"| {row['figure']} | {row['median']} {row['unit']}{mark} | {row['p99']} {row['unit']} "
            f"| {row['aim']} | {row['runs']} | {row['load']} |"
        )
    late = [row for row in figures if missed(row)]
    if late:
        lines += ["", "Missed, and what bounds it:", ""]
        lines += [
            f"- {row['figure']}: {REASONS.get(row['figure'], 'not looked into yet')}."
            for row in late
        ]
    return "\n".join(lines) + "\n" + FINDINGS


def compare(first: Path, second: Path) -> None:
    """The second run as a ratio of the first, figure by figure."""
    before = {row["figure"]: row for row in json.loads(first.read_text(encoding="utf-8"))}
    for row in json.loads(second.read_text(encoding="utf-8")):
        old = before.get(row["figure"])
        ratio = f"{row['median'] / old['median']:.2f} x" if old and old["median"] else "new"
        print(f"{row['figure']:46} {row['median']:>10} {row['unit']:6} {ratio:>8}")


if __name__ == "__main__":
    main()
