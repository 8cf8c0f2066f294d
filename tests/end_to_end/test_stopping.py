"""/stop, with everything real but the model: what works is over, with all its processes, and it is said."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.edges.runtimes import living
from tests.end_to_end.house import HANG, Talk, running, sandboxes_of

#: Sixty processes, each of which leaves a child in its place a hundred times a second: no list of them is
#: true for long, so that only what holds them all can end them. (More, and they end at the limit.)
BOMB = """
import os, sys, time
def forked():
    while True:
        try: return os.fork()
        except OSError: time.sleep(0.01)
for _ in range(60):
    if forked() == 0:
        os.setsid()
        while True:
            if forked(): os._exit(0)
            time.sleep(0.01)
open("lit", "w").close()
time.sleep(1000)
"""


@pytest.mark.parametrize("work", ["a long command", "a fork bomb"])
def test_stop_ends_all_that_works_and_says_so(
    tmp_path: Path, work: str, record_property: Callable[[str, object], None]
) -> None:
    # threat X1
    home, marker = tmp_path / "home", f"marker-{time.time_ns()}"
    with running(home, "bwrap") as daemon, daemon.talk() as talk:
        assert talk.ask("echo warm") == "warm"
        if work == "a long command":
            talk.say(f"bash touch lit; exec -a {marker} sleep 1000")
        else:
            script = daemon.home.groups / "main" / "bomb.py"
            script.write_text(BOMB)
            script.chmod(0o644)
            talk.say(f"bash python3 bomb.py {marker}")
        _until(lambda: (daemon.home.groups / "main" / "lit").exists() and bool(living(marker)))
        began = time.monotonic()
        said = talk.ask("/stop")
        told = time.monotonic() - began
        _until(lambda: not living(marker))
        over = time.monotonic() - began
        assert "Stopped" in said
        record_property(f"/stop during {work}", f"told after {told:.3f} s, over after {over:.3f} s")
        # What was stopped says nothing more, and the next thing asked for is answered.
        talk.say("echo what comes next")
        assert _said(talk) == "what comes next"
        assert daemon.stop() == 0
    assert sandboxes_of(home) == []


#: An agent that answers, and then neither ends nor lets itself be asked to.
STAYS = """
import json, os, signal, sys
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)
def frame(**fields):
    print("---PYNCHY_OUTPUT_START---", json.dumps(fields), "---PYNCHY_OUTPUT_END---", sep="\\n", flush=True)
def serve(prompt):
    frame(type="accepted", prompts=[prompt["id"]])
    frame(type="result", text="here", answered=[prompt["id"]], session=None)
    frame(type="idle")
start = json.loads(sys.stdin.readline())
if os.fork() == 0:
    os.setsid()
    while True: signal.pause()
frame(type="ready")
for prompt in start["prompts"]: serve(prompt)
while True:
    if line := sys.stdin.readline():
        if json.loads(line)["type"] == "prompt": serve(json.loads(line))
    else: signal.pause()
"""


@pytest.mark.parametrize("door", ["groups stop", "/stop"])
def test_an_agent_that_has_answered_and_stays_is_ended_too(tmp_path: Path, door: str) -> None:
    """Warm, it is asked nothing: what it still runs is what it was told to run by whoever talked it over."""
    # threat S5
    home = tmp_path / "home"
    (home / "groups" / "main").mkdir(parents=True)
    home.chmod(0o700)
    (home / "groups" / "main" / "stays.py").write_text(STAYS)
    command = "container.command=python3 /workspace/group/stays.py"
    with running(home, "bwrap", command) as daemon, daemon.talk() as talk:
        sandboxes = f"pynchy-{daemon.home.install_id.read_text().strip()}-"
        assert talk.ask("are you there?") == "here"
        assert living(sandboxes)
        if door == "/stop":
            assert "is stopped" in talk.ask("/stop")
        else:
            told = talk.call("groups.stop", folder="main")
            assert told == {"folder": "main", "stopped": 0, "ended": True}
        _until(lambda: not living(sandboxes))
        assert talk.ask("and now?") == "here", "the next message has an agent of its own"
        talk.call("groups.stop", folder="main")
        _until(lambda: not living(sandboxes))
        assert daemon.stop() == 0
    assert sandboxes_of(home) == []


def _said(talk: Talk) -> str:
    return str(talk.wait(lambda event: event["event"] == "message")["text"])


def _until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HANG
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)
