"""Collect the daemon's metrics for monitoring.

The rule that keeps it so: one op, one transaction, no figure that grows with the past, and no name of a
person or a chat among the labels.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

import attrs

import pynchy
from pynchy.control.openmetrics import Family, by, counter, gauge, render
from pynchy.control.ops.status import Live
from pynchy.control.server import Client, op
from pynchy.model import Micros
from pynchy.reader_budget import loop_time
from pynchy.store import ledger
from pynchy.store import metrics as figures
from pynchy.store.database import Database, Store, size_of

RUN_KINDS: Final = ("session", "task", "delegate")
OUTBOX: Final = ("pending", "sending", "uncertain")
TASKS: Final = ("active", "paused")


class Stalls(Protocol):
    """How often one task held all others up, and the longest time, in seconds."""

    @property
    def count(self) -> int: ...
    @property
    def longest(self) -> float: ...


@attrs.frozen
class Figures:
    """The op. ``today`` names the day that usage is counted for."""

    store: Store
    database: Path
    containers: int
    started_at: Micros
    now: Callable[[], Micros]
    today: Callable[[], str]
    live: Callable[[], Live]
    watch: Stalls | None = None

    @op("metrics")
    async def metrics(self, client: Client) -> object:
        """The figures as OpenMetrics text."""
        counts, lines = await self.store.call(_count, today=self.today())
        families = [*self._daemon(), *self._work(counts), *_spent(lines), *_process()]
        return {"content_type": CONTENT_TYPE, "text": render(families)}

    def _daemon(self) -> Iterator[Family]:
        live, now = self.live(), self.now()
        labels = {"version": pynchy.__version__, "runtime": live.runtime, "model": live.model}
        yield Family("pynchy", "info", "What runs.", ((labels, 1),))
        up = (now - self.started_at) / 1e6
        yield gauge("pynchy_uptime_seconds", "Since the start.", up)
        connected = {name: float(state == "connected") for name, state in live.channels.items()}
        yield by("pynchy_channel_up", "Whether it is connected.", "channel", connected)
        yield gauge("pynchy_queue_groups", "Groups that wait for a slot.", len(live.queue))
        limit = self.containers
        yield gauge("pynchy_containers_limit", "Containers that may run at once.", limit)
        size = size_of(self.database)
        yield gauge("pynchy_database_bytes", "It and its log.", size)
        if self.watch is not None:
            yield counter(
                "pynchy_loop_stalls",
                "Times that one task held all others up for over a second.",
                self.watch.count,
            )
            yield gauge(
                "pynchy_loop_longest_stall_seconds", "The longest of them.", self.watch.longest
            )
        if (measure := loop_time()) is not None:
            steps = sorted(measure.longest_by_kind().items())
            yield Family(
                "pynchy_loop_longest_step_seconds",
                "gauge",
                "Processor time that a task of this kind took of the loop at once, at most.",
                tuple(({"task": kind}, took) for kind, took in steps),
            )

    def _work(self, counts: figures.Counts) -> Iterator[Family]:
        running = {kind: counts.runs.get(kind, 0) for kind in RUN_KINDS}
        yield by("pynchy_containers", "Containers that run.", "kind", running)
        yield gauge("pynchy_groups", "Registered groups.", counts.groups)
        totals = counts.totals
        yield counter("pynchy_messages_received", "Messages kept.", totals["inbox"])
        yield counter("pynchy_turns", "Turns begun, tries not counted.", totals["turns"])
        yield counter("pynchy_turns_dead", "Turns that failed for good.", counts.dead)
        yield gauge("pynchy_turns_retrying", "Turns that wait for a try.", counts.waiting)
        yield counter("pynchy_outbox_entries", "What was to be said.", totals["outbox"])
        waiting = {state: counts.outbox.get(state, 0) for state in OUTBOX}
        yield by("pynchy_outbox_open", "Of it, not yet sent.", "state", waiting)
        age = 0.0 if counts.oldest is None else max(0.0, (self.now() - counts.oldest) / 1e6)
        yield gauge("pynchy_outbox_oldest_seconds", "Since its oldest waits.", age)
        tasks = {state: counts.tasks.get(state, 0) for state in TASKS}
        yield by("pynchy_tasks", "Scheduled tasks.", "state", tasks)


CONTENT_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def _count(db: Database, *, today: str) -> tuple[figures.Counts, list[ledger.Line]]:
    return figures.count(db), ledger.used(db, since=today)


def _spent(lines: list[ledger.Line]) -> Iterator[Family]:
    """Today's use, by group and model."""
    dollars, tokens, calls = [], [], []
    for line in lines:
        labels = {"group": str(line.group), "model": line.model}
        dollars.append((labels, line.cost / 1e6))
        calls.append((labels, float(line.calls)))
        taken = line.input + line.cache_read + line.cache_write
        tokens += [({**labels, "way": "in"}, float(taken))]
        tokens += [({**labels, "way": "out"}, float(line.output))]
    yield Family("pynchy_day_dollars", "gauge", "Spent today.", tuple(dollars))
    yield Family("pynchy_day_tokens", "gauge", "Used today.", tuple(tokens))
    yield Family("pynchy_day_calls", "gauge", "Calls of the model today.", tuple(calls))


def _process() -> Iterator[Family]:
    import resource  # here: a start need not wait for it

    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = used.ru_utime + used.ru_stime
    yield counter("process_cpu_seconds", "Processor time.", cpu)
    unit = 1 if sys.platform == "darwin" else 1024
    most = used.ru_maxrss * unit
    yield gauge("process_peak_memory_bytes", "Its most so far.", most)
    fds = Path("/proc/self/fd")
    if fds.is_dir():
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        size = pages * os.sysconf("SC_PAGE_SIZE")
        yield gauge("process_resident_memory_bytes", "Memory now.", size)
        yield gauge("process_open_fds", "Open files.", len(list(fds.iterdir())))
