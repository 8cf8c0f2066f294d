"""`just bench --peers`: the daemon beside other assistants that a registry has, on the same machine in the same run.

They are installed first, with the network, each into a folder of its own in the user's cache. What is measured then
runs in namespaces of its own: a network with nothing but loopback, so that nothing reaches outside whatever a program
tries, and processes of its own, so that all that runs there is the system whose turn it is, and none of it stays.
Each round has every system once, every other round backwards; whatever else the machine does happens to all.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import attrs

from tests.benchmarks.others import (
    OTHERS,
    PATIENCE,
    Place,
    Say,
    System,
    Trouble,
    environment,
    ours,
)
from tests.benchmarks.recorder import Recorder, open_recorder
from tests.processes import processor_time, switches, until_quiet

STARTING = 120.0  # seconds until a daemon is ready
SETTLING = 20.0  # seconds until what it does after that is done, at most
IDLE = 10.0  # seconds that an idle one is looked at
MESSAGES = 5  # of each round, after its first
LIMIT = 3600.0  # seconds for all of it

#: In the order of the page; the unit of each.
FIGURES = {
    "--version": "ms",
    "start to ready": "ms",
    "idle memory, its share (PSS)": "MB",
    "idle memory, resident (RSS)": "MB",
    "idle wake-ups": "per s",
    "idle processor time": "ms per s",
    "first message after a start to model request": "ms",
    "later message to model request": "ms",
    "memory with one conversation (PSS)": "MB",
}

LOAD = "beside others: load of the machine, one-minute average"
NOT = "not measured: "

Row = dict[str, Any]
Taken = tuple[str, str, list[float]]  # figure, unit, values


# --- outside ---------------------------------------------------------------------------------------


def measured(engine: str, rounds: int) -> Iterator[Taken]:
    """The figures of every system, as they come; of one that cannot be measured a line that says why."""
    there = []
    for system in OTHERS:
        _tell(f"{system.label}: looking whether it is installed")
        try:
            _installed(system)
        except Trouble as trouble:
            yield _why(system, trouble)
        else:
            there.append(system.name)
    # As whoever we are: root here may give files to others, which a root of its own namespace cannot.
    argv = ["unshare", *([] if os.geteuid() == 0 else ["--map-current-user", "--keep-caps"])]
    argv += ["--net", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable]
    argv += ["-m", "tests.benchmarks.peers", engine, str(rounds), *there]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        timer = threading.Timer(LIMIT, process.kill)
        timer.start()
        try:
            for line in process.stdout:
                name, unit, values = json.loads(line)
                yield name, unit, values
            process.wait()
        finally:
            timer.cancel()
            process.kill()  # all that it started ends with it
    if process.returncode != 0:
        _tell(
            f"the measuring ended with {process.returncode}: it needs `unshare` with user namespaces, and "
            f"at most {LIMIT:g} s"
        )


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pynchy-bench-peers"


def _folder(system: System) -> Path:
    if system.install is None:
        return Path(sys.executable).parent
    return _cache() / f"{system.name}-{system.version}"


def _installed(system: System) -> None:
    """See that it is: what was broken off is done anew."""
    folder = _folder(system)
    if system.install is None or (folder / "complete").exists():
        return
    _tell(f"{system.label}: installing it into {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    system.install(system, folder)
    (folder / "complete").touch()


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _why(system: System, trouble: Trouble) -> Taken:
    return f"{system.label}: {NOT}{trouble}", "", [0.0]


# --- inside ----------------------------------------------------------------------------------------


def _loopback_up() -> None:
    """A new network has a loopback that is down."""
    up = struct.pack("16sH14x", b"lo", 0x1 | 0x40)  # IFF_UP, IFF_RUNNING
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8914, up)  # SIOCSIFFLAGS
    # What we needed for that, nobody whom we start is to have: PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL.
    ctypes.CDLL(None).prctl(47, 4, 0, 0, 0)


@attrs.define(eq=False)
class Run:
    """One system in this run: its place, and what was seen of it."""

    system: System
    place: Place
    recorder: Recorder
    env: dict[str, str] = attrs.field(factory=dict)
    seen: dict[str, list[float]] = attrs.field(factory=lambda: defaultdict(list))
    last: deque[str] = attrs.field(factory=lambda: deque(maxlen=3))  # lines that it wrote
    trouble: Trouble | None = None
    said: int = 0

    def prepare(self) -> None:
        """Its first start, which nobody measures: it sets itself up, and has been spoken to once."""
        self.env = environment(self.place, {})
        self.env |= self.system.prepare(self.place)
        with self._running():
            self.system.introduce(self.place)
            with self.system.door(self.place) as say:
                self._ask(say)
        self.seen.clear()

    def round(self) -> None:
        began = time.perf_counter()
        argv = [str(self.place.installed / self.system.program), "--version"]
        try:
            self._command(argv)
        except subprocess.SubprocessError as error:
            raise Trouble(f"`--version` failed: {error}") from None
        self._see("--version", (time.perf_counter() - began) * 1000)
        with self._running():
            until_quiet(_processor_time, SETTLING)
            share, resident = _memory()
            self._see("idle memory, its share (PSS)", share)
            self._see("idle memory, resident (RSS)", resident)
            wakeups, busy = _idle(IDLE)
            self._see("idle wake-ups", wakeups)
            self._see("idle processor time", busy * 1000)
            with self.system.door(self.place) as say:
                self._see("first message after a start to model request", self._ask(say))
                for _ in range(MESSAGES):
                    time.sleep(0.3)  # what follows an answer is done
                    self._see("later message to model request", self._ask(say))
                time.sleep(0.3)
                self._see("memory with one conversation (PSS)", _memory()[0])

    def _see(self, figure: str, value: float) -> None:
        self.seen[figure].append(value)

    def _ask(self, say: Say) -> float:
        """Milliseconds from a message to the first request that carries its words."""
        self.said += 1
        words = f"hello-{self.system.name}-{self.said:04d}"
        try:
            began = say(words)
        except (OSError, ValueError, AssertionError) as error:
            raise Trouble(f"a message was not answered: {repr(error)[:200]}") from None
        arrived = self.recorder.first(words, 1)
        if arrived is None:
            raise Trouble("no model request carried the message")
        return (arrived - began) * 1000

    def _command(self, argv: Sequence[str]) -> None:
        subprocess.run(
            argv,
            env=self.env,
            cwd=self.place.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=True,
        )

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Its daemon from the moment it is ready to the end of the block; nothing of it stays."""
        began = time.perf_counter()
        process = subprocess.Popen(
            self.system.argv(self.place),
            env=self.env,
            cwd=self.place.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        ready = threading.Event()
        reader = threading.Thread(target=self._read, args=(process, ready), daemon=True)
        reader.start()
        try:
            if not ready.wait(STARTING) or process.poll() is not None:
                raise Trouble(f"it was not ready within {STARTING:g} s: {' / '.join(self.last)}")
            while self.system.port and not _listens(self.system.port):
                if time.perf_counter() - began > STARTING:
                    raise Trouble(f"nothing listened on port {self.system.port}")
                time.sleep(0.002)
            self._see("start to ready", (time.perf_counter() - began) * 1000)
            yield
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            _end_everything()
            process.wait()
            reader.join(5)

    def _read(self, process: subprocess.Popen[bytes], ready: threading.Event) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            text = COLOURS.sub("", line.decode(errors="replace")).strip()
            self.last.append(text[:200])
            if self.system.ready in text:
                ready.set()
        ready.set()  # it wrote its last


COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def _listens(port: int) -> bool:
    """Whether something does, without a connection that it would have to wonder about."""
    wanted = f":{port:04X}"
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    return any(line.split()[1].endswith(wanted) and line.split()[3] == "0A" for line in lines)


def _everyone() -> list[int]:
    """Every process here but ourselves: who measures is the first of this namespace."""
    return [
        int(each.name)
        for each in Path("/proc").iterdir()
        if each.name.isdigit() and each.name != "1"
    ]


def _memory() -> tuple[float, float]:
    """Of all of them, in MB: each page by how many share it, and each as often as it is mapped."""
    share = resident = 0
    for process in _everyone():
        with suppress(OSError):  # it ended while we looked
            for line in (
                Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
            ):
                if line.startswith("Pss:"):
                    share += int(line.split()[1])
                elif line.startswith("Rss:"):
                    resident += int(line.split()[1])
    return share / 1024, resident / 1024


def _processor_time() -> float:
    """Of all of them so far, in seconds."""
    return sum(map(processor_time, _everyone()))


def _switches() -> dict[str, int]:
    """Of each thread of all of them."""
    return {task: count for each in _everyone() for task, count in switches(each).items()}


def _idle(seconds: float) -> tuple[float, float]:
    """Wake-ups and processor seconds of a second."""
    before, spent = _switches(), _processor_time()
    time.sleep(seconds)
    # One that ended meanwhile is not counted, one that began is counted whole.
    woken = sum(count - before.get(task, 0) for task, count in _switches().items())
    return woken / seconds, max(0.0, _processor_time() - spent) / seconds


def _end_everything() -> None:
    """No process of a system outlives its turn; those whose parents are gone are ours to bury."""
    deadline = time.monotonic() + 10
    while (left := _everyone()) and time.monotonic() < deadline:
        for process in left:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.02)


def _end_with_parent() -> None:
    """Nobody ever writes to our input: it ends when whoever started us is gone, however they went."""
    os.read(0, 1)
    os._exit(1)  # the first process of a namespace takes all others with it


def _inside(engine: str, rounds: int, names: Sequence[str]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _loopback_up()
    systems = [ours(version("pynchy")), *(each for each in OTHERS if each.name in names)]
    with open_recorder() as recorder, tempfile.TemporaryDirectory(prefix="pynchy-peers-") as root:
        runs = []
        for number, system in enumerate(systems):
            home = Path(root) / str(number)  # short: a socket's path has a bound
            home.mkdir()
            runs.append(Run(system, Place(_folder(system), home, recorder.port, engine), recorder))
        for run in runs:
            _tell(f"{run.system.label}: its first start")
            _try(run, run.prepare)
        loads = []
        for number in range(rounds):
            loads.append(os.getloadavg()[0])
            for run in runs[:: -1 if number % 2 else 1]:
                if run.trouble is None:
                    _tell(f"round {number + 1} of {rounds}: {run.system.label}")
                    _try(run, run.round)
    for run in runs:
        for figure, unit in FIGURES.items():
            if values := run.seen.get(figure):
                _hand_out((f"{run.system.label}: {figure}", unit, values))
        if run.trouble is not None:
            _hand_out(_why(run.system, run.trouble))
    _hand_out((LOAD, "", loads))


def _hand_out(taken: Taken) -> None:
    """To the process outside."""
    sys.stdout.write(json.dumps(taken) + "\n")
    sys.stdout.flush()


def _try(run: Run, step: Callable[[], None]) -> None:
    try:
        step()
    except (Trouble, OSError) as error:  # contained here, and only here: one system's trouble
        run.trouble = error if isinstance(error, Trouble) else Trouble(repr(error))
        _tell(f"{run.system.label}: {run.trouble}")


# --- the page --------------------------------------------------------------------------------------


def concerns(row: Row) -> bool:
    """Whether a figure is of this page's part: what it is of is before the colon, with its version."""
    name = row["figure"].partition(": ")[0].rpartition(" ")[0]
    return row["figure"] == LOAD or name in {"Pynchy", *(each.name for each in OTHERS)}


def section(figures: Sequence[Row]) -> str:
    """The page's part on others: a column for each, and what may be compared."""
    rows = {row["figure"]: row for row in figures if concerns(row)}
    if LOAD not in rows:
        return ""
    names = dict.fromkeys(name.partition(": ")[0] for name in rows if name != LOAD)
    lacking = [name for name in rows if f": {NOT}" in name]
    systems = [name for name in names if any(f"{name}: {figure}" in rows for figure in FIGURES)]
    lines = ["", "## Beside others", "", *INTRODUCTION.strip().splitlines(), ""]
    lines.append(f"| figure | {' | '.join(systems)} |")
    lines.append(f"| --- |{' ---: |' * len(systems)}")
    for figure, unit in FIGURES.items():
        cells = [_cell(rows.get(f"{system}: {figure}")) for system in systems]
        lines.append(f"| {figure}, {unit} | {' | '.join(cells)} |")
    load = rows[LOAD]
    rounds = f"{load['runs']} rounds"
    loaded = f"Load, the one-minute average at the start of each round: {load['median']}."
    lines += [
        "",
        f"Medians of {rounds} ({MESSAGES} later messages in each), the best in brackets. {loaded}",
    ]
    if lacking:
        lines += ["", "Not measured, or not to the end:", "", *(f"- {each}" for each in lacking)]
    lines += ["", "Ready, and the door that the messages came through:", ""]
    for system in (ours(version("pynchy")), *OTHERS):
        port = f", and port {system.port} listens" if system.port else ""
        said = f"`{system.argv_shown()}` has written `{system.ready}`{port}"
        lines.append(f"- {system.name}: {said}; {system.spoken}.")
    return "\n".join([*lines, *CLOSING.splitlines()]) + "\n"


def _cell(row: Row | None) -> str:
    return "" if row is None else f"{_rounded(row['median'])} ({_rounded(row['best'])})"


def _rounded(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


INTRODUCTION = """
Written by `just bench --peers`: assistants that a package registry has, at fixed versions, each with its dependencies
as of its release, measured in turn on this machine. All of them ask the same model, a server on loopback that answers
at once; the network has nothing but loopback; no messenger is connected, no key is real. Settings are the defaults
beyond the model, one local door and a log that says when it is ready.
"""

CLOSING = """
What this compares, and what not:

- The programs do different things. Some bring a web interface, a browser, a memory with an index, or dozens of
  messengers, and load them at the start; Pynchy brings few. A figure is what an installation costs before anything
  is made use of, and says nothing of what one gets for it.
- Pynchy runs each group's agent in a container of its own, with the Claude CLI in it, and passes model requests
  through a gateway that writes each into a book on the disk. The others, set up like this, run no sandbox and ask the
  model from the daemon's own process. So the first message costs more here (a container and the CLI start), a later
  one passes more processes, and the memory with one conversation has the container in it.
- "First message" is the first after a start, in a new group here and in the one conversation elsewhere (letta's API
  begins a new one for each request); what is loaded late is loaded then. Time ends when the first line of the first
  model request that carries the words arrives.
- Memory and wake-ups are of all processes of a system, from when it has been quiet for two seconds, or twenty seconds
  after it was ready. PSS divides a page among all who map it, of other programs, too; RSS counts it for each.
- Without a network, what a program looks up at its start (a catalogue of models, a newer version, a helper to
  download) fails at once; with one it may take longer, or less where an answer spares work.
- Answers, tools, quality and load of many chats are not compared.
"""


if __name__ == "__main__":
    _inside(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
