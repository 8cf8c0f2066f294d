"""What leaves a nursery leaves it in a group: no `except` of one kind may stand where only groups come.

A function raises groups if it opens a nursery or calls what raises groups. A `try` around such a call
needs `except*`, a handler of everything, or one of groups; `contextlib.suppress` is an `except` too
(before Python 3.12 it knows nothing of groups).
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from tests.architecture.house import Module, modules

MODULES = modules()
EVERYTHING = {"Exception", "BaseException", "ExceptionGroup", "BaseExceptionGroup"}
#: Not nurseries of their own, though what they are handed is run in one by somebody else.
PLAIN = {"plain_nursery"}  # takes the group off again
#: Where what is caught cannot come in a group, each with the reason.
LOOKED_AT: Mapping[tuple[str, str], str] = {
    ("pynchy.gateway.connection", "one_request"): "refusals are taken out of the nursery first",
}


@attrs.frozen
class Function:
    module: str
    owner: str  # the class, or ""
    name: str
    node: ast.FunctionDef | ast.AsyncFunctionDef


def functions(found: Mapping[str, Module]) -> list[Function]:
    def within(module: str, owner: str, body: list[ast.stmt]) -> Iterator[Function]:
        for node in body:
            if isinstance(node, ast.ClassDef):
                yield from within(module, node.name, node.body)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield Function(module, owner, node.name, node)

    return [each for name, module in found.items() for each in within(name, "", module.tree.body)]


def calls(node: ast.AST) -> Iterator[tuple[str, str]]:
    """What is awaited or entered in it: the object it is called on, as written, and its name."""
    for each in parts(node):
        values: list[ast.expr] = []
        if isinstance(each, ast.Await):
            values = [each.value]
        elif isinstance(each, ast.AsyncWith):
            values = [item.context_expr for item in each.items]
        for value in values:
            if isinstance(value, ast.Call):
                on, _, name = ast.unparse(value.func).rpartition(".")
                yield on, name


def parts(node: ast.AST) -> Iterator[ast.AST]:
    """The node and what is in it, functions that it only defines apart, and what an `except*` takes."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        yield from parts(child)


class Raisers:
    """Which functions raise groups."""

    def __init__(self, found: Mapping[str, Module]) -> None:
        self.functions = functions(found)
        self.raising: set[tuple[str, str, str]] = set()
        before = -1
        while before != len(self.raising):
            before = len(self.raising)
            for each in self.functions:
                if each.name not in PLAIN and self.opens(each.node, each.module, each.owner):
                    self.raising.add((each.module, each.owner, each.name))

    def opens(self, node: ast.AST, module: str, owner: str) -> bool:
        return any(self.raises(on, name, module, owner) for on, name in calls(node))

    def raises(self, on: str, name: str, module: str, owner: str) -> bool:
        if name in ("open_nursery", "create_task_group", "TaskGroup", "serve_listeners"):
            return True
        if on == "":
            return any(known[1] == "" and known[2] == name for known in self.raising)
        if on == "self":
            return (module, owner, name) in self.raising
        # On another module, or on an object of a class that is not known here: by the name alone.
        return any(
            known[2] == name and (known[1] != "" or known[0].rpartition(".")[2] == on)
            for known in self.raising
        )


def narrow(handlers: list[ast.ExceptHandler]) -> bool:
    """Whether they take some exceptions, and no group."""
    names = [
        ast.unparse(kind)
        for handler in handlers
        for kind in (handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type])
        if kind is not None
    ]
    return any(name not in EVERYTHING for name in names) and not any(
        name.endswith("Group") for name in names
    )


def guarded(node: ast.AST) -> list[ast.stmt]:
    """What stands under an `except` of one kind, or the `suppress` of one."""
    if isinstance(node, ast.Try) and narrow(node.handlers):
        return node.body
    if isinstance(node, ast.With) and "suppress(" in ast.unparse(node.items[0]):
        return node.body
    return []


def wrong(found: Mapping[str, Module]) -> list[str]:
    raisers, complaints = Raisers(found), []
    for each in raisers.functions:
        for node in ast.walk(each.node):
            names = sorted(
                f"{on}.{name}".lstrip(".")
                for part in guarded(node)
                for on, name in calls(part)
                if raisers.raises(on, name, each.module, each.owner)
            )
            if names and (each.module, each.name) not in LOOKED_AT:
                assert isinstance(node, ast.Try | ast.With)
                complaints.append(
                    f"{each.module}:{node.lineno} {each.name}: {', '.join(names)} raises groups"
                )
    return complaints


def test_no_except_takes_one_kind_where_groups_come() -> None:
    assert wrong(MODULES) == []


CAUGHT_TOO_LATE = """
async def work():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail)

async def between():
    await work()

async def keep():
    try:
        await between()
    except OSError:
        pass
"""


def test_the_check_sees_through_calls() -> None:
    def planted(code: str) -> Mapping[str, Module]:
        return {"planted": Module("planted", Path("planted.py"), ast.parse(code))}

    assert "between raises groups" in wrong(planted(CAUGHT_TOO_LATE))[0]
    beside = CAUGHT_TOO_LATE + "    except Exception:\n        pass\n"  # is taken for unknown
    assert wrong(planted(beside)) != []
    assert wrong(planted(CAUGHT_TOO_LATE.replace("except", "except*"))) == []


def test_what_was_looked_at_is_still_there() -> None:
    there = {(each.module, each.name) for each in functions(MODULES)}
    assert there >= LOOKED_AT.keys()


def test_suppress_is_an_except() -> None:
    code = "async def f():\n  with suppress(OSError):\n    async with trio.open_nursery(): pass"
    assert wrong({"planted": Module("planted", Path("planted.py"), ast.parse(code))}) != []
