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
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.end_to_end.house import Daemon, environment, running

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(prog="just bench")
    parser.add_argument("--runs", type=int, default=10, help="of each figure (default 10)")
    parser.add_argument("--engine", default="bwrap", help="which container engine (default bwrap)")
    parser.add_argument("--json", type=Path, default=None, help="write the figures here, too")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("A", "B"), help="two such files")
    options = parser.parse_args()
    if options.compare:
        compare(*options.compare)
        return
    figures = measure(options.engine, options.runs)
    show(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def measure(engine: str, runs: int) -> list[Row]:
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
        take("start to ready", "ms", [_start(home, engine) for _ in range(runs)], "<= 280")
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


def _version(home: Path) -> float:
    began = time.perf_counter()
    argv = [str(Path(sys.executable).with_name("pynchy")), "--version"]
    subprocess.run(argv, env=environment(home), check=True, capture_output=True)
    return (time.perf_counter() - began) * 1000


def _start(home: Path, engine: str) -> float:
    began = time.perf_counter()
    with running(home, engine):
        return (time.perf_counter() - began) * 1000


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


def compare(first: Path, second: Path) -> None:
    """The second run as a ratio of the first, figure by figure."""
    before = {row["figure"]: row for row in json.loads(first.read_text(encoding="utf-8"))}
    for row in json.loads(second.read_text(encoding="utf-8")):
        old = before.get(row["figure"])
        ratio = f"{row['median'] / old['median']:.2f} x" if old and old["median"] else "new"
        print(f"{row['figure']:46} {row['median']:>10} {row['unit']:6} {ratio:>8}")


if __name__ == "__main__":
    main()
