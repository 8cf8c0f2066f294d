"""What a program can see of the laws of the house: circles, SQL, size, processes.

Each function takes modules as `house.modules` parses them and returns what breaks its law, so that a test can
show that it sees a case of it. test_laws.py says what is allowed; known.py lists what does not hold yet.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping

from tests.architecture.house import Module, room_of

MOST_PARAMETERS = 6
MOST_LINES_OF_SERVE = 150
MOST_WITHOUT_A_ROOM = 8

# Written as a statement begins: upper case, and with the word that follows where prose could begin so too.
_SQL = re.compile(
    r"\s*(SELECT\s|INSERT (OR \w+ )?INTO\s|UPDATE (\w+\s|$)|DELETE FROM\s|REPLACE INTO\s|WITH \w+|PRAGMA\s"
    r"|(CREATE|DROP|ALTER) (TEMP |UNIQUE |VIRTUAL )*(TABLE|INDEX|TRIGGER|VIEW)\s)"
)


def graph(found: Mapping[str, Module]) -> dict[str, set[str]]:
    """Which module imports which, wherever in the file the import stands."""
    packages = {
        name
        for name, module in found.items()
        if module.path.name == "__init__.py" and not module.imports
    }  # the way to modules
    return {
        name: {each for each in module.imports if each in found} - packages - {name}
        for name, module in found.items()
    }


def circles(edges: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """The groups of names that reach each other (Tarjan's strongly connected components of more than one)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in edges[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            part = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(part) > 1:
                found.append(sorted(part))

    for name in edges:
        if name not in index:
            visit(name)
    return found


def between_rooms(edges: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
    """The same arrows between rooms."""
    found: dict[str, set[str]] = {room_of(name): set() for name in edges}
    for name, others in edges.items():
        found[room_of(name)] |= {room_of(each) for each in others} - {room_of(name)}
    return found


def sql_in(module: Module) -> list[int]:
    """The lines of string literals that begin as a statement does."""
    return sorted(
        node.lineno
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _SQL.match(node.value)
    )


def without_a_room(found: Iterable[str]) -> list[str]:
    """Modules that lie beside the rooms."""
    names = set(found)
    packages = {name.rpartition(".")[0] for name in names}
    return sorted(name for name in names if name.count(".") == 1 and name not in packages)


def functions(module: Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node


def wide(module: Module) -> dict[str, int]:
    """Functions of more parameters than a reader keeps in mind; ``self`` counts for nothing."""
    found: dict[str, int] = {}
    for name, node in functions(module):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        count = len([each for each in arguments if each.arg not in {"self", "cls"}])
        if count > MOST_PARAMETERS:
            found[f"{module.name}:{name}"] = count
    return found


def length_of(module: Module, function: str) -> int:
    (node,) = (node for name, node in functions(module) if name == function)
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def inner_functions(module: Module, function: str) -> list[str]:
    """Functions that are defined inside another one."""
    (node,) = (node for name, node in functions(module) if name == function)
    return [
        each.name
        for each in ast.walk(node)
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and each is not node
    ]


def opened_processes(module: Module) -> list[int]:
    """Where a process is started past `trio.run_process`: ``open_process`` in any use, or a call of ``Popen``."""
    used = [
        node
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and node.attr == "open_process"
    ]
    called = [
        node
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"Popen", "subprocess.Popen"}
    ]
    return sorted(node.lineno for node in [*used, *called])
