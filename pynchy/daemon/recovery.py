"""Repair at start what an earlier life of the daemon left: one ordered list of steps.

Procedure. `recover` runs before any service, while no container of ours may live. The rule that keeps it so: each
step is here once, may be done twice, and asks only for what those before it have done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import attrs
import trio

from pynchy.config.installation import install_id
from pynchy.config.paths import Home
from pynchy.container import folders
from pynchy.container.engines.runtime import Runtime
from pynchy.logs import logger
from pynchy.maintenance import erasure
from pynchy.model import MAIN, GroupId
from pynchy.store import groups, holds, outbox, runs
from pynchy.store.database import Store


@attrs.frozen
class Recovery:
    """What the steps need. ``boot`` names this life; ``sweep`` carries out the commands that a run left behind."""

    store: Store
    runtime: Runtime
    home: Home
    boot: str
    assistant: str
    sweep: Callable[[GroupId], Awaitable[None]]


async def remove_containers(at: Recovery) -> None:
    """Remove the containers that an earlier life left."""
    left = await at.store.call(runs.live)
    # In a copy of a home the rows name the original's containers, which may well live.
    ours = f"pynchy-{install_id(at.home)}-"
    named = {run.container for run in left if run.container.startswith(ours)}
    for name in sorted({*named, *await at.runtime.list()}):
        logger.warning("removing container {}, left by an earlier life", name)
        await at.runtime.remove(name)


async def carry_out_commands(at: Recovery) -> None:
    """Carry out the commands that a run left, in its name, before the run is given up."""
    for group in dict.fromkeys(run.folder for run in await at.store.call(runs.live)):
        await at.sweep(group)


async def give_up_runs(at: Recovery) -> None:
    """Give up the runs of an earlier life; their turns wait again."""
    await at.store.call(runs.interrupt_others, boot=at.boot)


async def try_holds_again(at: Recovery) -> None:
    """Try at once what a restart may have mended."""
    await at.store.call(holds.recover)


async def doubt_what_was_sent(at: Recovery) -> None:
    """Mark what was being sent as uncertain: nobody knows whether it arrived."""
    await at.store.call(outbox.recover)


async def make_main(at: Recovery) -> None:
    """Make the main group, if there is none."""
    await at.store.call(groups.ensure_main, name="Main", trigger=at.assistant)


async def complete_erasures(at: Recovery) -> None:
    """Finish deleting the groups whose deletion had begun."""
    await erasure.complete(at.store, at.home)


async def mend_folders(at: Recovery) -> None:
    """Make main's folders, and remove folders of groups that were left half made."""
    main = await at.store.call(groups.get, MAIN)
    assert main is not None  # made by a step before this
    await trio.to_thread.run_sync(folders.mend, at.home, main)


Step = Callable[[Recovery], Awaitable[None]]

#: What rows and the engine know of.
ROWS: Final[tuple[tuple[str, Step], ...]] = (
    ("remove containers", remove_containers),
    ("carry out commands", carry_out_commands),
    ("give up runs", give_up_runs),
    ("try holds again", try_holds_again),
    ("doubt what was sent", doubt_what_was_sent),
    ("make main", make_main),
)
#: All of it, where there are folders, too.
STEPS: Final[tuple[tuple[str, Step], ...]] = (
    *ROWS,
    ("complete erasures", complete_erasures),
    ("mend folders", mend_folders),
)


async def recover(at: Recovery, steps: Sequence[tuple[str, Step]] = STEPS) -> None:
    """Take all steps, in order."""
    for name, step in steps:
        logger.debug("recovery: {}", name)
        await step(at)
