"""The imports of the source against the plan of the house."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.architecture.house import (
    EXCEPTIONS,
    IMPURE,
    IMPURE_CALLS,
    LIBRARY_ROOMS,
    PLAN,
    ROOT,
    SHARED,
    SIDEWAYS,
    Kind,
    Module,
    kind_of,
    modules,
    room_of,
    within,
)

MODULES = modules()
HOST = {name: module for name, module in MODULES.items() if within(name, ("pynchy",))}
GUEST = {name: module for name, module in MODULES.items() if within(name, ("pynchy_agent",))}


# Packages that import nothing are only the way to their modules.
PACKAGES = {
    name
    for name, module in HOST.items()
    if module.path.name == "__init__.py"
    and not any(isinstance(node, ast.Import | ast.ImportFrom) for node in module.tree.body)
}


def wrong_directions(module: Module) -> list[str]:
    """The imports that go up, or sideways where that is not allowed."""
    wrong = []
    mine = kind_of(module.name)
    assert mine is not None
    for target in sorted(module.imports & (HOST.keys() | PLAN.keys())):
        if target in PACKAGES:
            continue  # on the way to a module
        other = kind_of(target)
        assert other is not None, f"{target} is not in the plan"
        same_room = room_of(module.name) == room_of(target)
        sideways = mine in SIDEWAYS or (same_room and mine is not Kind.SERVICE)
        fine = other.floor < mine.floor or (other.floor == mine.floor and sideways)
        if not fine and (module.name, target) not in EXCEPTIONS:
            wrong.append(f"{module.name} ({mine.name}) imports {target} ({other.name})")
    return wrong


def impurities(module: Module) -> list[str]:
    """What a rule does that a rule may not."""
    found = [f"imports {name}" for name in sorted(module.imports) if name in IMPURE]
    protocols = [
        node
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
        and any(getattr(base, "id", "") == "Protocol" for base in node.bases)
    ]
    declared = {id(node) for protocol in protocols for node in ast.walk(protocol)}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.AsyncFunctionDef | ast.Await) and id(node) not in declared:
            found.append(f"line {node.lineno}: async")
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")
            if called[2] in IMPURE_CALLS or called == ("", "", "open"):
                found.append(f"line {node.lineno}: calls {called[2]}()")
    return found


def strangers(module: Module) -> list[str]:
    """Libraries that belong to another room."""
    tops = {name.partition(".")[0] for name in module.imports}
    return sorted(
        library for library in tops & LIBRARY_ROOMS.keys()
        if not within(module.name, LIBRARY_ROOMS[library])
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted(HOST))
def test_every_module_is_in_the_plan(name: str) -> None:
    assert name in PACKAGES or kind_of(name) is not None, (
        "give it a line in tests/architecture/house.py"
    )


def test_the_plan_names_only_what_is_there() -> None:
    packages = {name.removesuffix(".*") for name in PLAN}
    assert packages <= HOST.keys(), "lines of the plan without a module"


@pytest.mark.parametrize("name", sorted(HOST))
def test_imports_go_down(name: str) -> None:
    if kind_of(name) is not None:
        assert wrong_directions(HOST[name]) == []


@pytest.mark.parametrize("name", sorted(n for n in HOST if kind_of(n) in (Kind.MODEL, Kind.RULES)))
def test_rules_are_pure(name: str) -> None:
    assert impurities(HOST[name]) == []


@pytest.mark.parametrize("name", SHARED)
def test_what_host_and_guest_share_is_pure(name: str) -> None:
    shared = GUEST[name]
    assert impurities(shared) == []
    third_party = {name.partition(".")[0] for name in shared.imports} - sys.stdlib_module_names
    assert third_party <= {"attrs", "pynchy_agent"}, "the host imports it: attrs alone"
    inside = {name for name in shared.imports if within(name, ("pynchy_agent",))}
    assert all(within(name, ("pynchy_agent", *SHARED)) for name in inside), (
        "and no more of the guest"
    )


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_library_has_one_room(name: str) -> None:
    assert strangers(MODULES[name]) == []


@pytest.mark.parametrize("name", sorted(GUEST))
def test_the_guest_knows_nothing_of_the_host(name: str) -> None:
    assert not [target for target in GUEST[name].imports if within(target, ("pynchy",))]


@pytest.mark.parametrize("name", sorted(HOST))
def test_the_host_knows_of_the_guest_only_what_they_share(name: str) -> None:
    known = {t for t in HOST[name].imports if within(t, ("pynchy_agent",))}
    assert all(within(t, SHARED) for t in known - {"pynchy_agent"}), known


@pytest.mark.parametrize("name", sorted(HOST))
def test_one_module_starts_parts_of_this_program(name: str) -> None:
    """Python's ``-m`` alone would load from whatever folder we were started in. # threat L16"""
    if name in {"pynchy.config.itself", "pynchy.container.spec"}:  # spec: a flag of another program
        return
    words = [node.value for node in ast.walk(HOST[name].tree) if isinstance(node, ast.Constant)]
    assert "-m" not in words


# Imports at start are start-up time and memory: these are for the moment they are needed.
HEAVY = {
    "claude_agent_sdk", "croniter", "httpx", "hypercorn", "mcp", "neonize", "pydantic",
    "pynchy.web", "qrcode", "rich", "starlette",
}  # fmt: skip


def test_the_daemon_starts_without_what_it_may_not_need() -> None:
    code = "import pynchy.daemon.wiring, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert HEAVY & set(done.stdout.split()) == set()


class TestThePlanIsHeld:
    """Each check above, shown a module that breaks it."""

    def planted(self, name: str, source: str) -> Module:
        return Module(name=name, path=Path("planted.py"), tree=ast.parse(source))

    @pytest.mark.parametrize(
        ("name", "source"),
        [
            ("pynchy.groups.queue", "from pynchy.store import database"),
            ("pynchy.groups.queue", "def f():\n    from ..store.database import open_store"),
            ("pynchy.chat.sender", "from . import receiver"),
            ("pynchy.container.session", "import pynchy.groups.dispatcher"),
            ("pynchy.gateway.upstream", "from pynchy.store.database import open_store"),
        ],
    )
    def test_an_import_that_goes_up_is_seen(self, name: str, source: str) -> None:
        assert wrong_directions(self.planted(name, source))

    @pytest.mark.parametrize(
        "source",
        [
            "import time",
            "from os import path",
            "from datetime import datetime\nx = datetime.now()",
            "async def f(): ...",
            "open('x')",
        ],
    )
    def test_a_rule_that_reaches_out_is_seen(self, source: str) -> None:
        assert impurities(self.planted("pynchy.groups.queue", source))

    def test_a_library_in_the_wrong_room_is_seen(self) -> None:
        planted = self.planted("pynchy.chat.sender", "def f():\n    import neonize.events")
        assert strangers(planted) == ["neonize"]


def test_warnings_that_are_ignored_name_classes_that_are_there() -> None:
    """A filter for a class that has moved filters nothing, and only on the Pythons that warn."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    filters = settings["tool"]["pytest"]["ini_options"]["filterwarnings"]
    named = [found[1] for each in filters if (found := re.search(r"<(pynchy[\w.]*)", each))]
    assert named
    for name in named:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name
