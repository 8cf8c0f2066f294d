"""One run of a group, from claiming its first message to its last commit.

The procedure between the store and a container. It claims turns, hands them over as prompts, commits each result in one
transaction, and gives back what was not answered. Everything that can happen meanwhile (a frame, a bell, a request to
close, a person's /stop, a limit) arrives at one place, `_Run._serve`, one after the other, so there is nothing to lock.

The rule that keeps it so: what must not be lost is in a row before it is in a variable, and a turn is done only by the
commit of a result that names it.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import attrs
import trio

from pynchy.clock import World
from pynchy.container.deadlines import Deadlines, Limit, Phase, Timeouts
from pynchy.container.engines.runtime import SpawnFailed
from pynchy.container.session import Broken, ContainerStuck, Gone, Heard, Session, Traffic
from pynchy.groups.dispatcher import RunHandle
from pynchy.groups.queue import Kind
from pynchy.limits import AGENTS, ANSWERS, PROMPTS
from pynchy.logs import logger
from pynchy.model import (
    ChatId,
    Group,
    GroupId,
    Micros,
    Outgoing,
    RunId,
    TurnId,
    TurnTold,
    channel_of,
)
from pynchy.policy import failures, tools
from pynchy.policy.effect_limits import Bounds
from pynchy.policy.failures import CallResult, Trouble
from pynchy.store import claims, groups, holds, results, runs, serving, turns
from pynchy.store.connection import StoreError
from pynchy.store.database import Store
from pynchy.text.prompt import MEDIA_ROOT, Contents, render_prompt
from pynchy.text.reply import NOTICE_PREFIX, clean_reply, hides_the_rest, within
from pynchy.text.splitting import split_reply
from pynchy_agent import wire

IMAGE_TYPES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})

MAX_UNASKED: Final = 20  # results in a row that answer no prompt
HIDDEN: Final = "The rest of this answer was for myself: I began that and never ended it."
COMPACT_DONE: Final = "Our conversation is shortened; what matters is kept."
COMPACT_FAILED: Final = "Our conversation could not be shortened, and goes on as it was."
TOO_LONG: Final = "The rest of this answer is too long for a chat. Ask me for it in a file."
COMPACTED: Final = (
    "compact_boundary"  # what the agent says of its work once a conversation is shortened
)
LAST_WRITES: Final = 5.0  # seconds for the rows of a run that is cancelled


class OpenAgent(Protocol):
    """Start the group's agent for the length of the block: container, gateway, command files."""

    def __call__(
        self, group: Group, run: RunId, start: wire.Start, heard: trio.MemorySendChannel[Traffic]
    ) -> AbstractAsyncContextManager[Session]: ...


class Outbox(Protocol):
    """What is to be said, on its way out of the store."""

    def ring(self) -> None:
        """There may be more in it."""

    def free(self, chat: ChatId) -> bool:
        """Whether an entry of this chat that a transaction has taken would be sent at once …"""

    def carry(self, out: Outgoing, /) -> None:
        """… and it is sent."""


class Asked(enum.Enum):
    """What is asked of a run from outside its container."""

    LOOK = "there may be more to claim"
    CLOSE = "finish what is owed and take nothing more: the slot is wanted, or the daemon stops"
    STOP = "a person stopped the turn; its rows say so already"


Event = Heard | Broken | Gone | Asked


@attrs.frozen
class Terms:
    """What the owner decided for all runs."""

    timeouts: Timeouts
    timezone: str
    assistant: str
    model: str | None
    boot: str
    install: str
    bounds: Bounds
    failing: failures.Terms = failures.USUAL


@attrs.frozen
class Services:
    """What the daemon does for every run.

    ``typing`` shows in a chat that an answer is being written. ``tell`` is told what becomes of turns. ``last_call``
    says how the newest call of the model in a run ended. ``released`` is told of groups whose work is due again,
    ``alert`` of what only the owner can mend.
    """

    store: Store
    terms: Terms
    world: World
    outbox: Outbox
    typing: Callable[[ChatId, bool], Awaitable[None]]
    tell: Callable[[TurnTold], None]
    last_call: Callable[[RunId], CallResult | None]
    released: Callable[[Sequence[GroupId]], None]
    alert: Callable[[str], None]


async def serve(
    services: Services,
    handle: RunHandle,
    *,
    open_agent: OpenAgent,
    stop: trio.Event,
    progress: Callable[[str], None],
) -> None:
    """Run the group's agent until nothing is owed and its time is up; then say so through ``handle``.

    ``stop`` is set when a person stops the turn; ``progress`` is told what the agent does.

    Never raises for a group's own trouble: that ends in a row, a log line and a word to the chat. What it does raise
    (a store that cannot be used, a bug in the queue) ends the daemon.
    """
    work = _Run(services, handle, open_agent, stop, progress)
    with logger.contextualize(group=handle.group, run=work.run):
        left = await work.go()
    await handle.ended(again=left.ready, retry_after=left.retry_after)


@attrs.define(eq=False)
class _Run:
    services: Services
    handle: RunHandle
    open_agent: OpenAgent
    stop: trio.Event
    progress: Callable[[str], None]

    run: RunId = attrs.field(init=False)
    store: Store = attrs.field(init=False)
    terms: Terms = attrs.field(init=False)
    outbox: Outbox = attrs.field(init=False)
    agent: Session = attrs.field(init=False)  # from here on while there is a container
    deadlines: Deadlines = attrs.field(init=False)

    owed: dict[str, claims.Claimed] = attrs.field(init=False, factory=dict)
    taken: list[str] = attrs.field(init=False, factory=list)  # prompts the agent said it has
    session: str | None = attrs.field(init=False, default=None)
    chat: ChatId | None = attrs.field(init=False, default=None)
    failure: Trouble | None = attrs.field(init=False, default=None)
    probes: tuple[str, ...] = attrs.field(init=False, default=())  # the holds that we try for all
    compacted: bool = attrs.field(init=False, default=False)  # since the last answer
    unasked: int = attrs.field(init=False, default=0)
    aside: int = attrs.field(init=False, default=0)  # messages said since the last answer
    replies: int = attrs.field(init=False, default=0)
    resting: bool = attrs.field(init=False, default=False)  # the queue was told that we are idle

    def __attrs_post_init__(self) -> None:
        services = self.services
        self.run = RunId(services.world.new_id()[:16])
        self.store, self.terms, self.outbox = services.store, services.terms, services.outbox

    @property
    def group(self) -> GroupId:
        return self.handle.group

    async def go(self) -> serving.Left:
        """From the first claim to the last row. Returns what the group's next run would find."""
        container = f"pynchy-{self.terms.install}-{self.run}"
        begun = await self.store.call(
            serving.begin,
            runs.RunStart(
                run=self.run,
                folder=self.group,
                kind=self.handle.kind.value,
                container=container,
                boot=self.terms.boot,
            ),
            turn=None if self.handle.delegate is None else TurnId(int(self.handle.delegate)),
            prewarm=self.handle.prewarm,
            terms=self.terms.failing,
        )
        if begun is None:
            self.outbox.ring()  # what is held back has been told so, perhaps
            return await self.store.call(serving.left, self.group, kind=self.handle.kind.value)
        self.resting = self.handle.prewarm  # so the queue takes it, until it hears otherwise
        if self.resting and begun.claimed is not None:
            self.resting = False
            await self.handle.busy()
        try:
            reason = await self._live(begun)
        except Exception as error:  # contained here, and only here: one group's trouble
            if _holds(error, StoreError):
                raise
            self.failure = _failure_of(error)
            reason = self.failure.kind
            logger.opt(
                exception=self.failure.kind != "machine"
            ).error(  # whose sentence says it all
                "run failed: {}", self.failure.message
            )
        except BaseException:  # cancelled: the daemon goes, and what is not written is recovered
            with trio.move_on_after(LAST_WRITES, shield=True):
                await self._settle("cancelled")
            raise
        return await self._settle(reason)  # however slow the disk is: the next run comes after it

    async def _live(self, begun: serving.Begun) -> str:
        """Open the agent and serve it. Returns why the run ended, once its container is gone."""
        group, claimed = begun.group, begun.claimed
        self.session = None if claimed is not None and claimed.isolated else group.session
        first = None if claimed is None else await self._prompt(claimed)
        task = self.handle.kind is not Kind.SESSION
        start = wire.Start(
            run=self.run,
            group=group.folder,
            chat=self.chat or "",
            is_main=group.is_main,
            scheduled=self.handle.kind is Kind.TASK,
            session=self.session,
            model=group.model or self.terms.model,
            tools=(tools.offered if self.handle.delegate is None else tools.offered_to_helpers)(
                group
            ),
            timezone=self.terms.timezone,
            assistant=self.terms.assistant,
            token="",  # the opener puts in the one that it made for this run
            gateway="",
            prompts=(first,) if isinstance(first, wire.Prompt) else (),
            ended=begun.ended,
        )
        sender, events = trio.open_memory_channel[Event](0)
        async with (
            self.open_agent(group, self.run, start, sender) as self.agent,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(_ring, self.handle.bell, sender, name=f"bell {self.group}")
            nursery.start_soon(
                _say_once, self.handle.close, sender, Asked.CLOSE, name=f"close {self.group}"
            )
            nursery.start_soon(_say_once, self.stop, sender, Asked.STOP, name=f"stop {self.group}")
            if isinstance(first, wire.Compact):
                self.agent.tell(first)
            await self.store.call(runs.set_state, self.run, "running")
            logger.info("run started{}", "" if not task else f" for a {self.handle.kind.value}")
            reason = await self._serve(events)
            nursery.cancel_scope.cancel("the run is over")
        return reason

    async def _serve(self, events: trio.MemoryReceiveChannel[Event]) -> str:
        """The loop of a run: one thing at a time, until the container is gone or has to be put down."""
        self.deadlines = Deadlines(self.terms.timeouts, trio.current_time())
        while True:
            moment, limit = self.deadlines.due()
            event: Event | None = None
            with trio.move_on_at(moment):
                event = await events.receive()
            try:
                match event:
                    case None:
                        if limit is Limit.CLOSE:
                            return "closed" if self.failure is None else self.failure.kind
                        self._limit(limit)
                    case Heard(frame):
                        await self._heard(frame)
                    case Broken(reason, kind):
                        self._fail(Trouble(kind, reason))
                    case Gone(status):
                        if self.owed and self.failure is None and not self.stop.is_set():
                            words = f"the container exited with {status} and owed an answer"
                            self.failure = self._judged(Trouble("agent", words))
                        return "exited" if self.failure is None else self.failure.kind
                    case Asked.LOOK:
                        await self._look()
                    case Asked.CLOSE:
                        self.agent.close()
                        if self.handle.prewarm and self.chat is None:
                            self.agent.kill()  # nobody has spoken to it: it has nothing to finish
                        if self.handle.abandoned.is_set():
                            why = "the run that waited for it has ended"
                            self._fail(Trouble("interrupted", why))
                        elif not self.owed:
                            self.deadlines.closing(trio.current_time())
                    case Asked.STOP if not self.owed:  # it has answered, and has nothing to finish
                        self._kill()
                    case Asked.STOP:
                        self.deadlines.stopping(trio.current_time())
                        self.agent.tell(wire.Interrupt())
            except ContainerStuck as error:
                self._fail(Trouble("agent", str(error)))

    # --- what is heard ---

    async def _heard(self, frame: wire.Frame) -> None:
        moment = trio.current_time()
        if isinstance(frame, wire.Progress) and self.deadlines.phase is Phase.STARTING:
            self.deadlines.stirred()  # it is not there yet, but on its way
            return
        self.deadlines.started(moment, owed=bool(self.owed))
        await self._probe()
        match frame:
            case wire.Ready():
                if not self.owed:
                    await self._rest()
            case wire.Accepted(prompts):
                self.deadlines.progressed(moment)
                await self._accepted(prompts)
            case wire.Progress():
                self.deadlines.progressed(moment, tool=frame.timeout)
                self.compacted = self.compacted or frame.what == COMPACTED
                self.progress(frame.what)
                await self._in_session(frame.session)
            case wire.Result():
                await self._commit(frame)
            case wire.Idle():
                if self.owed and self.stop.is_set():
                    self._close()  # the stopped turn has stopped by itself
                elif not self.owed:
                    await self._rest()
            case wire.Retrying(attempt, delay, reason):
                logger.info("the model API failed ({}), try {} in {:.0f} s", reason, attempt, delay)
                self.progress(f"waits for the model, try {attempt}")
            case wire.Error():
                await self._error(frame)

    async def _accepted(self, prompts: Sequence[str]) -> None:
        taken = [each for each in prompts if each in self.owed and each not in self.taken]
        if taken:
            self.taken += taken
            await self.store.call(claims.accepted, self.run, taken)

    async def _in_session(self, session: str | None) -> None:
        """Keep the session as soon as it is known: a run that dies in its first turn is resumed in it."""
        if session is not None and session != self.session and self.handle.kind is Kind.SESSION:
            self.session = session
            await self.store.call(groups.set_session, self.run, session)

    def _model_answers(self) -> bool:
        """Whether the newest call of the model in this run went well."""
        seen = self.services.last_call(self.run)
        return seen is not None and seen.kind is None

    async def _probe(self) -> None:
        """Release the groups that wait for the same trouble to pass, once this run's call of the model went well."""
        answers = self._model_answers()
        well = tuple(each for each in self.probes if answers or each == "machine")
        if well:
            self.probes = tuple(each for each in self.probes if each not in well)
            self.services.released(await self.store.call(holds.lift, well))

    async def _commit(self, result: wire.Result, note: str | None = None) -> None:
        """Write down an answer, and what it answers. ``note``: what the host says after it."""
        if self.stop.is_set():
            return  # what a stopped turn says late is dropped
        answered = [self.owed[each] for each in result.answered if each in self.owed]
        overtakes = {each.prompt_id for each in answered} != set([*self.owed][: len(answered)])
        if self.failure is not None and overtakes:
            return  # the run is given up: what failed is asked again, and nothing overtakes it
        if answered:
            self.unasked = self.aside = 0
        else:
            self.unasked += 1
            if self.unasked > MAX_UNASKED:
                self._fail(Trouble("agent", f"{self.unasked} results that answer nothing"))
                return
        pieces = self._pieces(result, answered, note)
        self.compacted = False
        if not answered:
            pieces = pieces[: ANSWERS.pieces - self.aside]
            self.aside += len(pieces)
        committed = await self.store.call(
            results.commit,
            self.run,
            results.Reply(
                answered=[each.prompt_id for each in answered],
                pieces=pieces,
                session=result.session,
                reached=self._model_answers(),
            ),
            take=self.chat if self.chat is not None and self.outbox.free(self.chat) else None,
            bounds=self.terms.bounds,
        )
        if committed.superseded:
            self._fail(Trouble("superseded", "the group began anew while this run went on"))
            return
        if committed.released:
            self.services.released(committed.released)
        for each in answered:
            del self.owed[each.prompt_id]
            self.services.tell(TurnTold(each.chat, each.turn, "done", replies=committed.outbox))
        if committed.outbox:
            self.replies += len(committed.outbox)
            if committed.taken is not None:
                self.outbox.carry(committed.taken)
            else:
                self.outbox.ring()
        elif committed.held:
            logger.warning("what nobody asked for was not said: the group is held back")
            self.outbox.ring()  # main may have been told
        self.deadlines.answered(
            trio.current_time(), owed=True
        )  # idle is for the agent to say: it may work on
        if not self.owed:
            await self._typing(False)
            if self.handle.kind is not Kind.SESSION or self.handle.close.is_set():
                self.agent.close()

    def _pieces(
        self, result: wire.Result, answered: Sequence[claims.Claimed], note: str | None
    ) -> list[str]:
        """What is said of a result, in messages."""
        text = clean_reply(result.text)
        if note is None and any(each.source == turns.COMPACT for each in answered):
            note = NOTICE_PREFIX + (COMPACT_DONE if self.compacted else COMPACT_FAILED)
            if all(each.source == turns.COMPACT for each in answered):
                text = None  # what the agent says of it is no better
        if result.cut and note is None:
            note = failures.cut()
        pieces = split_reply(text) if text else []
        if result.text is not None and hides_the_rest(result.text):
            pieces.append(f"{NOTICE_PREFIX}{HIDDEN}")
        if len(pieces) > ANSWERS.pieces:
            pieces = [*pieces[: ANSWERS.pieces - 1], f"{NOTICE_PREFIX}{TOO_LONG}"]
        return pieces if note is None else [*pieces, note]

    async def _rest(self) -> None:
        """Nothing is owed and the agent does nothing: look once more, then say so."""
        if self.handle.kind is not Kind.SESSION or self.agent.closing:
            self._close()
            return
        if self.deadlines.phase is Phase.BUSY:
            self.deadlines.answered(trio.current_time(), owed=False)
        await self._look()

    async def _look(self) -> None:
        """Claim what waits and hand it over. Of another chat only when nothing is owed."""
        if self.handle.kind is not Kind.SESSION or self.agent.closing or self.stop.is_set():
            return
        while len(self.owed) < AGENTS.owed:
            claimed = await self.store.call(
                claims.claim,
                self.run,
                chat=self.chat if self.owed else None,
                terms=self.terms.failing,
            )
            if claimed is None:
                break
            if self.resting:
                self.resting = False
                await self.handle.busy()
            self.agent.tell(await self._prompt(claimed))
            self.deadlines.prompted(trio.current_time())
        if not self.owed and self.deadlines.phase is Phase.IDLE:
            self.resting = True
            self.outbox.ring()  # a chat may have been told that it has to wait
            left = await self.store.call(serving.left, self.group, kind="session")
            await self.handle.idle(retry_after=left.retry_after)

    async def _error(self, error: wire.Error) -> None:
        if error.kind == "interrupted":
            return  # the end of a stop; idle follows
        prompts = error.prompts or tuple(self.taken)
        asked = [self.owed[each] for each in prompts if each in self.owed]
        if asked and all(each.source == turns.COMPACT for each in asked):
            trouble = self._judged(_reported(error))
            if not failures.row_of(trouble.kind).again.waits:
                reason = failures.as_reason(trouble.message)
                note = f"{NOTICE_PREFIX}{COMPACT_FAILED} The reason: {reason}."
                answer = wire.Result(text=None, answered=prompts, session=error.session)
                await self._commit(answer, note)
                return
        final = failures.row_of(error.kind).again is failures.Again.NEVER
        if final and clean_reply(error.text) is not None:
            # What was said is the answer, as far as it goes: it was paid for.
            answer = wire.Result(text=error.text, answered=prompts, session=error.session)
            await self._commit(answer, failures.cut(error.kind))
            return
        self._fail(_reported(error))

    # --- endings ---

    def _limit(self, limit: Limit) -> None:
        if limit is Limit.IDLE or (limit is Limit.SILENCE and not self.owed):
            self._close()
        elif limit is Limit.STOP:
            self._kill()
        else:
            self._fail(Trouble(_LIMITS[limit], limit.value))

    def _close(self) -> None:
        """Ask the agent to exit, and wait for that no longer than it may take."""
        self.agent.close()
        self.deadlines.closing(trio.current_time())

    def _kill(self) -> None:
        self.agent.kill()
        self.deadlines.closing(trio.current_time())

    def _judged(self, trouble: Trouble) -> Trouble:
        """What really failed: what the gateway saw counts more than what the container says."""
        return failures.judge(trouble, self.services.last_call(self.run))

    def _fail(self, said: Trouble) -> None:
        """Give this run up. What is owed goes back when its container is gone."""
        if self.failure is None:
            trouble = self.failure = self._judged(said)
            logger.warning("giving the run up: {}", trouble.kind)
            logger.debug("why: {}", trouble.message)  # it may quote what was said; so does `why`
        self._kill()

    async def _settle(self, reason: str) -> serving.Left:
        """The last rows of a run: its end, and what goes back."""
        failure = self.failure
        if failure is None and self.owed:
            failure = Trouble("interrupted", reason)
        settled = await self.store.call(
            serving.settle,
            self.run,
            serving.RunEnd(
                folder=self.group,
                kind=self.handle.kind.value,
                reason=reason,
                trouble=failure,
                accepted=self.taken,
                session=self.session,
                probes=self.probes,
            ),
            jitter=self.services.world.jitter(),
            terms=self.terms.failing,
        )
        self.services.released(settled.look_again)
        if settled.alert:
            self.services.alert(settled.alert)
        if self.owed:
            await self._typing(False)
        for each in settled.failures:
            error = "" if failure is None else f"{failure.kind}: {failure.message}"
            self.services.tell(
                TurnTold(each.chat, each.turn, "failed" if each.dead else "retry", error=error)
            )
        given_back = {each.turn for each in settled.failures}
        for held in self.owed.values():  # what is neither was stopped by a person
            if held.turn not in given_back:
                self.services.tell(TurnTold(held.chat, held.turn, "cancelled"))
        self.outbox.ring()  # notices, if there are any
        logger.info("run ended: {}, {} replies", reason, self.replies)
        return settled.left

    # --- prompts ---

    async def _prompt(self, claimed: claims.Claimed) -> wire.Prompt | wire.Compact:
        self.owed[claimed.prompt_id] = claimed
        self.probes += claimed.probes
        self.chat = claimed.chat
        await self._typing(True)
        self.services.tell(TurnTold(claimed.chat, claimed.turn, "started", seqs=claimed.seqs))
        if claimed.source == turns.COMPACT:
            return wire.Compact(id=claimed.prompt_id)
        woken = claimed.prompt if claimed.kind == "notice" else None
        told = Contents(
            chat=claimed.chat_name,
            channel=channel_of(claimed.chat),
            messages=claimed.messages,
            omitted=claimed.omitted,
            said=claimed.said if claimed.resume else (),
            task=claimed.task,
            notices=claimed.notices if woken is None else (*claimed.notices, woken),
            work=claimed.prompt if claimed.kind == "delegate" else None,
            woken=woken is not None,
        )
        text = render_prompt(
            told,
            timezone=self.terms.timezone,
            now=self.services.world.now(),
            boundary=self.services.world.new_id()[:16],
            assistant=self.terms.assistant,
        )
        return wire.Prompt(
            id=claimed.prompt_id, text=text, images=_images(claimed), script=claimed.script
        )

    async def _typing(self, on: bool) -> None:
        if self.chat is not None and self.handle.kind is not Kind.TASK:
            await self.services.typing(self.chat, on)


def _images(claimed: claims.Claimed) -> tuple[wire.Image, ...]:
    """The pictures that are shown to the model with the prompt, besides being named in it."""
    return tuple(
        wire.Image(path=MEDIA_ROOT + each.path, media_type=each.media_type)
        for message in claimed.messages
        for each in message.attachments
        if each.media_type in IMAGE_TYPES and each.size <= PROMPTS.picture
    )


_LIMITS: Final = {Limit.START: "machine", Limit.SILENCE: "silent", Limit.TURN: "too_slow"}


def _reported(error: wire.Error) -> Trouble:
    """A failure as the container tells of it."""
    moment = None if error.retry_at is None else Micros(round(error.retry_at * 1e6))
    return Trouble(error.kind, within(error.message, AGENTS.error), moment)


def _failure_of(error: BaseException) -> Trouble:
    """What to say of an exception; of a group of them, of the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, SpawnFailed):
        return Trouble("machine", str(error), sure=True)
    return Trouble("internal", f"{type(error).__name__}: {error}")


def _holds(error: BaseException, kind: type[BaseException]) -> bool:
    """Whether an exception is of a kind, or a group with one of it."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(kind) is not None
    return isinstance(error, kind)


async def _ring(
    bell: trio.MemoryReceiveChannel[None], events: trio.MemorySendChannel[Event]
) -> None:
    async for _ in bell:
        await events.send(Asked.LOOK)


async def _say_once(
    happened: trio.Event, events: trio.MemorySendChannel[Event], event: Asked
) -> None:
    await happened.wait()
    await events.send(event)
