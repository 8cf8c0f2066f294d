"""What a start puts right, step by step, after a life that was killed in the middle of everything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from inspect import isfunction
from pathlib import Path

import attrs
import pytest
import trio

from pynchy.config.installation import install_id
from pynchy.config.paths import Home
from pynchy.container import folders
from pynchy.daemon import recovery
from pynchy.daemon.recovery import ROWS, STEPS, Recovery
from pynchy.maintenance import erasure
from pynchy.model import MAIN, MAIN_CONSOLE, GroupId, Micros, RunId
from pynchy.policy.failures import Trouble
from pynchy.store import claims, groups, holds, outbox, runs, turn_failures, turns
from pynchy.store.database import Store, Tx, open_store

NOW = Micros(1_780_000_000_000_000)
RUN = RunId("ab" * 8)
FAMILY = GroupId("family")


@attrs.define
class Engine:
    """Of a container engine, what a start asks for."""

    there: set[str] = attrs.field(factory=set)
    removed: list[str] = attrs.field(factory=list)

    async def list(self) -> list[str]:
        await trio.lowlevel.checkpoint()
        return sorted(self.there)

    async def remove(self, name: str) -> None:
        await trio.lowlevel.checkpoint()
        self.there.discard(name)
        self.removed.append(name)


@attrs.define
class World:
    at: Recovery
    engine: Engine
    swept: list[GroupId]

    @property
    def store(self) -> Store:
        return self.at.store

    async def take(self, *steps: recovery.Step) -> None:
        for step in steps:
            await step(self.at)

    async def rows(self) -> list[str]:
        return await self.store.call(_everything)

    def paths(self) -> list[str]:
        root = self.at.home.root
        found = (each.relative_to(root) for each in root.rglob("*"))
        return sorted(str(each) for each in found if each.parts[0] != "store")


def _mess(tx: Tx, container: str) -> None:
    """A run that holds a turn and tries for all, a reply on its way, and a group besides."""
    groups.ensure_main(tx, name="Main", trigger="Pynchy")
    groups.register(tx, folder=FAMILY, name="F", chats=(), trigger="Pynchy", requires_trigger=False)
    (entry,) = outbox.enqueue(tx, outbox.Author(MAIN, MAIN_CONSOLE), ["hello"])
    assert outbox.take(tx, entry) is not None
    turns.add(tx, turns.Work(folder=MAIN, chat=MAIN_CONSOLE, kind="notice", prompt="look", steps=0))
    runs.begin(
        tx, runs.RunStart(run=RUN, folder=MAIN, kind="session", container=container, boot="earlier")
    )
    assert claims.claim(tx, RUN) is not None
    turn_failures.fail(tx, RUN, Trouble("credential", "refused", None, True, False), jitter=0.0)
    holds.take(tx, holds.everything(tx), RUN)
    turns.add(tx, turns.Work(folder=MAIN, chat=MAIN_CONSOLE, kind="task", prompt="work", steps=0))
    tx.execute(
        "UPDATE turns SET state = 'claimed', prompt_id = 'p', run_id = ? WHERE prompt = 'work'",
        (RUN,),
    )


def _everything(tx: Tx) -> list[str]:
    tables = tx.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0 ORDER BY name"
    ).fetchall()
    return [
        f"{name}: {row}"
        for (name,) in tables
        for row in sorted(map(str, tx.execute(f"SELECT * FROM {name}").fetchall()))  # noqa: S608
    ]


@asynccontextmanager
async def world(tmp_path: Path, *, fresh: bool = False) -> AsyncIterator[World]:
    home = Home(tmp_path / "home")
    home.make()
    engine, swept = Engine(), list[GroupId]()
    async with open_store(home.database, now=lambda: NOW) as store:

        async def sweep(group: GroupId) -> None:
            assert [run.id for run in await store.call(runs.live)] == [RUN], "it is its run's yet"
            assert engine.there == set(), "nobody writes commands any more"
            swept.append(group)

        if not fresh:
            ours = f"pynchy-{install_id(home)}-{RUN}"
            engine.there = {ours, f"pynchy-{install_id(home)}-unknown"}
            await store.call(_mess, ours)
            folders.scaffold(home, await _group(store, FAMILY))
            erasure.mark(home, FAMILY)
            (home.groups / ".half.new").mkdir()
        at = Recovery(store, engine, home, "now", "Pynchy", sweep)  # type: ignore[arg-type]
        yield World(at, engine, swept)


async def _group(store: Store, folder: GroupId):  # type: ignore[no-untyped-def]
    group = await store.call(groups.get, folder)
    assert group is not None
    return group


async def test_containers_of_an_earlier_life_are_removed(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        await there.take(recovery.remove_containers)
        assert there.engine.there == set()
        assert len(there.engine.removed) == 2


async def test_a_container_that_another_installation_made_is_left_alone(tmp_path: Path) -> None:
    async with world(tmp_path, fresh=True) as there:  # as in the copy of a home
        await there.store.call(_mess, "pynchy-another-1")
        await there.take(recovery.remove_containers)
        assert there.engine.removed == []


async def test_commands_are_carried_out_before_their_run_is_given_up(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        await there.take(recovery.remove_containers, recovery.carry_out_commands)
        assert there.swept == [MAIN]


async def test_what_a_run_held_waits_again(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        await there.take(recovery.give_up_runs)
        assert await there.store.call(runs.live) == []
        assert await there.store.call(lambda tx: turns.held(tx, RUN)) == []
        found = await there.store.call(
            lambda tx: tx.execute("SELECT state FROM turns WHERE prompt = 'work'").fetchone()
        )
        assert found[0] == "waiting"


async def test_what_a_start_may_have_mended_is_tried_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        (held,) = await there.store.call(holds.everything)
        assert held.prober == RUN
        assert held.probe_at > NOW
        await there.take(recovery.try_holds_again)
        (held,) = await there.store.call(holds.everything)
        assert (held.prober, held.probe_at) == (None, NOW)


async def test_what_was_on_its_way_is_uncertain(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        await there.take(recovery.doubt_what_was_sent)
        ((state,),) = await there.store.call(
            lambda tx: tx.execute("SELECT state FROM outbox WHERE text = 'hello'").fetchall()
        )
        assert state == "uncertain"


async def test_there_is_always_a_main_group(tmp_path: Path) -> None:
    async with world(tmp_path, fresh=True) as there:
        await there.take(recovery.make_main)
        main = await there.store.call(groups.get, MAIN)
        assert main is not None
        assert main.trigger == "Pynchy"


async def test_a_group_that_was_being_forgotten_is_gone(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        assert await there.store.call(groups.get, FAMILY) is not None
        await there.take(recovery.complete_erasures)
        assert await there.store.call(groups.get, FAMILY) is None
        assert not there.at.home.group(FAMILY).exists()
        assert erasure.marked(there.at.home) == []


async def test_main_has_its_folders_and_nothing_half_made_is_left(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        home = there.at.home
        await there.take(recovery.make_main, recovery.mend_folders)
        assert (home.group(MAIN) / "CLAUDE.md").is_file()
        assert not (home.groups / ".half.new").exists()


@pytest.mark.parametrize("fresh", [False, True])
async def test_a_second_time_changes_nothing(tmp_path: Path, fresh: bool) -> None:
    async with world(tmp_path, fresh=fresh) as there:
        await recovery.recover(there.at)
        rows, paths, removed = await there.rows(), there.paths(), list(there.engine.removed)
        await recovery.recover(there.at)
        assert await there.rows() == rows
        assert there.paths() == paths
        assert there.engine.removed == removed


def test_each_step_is_taken_once() -> None:
    steps = [step for _, step in STEPS]
    assert len(set(steps)) == len(steps) == len({name for name, _ in STEPS})
    assert STEPS[: len(ROWS)] == ROWS
    written = {
        value
        for value in vars(recovery).values()
        if isfunction(value) and value.__module__ == recovery.__name__
    }
    assert written - {recovery.recover} == set(steps)
