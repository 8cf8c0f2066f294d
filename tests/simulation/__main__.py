"""The long proofs, from a shell: `just sim`, `just mutants`. Figures come last, as one line."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import count
from pathlib import Path

import attrs

from tests.hang_guard import Hung, limit
from tests.simulation.crashes import SCENARIOS, Crash, all_pairs, pairs, play_crash, singles
from tests.simulation.play import Verdict, make_home, play

PAIRS = 500
ONE_PLAY = 600.0  # seconds; a play takes a few, and half a minute where much happens in it


@attrs.frozen
class Task:
    """One play, as it is sent to another process: a seed of the swarm, or a scenario with kills."""

    seed: int | None = None
    crash: Crash | None = None

    @property
    def replay(self) -> str:
        if self.crash is not None:
            kills = ",".join(map(str, self.crash.kill_at))
            return f"just sim --scenario {SCENARIOS[self.crash.scenario].__name__} --kill {kills}"
        return f"just sim --seed {self.seed}"


@attrs.define
class Figures:
    hours: float = 0.0
    seeds: int = 0
    crashes: int = 0
    events: int = 0
    kills: int = 0
    asked: int = 0
    bad: list[str] = attrs.Factory(list)


def home() -> Path:
    return make_home(Path(tempfile.gettempdir()) / f"pynchy-simulation-{os.getpid()}")


def carry_out(task: Task) -> Verdict | str:
    """In a worker: the verdict, or the traceback of a play that broke off."""
    try:
        with limit(ONE_PLAY, task.replay):
            if task.crash is not None:
                return play_crash(task.crash, home=home())
            assert task.seed is not None
            return play(task.seed, home=home())
    except (Exception, Hung):  # a crash of the daemon, a deadlock, an assertion: all are findings
        return traceback.format_exc()


def play_all(tasks: Iterable[Task], *, until: Callable[[Figures], bool]) -> Figures:
    """Play in as many processes as there are processors, until it is enough."""
    figures = Figures()
    queue: Iterator[Task] = iter(tasks)
    workers = os.cpu_count() or 1
    with ProcessPoolExecutor(workers) as pool:
        under_way: dict[Future[Verdict | str], Task] = {}
        more = True
        while more or under_way:
            while more and len(under_way) < 2 * workers:
                task = None if until(figures) else next(queue, None)
                if task is None:
                    more = False
                    break
                under_way[pool.submit(carry_out, task)] = task
            done, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for each in done:
                _count(figures, under_way.pop(each), each.result())
    return figures


def _count(figures: Figures, task: Task, verdict: Verdict | str) -> None:
    if isinstance(verdict, str):
        figures.bad.append(task.replay)
        print(f"broke off: {task.replay}\n{verdict}", flush=True)
        return
    figures.hours += verdict.hours
    figures.events += verdict.events
    figures.kills += verdict.kills
    figures.asked += verdict.asked
    figures.seeds += task.seed is not None
    figures.crashes += task.crash is not None
    if verdict.violations:
        figures.bad.append(task.replay)
        print(f"{task.replay}", *verdict.violations[:5], sep="\n    ", flush=True)


def simulate(hours: float, first: int, double: int | None, *, points: bool) -> int:
    """Play, and print what came of it. ``double``: so many pairs of crash points; None is all. ``points``: kill at
    every single point of the scenarios too, which is the same in every run."""
    begun = time.monotonic()
    print(f"seeds from {first} on, for {hours:g} simulated hours", flush=True)
    swarm = play_all(
        (Task(seed=seed) for seed in count(first)), until=lambda figures: figures.hours >= hours
    )
    single = singles(home=home()) if points else ()
    crashes = play_all((Task(crash=crash) for crash in single), until=lambda figures: False)
    twice = all_pairs(home=home()) if double is None else pairs(double, home=home(), seed=first)
    doubles = play_all((Task(crash=crash) for crash in twice), until=lambda figures: False)
    bad = swarm.bad + crashes.bad + doubles.bad
    for command in bad:
        print("replay:", command)
    print(
        f"simulated {swarm.hours:.0f} h, {swarm.seeds} seeds, {swarm.events} events, "
        f"{swarm.asked} messages, {swarm.kills} kills; {crashes.crashes} crash points, "
        f"{doubles.crashes} pairs; {len(bad)} violations; {time.monotonic() - begun:.0f} s"
    )
    return 1 if bad else 0


def replay(verdict: Verdict) -> int:
    print(*verdict.story, sep="\n")
    print(*verdict.violations, sep="\n")
    print(f"digest {verdict.digest}, {len(verdict.violations)} violations")
    return 1 if verdict.violations else 0


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="just sim", description=__doc__)
    parser.add_argument("--hours", type=float, default=1000.0, help="simulated hours in all")
    parser.add_argument(
        "--pairs", default=str(PAIRS), help="so many pairs of crash points, or: all"
    )
    parser.add_argument(
        "--no-points",
        action="store_false",
        dest="points",
        help="leave out the kills at every single crash point, which are the same in every run",
    )
    parser.add_argument("--from", type=int, dest="first", help="the first seed; else a fresh one")
    parser.add_argument("--seed", type=int, help="play this one seed and tell its story")
    parser.add_argument("--scenario", choices=[each.__name__ for each in SCENARIOS])
    parser.add_argument("--kill", default="", help="with --scenario: at these points")
    args = parser.parse_args(argv)
    if args.scenario is not None:
        names = [each.__name__ for each in SCENARIOS]
        kill_at = tuple(int(point) for point in args.kill.split(",") if point)
        crash = Crash(names.index(args.scenario), kill_at)
        return replay(play_crash(crash, home=home(), told=True))
    if args.seed is not None:
        return replay(play(args.seed, home=home(), told=True))
    first = args.first if args.first is not None else secrets.randbits(40)
    pairs_wanted = None if args.pairs == "all" else int(args.pairs)
    return simulate(args.hours, first, pairs_wanted, points=args.points)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
