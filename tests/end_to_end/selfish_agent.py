"""An agent that takes all it can get: helpers that never end, tasks that run each other, and many words.

It speaks the protocol by itself, on the standard library alone, as a program that has been talked over would.
"""

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

COMMANDS = "/workspace/ipc/commands"
NOTES = "/workspace/group/tasks.json"
MARKS = ("---PYNCHY_OUTPUT_START---", "---PYNCHY_OUTPUT_END---")
YEAR = 31_536_000

later: list[dict[str, Any]] = []  # prompts that came while we waited for an answer


def frame(**what: Any) -> None:
    sys.stdout.write("\n".join(["", MARKS[0], json.dumps(what), MARKS[1], ""]))
    sys.stdout.flush()


def put(name: str, **args: Any) -> str:
    id = f"{time.time_ns():016x}{os.urandom(8).hex()}"
    aside = Path(COMMANDS, f".{id}")
    aside.write_text(json.dumps({"type": name, "args": args}))
    aside.rename(aside.with_name(f"{id}.json"))
    return id


def call(name: str, **args: Any) -> str:
    """Give a command and wait for its answer."""
    id = put(name, **args)
    for line in sys.stdin:
        said = json.loads(line)
        if said["type"] == "answer" and said["id"] == id:
            return str(said["text"])
        if said["type"] == "prompt":
            later.append(said)
    raise SystemExit


def act(text: str) -> str:
    if "<task" in text:
        tasks = json.loads(Path(NOTES).read_text())
        other = tasks[1] if re.search(r">\s*first\s*<", text) else tasks[0]
        said = call("run_task_now", task_id=other)
        for number in range(15):
            frame(type="result", text=f"{number} {time.time_ns()}", answered=[], session=None)
        return f"the other task: {said}"
    if "take every slot" in text:
        for number in range(10):
            put("delegate", prompt="sleep", wait=number % 2 == 0)
        return "ten helpers are asked for"
    if "run in a circle" in text:
        rhythm = {"schedule_type": "interval", "schedule_value": YEAR, "context_mode": "group"}
        made = [call("schedule_task", prompt=each, **rhythm) for each in ("first", "second")]
        tasks = [re.findall("[0-9a-f]{32}", each)[0] for each in made]
        Path(NOTES).write_text(json.dumps(tasks))
        return call("run_task_now", task_id=tasks[0])
    if "sleep" in text:
        time.sleep(600)
    return "at your service"


def serve(prompt: dict[str, Any]) -> None:
    frame(type="accepted", prompts=[prompt["id"]])
    frame(type="result", text=act(prompt["text"]), answered=[prompt["id"]], session=None)


def main() -> None:
    start = json.loads(sys.stdin.readline())
    frame(type="ready")
    later.extend(start.get("prompts", []))
    while True:
        while later:
            serve(later.pop(0))
        frame(type="idle")
        said = json.loads(sys.stdin.readline() or '{"type": "close"}')
        if said["type"] == "prompt":
            later.append(said)
        elif said["type"] == "close":
            return


if __name__ == "__main__":
    main()
