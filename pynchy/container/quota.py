"""Watch how much a run writes, and end the run near its group's disk quota.

The kernel does not say that a tree has grown, unless every folder in it is watched, so a timer runs as long as the run.
Each time it makes one statvfs call. The folders are walked only when the file system has lost room since, or after a
while: in a worker thread, one walk at a time for all runs, and for a twentieth of the time at most. Files are left as
they are.

The run is told through the session's traffic, and its own procedure decides.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio

from pynchy.container.session import Broken, Traffic
from pynchy.files.disk import Space, Threshold, spell_bytes
from pynchy.files.usage import Most, Usage, usage_of

LOOK: Final = 2.0  # seconds between two statvfs
REST: Final = 60.0  # seconds after which the folders are walked in any case
PAUSE: Final = 20.0  # times as long as a walk took is the pause after it
NEAR: Final = 0.9  # of the quota: what is written until the next look must fit, too
GRAIN: Final = 0.02  # of the quota: losing so much room is a reason to walk
#: What a run may add in a group that has come near its quota already: a conversation about clearing up.
SLACK_BYTES: Final = 16 << 20
SLACK_FILES: Final = 500
#: What one run may write before it is seen, at most. Beyond the quota by this, and by as much as the quota, no run
#: begins, unless the group held as much before.
BURST_BYTES: Final = 1 << 30
BURST_FILES: Final = 250_000


@attrs.frozen
class Quota:
    """What a group's folders may hold; 0 is no limit."""

    bytes: int
    files: int


@attrs.frozen
class QuotaWatch:
    """What is watched for one run. ``measure`` looks how much room the whole disk has, ``threshold`` says how
    little is too little; ``turns`` lets one walk at a time through; ``before`` is told what the run finds, and says
    what the group held before any run of ours."""

    tops: Sequence[Path]
    quota: Quota
    threshold: Threshold
    measure: Callable[[], Space]
    turns: trio.CapacityLimiter
    before: Callable[[Usage], Usage] | None = None

    async def until_full(self, heard: trio.MemorySendChannel[Traffic]) -> None:
        """Say once on ``heard`` that a quota is reached, or that the disk is nearly full."""
        began = trio.current_time()
        first = await self._walk(Most(bytes=None, files=self._most_files))
        if self._is_overfull(first):
            await heard.send(Broken(self._words(first), "overfull"))
            return
        most = self._most(first)
        walked = trio.current_time()
        space, took = self.measure(), walked - began
        while True:
            await trio.sleep(LOOK)
            now = trio.current_time()
            seen = self.measure()
            if self.threshold.is_critical(seen):
                await heard.send(Broken(f"{spell_bytes(seen.free)} are free on the disk", "disk"))
                return
            lost = space.free - seen.free > GRAIN * self.quota.bytes
            lost |= space.files_free - seen.files_free > GRAIN * self.quota.files
            if not self._limited or now - walked < (PAUSE * took if lost else REST):
                continue
            found = await self._walk(most)
            if found.hidden or most.is_passed(found.bytes, found.files):
                await heard.send(Broken(self._words(found), "quota"))
                return
            walked, space = trio.current_time(), seen
            took = walked - now

    @property
    def _most_files(self) -> int | None:
        files = self.quota.files
        return files + max(files, BURST_FILES) if files else None

    @property
    def _limited(self) -> bool:
        return bool(self.quota.bytes or self.quota.files)

    async def _walk(self, most: Most) -> Usage:
        if not self._limited:
            return Usage(0, 0)
        look = partial(usage_of, self.tops, most=most)
        return await trio.to_thread.run_sync(look, limiter=self.turns, abandon_on_cancel=True)

    def _most(self, first: Usage) -> Most:
        return Most(
            bytes=_ceiling(self.quota.bytes, first.bytes, slack=SLACK_BYTES),
            files=_ceiling(self.quota.files, first.files, slack=SLACK_FILES),
        )

    def _is_overfull(self, first: Usage) -> bool:
        """Whether runs have left so much more than is allowed that no other may begin.

        A run is ended once it is seen to write too much, and by then it has written more, so the excess must have a
        limit. A group that was as large when the daemon started may still run, to delete files.
        """
        known = first if self.before is None else self.before(first)
        quota = self.quota
        return any(
            allowed and held > max(allowed, before) + max(allowed, burst)
            for allowed, held, before, burst in (
                (quota.bytes, first.bytes, known.bytes, BURST_BYTES),
                (quota.files, first.files, known.files, BURST_FILES),
            )
        )

    def _words(self, found: Usage) -> str:
        if found.hidden:
            return f"among the files of this group {found.hidden}"
        if self.quota.bytes and found.bytes > NEAR * self.quota.bytes:
            allowed = spell_bytes(self.quota.bytes)
            return f"the files of this group take up {spell_bytes(found.bytes)} of {allowed}"
        return f"this group has {found.files} files of the {self.quota.files} that it may have"


def _ceiling(quota: int, first: int, *, slack: int) -> int | None:
    """Near the quota, or a little more than there was when the run began."""
    return max(int(NEAR * quota), first + min(slack, quota // 10)) if quota else None


@asynccontextmanager
async def watched(watch: QuotaWatch, heard: trio.MemorySendChannel[Traffic]) -> AsyncIterator[None]:
    """Watch while the block lasts."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.until_full, heard, name="quota")
        yield
        nursery.cancel_scope.cancel("the run is over")
