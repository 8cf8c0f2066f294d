"""Planted bugs: each changes one place of the real code, in a process of its own, and the simulation
must notice.

They test the tests. A bug is a replacement in the source of one module, which is then loaded in the
place of the real one; nothing of it is ever on disk. `just mutants` plants all and prints how many
died. A bug whose place no longer exists is an error: the list must follow the code.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import attrs

from tests.simulation.crashes import SCENARIOS, Crash, play_crash
from tests.simulation.play import Verdict, make_home, play
from tests.simulation.troubles import STORIES, play_story

SEEDS: Final = 200  # a bug must die within so many
FEW: Final = 10  # of which so many come before the kills
ONE_BUG: Final = 400.0  # seconds; whatever takes longer counts as alive


@attrs.frozen
class Bug:
    """What is planted: ``old`` becomes ``new`` in the source of ``module``, where it must stand once."""

    name: str
    module: str
    old: str
    new: str


BUGS: Final = (
    Bug(
        "a message is acknowledged before it is stored",
        "pynchy.chat.receiver",
        "        wake: dict[GroupId, None] = {}  # in order, each once\n",
        "        wake: dict[GroupId, None] = {}\n"
        "        for early in batch:\n"
        "            if isinstance(early, Incoming) and early.number is not None:\n"
        "                await self._let_go(early.number)\n",
    ),
    Bug(
        "a prompt counts as answered when it is handed over",
        "pynchy.store.claims",
        '            "AND accepted_at IS NULL",\n            (tx.now, prompt_id, run),\n        )\n',
        '            "AND accepted_at IS NULL",\n            (tx.now, prompt_id, run),\n        )\n'
        '        for (turn,) in tx.execute("SELECT id FROM turns WHERE prompt_id = ? AND ended_at IS NULL", '
        "(prompt_id,)).fetchall():\n"
        '            turns.end(tx, turn, "done")\n',
    ),
    Bug(
        "a fresh id for each try",
        "pynchy.chat.sender",
        "                await channel.send(out)\n",
        "                await channel.send(attrs.evolve(out, message_id=out.message_id + str(self._now())))\n",
    ),
    Bug(
        "messages are found by their time",
        "pynchy.store.claims",
        '"WHERE chat = ? AND triggers = 1 AND gone IS NULL AND seq > ? ORDER BY seq LIMIT ?",',
        '"WHERE chat = ? AND triggers = 1 AND gone IS NULL AND sent_at > coalesce((SELECT sent_at FROM inbox '
        'AS older WHERE older.seq = ?), 0) ORDER BY seq LIMIT ?",',
    ),
    Bug(
        "an entry leaves the outbox before it is sent",
        "pynchy.store.outbox",
        "\"UPDATE outbox SET state = 'sending', attempt = attempt + 1, tried_at = ?2 WHERE id = ?1 \"",
        "\"UPDATE outbox SET state = 'sent', sent_at = ?2, attempt = attempt + 1, tried_at = ?2 WHERE id = ?1 \"",
    ),
    Bug(
        "containers of an earlier life are left alone",
        "pynchy.daemon.recovery",
        "        await at.runtime.remove(name)\n",
        "        pass\n",
    ),
    Bug(
        "reply and cursor in two commits",
        "pynchy.groups.turn",
        "        pieces = split_reply(text) if text else []\n",
        "        pieces: list[str] = []\n",
    ),
    Bug(
        "a slot leaks when a run fails",
        "pynchy.groups.turn",
        "    await handle.ended(again=left.ready, retry_after=left.retry_after)\n",
        "    if work.failure is None:\n"
        "        await handle.ended(again=left.ready, retry_after=left.retry_after)\n",
    ),
    Bug(
        "retries are forgotten",
        "pynchy.groups.turn",
        "    await handle.ended(again=left.ready, retry_after=left.retry_after)\n",
        "    await handle.ended(again=left.ready, retry_after=None)\n",
    ),
    Bug(
        "what came during a run is forgotten at its end",
        "pynchy.groups.queue",
        "        if event.again:\n            mine.setdefault(group)\n",
        "        mine.pop(group, None)\n",
    ),
    Bug(
        "a wake-up is lost: the sender does not hear its bell",
        "pynchy.chat.sender",
        '        """Look again: there may be more to send."""\n        self._told.set()\n',
        '        """Look again: there may be more to send."""\n',
    ),
    Bug(
        "a run is over before its container is gone",
        "pynchy.groups.turn",
        "                        self.agent.close()\n                        if self.handle.prewarm",
        "                        self.agent.close()\n"
        "                        await self.handle.ended(again=True)\n"
        "                        if self.handle.prewarm",
    ),
    Bug(
        "given up without a word",
        "pynchy.store.turn_failures",
        '    if turn.kind != "delegate":  # its parent is told',
        '    if turn.kind == "nothing":  # its parent is told',
    ),
    Bug(
        "a failure is never given up",
        "pynchy.policy.failures",
        "    if same > tries or",
        "    if",
    ),
    Bug(
        "follow-ups are left lying while the agent works",
        "pynchy.groups.turn",
        "                    case Asked.LOOK:\n                        await self._look()\n",
        "                    case Asked.LOOK:\n"
        "                        if not self.owed:\n"
        "                            self.resting = False\n",
    ),
    Bug(
        "a doubtful send counts as sent",
        "pynchy.store.outbox",
        "\"UPDATE outbox SET state = 'uncertain', error = ? WHERE id = ? AND state = 'sending' \"",
        "\"UPDATE outbox SET state = 'sent', sent_at = 1, error = ? WHERE id = ? AND state = 'sending' \"",
    ),
    Bug(
        "what was in flight at a crash is forgotten",
        "pynchy.store.outbox",
        "f\"WHERE state = 'sending' AND {_OPEN}\",\n        (tx.now,),\n    ).rowcount",
        "f\"WHERE state = 'sending' AND {_OPEN} AND 0\",\n        (tx.now,),\n    ).rowcount",
    ),
    Bug(
        "what an interrupted run held is not given back",
        "pynchy.store.runs",
        '        turn_failures.release(tx, RunId(run), message="the daemon stopped")\n',
        "",
    ),
    Bug(
        "an idle container keeps its slot",
        "pynchy.groups.queue",
        "        for group in [each for each in self._idle if self._must_leave(each)]:\n",
        "        if not self._draining:\n            return\n"
        "        for group in [each for each in self._idle if self._must_leave(each)]:\n",
    ),
    Bug(
        "a command is carried out again when it comes again",
        "pynchy.actions.commands",
        "    known = journal.answered(tx, given.folder, given.id, given.sha256)\n",
        "    known = None\n    tx.execute('DELETE FROM journal WHERE command_id = ?', (given.id,))\n",
    ),
    Bug(
        "a command's file is removed before it is carried out",
        "pynchy.ipc.watcher",
        "            command = wire.decode_command(data)\n",
        "            command = wire.decode_command(data)\n            spool.remove(name)\n",
    ),
    Bug(
        "nobody is rung at the start",
        "pynchy.daemon.effects",
        "        for group in sessions:\n            await self.messages(group)\n",
        "",
    ),
    Bug(
        "a live run is not rung",
        "pynchy.groups.dispatcher",
        "                    live[group, None].ring.send_nowait(None)\n",
        "                    pass\n",
    ),
    Bug(
        "a reply that is long is cut",
        "pynchy.groups.turn",
        "        pieces = split_reply(text) if text else []\n",
        "        pieces = split_reply(text)[:1] if text else []\n",
    ),
    Bug(
        "an agent is handed more than its results can name",
        "pynchy.groups.turn",
        "        while len(self.owed) < AGENTS.owed:\n",
        "        while True:\n",
    ),
    Bug(
        "what spoke is asked anew",
        "pynchy.store.claims",
        "        resume=bool(spoke),\n",
        "        resume=False,\n",
    ),
    Bug(
        "an exit that owes an answer is nobody's fault",
        "pynchy.groups.turn",
        'self._judged(Trouble("agent", words))\n                        return "exited"',
        'self._judged(Trouble("interrupted", words))\n                        return "exited"',
    ),
    Bug(
        "what falls due rings no bell",
        "pynchy.daemon.scheduler",
        "                await self.due(group)\n",
        "                pass\n",
    ),
    Bug(
        "the scheduler looks once",
        "pynchy.daemon.scheduler",
        "            await self._until(min(moments, default=None), clock)\n",
        "            await self._until(None, clock)\n",
    ),
    Bug(
        "how a scheduled turn ended is not written down",
        "pynchy.store.turns",
        "        task_rows.settle(tx, turn, state)\n",
        "        pass\n",
    ),
    Bug(
        "every group tries for itself while the model does not answer",
        "pynchy.store.claims",
        "    if (hold := holds.closed(held, now=tx.now)) is not None:\n",
        "    if (hold := holds.closed(held, now=tx.now)) is not None and not run:\n",
    ),
    Bug(
        "the first answer lets nobody go",
        "pynchy.store.holds",
        "UPDATE turns SET retry_at = min(retry_at, ?2), waits_for",
        "UPDATE turns SET retry_at = max(retry_at, ?2), waits_for",
    ),
    Bug(
        "an outage is given up after an hour",
        "pynchy.policy.failures",
        "            until = after(past.since, by.terms.outage)\n",
        "            until = after(past.since, HOUR)\n",
    ),
    Bug(
        "a limit is tried before its moment",
        "pynchy.policy.failures",
        "            at = max(soon, after(trouble.moment, 1.0 + by.jitter))\n",
        "            at = soon\n",
    ),
    Bug(
        "a new key is taken up and nobody is told",
        "pynchy.daemon.effects",
        '        self.well_again(await self.store.call(holds.lift_kind, "credential"))\n',
        "        pass\n",
    ),
    Bug(
        "a key that is refused is tried every hour",
        "pynchy.policy.failures",
        "            return Verdict(after(now, FOREVER))\n",
        "            return Verdict(after(now, HOUR))\n",
    ),
    Bug(
        "an account without credit is asked every minute",
        "pynchy.policy.failures",
        "            return Verdict(after(now, HOUR))\n",
        "            return Verdict(after(now, MINUTE))\n",
    ),
    Bug(
        "a budget is there again a day too late",
        "pynchy.policy.failures",
        "timedelta(days=1)",
        "timedelta(days=2)",
    ),
    Bug(
        "what a setting refuses is tried again",
        "pynchy.policy.failures",
        '        Again.NEVER,\n        ends="I may not do that: {reason}.",\n',
        '        Again.ONCE,\n        ends="I may not do that: {reason}.",\n',
    ),
    Bug(
        "a conversation that is refused is gone on with",
        "pynchy.policy.failures",
        "    anew = bool(row.anew) and same == tries\n",
        "    anew = False\n",
    ),
    Bug(
        "a new conversation is begun without a word",
        "pynchy.store.serving",
        "            for chat in dict.fromkeys(each.chat for each in anew):\n",
        "            for chat in ():\n",
    ),
    Bug(
        "a conversation that has grown too long is given up at once",
        "pynchy.policy.failures",
        '    "context": Row(\n        Again.ONCE,\n',
        '    "context": Row(\n        Again.NEVER,\n',
    ),
    Bug(
        "what was said before a refusal is thrown away",
        "pynchy.groups.turn",
        "        if final and clean_reply(error.text) is not None:\n",
        "        if final and error.text is None and error.prompts == ():\n",
    ),
    Bug(
        "a refusal is bought twice",
        "pynchy.policy.failures",
        '    "refusal": Row(Again.NEVER, ',
        '    "refusal": Row(Again.ONCE, ',
    ),
    Bug(
        "an output limit is reached twice",
        "pynchy.policy.failures",
        '    "output_limit": Row(\n        Again.NEVER,\n',
        '    "output_limit": Row(\n        Again.ONCE,\n',
    ),
    Bug(
        "an engine that is down is the message's fault",
        "pynchy.groups.turn",
        '        return Trouble("machine", str(error), sure=True)\n',
        '        return Trouble("agent", str(error), sure=True)\n',
    ),
    Bug(
        "a slow start is killed",
        "pynchy.groups.turn",
        "            self.deadlines.stirred()",
        "            pass",
    ),
    Bug(
        "what nobody knows is tried three times",
        "pynchy.policy.failures",
        "{Again.ONCE: 1, ",
        "{Again.ONCE: 3, ",
    ),
    Bug(
        "an agent's word for an outage is believed",
        "pynchy.policy.failures",
        "    if said.kind in SEEN_BY_THE_HOST:\n",
        "    if said.kind in SEEN_BY_THE_HOST and said.kind != 'outage':\n",
    ),
    Bug(
        "a chat is told of the same outage again and again",
        "pynchy.store.notices",
        "    lasted = 0.0 if since is None else (tx.now - since) / 1e6 + 1.0\n",
        "    lasted = 0.0\n",
    ),
    Bug(
        "a chat that waits behind others is not told",
        "pynchy.store.turn_failures",
        '    words = words if more is None else f"{words} {more}"\n',
        "    if turn.attempt == 0:\n        return False\n",
    ),
)


def planted(bug: Bug) -> str:
    """The source of a bug's module with the bug in it."""
    source = inspect.getsource(importlib.import_module(bug.module))
    if (places := source.count(bug.old)) != 1:
        raise LookupError(f"{bug.name}: its place stands {places} times in {bug.module}")
    return source.replace(bug.old, bug.new)


def plant(bug: Bug) -> None:
    """Load a module with the bug in the place of the real one, for this process."""
    source = planted(bug)
    module = sys.modules[bug.module]
    exec(compile(source, str(module.__file__), "exec"), module.__dict__)  # noqa: S102


def plays(home: Path) -> Iterator[Verdict]:
    """The scenarios, the stories of failures, some seeds, kills at every point of the scenarios, more seeds.

    A kill at a point costs a hundredth of a seed, and a window between two writes is a few points
    wide: a seed seldom dies in it, the enumeration always does.
    """
    counts = []
    for scenario in range(len(SCENARIOS)):
        verdict = play_crash(Crash(scenario, ()), home=home)
        counts.append(verdict.points)
        yield verdict
    for story in STORIES:
        yield play_story(story, home=home)
    for seed in range(1, FEW + 1):
        yield play(seed, home=home)
    for scenario, points in enumerate(counts):
        for point in range(1, points + 1):
            yield play_crash(Crash(scenario, (point,)), home=home)
    for seed in range(FEW + 1, SEEDS + 1):
        yield play(seed, home=home)


def hunt(number: int) -> int:
    """In a process of its own: plant a bug and play until something is wrong.

    A daemon that falls over it has noticed it, too; what fails before anything is played has not.
    """
    plant(BUGS[number])
    with tempfile.TemporaryDirectory() as folder:
        home = make_home(Path(folder))
        count = 0
        try:
            for verdict in plays(home):
                count += 1
                if verdict.violations:
                    print(f"play {count}: {verdict.violations[0]}")
                    return 0
        except Exception as error:
            while isinstance(error, ExceptionGroup):
                error = error.exceptions[0]
            print(f"play {count + 1}: the daemon fell: {type(error).__name__}: {error}")
            return 0
    return 3


def kill(number: int) -> str | None:
    """How a bug died, or None."""
    argv = [sys.executable, "-m", "tests.simulation.mutants", "--hunt", str(number)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=ONE_BUG)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode == 3:
        return None
    if done.returncode != 0:
        raise SystemExit(f"{BUGS[number].name}: could not be planted\n{done.stderr}")
    return done.stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(prog="just mutants", description=__doc__)
    parser.add_argument("--hunt", type=int, help=argparse.SUPPRESS)
    parser.add_argument("bugs", type=int, nargs="*", help="numbers of some; else all")
    options = parser.parse_args()
    if options.hunt is not None:
        return hunt(options.hunt)
    numbers = options.bugs or list(range(len(BUGS)))
    begun = time.monotonic()
    alive = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, end in zip(numbers, pool.map(kill, numbers), strict=True):
            alive += end is None
            print(
                f"{number:3} {'ALIVE' if end is None else 'killed'}  {BUGS[number].name}: {end}"[
                    :200
                ],
                flush=True,
            )
    print(
        f"{len(numbers) - alive} of {len(numbers)} planted bugs killed; {time.monotonic() - begun:.0f} s"
    )
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
