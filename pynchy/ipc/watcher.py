"""Carry out the commands that agents write into their groups' folders, and answer them.

A file comes into the folder, is read, decoded, permitted and carried out in one transaction,
answered, and only then removed: whatever a crash leaves in the folder is taken up again at the next
start, and the journal knows what was done already. The rule that keeps it so: which group asks is
which folder this is; what a file says is only what is asked.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Final, NoReturn, Protocol

import attrs
import trio

from pynchy.actions import commands as handlers
from pynchy.actions import later
from pynchy.actions.call import HOST, Done, Given, Host
from pynchy.actions.effects import Awaits, Effects
from pynchy.actions.later import Bells
from pynchy.files import trees
from pynchy.files.changes import Watch
from pynchy.ipc import errors, files
from pynchy.ipc.spool import BadFile, BrokenSpool, Scan, open_spool
from pynchy.logs import logger
from pynchy.model import GroupId, RunId, Staged, Unfit
from pynchy.reader_budget import Reader
from pynchy.store import audit, authority, outbox
from pynchy.store.connection import StoreError
from pynchy.store.database import Store, Tx
from pynchy_agent import wire

PATIENCE: Final = (
    64  # looks in a row that find nothing; a folder that is written so often is slowed
)
SLOWED: Final = 0.05  # seconds
LAST_LOOK: Final = 5.0  # seconds for what is left when a run has ended
LAST_COMMANDS: Final = 1000  # and so many of them
KEPT_PER_RUN: Final = 20  # bad files that are kept to be looked at
#: How many of a kind a run may commit before they count against it: a model that mistypes a number is told, and
#: is not hostile; one that goes on is.
FORGIVEN: Final = {"misfit": 5}


class Spool(Protocol):
    """A group's folder, as `spool.open_spool` holds it."""

    def scan(self) -> Scan: ...
    def read(self, name: str) -> bytes | None: ...
    def remove(self, name: str | bytes) -> bool: ...
    def watched(self) -> AbstractContextManager[Watch]: ...


@attrs.frozen
class Inbox:
    """Where a group's commands come in, and what its host has for them.

    ``work`` is the group's own folder, ``outgoing`` where its files wait to be sent, ``errors`` where
    bad commands are kept.
    """

    folder: GroupId
    commands: Path
    work: Path
    outgoing: Path
    errors: Path
    host: Host = HOST
    open_spool: Callable[[Path], AbstractContextManager[Spool]] = open_spool


@attrs.define(eq=False)
class CommandService:
    """Carries out the commands of all live runs, each as it comes, and what runs have left.

    ``committed`` is told what follows from each command that took effect; answers that come later wait for ``bells``.
    """

    store: Store
    committed: Callable[[Effects], None]
    bells: Bells = attrs.field(factory=Bells)
    _nursery: trio.Nursery = attrs.field(init=False)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Own what `open` begins. Runs until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()
        raise AssertionError("it sleeps for ever")

    @asynccontextmanager
    async def open(
        self, inbox: Inbox, run: RunId, *, answer: Callable[[wire.Answer], None]
    ) -> AsyncIterator[None]:
        """Carry out the commands of a live run for the length of the block.

        Raises `BrokenSpool` if the folder cannot be watched, and ends the block if it breaks later: that is the
        trouble of this run alone.
        """
        processor = _CommandProcessor(self, inbox, run, answer)
        try:
            with inbox.open_spool(inbox.commands) as spool, spool.watched() as watch:
                # Begun by the run, whose account is charged with what its commands cost.
                self._nursery.start_soon(
                    processor.serve, spool, watch, name=f"commands {inbox.folder}"
                )
                with processor.block:
                    try:
                        yield
                    finally:
                        await processor.end()
            if processor.trouble is not None:
                raise processor.trouble
        finally:
            await processor.report()

    @asynccontextmanager
    async def swept(self, inbox: Inbox, run: RunId) -> AsyncIterator[None]:
        """A folder that is empty when the block begins, and again when it has ended.

        What an earlier run left is carried out as its, what ``run`` leaves as this one's. A container
        of the group may live only inside the block.
        """
        await self.sweep(inbox, await self.store.call(authority.last_run, inbox.folder, but=run))
        try:
            yield
        finally:
            with trio.CancelScope(shield=True):  # `sweep` is bounded
                await self.sweep(inbox, run)

    async def sweep(self, inbox: Inbox, run: RunId | None) -> int:
        """Carry out what is left in the folder of a group that has no container; how many commands.

        ``run`` is where they came from, see `authority.last_run`. Nobody is answered: nobody is there.
        What is no command is removed, and a folder that cannot be emptied within bounds is deleted and made anew.
        A broken folder is logged and changes nothing for other groups.
        """
        processor = _CommandProcessor(self, inbox, run or RunId(""), lambda answer: None)
        found = 0
        try:
            with inbox.open_spool(inbox.commands) as spool:
                with trio.move_on_after(LAST_LOOK):
                    found = await processor.empty(spool)
                if spool.scan() != Scan((), (), whole=True):
                    processor.offend("broken")
                    await trio.to_thread.run_sync(_make_anew, inbox.commands)
        except BrokenSpool as error:
            if inbox.commands.is_symlink() or inbox.commands.exists():
                logger.error("commands of {}: {}", inbox.folder, error)
        kept = await self.store.call(outbox.open_files, inbox.folder)
        files.clear(inbox.outgoing, but=kept)
        await processor.report()
        return found


@attrs.define(eq=False)
class _CommandProcessor:
    """Handles the commands of one run, one after the other, and counts offences.

    ``block`` is the run's: it ends if the folder breaks, and ``trouble`` says how.
    """

    service: CommandService
    inbox: Inbox
    run: RunId
    answer: Callable[[wire.Answer], None]
    block: trio.CancelScope = attrs.field(init=False, factory=trio.CancelScope)
    trouble: Exception | None = attrs.field(init=False, default=None)
    offences: Counter[str] = attrs.field(init=False, factory=Counter)
    kept: int = attrs.field(init=False, default=0)
    reader: Reader = attrs.field(init=False, factory=lambda: Reader("the commands"))
    _nursery: trio.Nursery | None = attrs.field(init=False, default=None)  # while the run lives
    _scope: trio.CancelScope = attrs.field(init=False, factory=trio.CancelScope)
    _over: trio.Event = attrs.field(init=False, factory=trio.Event)

    async def serve(self, spool: Spool, watch: Watch) -> None:
        """Handle what comes until `end`. Raises what ends the daemon, and nothing else."""
        try:
            with self._scope:
                async with trio.open_nursery() as self._nursery:
                    await self.watch(spool, watch)
        except* StoreError:
            raise
        except* Exception as errors:  # contained here: one run's trouble
            self.trouble = errors
            self.block.cancel("its commands are not handled any more")
        finally:
            self._over.set()

    async def end(self) -> None:
        """Handle nothing more, and wait until nothing is under way."""
        self._scope.cancel("the run is over")
        with trio.CancelScope(shield=True):  # a command under way is one transaction
            await self._over.wait()

    async def watch(self, spool: Spool, watch: Watch) -> None:
        fruitless = 0
        while True:
            found, more = await self._look(spool)
            fruitless = 0 if found else fruitless + 1
            if not more:
                await watch.changed()
            if fruitless > PATIENCE:
                await trio.sleep(SLOWED)  # somebody writes what is no command, as fast as they can

    async def empty(self, spool: Spool) -> int:
        """Carry out what is left and take away the rest, as far as a bound goes."""
        found, more = 0, True
        while more and found < LAST_COMMANDS:
            taken, more = await self._look(spool, strange=True)
            found += taken
        return found

    async def _look(self, spool: Spool, *, strange: bool = False) -> tuple[int, bool]:
        """One scan and what it found. Returns how many commands, and whether to scan again at once.

        Entries that are no commands are left alone while a container writes them (they are being
        written), unless they are so many that commands may be hidden behind them.
        """
        scan = spool.scan()
        await self.reader.took(0, len(scan.names) + len(scan.strange))
        if not scan.whole:
            self.offend("overfull")
        for name in scan.names:
            await trio.lowlevel.checkpoint()  # one file at most holds the others up
            await self._take(spool, name)
        if strange or not scan.whole:
            for count, raw in enumerate(scan.strange):
                spool.remove(raw)
                if count % 64 == 63:
                    await self.reader.took(0, 64)
        await trio.lowlevel.checkpoint()
        return len(scan.names), not scan.whole and bool(scan.names or scan.strange)

    async def _take(self, spool: Spool, name: str) -> None:
        """One file: read, carried out, answered, removed."""
        command_id = name.removesuffix(".json")
        data = b""
        try:
            read = spool.read(name)
            if read is None:
                return
            data = read
            command = wire.decode_command(data)
            done = await self._carry_out(command, command_id, data)
        except BadFile as error:
            self._keep(name, error.reason, error.head)
            text = f"the command file is refused: {error.reason}"
            done = Done(ok=False, text=text, offence="bad file")
        except wire.BadFrame as error:
            self._keep(name, str(error), data)
            text = f"the command is refused: {error}"
            done = Done(ok=False, text=text, offence="bad file")
        except StoreError:
            raise
        except Exception as error:  # contained here, and only here: one command's trouble
            logger.exception("commands of {}: {} failed", self.inbox.folder, command_id)
            self._keep(name, f"failed: {type(error).__name__}", data)
            done = Done(ok=False, text="the host failed at this command; nothing was done")
        if done.offence is not None:
            self.offend(done.offence)
            if self._nursery is not None and self.offences.total() > KEPT_PER_RUN:
                await trio.sleep(SLOWED)
        if done.awaits is not None and self._nursery is not None:
            self._nursery.start_soon(self._answer_later, command_id, done.awaits)
        else:
            self.answer(wire.Answer(id=command_id, ok=done.ok, text=done.text))
        spool.remove(name)

    async def _answer_later(self, command_id: str, what: Awaits) -> None:
        done = await later.answer(self.service.store, self.service.bells, what)
        self.answer(wire.Answer(id=command_id, ok=done.ok, text=done.text))

    async def _carry_out(self, command: wire.Command, command_id: str, data: bytes) -> Done:
        inbox = self.inbox
        file: Staged | Unfit | None = None
        if command.name == "send_file" and isinstance(path := command.args.get("path"), str):
            file = await files.stage(path, work=inbox.work, outgoing=inbox.outgoing)
        done = Done(ok=False, text="")
        try:
            sha256 = hashlib.sha256(data).hexdigest()
            given = Given(command, inbox.folder, self.run, command_id, sha256, file)
            given = await handlers.search(self.service.store, given, inbox.host)
            done = await self.service.store.call(handlers.handle, given, inbox.host)
        finally:
            if isinstance(file, Staged) and not (done.ok and done.fresh):
                files.drop(file)
        if done.fresh:
            self.service.committed(done.effects)
        return done

    def _keep(self, name: str, reason: str, head: bytes) -> None:
        if self.kept < KEPT_PER_RUN:
            self.kept += 1
            errors.keep(self.inbox.errors, name=name, reason=reason, head=head)

    def offend(self, kind: str) -> None:
        """Count an offence; log a kind once, when it is forgiven no more. The audit gets one line each, at the end."""
        self.offences[kind] += 1
        if self.offences[kind] == FORGIVEN.get(kind, 0) + 1:
            logger.warning("commands of {}: {}", self.inbox.folder, kind)

    async def report(self) -> None:
        """Write the offences to the audit: one line for each kind, with a count."""
        if self.offences:
            found, self.offences = sorted(self.offences.items()), Counter()
            counts = {kind: count for kind, count in found if count > FORGIVEN.get(kind, 0)}
            with trio.move_on_after(LAST_LOOK, shield=True):
                await self.service.store.call(_report, self.inbox.folder, self.run, counts=counts)


def _report(tx: Tx, folder: GroupId, run: RunId, *, counts: dict[str, int]) -> None:
    for kind, count in counts.items():
        audit.record(
            tx,
            actor=f"agent of {folder}",
            action=f"command refused: {kind}",
            folder=folder,
            detail={"run": run, "count": count},
        )


def _make_anew(commands: Path) -> None:
    """Give a folder that cannot be emptied by single names another name, beside its own in a folder of
    ours, make a new one, and delete the old one with all that is in it. No container is there to notice.
    What cannot be deleted counts for the group's quota."""
    was = commands.stat()
    for old in commands.parent.glob(f"{commands.name}.broken*"):
        trees.clear(old)
    aside = commands.with_name(f"{commands.name}.broken-{secrets.token_hex(4)}")
    commands.rename(aside)
    commands.mkdir(mode=was.st_mode & 0o777)
    if os.geteuid() == 0:
        os.chown(commands, was.st_uid, was.st_gid)
    if trees.clear(aside):
        logger.warning("{} could not be emptied; it was deleted and made anew", commands)
    else:
        logger.error("{} could not be emptied, nor deleted: what is left is {}", commands, aside)
