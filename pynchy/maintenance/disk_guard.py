"""Hold new runs back while the disk is nearly full, and let them go on afterwards.

Messages are still stored meanwhile, and live runs go on. One look is one statvfs, and its result is fed to
the queue before anything else. Looks are taken when something happens anyway: before a bell rings for a
group, and after a run, before its slot is free. The slow timer is for other programs that fill or empty
the disk.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import attrs
import trio

from pynchy.files.disk import Space, Threshold, spell_bytes
from pynchy.groups import queue
from pynchy.logs import logger
from pynchy.model import MINUTE

EVERY: Final = 1 * MINUTE


@attrs.define(eq=False)
class DiskGuard:
    """The service. ``measure`` returns the free space; ``feed`` reaches the queue; ``tell`` the owner."""

    measure: Callable[[], Space]
    threshold: Threshold
    feed: Callable[[queue.Held | queue.Released], Awaitable[None]]
    tell: Callable[[str, str], Awaitable[None]]
    space: Space | None = attrs.field(init=False, default=None)
    low: bool = attrs.field(init=False, default=False)

    async def look(self) -> None:
        """Measure, and hold or release runs. When it returns, the queue knows."""
        try:
            space = self.measure()
        except OSError as error:  # what is not known changes nothing
            logger.warning("the free space cannot be looked at: {}", error)
            return
        self.space = space
        if self.threshold.is_low(space, was=self.low) == self.low:
            return
        self.low = not self.low
        await self.feed(queue.Held() if self.low else queue.Released())
        room = f"{spell_bytes(space.free)} are free of {spell_bytes(space.total)}"
        if space.free >= self.threshold.least(space) and self.low:
            room = f"{space.files_free} files more can be made"
        if self.low:
            logger.warning("too little room: {}; new runs are held", room)
            least = spell_bytes(self.threshold.least(space))
            await self.tell(
                f"There is too little room on the disk: {room}, {least} are needed. I start nothing "
                "new until there is more. What you write is kept and answered then.",
                "disk:low",
            )
        else:
            logger.info("there is room again: {}", room)
            await self.tell("There is room on the disk again; I go on.", "disk:room")

    def shown(self) -> dict[str, object]:
        """The state to show: bytes, and whether new runs are held."""
        space = self.space
        if space is None:
            return {"held": self.low}
        return {
            "free": space.free,
            "total": space.total,
            "least": self.threshold.least(space),
            "held": self.low,
        }

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Look once a minute, for ever. Started once the first look is done."""
        await self.look()
        task_status.started()
        while True:
            await trio.sleep(EVERY)
            await self.look()
