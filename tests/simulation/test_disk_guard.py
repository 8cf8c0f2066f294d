"""Too little room on the disk: runs are held once, the owner hears of it once, and all goes on by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs
import trio
from trio.testing import MockClock

from pynchy.files.disk import Space, Threshold
from pynchy.groups.queue import Held, Released
from pynchy.maintenance.disk_guard import EVERY, DiskGuard

THRESHOLD = Threshold(bytes=1000, share=0)


@attrs.define(eq=False)
class House:
    """A disk, and who is told of it."""

    free: int | None = 5000  # None: it cannot be looked at
    fed: list[Held | Released] = attrs.field(factory=list)
    told: list[str] = attrs.field(factory=list)

    def measure(self) -> Space:
        if self.free is None:
            raise OSError("gone")
        return Space(free=self.free, total=10_000)

    async def feed(self, event: Held | Released) -> None:
        await trio.lowlevel.checkpoint()
        self.fed.append(event)

    async def tell(self, text: str, kind: str) -> None:
        await trio.lowlevel.checkpoint()
        self.told.append(kind)


def watched(script: Callable[[House, DiskGuard], Awaitable[None]]) -> House:
    house = House()
    disk_guard = DiskGuard(
        measure=house.measure, threshold=THRESHOLD, feed=house.feed, tell=house.tell
    )

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(disk_guard.run)
            await script(house, disk_guard)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    return house


def test_a_disk_that_fills_holds_runs_once_and_lets_them_go_once() -> None:
    async def script(house: House, disk_guard: DiskGuard) -> None:
        house.free = 999
        await disk_guard.look()
        assert house.fed == [Held()]
        house.free = 1050  # more than too little, and not yet room again
        await disk_guard.look()
        await disk_guard.look()
        assert disk_guard.shown() == {"free": 1050, "total": 10_000, "least": 1000, "held": True}
        house.free = 1100
        await disk_guard.look()

    house = watched(script)
    assert house.fed == [Held(), Released()]
    assert house.told == ["disk:low", "disk:room"]


def test_what_nothing_tells_of_is_noticed_by_itself() -> None:
    async def script(house: House, disk_guard: DiskGuard) -> None:
        house.free = 10
        await trio.sleep(EVERY + 1)
        assert house.fed == [Held()]
        house.free = 9000
        await trio.sleep(EVERY + 1)

    assert watched(script).fed == [Held(), Released()]


def test_a_disk_that_cannot_be_looked_at_changes_nothing() -> None:
    async def script(house: House, disk_guard: DiskGuard) -> None:
        house.free = 10
        await disk_guard.look()
        house.free = None
        await disk_guard.look()
        await trio.sleep(2 * EVERY)

    assert watched(script).fed == [Held()]


def test_the_first_look_is_over_before_anything_starts() -> None:
    async def main() -> None:
        house = House(free=1)
        disk_guard = DiskGuard(
            measure=house.measure, threshold=THRESHOLD, feed=house.feed, tell=house.tell
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(disk_guard.run)
            assert house.fed == [Held()]
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
