"""Once a night: back up the database and delete expired data.

It sleeps until the hour; a round that was missed (the machine was off) is made up for soon after the
start. When the next round is due is computed from the wall clock and the newest backup, again after each piece
of the wait, so that a clock that is set, or a machine that slept, is noticed within `PIECE`.

An old backup is deleted only when a new one exists. File work and the backup run in worker threads. If a
backup fails, the owner is told once and it is tried again. Only errors of the store itself propagate.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final, NoReturn

import attrs
import trio

from pynchy.config.paths import Home
from pynchy.config.settings import Keeping
from pynchy.files.disk import Space, Threshold, spell_bytes
from pynchy.logs import logger
from pynchy.maintenance import cleanup, indexing
from pynchy.model import DAY, HOUR, MINUTE, Micros, RunId, after
from pynchy.schedule.clock_watch import ClockWatch
from pynchy.store import health, journal, ledger, runs
from pynchy.store.connection import StoreError
from pynchy.store.database import Store, Tx, size_of

AGAIN: Final = 1 * HOUR  # after one that failed
PIECE: Final = 5 * MINUTE  # of the wait
SET_FORWARD: Final = 12 * HOUR  # a clock that was set by more is waited for: it may be set back
HALVES: Final = 1 * DAY  # after which nobody writes on at what is half written
KNOWN_RUNS: Final = 1000  # the newest, whose sockets are looked for


class NoCopy(Exception):
    """No backup was made; the text says why."""


def next_hour(last: Micros, *, hour: int, timezone: str) -> Micros:
    """The first moment after ``last`` at which it is ``hour`` o'clock there."""
    from zoneinfo import ZoneInfo  # here: a start does not need it

    zone = ZoneInfo(timezone)
    day = datetime.fromtimestamp(last / 1e6, zone)
    due = day.replace(hour=hour, minute=0, second=0, microsecond=0, fold=0)
    while (moment := Micros(round(due.timestamp() * 1_000_000))) <= last:
        due += timedelta(days=1)  # by the calendar: a day may have 23 hours
    return moment


@attrs.define(eq=False)
class NightlyRound:
    """The service. ``kept`` is what the owner wants kept, its hour in ``timezone``. ``measure`` returns the free space;
    ``tell`` sends the owner a text of a kind."""

    store: Store
    home: Home
    kept: Keeping
    timezone: str
    threshold: Threshold
    now: Callable[[], Micros]
    measure: Callable[[], Space]
    tell: Callable[[str, str], Awaitable[None]]
    steady: Callable[[], float] = trio.current_time
    last: Micros | None = attrs.field(init=False, default=None)  # when a round was done
    failing: bool = attrs.field(init=False, default=False)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Do a round each night, for ever."""
        task_status.started()
        clock = ClockWatch(self.now, self.steady)
        await trio.sleep(self.kept.settle)
        self.last = await self.newest()
        while True:
            if clock.take() > SET_FORWARD:
                # It may be wrong for a moment, and what would be deleted by it is gone for good.
                await trio.sleep(AGAIN)
            elif (left := (self._due() - self.now()) / 1_000_000) > 0:
                await trio.sleep(min(left, PIECE))
            elif not await self.round():
                await trio.sleep(AGAIN)

    async def newest(self) -> Micros | None:
        """When the newest copy was made, if any is."""
        if not self.kept.copies:
            return None
        from pynchy.store import backup  # here: a start does not need it

        find = partial(backup.newest, self.home.backups, now=self.now())
        return await trio.to_thread.run_sync(find)

    async def round(self) -> bool:
        """Check, back up, then prune. Returns whether there is a sound backup; if not, the owner was told."""
        done: list[str] = []
        try:
            looked = await self._look()
            done += [*await self._copy(), *looked]
        except (NoCopy, OSError) as error:
            await self._failed(error)
        else:
            self.failing = False
            self.last = self.now()
        done += [*await self._forget(), *await self._clear()]
        logger.info("nightly round: {}", "; ".join(done))
        return not self.failing

    async def _look(self) -> list[str]:
        """Check the whole database and rebuild wrong indexes. Raises `NoCopy` for damage that cannot be
        repaired; then the existing backups are kept."""
        found = await self._health()
        if found.damage:
            raise NoCopy(
                f"the database is damaged ({found.damage}); pynchy restore puts a copy back"
            )
        if not found.indexes:
            return ["the database is sound"]
        await self.store.call(health.mend, found.indexes)
        left = await self._health()
        if left.damage or left.indexes:
            raise NoCopy(f"the database is damaged ({left}); pynchy restore puts a copy back")
        names = ", ".join(found.indexes)
        logger.warning("indexes of the database were wrong and were made anew: {}", names)
        await self.tell(
            f"Part of the database was damaged ({names}); I have made it anew from the rest, and it is "
            "sound again. The disk may be failing: `pynchy doctor` and the system's log tell more.",
            "keeper:mended",
        )
        return [f"{len(found.indexes)} damaged indexes made anew"]

    async def _health(self) -> health.Health:
        try:
            return await self.store.look(health.look)
        except StoreError as error:
            raise NoCopy(str(error)) from None

    async def _failed(self, error: Exception) -> None:
        logger.error("no copy of the database was made: {}", error)
        if not self.failing:
            self.failing = True
            await self.tell(
                f"The nightly copy of the database was not made: {error}. I try again every hour; "
                "`pynchy doctor` may tell more.",
                "keeper:failed",
            )

    def _due(self) -> Micros:
        """When the next round is due. A last round that lies in the future (the clock was wrong) is ignored."""
        now = self.now()
        if self.last is None or self.last > after(now, DAY):
            return now
        return next_hour(self.last, hour=self.kept.hour, timezone=self.timezone)

    async def _copy(self) -> list[str]:
        if not self.kept.copies:
            return ["no copy, as it is set"]
        from pynchy.store import backup

        folder = self.home.backups
        size = await trio.to_thread.run_sync(size_of, self.home.database)  # at most
        if self.threshold.is_low(self.measure().less(size)):
            raise NoCopy(f"there is too little room on the disk for {spell_bytes(size)} more")
        path = folder / backup.nightly_name(self.now())
        try:
            await self.store.copy_to(path)
        except StoreError as error:  # of the copy: the store itself is as it was
            raise NoCopy(str(error)) from None
        rotate = partial(
            backup.rotate,
            folder,
            keep=self.kept.copies,
            weeks=self.kept.weeks,
            now=self.now(),
        )
        old = await trio.to_thread.run_sync(rotate)
        copies = sum(each.stat().st_size for each in folder.glob("*.db"))
        return [
            f"copied the database to {path.name}",
            f"{old} older copies removed",
            f"the database is {spell_bytes(size)}, its copies are {spell_bytes(copies)}",
        ]

    async def _forget(self) -> list[str]:
        now = self.now()
        since = after(now, -self.kept.usage)
        day = datetime.fromtimestamp(since / 1e6, UTC).date().isoformat()
        answers, calls = await self.store.call(_prune, before=day)
        done = [f"{answers} answers to commands and {calls} model calls forgotten"]
        if self.kept.messages:
            done.append(f"{await self._prune_messages()} old messages deleted")
        done.append(f"{await indexing.refresh(self.store)} texts indexed anew")
        await self.store.tidy()
        return done

    async def _prune_messages(self) -> int:
        """Delete old messages, a few rows at a time, so that others can use the store in between."""
        from pynchy.store import retention

        before = after(self.now(), -self.kept.messages)
        deleted = 0
        for prune in (retention.prune_messages, retention.prune_replies):
            onwards: int | None = 0
            while onwards is not None:
                pruned = await self.store.call(prune, before=before, onwards=onwards)
                deleted += pruned.deleted
                onwards = pruned.onwards
        return deleted

    async def _clear(self) -> list[str]:
        known = [run.id for run in await self.store.call(runs.recent, limit=KNOWN_RUNS)]
        folders = await trio.to_thread.run_sync(cleanup.socket_folders, self.home, known)
        living = {run.id for run in await self.store.call(runs.live)}
        before = after(self.now(), -self.kept.logs) / 1e6
        done = await trio.to_thread.run_sync(_clear, self.home, folders, living, before)
        from pynchy.store import backup

        half = after(self.now(), -HALVES) / 1e6
        halves = await trio.to_thread.run_sync(
            partial(backup.tidy, self.home.database, before=half)
        )
        return [*done, f"{halves} half-written files removed"]


def _prune(tx: Tx, *, before: str) -> tuple[int, int]:
    return journal.prune(tx), ledger.prune(tx, before=before)


def _clear(
    home: Home, folders: list[tuple[RunId, Path]], living: set[RunId], before: float
) -> list[str]:
    sockets = cleanup.clear_socket_folders(folders, living=living)
    logs, refused = cleanup.clear_old(home, before=before)
    return [f"{sockets} folders of sockets, {logs} logs and {refused} refused commands removed"]
