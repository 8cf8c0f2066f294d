"""The laws of the house that a program can see, and that each of them would be seen broken."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.architecture import known, laws
from tests.architecture.house import Module, modules, within

MODULES = modules()
HOST = {name: module for name, module in MODULES.items() if within(name, ("pynchy",))}
WIRING = MODULES["pynchy.daemon.wiring"]
#: Besides store/: the WhatsApp bridge is a process of its own and keeps its journal and its session beside itself.
MAY_SPEAK_SQL = ("pynchy.store", "pynchy.whatsapp.journal")


def test_no_modules_import_each_other() -> None:
    new = [
        circle
        for circle in laws.circles(laws.graph(MODULES))
        if not any(set(circle) <= each for each in known.CIRCLES)
    ]
    assert new == []


def test_no_rooms_import_each_other() -> None:
    arrows = laws.between_rooms(laws.graph(HOST))
    left = {
        room: {other for other in others if (room, other) not in known.ARROWS}
        for room, others in arrows.items()
    }
    assert laws.circles(left) == []


def test_sql_is_in_the_store() -> None:
    speak = {
        name
        for name, module in MODULES.items()
        if laws.sql_in(module) and not within(name, MAY_SPEAK_SQL)
    }
    assert speak - known.SQL == set()


def test_no_function_has_more_than_six_parameters() -> None:
    wide = {each: count for module in MODULES.values() for each, count in laws.wide(module).items()}
    assert {each: count for each, count in wide.items() if count > known.WIDE.get(each, 0)} == {}


def test_processes_are_started_in_one_way() -> None:
    assert {
        name for name, module in MODULES.items() if laws.opened_processes(module)
    } - known.PROCESSES == set()


def test_few_modules_lie_beside_the_rooms() -> None:
    assert len(laws.without_a_room(HOST)) <= laws.MOST_WITHOUT_A_ROOM


def test_the_wiring_only_wires() -> None:
    assert laws.length_of(WIRING, "serve") <= laws.MOST_LINES_OF_SERVE
    assert laws.inner_functions(WIRING, "serve") == []


def test_what_is_known_is_still_so() -> None:
    """What was mended is taken off the list, so that it cannot come back."""
    found = [set(circle) for circle in laws.circles(laws.graph(MODULES))]
    assert [each for each in known.CIRCLES if not any(circle <= each for circle in found)] == []
    arrows = {
        (room, other)
        for room, others in laws.between_rooms(laws.graph(HOST)).items()
        for other in others
    }
    assert known.ARROWS - arrows == set()
    assert {
        name for name in known.SQL if name not in MODULES or not laws.sql_in(MODULES[name])
    } == set()
    opened = {name for name, module in MODULES.items() if laws.opened_processes(module)}
    assert known.PROCESSES - opened == set()
    wide = {each: count for module in MODULES.values() for each, count in laws.wide(module).items()}
    assert {each: count for each, count in known.WIDE.items() if wide.get(each) != count} == {}


def planted(source: str, name: str = "pynchy.room.planted") -> Module:
    return Module(name=name, path=Path("planted.py"), tree=ast.parse(source))


class TestABrokenLawIsSeen:
    def test_a_circle_of_modules(self) -> None:
        found = {
            each.name: each
            for each in (
                planted("from pynchy.a import two", "pynchy.a.one"),
                planted("def f():\n    from . import three", "pynchy.a.two"),
                planted("import pynchy.a.one", "pynchy.a.three"),
                planted("import pynchy.a.one", "pynchy.a.beside"),
            )
        }
        assert laws.circles(laws.graph(found)) == [
            ["pynchy.a.one", "pynchy.a.three", "pynchy.a.two"]
        ]

    def test_a_circle_of_rooms(self) -> None:
        found = {
            each.name: each
            for each in (
                planted("import pynchy.b.low", "pynchy.a.high"),
                planted("", "pynchy.a.low"),
                planted("import pynchy.a.low", "pynchy.b.high"),
                planted("", "pynchy.b.low"),
            )
        }
        assert laws.circles(laws.graph(found)) == []
        assert laws.circles(laws.between_rooms(laws.graph(found))) == [["pynchy.a", "pynchy.b"]]

    @pytest.mark.parametrize(
        "statement",
        [
            "'SELECT 1 FROM runs'",
            "'''\n  SELECT id\n  FROM runs'''",
            "f'UPDATE {table} SET x = 1'",
            "'UPDATE runs ' + where",
            "'INSERT OR IGNORE INTO runs VALUES (1)'",
            "'DELETE FROM runs'",
            "'CREATE UNIQUE INDEX a ON b (c)'",
            "'PRAGMA user_version'",
        ],
    )
    def test_sql(self, statement: str) -> None:
        assert laws.sql_in(planted(f"tx.execute({statement})")) != []

    def test_prose_is_no_sql(self) -> None:
        assert (
            laws.sql_in(
                planted("say('Select a group'); say('UPDATES: none'); say('Delete from where?')")
            )
            == []
        )

    def test_a_function_of_seven_parameters(self) -> None:
        source = "class A:\n  async def f(self, a, b, c, d, /, e, *, g, h): ...\n  def f6(self, a, b, c, d, e, g): ..."
        assert laws.wide(planted(source)) == {"pynchy.room.planted:f": 7}

    @pytest.mark.parametrize(
        "source",
        [
            "await nursery.start(trio.lowlevel.open_process, argv)",
            "p = await open_it(lowlevel.open_process)",
            "subprocess.Popen(argv)",
            "Popen(argv)",
        ],
    )
    def test_a_process_of_its_own(self, source: str) -> None:
        inside = "async def f():\n    " + source
        assert laws.opened_processes(planted(inside)) == [2]
        assert (
            laws.opened_processes(planted("async def f(cli: subprocess.Popen[bytes]): ...")) == []
        )

    def test_a_module_without_a_room(self) -> None:
        names = ["pynchy", "pynchy.model", "pynchy.store", "pynchy.store.runs"]
        assert laws.without_a_room(names) == ["pynchy.model"]

    def test_a_function_that_grows(self) -> None:
        source = "def serve():\n    def decide():\n        async def more(): ...\n    x = 1\n"
        assert laws.length_of(planted(source), "serve") == 4
        assert laws.inner_functions(planted(source), "serve") == ["decide", "more"]
