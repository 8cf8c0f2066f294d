"""The rows of docs/threats.md and the tests that stand for them, as the page and the tests themselves say."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final, Literal

import attrs

TESTS: Final = Path(__file__).resolve().parent.parent
PAGE: Final = TESTS.parent / "docs" / "threats.md"

_ROW: Final = re.compile(r"^\| ([A-Z]\d+) \| (.*?) \| (.*) \| (.*?) \|$")
_NAMED: Final = re.compile(r"`((?:\w+/)?test_\w+\.py)?::(\w+)`")
_COMMENT: Final = re.compile(r"#.*?\bthreats?\b([A-Z0-9, ;andto]+)")
_ID: Final = re.compile(r"\b([LMSIPKNXD]\d+)\b")

Proof = Literal["test", "by design", "not yet"]


@attrs.frozen
class Row:
    """One attack. ``tests`` are nodes as pytest names them; ``why`` what the page says in their place."""

    id: str
    attack: str
    proof: Proof
    why: str
    tests: tuple[str, ...]


def rows() -> list[Row]:
    """All rows, in the page's order. Raises LookupError for a test that is named and is not there."""
    found = []
    told = commented()
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        row = _ROW.match(line)
        if row is None or not _ID.fullmatch(row[1]):
            continue
        id, attack, _, cell = row.groups()
        proof: Proof = "by design" if cell.startswith("by design") else "test"
        if cell.startswith("**not yet**"):
            proof = "not yet"
        tests = dict.fromkeys([*named(id, cell), *told.get(id, ())])
        why = "" if proof == "test" else re.sub(r"\*\*|`", "", cell)
        found.append(Row(id, re.sub(r"`", "", attack), proof, why, tuple(tests)))
    return found


def named(id: str, cell: str) -> list[str]:
    """The nodes that a cell names: a file holds for the names that follow."""
    nodes, file = [], ""
    for where, name in _NAMED.findall(cell):
        file = where or file
        node = index(file).get(name)
        if node is None:
            raise LookupError(f"{id}: {file}::{name} is not there")
        nodes.append(node)
    return nodes


@cache
def index(file: str) -> Mapping[str, str]:
    """The tests of a file by name: their nodes."""
    path = TESTS / file
    if not path.is_file():
        return {}
    return {name: node for name, node, _ in _functions(path)}


@cache
def commented() -> Mapping[str, list[str]]:
    """For each id the nodes whose test says in a comment that it is about it."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.glob("*/test_*.py")):
        for _, node, lines in _functions(path):
            for comment in _COMMENT.findall(lines):
                for id in _ID.findall(comment):
                    found.setdefault(id, []).append(node)
    return found


def _functions(path: Path) -> list[tuple[str, str, str]]:
    """Each test of a file: its name, its node, its lines with those above it that decorate it."""
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    where = path.relative_to(TESTS.parent)
    found = []

    def look(body: list[ast.stmt], prefix: str, about: str) -> None:
        for item in body:
            if isinstance(item, ast.ClassDef):
                look(item.body, f"{prefix}{item.name}::", lines[item.lineno - 1])
            elif isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and item.name.startswith(
                "test_"
            ):
                first = min([item.lineno, *(each.lineno for each in item.decorator_list)])
                text = "\n".join([about, *lines[first - 1 : item.end_lineno]])
                found.append((item.name, f"{where}::{prefix}{item.name}", text))

    look(ast.parse(source).body, "", "")
    return found
