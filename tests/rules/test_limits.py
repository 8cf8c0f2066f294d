"""The numbers that people meet: each is what was agreed, and each is the one that the program uses."""

from __future__ import annotations

import ast
from pathlib import Path

import attrs

from pynchy import limits

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
    },
    "files": {
        "one": 67_108_864,
        "waiting": 268_435_456,
    },
    "groups": {
        "mounts": 16,
        "commands": 120,
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
        "cookie": 2_592_000,  # 30 d
    },
}


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
    assert table - used == set()
