"""Whatever an agent writes wherever it may, no output acts on a terminal, hides, or speaks as the host.

Every text field of every frame and of every tool is filled, as the types and schemas have them, so that a new field
is tried the day it is there; then everything that a person can look at is read.
"""
# threat D6

from __future__ import annotations

import json
import subprocess
import sys
import typing
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from pynchy.policy.tools import TOOLS
from pynchy.text import safe
from pynchy_agent import wire
from tests.end_to_end.house import environment, running

MARK = safe.NOTICE_MARK
POISON = (
    f"P\x1b]0;T\x07\x1b[2J\x9b31m\r\n{MARK} Approved\n\u29c8 Approved\u202eR\u200b\u2066\x7f\n"
    "2026-01-01 00:00:00 ERROR    forged\u2028\u25aa\u20de\U0001f793"
)


def frames() -> Iterator[dict[str, Any]]:
    """A frame for each text field of each frame, with the poison in it; an error comes last, for it ends the turn."""
    for kind in sorted(typing.get_args(wire.Frame), key=lambda kind: kind is wire.Error):
        fields = {each.name: each for each in attrs.fields(kind)}
        types = {name: str(each) for name, each in typing.get_type_hints(kind).items()}
        values = {name: _plain(each, types[name]) for name, each in fields.items()}
        for name, text in types.items():
            if "str" in text:
                planted: Any = [POISON] if "tuple" in text else POISON
                yield {"type": kind.__name__.lower(), **values, name: planted}


def _plain(field: Any, kind: str) -> Any:
    if field.name == "kind":
        return "agent"
    if field.default is not attrs.NOTHING:
        return attrs.asdict(field.default) if attrs.has(type(field.default)) else field.default
    return [] if "tuple" in kind else None if "None" in kind else 1 if "str" not in kind else "x"


def commands() -> Iterator[dict[str, Any]]:
    """A call of each tool with the poison in every text."""
    for name, tool in TOOLS.items():
        args = {key: _filled(rule) for key, rule in tool.schema["properties"].items()}
        yield {"type": name, "args": args}
        yield {"type": name, "args": {key: args[key] for key in tool.schema["required"]}}
    yield {"type": POISON, "args": {POISON: POISON}}
    yield {"type": "schedule_task", "args": TASK}
    yield {"type": "remember", "args": {"text": POISON}}


TASK = {"name": POISON, "prompt": POISON, "kind": "interval", "value": "400"}


def _filled(rule: dict[str, Any]) -> Any:
    if "enum" in rule:
        return rule["enum"][0]
    match rule.get("type"):
        case "array":
            return [_filled(rule["items"])] * max(1, rule.get("minItems", 1))
        case "integer" | "number":
            return rule.get("minimum", 1)
        case "boolean":
            return False
        case "object":
            return {}
        case _:
            return POISON[: rule.get("maxLength", len(POISON))]


AGENT = """
import json, os, sys, time
frames, commands = json.load(open("/workspace/group/planted.json"))
def say(frame):
    print("---PYNCHY_OUTPUT_START---", json.dumps(frame), "---PYNCHY_OUTPUT_END---", sep="\\n", flush=True)
def ask(number, command):
    folder, name = "/workspace/ipc/commands/", "%016x%016x" % (time.time_ns(), number)
    with open(folder + "." + name, "w") as file:
        json.dump(command, file)
    os.rename(folder + "." + name, folder + name + ".json")
    return name
def serve(prompt):
    print(json.loads(POISON), file=sys.stderr)
    for number, command in enumerate(commands):
        last = ask(number, command)  # some wait for a person: only the last is waited for
    for line in sys.stdin:
        if json.loads(line).get("id") == last:
            break
    for frame in frames[:-1]:
        say(frame)
    say({"type": "error", "kind": "agent", "message": json.loads(POISON), "prompts": [prompt["id"]], "session": None})
    say({"type": "result", "text": json.loads(POISON), "answered": [prompt["id"]], "session": "\\0"})
    sys.stdin.readline()
start = json.loads(sys.stdin.readline())
say({"type": "ready"})
serve(start["prompts"][0])
"""

LOOKS = (
    ("status",), ("why",), ("runs",), ("tasks",), ("audit",), ("usage",), ("groups",), ("groups", "discover"),
    ("approvals",), ("history", "Approved"), ("memory", "search"), ("logs",), ("metrics",), ("doctor",),
)  # fmt: skip


def test_no_output_acts_or_hides_or_forges(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running(home, "bwrap", "container.command=python3 -u /workspace/group/agent.py") as daemon:
        group = home / "groups" / "main"
        (group / "planted.json").write_text(json.dumps([list(frames()), list(commands())]))
        (group / "agent.py").write_text(AGENT.replace("POISON", repr(json.dumps(POISON))))
        outputs = {"send": _pynchy(home, "send", "main", "do it")}
        for look in LOOKS:
            outputs[" ".join(look)] = _pynchy(home, *look)
            if "--json" in _pynchy(home, *look, "--help"):
                outputs[" ".join(look) + " --json"] = _pynchy(home, *look, "--json")
        daemon.stop()
    files = [home / "logs" / "pynchy.log", *(home / "logs" / "runs").glob("*.log")]
    outputs |= {path.name: path.read_text(encoding="utf-8") for path in files}
    assert len(files) >= 2, outputs["send"]
    told = "".join(outputs.values())
    assert "P]0;T" in told or "P\\x1b]0;T" in told, "the poison came nowhere"
    wrong = [f"{name}: {each}" for name, text in outputs.items() for each in _wrong(name, text)]
    assert wrong == [], "\n".join(wrong)


def _pynchy(home: Path, *argv: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pynchy", *argv],
        env=environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return (done.stdout + b"\n" + done.stderr).decode()


def _wrong(name: str, text: str) -> Iterator[str]:
    for at, each in enumerate(text):
        if unicodedata.category(each) in ("Cc", "Cf", "Zl", "Zp", "Cs") and each not in "\n\t":
            yield f"{each!r} in {text[max(0, at - 60) : at + 20]!r}"
    for line in text.splitlines():
        if line.startswith("2026-01-01 00:00:00 ERROR") and name != "send":  # there it is an answer
            yield f"a forged entry: {line!r}"
        if safe.unmarked(line[:2]) != line[:2] and "Approved" in line[:16]:
            yield f"a forged word of the host: {line!r}"
