"""The numbers that people meet: each is what was agreed, and each is the one that the program uses."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import attrs

from pynchy import limits
from pynchy.cli import client
from pynchy.policy.tools import TOOLS
from pynchy_agent import claude, instructions, launch, script, turn

# Times in seconds, sizes in bytes. A number that is changed on purpose is changed here too, and told in CHANGELOG.md.
PINNED = {
    "answers": {
        "pieces": 25,
        "piece": 4_000,
        "extra": 100,
        "name": 64,
    },
    "prompts": {
        "message": 65_536,
        "quoted": 2_000,
        "said": 4_000,
        "all": 400_000,
        "kept": 2_000,
        "messages": 200,
        "asking": 262_144,
        "context": 65_536,
        "people": 40,
        "hosts": 40,
        "picture": 5_242_880,
    },
    "tasks": {
        "group": 50,
        "depth": 2,
        "every": 300,  # 5 min
        "every_main": 60,  # 1 min
        "longest": 31_536_000,  # 365 d
        "soonest": 5,  # 5 s
        "latest": 158_112_000,  # 1830 d
        "cron": 256,
        "failures": 5,
        "missed": 86_400,  # 1 d
        "late": 60,  # 1 min
    },
    "approvals": {
        "lifetime": 3_600,  # 1 h
        "open": 3,
        "a_day": 12,
    },
    "questions": {
        "wait": 120,  # 2 min
        "open": 604_800,  # 7 d
    },
    "helpers": {
        "depth": 2,
        "group": 32,
        "answer": 30_000,
    },
    "memories": {
        "most": 2_000,
        "found": 10,
        "search": 5,
        "text": 4_000,
    },
    "files": {
        "one": 67_108_864,
        "waiting": 268_435_456,
    },
    "groups": {
        "mounts": 16,
        "commands": 120,
        "allowlist": 65_536,
        "searched": 50_000,
    },
    "bots": {
        "quick": 10,  # 10 s
        "most": 20,
        "hold": 3_600,  # 1 h
    },
    "retries": {
        "first": 5,  # 5 s
        "doublings": 5,
        "long": 300,  # 5 min
        "limit": 86_400,  # 1 d
        "strikes": 5,
        "attempts": 400,
        "days": 2,
        "paid": 3,
        "interruptions": 20,
        "notice": 900,  # 15 min
    },
    "sending": {
        "attempts": 8,
        "plain": 4,
        "uncertain": 40,
        "first": 2,  # 2 s
        "longest": 300,  # 5 min
        "expiry": 86_400,  # 1 d
        "silent": 120,  # 2 min
    },
    "clients": {
        "request": 262_144,
        "most": 64,
        "unread": 4_194_304,
        "message": 65_536,
        "browsers": 16,
        "answer": 30,  # 30 s
        "streams": 24,
        "cookie": 2_592_000,  # 30 d
    },
    "agents": {
        "owed": 32,
        "line": 1_048_576,
        "output": 16_777_216,
        "bad_frames": 20,
        "command": 65_536,
        "depth": 32,
        "values": 20_000,
        "error": 1_000,
        "skills": 64,
    },
    "guest": {
        "answer": 80_000,
        "memory": 32_000,
        "output": 32_000,
        "transcript": 67_108_864,
        "script": 60,  # 1 min
        "printed": 16_000,
        "bash": 120,  # 2 min
        "bash_longest": 600,  # 10 min
    },
    "gateway": {
        "connections": 64,
        "calls": 16,
        "tunnels": 32,
        "head": 65_536,
        "body": 33_554_432,
        "buffered": 50_331_648,
        "answer": 16_777_216,
        "output": 256_000,
        "searches": 3,
        "head_time": 20,  # 20 s
        "body_time": 60,  # 1 min
        "unread": 120,  # 2 min
        "idle": 300,  # 5 min
        "dial": 10,  # 10 s
    },
    "whatsapp": {
        "text": 65_000,
        "quoted": 4_000,
        "name": 256,
        "deliveries": 3,
        "aside": 100,
        "fetch": 60,  # 1 min
        "files": 8,
        "hanging": 64,
        "files_of_chat": 3,
        "unread": 100,
    },
    "voice": {
        "at_once": 2,
        "time": 300,  # 5 min
        "length": 900,  # 15 min
        "words": 40_000,
    },
    "lists": {
        "bills": 30,
        "usage": 100,
        "chats": 100,
        "tasks": 30,
        "rows": 500,
        "retries": 50,
        "message": 1_000,
    },
    "run_logs": {
        "lines": 2_000,
        "line": 2_000,
        "stderr": 65_536,
        "kept": 500,
    },
    "services": {
        "lately": 3_600,  # 1 h
        "few": 3,
        "first": 5,  # 5 s
        "longest": 160,  # 160 s
        "watchdog": 120,  # 2 min
        "start": 300,  # 5 min
    },
    "doctor": {
        "backup": 1_209_600,  # 14 d
        "clock": 120,  # 2 min
        "prices": 15_552_000,  # 180 d
    },
}

# The largest that each argument of a tool may be: characters, numbers, items and what each may have.
ARGUMENTS = {
    "send_message.text": [32000],
    "send_message.sender": [64],
    "send_message.reply_to": [128],
    "send_file.path": [1024],
    "send_file.caption": [1000],
    "react.emoji": [32],
    "react.message_id": [128],
    "schedule_task.prompt": [16000],
    "schedule_task.schedule_value": [256],
    "schedule_task.target_group": [63],
    "schedule_task.script": [16000],
    "get_task.task_id": [64],
    "update_task.task_id": [64],
    "update_task.prompt": [16000],
    "update_task.schedule_value": [256],
    "update_task.script": [16000],
    "pause_task.task_id": [64],
    "resume_task.task_id": [64],
    "cancel_task.task_id": [64],
    "run_task_now.task_id": [64],
    "remember.text": [4000],
    "recall.query": [500],
    "recall.limit": [50],
    "forget.memory_id": [64],
    "search_history.query": [500],
    "search_history.limit": [50],
    "get_usage.days": [31],
    "register_group.chat": [128],
    "register_group.name": [100],
    "register_group.folder": [63],
    "register_group.trigger": [64],
    "update_group.folder": [63],
    "update_group.name": [100],
    "update_group.trigger": [64],
    "update_group.allowed_senders": [100, 128],
    "update_group.model": [100],
    "unregister_group.folder": [63],
    "request_mount.path": [1024],
    "request_mount.name": [64],
    "request_host.host": [253],
    "request_tool.model": [100],
    "ask_user.question": [4000],
    "ask_user.options": [12, 200],
    "delegate.prompt": [16000],
}


def largest(schema: dict[str, Any]) -> list[int]:
    """The bounds from above of a schema and of what is in it."""
    found = [schema[key] for key in ("maxLength", "maximum", "maxItems") if key in schema]
    parts = [*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())]
    for part in parts:
        found += largest(part)
    return found


def test_each_number_is_what_was_agreed() -> None:
    assert {name: attrs.asdict(section) for name, section in limits.TABLE.items()} == PINNED


def test_each_number_is_taken_from_the_table_by_the_program(checkout: Path) -> None:
    used = {
        f"{node.value.id}.{node.attr}"
        for path in (checkout / "pynchy").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    table = {f"{name.upper()}.{number}" for name, numbers in PINNED.items() for number in numbers}
    of_the_wire = {"AGENTS.line", "AGENTS.command", "AGENTS.depth", "AGENTS.values"}
    of_the_guest = {f"GUEST.{number}" for number in PINNED["guest"]}
    assert table - used == of_the_wire | of_the_guest


def test_the_agent_that_ships_has_the_same_numbers() -> None:
    assert attrs.asdict(limits.TABLE["guest"]) == {
        "answer": turn.MAX_ANSWER,
        "memory": instructions.MAX_MEMORY,
        "output": launch.MAX_OUTPUT_TOKENS,
        "transcript": claude.MAX_TRANSCRIPT,
        "script": script.TIMEOUT,
        "printed": script.MAX_OUTPUT,
        "bash": launch.BASH_TIMEOUT,
        "bash_longest": launch.BASH_TIMEOUT_MOST,
    }
    assert limits.PROMPTS.picture == claude.MAX_IMAGE


def test_a_command_waits_for_an_answer_as_long_as_the_web_page() -> None:
    assert limits.CLIENTS.answer == client.ANSWER


def test_each_argument_of_a_tool_is_limited_as_agreed() -> None:
    found = {
        f"{tool.name}.{name}": bounds
        for tool in TOOLS.values()
        for name, argument in tool.arguments.items()
        if (bounds := largest(argument.kind.schema()))
    }
    assert found == ARGUMENTS
