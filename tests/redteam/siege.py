"""One group's agent attacks with all it has while another group is served by the same daemon.

Everything is real: the daemon, its gateway and database, two sandboxes of bwrap. The attacker is
`hostile_agent.py`, the other group's agent the thirty-line one in shell. What came of it is drawn up from
outside: what the attacker won, what the others were answered and how soon, what changed on the disk, where a
secret turned up, what the audit says.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from math import ceil
from pathlib import Path
from typing import Any, Final

import attrs

from tests.end_to_end.house import Daemon, Talk, running

HERE: Final = Path(__file__).parent
SHELL_AGENT: Final = HERE.parent / "agents" / "shell_agent.sh"
AGENT: Final = "#!/bin/sh\nexec python3 -u /workspace/group/hostile_agent.py\n"
ATTACK: Final = 15  # seconds of one attack; a longer one is several in a row
SOON: Final = 0.05  # seconds between two questions of the group that is served
LONGEST: Final = 0.1  # seconds of the processor that a reader may take of the loop at once
# Tasks that read what the attacker writes.
READERS: Final = ("pynchy.gateway", "stdout", "stderr", "commands", "pynchy.control.server", "turn")
MOST_MEMORY: Final = 32 << 20  # bytes that the daemon may grow by


@attrs.define
class Account:
    """What it came to. `wrong` is empty when the attacker gained nothing."""

    seconds: float
    tried: dict[str, int] = attrs.Factory(dict)
    wrong: list[str] = attrs.Factory(list)
    quiet: list[float] = attrs.Factory(list)  # seconds to each answer before the attack
    besieged: list[float] = attrs.Factory(list)  # and during it
    main: list[float] = attrs.Factory(list)  # the same for main, which was asked first during it
    status: list[float] = attrs.Factory(
        list
    )  # seconds to each answer of the control socket meanwhile
    grown: int = 0  # bytes of the daemon's memory
    held: dict[str, float] = attrs.Factory(dict)  # longest steps of the daemon's loop, by task
    audit: dict[str, int] = attrs.Factory(dict)

    def __str__(self) -> str:
        tries = sum(self.tried.values())
        calm, storm = percentile(self.quiet, 99), percentile(self.besieged, 99)
        lines = [
            f"{tries} tries of {len(self.tried)} kinds within {self.seconds:.0f} s: "
            + ", ".join(f"{count} {kind}" for kind, count in sorted(self.tried.items())),
            f"the other group: {len(self.quiet)} answers in peace, "
            f"p50 {ms(percentile(self.quiet, 50))}, p99 {ms(calm)}; "
            f"{len(self.besieged)} under attack, p50 {ms(percentile(self.besieged, 50))}, p99 {ms(storm)} "
            f"({storm / calm:.1f} times; aim: less than 2)",
            f"main: {len(self.main)} answers under attack, p99 {ms(percentile(self.main, 99))}",
            f"the daemon: status answered within {ms(max(self.status))} at most, grown by {self.grown / 2**20:.1f} MiB",
            "the loop: "
            + ", ".join(f"{task} at most {ms(took)}" for task, took in sorted(self.held.items())),
            f"the audit: {', '.join(f'{action} ({count})' for action, count in sorted(self.audit.items()))}",
            *(f"WRONG: {each}" for each in self.wrong),
        ]
        return "\n".join(lines)


def percentile(values: list[float], share: float) -> float:
    if not values:
        return float("inf")
    return sorted(values)[min(len(values) - 1, int(len(values) * share / 100))]


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


class Asker(threading.Thread):
    """Somebody of another group, who asks again as soon as they are answered."""

    def __init__(self, daemon: Daemon, group: str = "victim") -> None:
        super().__init__(name=f"asker of {group}", daemon=True)
        self.daemon_under_test = daemon
        self.group = group
        self.times: list[float] = []
        self.wrong: list[str] = []
        self.enough = threading.Event()

    def run(self) -> None:
        try:
            with self.daemon_under_test.talk(f"console:{self.group}") as talk:
                number = 0
                while not self.enough.is_set():
                    number += 1
                    began = time.monotonic()
                    said = talk.ask(f"question {number}")
                    self.times.append(time.monotonic() - began)
                    if f"question {number}<" not in said:
                        self.wrong.append(f"{self.group} was answered {said[:200]!r}")
                    talk.events.clear()
                    self.enough.wait(SOON)
        except Exception as error:
            self.wrong.append(f"{self.group} was not answered: {error!r}"[:300])


class Pinger(threading.Thread):
    """Asks the daemon how it is, all the time, and looks at how large it is."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__(name="pinger", daemon=True)
        self.daemon_under_test = daemon
        self.times: list[float] = []
        self.sizes: list[int] = [memory_of(daemon.process.pid)]
        self.enough = threading.Event()

    def run(self) -> None:
        with self.daemon_under_test.talk("console:main") as talk:
            while not self.enough.wait(0.1):
                began = time.monotonic()
                talk.call("status")
                self.times.append(time.monotonic() - began)
                self.sizes.append(memory_of(self.daemon_under_test.process.pid))
                talk.events.clear()


def besiege(root: Path, seconds: int) -> Account:
    """Let one group attack for so long; what came of it."""
    home, canary = root / "home", f"canary-{secrets.token_hex(8)}"
    account = Account(seconds)
    outside = plant(root, home, canary)
    before = tree(outside)
    with running(
        home,
        "bwrap",
        "container.command=sh /workspace/group/agent.sh",
        "limits.containers=4",  # main's, one for each of the two groups, one for a helper
        "limits.drain=1 s",  # its helpers end by force alone
        CANARY=canary,
        AWS_SECRET_ACCESS_KEY=canary,
    ) as daemon:
        with daemon.talk() as owner:
            for folder in ("victim", "hostile"):
                chat = f"console:{folder}"
                owner.call("groups.add", chat=chat, folder=folder, requires_trigger=False)
            equip(home, canary)
            kept = [home / "groups" / each for each in ("victim", "global", "main")]
            ours = {path: tree(path) for path in kept}
            with daemon.talk("console:hostile") as hostile:
                hostile.ask("are you there?")  # both are up before anything is measured
                account.quiet = ask_for(daemon, max(2.0, seconds / 6), account)
                pinger = Pinger(daemon)
                with (
                    asking(daemon, account) as asker,
                    asking(daemon, account, "main") as owners,
                    pinging(pinger),
                ):
                    for _ in range(ceil(seconds / ATTACK)):
                        hostile.say(f"attack {min(seconds, ATTACK)}")
                        add(account, reported(hostile))
                account.besieged, account.status = asker.times, pinger.times
                account.main = owners.times
                hostile.say("forge")
                hostile.wait(lambda event: event.get("text") == "at your service")
                account.grown = max(pinger.sizes) - pinger.sizes[0]
            account.held = held(owner.call("metrics")["text"])
            groups = {each["folder"]: each for each in owner.call("groups.list")}
        daemon.stop()
        assert daemon.process.stdout is not None
        assert daemon.process.stderr is not None
        said = daemon.process.stdout.read() + daemon.process.stderr.read()
    account.audit = judge_audit(audited(home), account)
    if set(groups) != {"main", "victim", "hostile"}:
        account.wrong.append(f"there are other groups than before: {sorted(groups)}")
    if tree(outside) != before:
        account.wrong.append("something outside changed")
    account.wrong += [f"{path.name}/ changed" for path, was in ours.items() if tree(path) != was]
    if not account.main:
        account.wrong.append("main was not served")
    account.wrong += [
        f"{task} held the loop for {ms(took)}"
        for task, took in account.held.items()
        if took > LONGEST and task.startswith(READERS)
    ]
    if account.grown > MOST_MEMORY:
        account.wrong.append(f"the daemon grew by {account.grown >> 20} MiB")
    if canary.encode() in said:
        account.wrong.append("a secret in what the daemon said")
    account.wrong += [f"a secret in {path}" for path in leaks(home, canary)]
    return account


def held(metrics: str) -> dict[str, float]:
    """The longest steps of the daemon's loop in processor time, by the kind of task."""
    steps = re.findall(
        r'^pynchy_loop_longest_step_seconds{task="(.*)"} (.*)$', metrics, re.MULTILINE
    )
    return {task: float(took) for task, took in steps}


def plant(root: Path, home: Path, canary: str) -> Path:
    """Secrets wherever there might be some: outside, in the daemon's home, and in another group's folder."""
    outside = root / "outside"
    (outside / ".ssh").mkdir(parents=True)
    (outside / ".ssh" / "id_ed25519").write_text(canary)
    (outside / "notes.txt").write_text("nothing happened here")
    home.mkdir(mode=0o700)
    (home / ".env").write_text(f"ANTHROPIC_API_KEY={canary}\n")
    (home / ".env").chmod(0o600)
    return outside


def equip(home: Path, canary: str) -> None:
    """Each group has its own agent in its folder, and the one that is served a secret of its own."""
    groups = home / "groups"
    for folder in ("main", "victim"):
        shutil.copy(SHELL_AGENT, groups / folder / "agent.sh")
    (groups / "victim" / "secret.txt").write_text(canary)
    (groups / "hostile" / "agent.sh").write_text(AGENT)
    shutil.copy(HERE / "hostile_agent.py", groups / "hostile" / "hostile_agent.py")


def ask_for(daemon: Daemon, seconds: float, account: Account) -> list[float]:
    with asking(daemon, account) as asker:
        asker.enough.wait(seconds)
    return asker.times[1:]  # its container starts with the first


@contextmanager
def asking(daemon: Daemon, account: Account, group: str = "victim") -> Iterator[Asker]:
    asker = Asker(daemon, group)
    asker.start()
    try:
        yield asker
    finally:
        asker.enough.set()
        asker.join(90)
        account.wrong += asker.wrong


@contextmanager
def pinging(pinger: Pinger) -> Iterator[None]:
    pinger.start()
    try:
        yield
    finally:
        pinger.enough.set()
        pinger.join(90)


def reported(hostile: Talk) -> dict[str, Any]:
    """What the attacker says at the end; what it says meanwhile is its own affair."""
    text = hostile.wait(lambda event: event["event"] == "message" and '{"tried"' in event["text"])
    whole = text["text"]
    while True:
        try:
            found: dict[str, Any] = json.loads(whole)
        except json.JSONDecodeError:
            whole += hostile.reply()
        else:
            return found


def audited(home: Path) -> list[dict[str, Any]]:
    """The audit as the daemon left it: what a run did stands there once the run has ended."""
    with closing(sqlite3.connect(home / "store" / "pynchy.db")) as db:
        rows = db.execute("SELECT actor, action, folder, detail FROM audit ORDER BY id").fetchall()
    names = ("actor", "action", "folder", "detail")
    return [dict(zip(names, (*row[:3], json.loads(row[3])), strict=True)) for row in rows]


def add(account: Account, report: dict[str, Any]) -> None:
    for kind, count in report["tried"].items():
        account.tried[kind] = account.tried.get(kind, 0) + count
    wrong = [f"the attacker won: {each}" for each in report["won"]]
    wrong += [f"an attack broke off: {each}" for each in report["failed"]]
    account.wrong += [each for each in wrong if each not in account.wrong]


def judge_audit(rows: list[dict[str, Any]], account: Account) -> dict[str, int]:
    """One row for each kind and run, however often: how many times each was counted."""
    counted: Counter[str] = Counter()
    lines: Counter[tuple[str, str]] = Counter()
    for row in rows:
        if row["folder"] != "hostile" or row["actor"] != "agent of hostile":
            continue
        if row["action"].startswith(("command refused", "gateway refused")):
            what = row["action"] + str(row["detail"].get("what", ""))
            lines[row["detail"]["run"], what] += 1
            counted[row["action"]] += row["detail"]["count"]
        else:
            counted[row["action"]] += 1
    account.wrong += [f"{n} rows of the audit for {what}" for what, n in lines.items() if n > 1]
    if "command refused: bad file" not in counted:
        account.wrong.append("the audit says nothing of it")
    return dict(counted)


def tree(top: Path) -> str:
    """What is below a folder: names, kinds, modes, bytes."""
    found = hashlib.sha256()
    for folder, folders, files in os.walk(top):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = Path(folder, name)
            seen = path.lstat()
            found.update(f"{path.relative_to(top)} {seen.st_mode} {seen.st_nlink}\n".encode())
            if path.is_file() and not path.is_symlink():
                found.update(path.read_bytes())
    return found.hexdigest()


def leaks(home: Path, canary: str) -> list[str]:
    """Files of the daemon's home that hold the secret, but for those in which it was planted."""
    planted = {home / ".env", home / "groups" / "victim" / "secret.txt"}
    found = []
    for folder, _, files in os.walk(home):
        for name in files:
            path = Path(folder, name)
            if path in planted or path.is_symlink() or not path.is_file():
                continue
            if path.stat().st_size < 1 << 30 and canary.encode() in path.read_bytes():
                found.append(str(path.relative_to(home)))
    return found


def memory_of(pid: int) -> int:
    """Bytes that a process holds in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
