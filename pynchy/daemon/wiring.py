"""The wiring: opens the edges, starts the services, and stops them in order.

`run` opens the edges, outermost first; `serve` starts the services in the one nursery and waits for
a signal. A simulation calls `serve` with edges of its own. The rule that keeps it so: nothing is
decided here. Whoever needs something gets it by name from here, and services meet only through what
is handed to them.

Stopping, in order: the inlets (channels, scheduler) close; running turns get a bounded time to
finish while nothing new starts; then everything is cancelled, which ends the containers, and the
edges close. What was not sent is in the outbox. A second signal skips to the last step.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import attrs
import trio

from pynchy.actions.call import Done
from pynchy.actions.effects import Awaits
from pynchy.actions.later import Bells
from pynchy.chat import command_handlers, receiver, sender
from pynchy.chat.channel import ADVICE, Channel, ChatSeen, NotConnected, Refreshable, StateChanged
from pynchy.chat.console import Console, open_console
from pynchy.config import credentials
from pynchy.config.installation import install_id
from pynchy.config.settings import Config
from pynchy.config.sources import credential_now
from pynchy.container import folders
from pynchy.container.deadlines import Patience
from pynchy.container.engines.health import Health
from pynchy.container.engines.runtime import Runtime
from pynchy.container.session import Session, Traffic
from pynchy.control import server
from pynchy.control.approvals import Approvals
from pynchy.control.group_guards import Guards
from pynchy.control.inspection import Inspection
from pynchy.control.metrics import Figures
from pynchy.control.operations import Live, Operations
from pynchy.control.registration import Registration
from pynchy.control.subscriptions import Watching
from pynchy.daemon import desktop, edges, recovery
from pynchy.daemon.clock import World, day_of, real_world
from pynchy.daemon.lock import open_lock
from pynchy.daemon.loop_watchdog import Watch as LoopWatch
from pynchy.daemon.loop_watchdog import open_watch
from pynchy.daemon.recovery import Recovery
from pynchy.folder_changes import open_watches
from pynchy.groups import dispatcher, queue, turn
from pynchy.groups.agent import ContainedAgents, bounds_of
from pynchy.logs import logger
from pynchy.maintenance.disk import Floor, space_of
from pynchy.maintenance.disk_guard import Headroom
from pynchy.maintenance.erasure import Forgetting
from pynchy.maintenance.nightly import Keeper, Plan
from pynchy.model import (
    MAIN_CONSOLE,
    ChatId,
    Group,
    GroupId,
    Message,
    RunId,
    TurnTold,
    channel_of,
)
from pynchy.policy import tools
from pynchy.policy.failures import Call
from pynchy.policy.failures import Terms as Failing
from pynchy.reader_budget import open_loop_time
from pynchy.schedule import scheduler
from pynchy.store import groups, holds, messages, notices, serving, turn_rows
from pynchy.store.connection import StoreError
from pynchy.store.database import Store, open_store
from pynchy.text.reply import NOTICE_PREFIX
from pynchy_agent import wire

if TYPE_CHECKING:
    from pynchy.whatsapp.channel import WhatsApp

WHATSAPP_PACE: Final = sender.Pace(burst=5, rate=0.5)  # faster is what gets accounts banned


Outdated = Callable[[GroupId], Awaitable[None]]  # told when a group's settings have changed


class ServiceExited(Exception):
    """A service returned: a bug, for silence is not success."""


class Agents(Protocol):
    """How agents come to life. A simulation has its own."""

    def open(
        self,
        group: Group,
        run: RunId,
        start: wire.Start,
        heard: trio.MemorySendChannel[Traffic],
        *,
        committed: Callable[[Done], None],
    ) -> AbstractAsyncContextManager[Session]: ...

    async def sweep(self, group: GroupId, *, committed: Callable[[Done], None]) -> None: ...

    def last_call(self, run: RunId) -> Call | None: ...


async def run(
    config: Config,
    *,
    ready: Callable[[], None],
    stopping: Callable[[str], None] = lambda reason: None,
) -> None:
    """Run the daemon until a signal. ``ready`` is called once everything is up, ``stopping`` when the
    signal has come and turns are given their time.

    Raises `AlreadyRunning`, `StoreError`, and `NoRuntime` when no container engine answers in time.
    """
    home, bells = config.home, Bells()
    world = attrs.evolve(real_world(), space=partial(space_of, home.root))
    home.make()
    with (
        open_loop_time(),
        open_lock(home.lock),
        trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals,
    ):
        async with (
            open_store(
                home.database, mark=home.store_mark, now=world.now, new_id=world.new_id
            ) as store,
            edges.open_upstream(config) as upstream,
            edges.open_way_out(config, upstream, store, world) as gateway,
            open_console(now=world.now, new_id=world.new_id) as console,
            edges.open_whatsapp(config, store) as whatsapp,
            open_watch() as stalls,
            open_watches() as watches,
        ):
            guard = Guards(store, await edges.allowed(config), world.now)
            known: list[str] = []
            runtime = await edges.find_runtime(config, signals, told=known.append)
            if runtime is None:
                return
            known += await edges.warn_of_escapes(config, runtime)
            await serve(
                config,
                signals=signals,
                store=store,
                runtime=runtime,
                channels={console.name: console}
                if whatsapp is None
                else {console.name: console, whatsapp.name: whatsapp},
                console=console,
                agents=ContainedAgents(
                    config,
                    gateway,
                    runtime,
                    store,
                    world,
                    bells,
                    install=install_id(home),
                    guard=guard,
                    watches=watches,
                ),
                more_ops=lambda outdated: attrs.evolve(guard, outdated=outdated).ops,
                warnings=partial(edges.warnings, known, watches),
                look=Health(runtime, config.container.image, known).look,
                steps=recovery.STEPS,
                bells=bells,
                world=world,
                model=upstream.name,
                ready=ready,
                stopping=stopping,
                whatsapp=whatsapp,
                keeping=True,
                notify=desktop.notify,
                renewal=None
                if (use := edges.renewing(config, upstream)) is None
                else partial(
                    credentials.run,
                    home.root,
                    watches,
                    read=partial(credential_now, os.environ, home),
                    use=use,
                ),
                stalls=stalls,
            )


async def serve(
    config: Config,
    *,
    signals: AsyncIterator[int],
    store: Store,
    runtime: Runtime,
    channels: Mapping[str, Channel],
    console: Console | None,
    agents: Agents,
    bells: Bells,
    world: World,
    model: str,
    ready: Callable[[], None],
    stopping: Callable[[str], None] = lambda reason: None,
    more_ops: Callable[[Outdated], Mapping[str, server.Op]] | None = None,
    warnings: Callable[[], tuple[str, ...]] = tuple,
    look: Callable[[], Awaitable[None]] | None = None,
    steps: Sequence[tuple[str, recovery.Step]] = recovery.ROWS,
    whatsapp: WhatsApp | None = None,
    keeping: bool = False,
    notify: Callable[[str, str], Awaitable[None]] | None = None,
    renewal: Callable[..., Awaitable[object]] | None = None,
    stalls: LoopWatch | None = None,
) -> None:
    """Everything between the edges: recover, start the services, serve until a signal, stop in order."""
    now, new_id = world.now, world.new_id
    boot = new_id()[:16]
    events_in, events = trio.open_memory_channel[queue.Event](0)
    tasks_in, tasks_bell = trio.open_memory_channel[None](1)
    links_in, links = trio.open_memory_channel[str](len(channels))
    states = {name: "connected" if name == "console" else "connecting" for name in channels}
    outgoing = sender.Sender(
        channels,
        store,
        now=now,
        new_id=new_id,
        jitter=world.jitter,
        paces={"whatsapp": WHATSAPP_PACE},
        connected=links,
    )
    drained = trio.Event()
    prewarm = config.container.prewarm
    line = queue.GroupQueue(capacity=config.limits.containers, prewarm=prewarm)
    stops: dict[RunKey, trio.Event] = {}
    run_over: dict[GroupId, trio.Event] = {}
    watching = Watching(now)
    store.tell_changes(watching.changed)
    scaffold = partial(folders.scaffold, config.home)

    def ring_scheduler() -> None:
        with suppress(trio.WouldBlock):
            tasks_in.send_nowait(None)

    async def task_due(group: GroupId) -> None:
        await headroom.look()
        await events_in.send(queue.TaskDue(group))
        watching.changed()

    async def pause(group: GroupId, paused: bool) -> None:
        """Serve a group no more for now, or again: then whatever has come meanwhile is looked at."""
        if paused:
            await events_in.send(queue.Paused(group))
            return
        await events_in.send(queue.Resumed(group))
        await events_in.send(queue.Arrived(group))
        await events_in.send(queue.TaskDue(group))

    async def outdated(group: GroupId) -> None:
        """A run of this group would now be begun with something else: one that is warm ends, and a budget that
        was used up may have been raised."""
        released(await store.call(holds.lift_kind, "budget", folder=group))
        await events_in.send(queue.Outdated(group))

    async def begin_anew(changed: GroupId | None, woken: GroupId | None) -> None:
        """Who is told of a change is told in a run that has it, if the one they have is idle."""
        if changed is not None:
            await outdated(changed)
        if woken is not None:
            await ring(woken)

    async def end_runs(group: GroupId) -> None:
        await stop(group)
        while any(folder == group for folder, _ in stops):
            await run_over.setdefault(group, trio.Event()).wait()

    async def forget(group: GroupId) -> None:
        await stop(group)
        await events_in.send(queue.Removed(group))

    def after_command(done: Done) -> None:
        if done.ok and done.fresh:
            registration_changed()
        if done.speaks:
            outgoing.ring()
        if done.schedules:
            ring_scheduler()
        if done.due is not None:
            nursery.start_soon(task_due, done.due)
        if done.paused is not None:
            nursery.start_soon(pause, *done.paused)
        if done.outdated is not None or done.wakes is not None:
            nursery.start_soon(begin_anew, done.outdated, done.wakes)
        if done.refreshes:
            nursery.start_soon(refresh)
        if done.delegated is not None:
            asked = done.delegated
            nursery.start_soon(
                events_in.send,
                queue.DelegateAsked(
                    id=queue.DelegateId(str(asked.turn)),
                    group=asked.group,
                    parent=None if asked.parent is None else queue.DelegateId(str(asked.parent)),
                    waits=asked.waits,
                ),
            )
        if done.removed is not None:
            nursery.start_soon(forget, done.removed)

    def registration_changed() -> None:
        if whatsapp is not None:
            whatsapp.registration_changed()

    def group_removed(group: GroupId) -> None:
        registration_changed()
        nursery.start_soon(events_in.send, queue.Removed(group))

    def on_state(name: str, change: StateChanged) -> None:
        states[name] = change.words
        watching.changed()
        if change.state == "connected":
            with suppress(trio.WouldBlock):
                links_in.send_nowait(name)
        elif change.state in ADVICE:
            nursery.start_soon(tell_owner, f"{name}: {states[name]}", f"{name}:{change.state}")

    async def tell_owner(text: str, kind: str) -> None:
        words = f"{NOTICE_PREFIX}{text}"
        if await store.call(notices.tell_once, MAIN_CONSOLE, kind, words):
            outgoing.ring()
            if notify is not None:
                await notify(config.assistant.name, text)

    async def tell_main(text: str, kind: str) -> None:
        words = f"{NOTICE_PREFIX}{text}"
        if await store.call(notices.tell_main_once, kind, words):
            outgoing.ring()

    floor = Floor.of(config.disk)
    headroom = Headroom(measure=world.space, floor=floor, feed=events_in.send, tell=tell_main)

    async def refresh() -> list[ChatSeen] | None:
        seen: list[ChatSeen] | None = None
        for channel in channels.values():
            if isinstance(channel, Refreshable):
                with suppress(NotConnected):  # it tells them when it connects
                    seen = [*(seen or ()), *await channel.refresh_groups()]
        return seen

    async def ring(group: GroupId) -> None:
        await headroom.look()
        await events_in.send(queue.Arrived(group))
        watching.changed()

    async def stop(group: GroupId, cancelled: Sequence[turn_rows.Turn] = ()) -> None:
        """End a group's runs, and tell who waits for ``cancelled``."""
        for (folder, _), stopped in stops.items():
            if folder == group:
                stopped.set()
        waited = turn.unheld(cancelled)
        for told in waited:
            tell(told)
        if waited:  # what came behind them waits for nothing any more
            await ring(group)

    def released(woken: Sequence[GroupId]) -> None:
        """What these groups waited for is well again."""
        for group in woken:
            nursery.start_soon(ring, group)
            nursery.start_soon(task_due, group)

    async def credential_changed() -> None:
        released(await store.call(holds.lift_kind, "credential"))

    def alert(text: str) -> None:
        """The owner was told this in a chat, and is to hear of it on the desktop, too."""
        outgoing.ring()
        if notify is not None:
            nursery.start_soon(notify, config.assistant.name, text)

    async def typing(chat: ChatId, on: bool) -> None:
        if (channel := channels.get(channel_of(chat))) is not None:
            await channel.set_typing(chat, on)

    def tell(told: TurnTold) -> None:
        if console is not None:
            console.turn(told)

    def stored(message: Message, received: messages.Received) -> None:
        if console is not None:
            console.stored(message, seq=received.seq, folder=received.folder, wakes=received.wakes)

    def answered(question: str) -> None:
        bells.ring(Awaits("answer", question))

    on_command = partial(
        command_handlers.carry_out,
        stop=stop,
        tell=events_in.send,
        committed=after_command,
        scaffold=scaffold,
    )

    terms = turn.Terms(
        bounds=bounds_of(config),
        patience=Patience(
            silence=config.limits.progress,
            turn=config.limits.turn,
            idle=config.limits.idle,
            close=config.limits.close_grace,
        ),
        timezone=config.assistant.timezone,
        assistant=config.assistant.name,
        model=config.model.name or None,
        boot=boot,
        install=install_id(config.home),
        failing=Failing(outage=config.limits.outage, timezone=config.assistant.timezone),
    )

    async with trio.open_nursery() as nursery:
        left = Recovery(
            store,
            runtime,
            config.home,
            boot,
            config.assistant.name,
            partial(agents.sweep, committed=after_command),
        )
        await recovery.recover(left, steps)

        async def over(kind: queue.Kind, key: RunKey) -> None:
            """A run has ended. Whoever asked for a helper looks at what came of it; what a session's run
            left for the next one, its end has told the queue."""
            run_over.pop(key[0], trio.Event()).set()
            watching.over(key)
            if key[1] is not None:
                bells.ring(Awaits("delegate", key[1]))
                await ring(key[0])
            elif kind is queue.Kind.TASK and await store.call(serving.woken, key[0]):
                await ring(key[0])

        @asynccontextmanager
        async def open_agent(
            group: Group, run: RunId, start: wire.Start, heard: trio.MemorySendChannel[Traffic]
        ) -> AsyncIterator[Session]:
            try:
                async with agents.open(
                    group, run, start, heard, committed=after_command
                ) as session:
                    yield session
            finally:
                await headroom.look()  # before the queue hears that there is a slot

        def start(order: queue.Start, handle: dispatcher.RunHandle) -> None:
            key = (order.group, order.delegate)
            stops[key] = trio.Event()
            serve_turns = partial(
                turn.serve,
                handle,
                store=store,
                open_agent=open_agent,
                tools=tools.offered if order.delegate is None else tools.offered_to_helpers,
                terms=terms,
                now=now,
                new_id=new_id,
                jitter=world.jitter,
                stop=stops[key],
                typing=typing,
                outbox=outgoing,
                tell=tell,
                progress=partial(watching.step, key),
                last_call=agents.last_call,
                released=released,
                alert=alert,
            )
            nursery.start_soon(
                _run_turns,
                serve_turns,
                stops,
                key,
                partial(over, order.kind),
                name=f"turns of {order.group}",
            )

        async def child(service: Callable[..., Awaitable[object]], name: str) -> trio.CancelScope:
            scope: trio.CancelScope = await nursery.start(_service, service, name, name=name)
            return scope

        await child(outgoing.run, "sender")
        await child(
            partial(dispatcher.run, events, events_in, queue=line, start=start, drained=drained),
            "dispatcher",
        )
        await child(headroom.run, "headroom")
        if renewal is not None:
            await child(partial(renewal, changed=credential_changed), "credentials")
        if keeping:
            keeper = Keeper(
                store=store,
                home=config.home,
                plan=_plan(config),
                floor=floor,
                now=now,
                measure=world.space,
                tell=tell_main,
                steady=world.steady,
            )
            await child(keeper.run, "keeper")
        taps = [
            await child(
                partial(
                    receiver.run,
                    channel,
                    store,
                    now=now,
                    new_id=new_id,
                    ring=ring,
                    on_command=on_command,
                    outbox_bell=outgoing.ring,
                    stored=stored,
                    on_state=on_state,
                    answered=answered,
                ),
                f"receiver {name}",
            )
            for name, channel in channels.items()
        ]
        taps.append(
            await child(
                partial(
                    scheduler.run,
                    store,
                    tasks_bell,
                    now=now,
                    new_id=new_id,
                    due=task_due,
                    wake=ring,
                    outbox_bell=outgoing.ring,
                    steady=world.steady,
                    bounds=bounds_of(config),
                ),
                "scheduler",
            )
        )
        if console is not None:

            def live() -> Live:
                return Live(
                    runtime=runtime.name,
                    model=model,
                    queue=tuple(each.group for each in line.waiting()),
                    disk=headroom.shown(),
                    channels=dict(states),
                    warnings=warnings(),
                )

            operations = Operations(
                store=store,
                home=str(config.home.root),
                assistant=config.assistant.name,
                containers=config.limits.containers,
                started_at=now(),
                now=now,
                live=live,
                added=lambda group: registration_changed(),
                removed=group_removed,
                scaffold=scaffold,
                stop=stop,
                pause=pause,
                let_go_on=ring_scheduler,
            )
            inspection = Inspection(
                store=store,
                backups=config.home.backups,
                timezone=config.assistant.timezone,
                now=now,
                new_id=new_id,
                scheduled=ring_scheduler,
                due=task_due,
            )
            figures = Figures(
                store=store,
                database=config.home.database,
                containers=config.limits.containers,
                started_at=now(),
                now=now,
                today=lambda: day_of(config.assistant.timezone, now()),
                live=live,
                watch=stalls,
            )
            approvals = Approvals(
                store=store,
                now=now,
                new_id=new_id,
                committed=after_command,
                scaffold=scaffold,
            )
            registration = Registration(
                store=store, now=now, refresh=refresh, changed=registration_changed
            )
            ops = {
                **console.ops,
                **operations.ops,
                **registration.ops,
                **inspection.ops,
                **figures.ops,
                **approvals.ops,
                **(more_ops(outdated) if more_ops is not None else {}),
                **watching.ops,
                **Forgetting(store, config.home, end_runs, group_removed).ops,
            }
            if whatsapp is not None:
                ops |= whatsapp.ops
            await child(watching.run, "watching")
            await child(
                partial(server.run, config.home.control_socket, ops, fatal=(StoreError,)),
                "control",
            )

        for group in await store.call(serving.paused):
            await pause(group, True)
        sessions, tasks = await store.call(serving.unfinished)
        for group in sessions:
            await ring(group)
        for group in tasks:
            await task_due(group)
        outgoing.ring()
        ready()  # before it is told of: the first line of a log loads what writes it
        logger.info(
            "ready: {} with {}, {} groups wait",
            config.assistant.name,
            runtime.name,
            len(sessions) + len(tasks),
        )
        if prewarm:
            recent = await store.call(groups.spoke_last, limit=prewarm + config.limits.containers)
            await events_in.send(queue.Likely(tuple(recent)))

        if look is not None:
            nursery.start_soon(look, name="look at the engine")

        if store.stopped_uncleanly:  # damage ends the daemon, like any trouble of the store
            nursery.start_soon(store.check, name="store check")

        reason = signal.Signals(await anext(signals)).name
        stopping(reason)
        logger.info("stopping: {}", reason)
        for tap in taps:
            tap.cancel(reason)
        nursery.start_soon(_second_signal, signals, nursery.cancel_scope)
        with trio.move_on_after(config.limits.drain):
            await events_in.send(queue.Draining())
            await drained.wait()
        nursery.cancel_scope.cancel(reason)
    logger.info("stopped")


RunKey = tuple[GroupId, queue.DelegateId | None]


async def _run_turns(
    serve_turns: Callable[[], Awaitable[None]],
    stops: dict[RunKey, trio.Event],
    key: RunKey,
    over: Callable[[RunKey], Awaitable[None]],
) -> None:
    """One run, in a scope of its own; its stop button is gone with it."""
    mine = stops[key]
    with trio.CancelScope():
        await serve_turns()
    if stops.get(key) is mine:  # the next run of the group may have begun
        del stops[key]
    await over(key)


async def _service(
    service: Callable[..., Awaitable[object]],
    name: str,
    *,
    task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED,
) -> None:
    """A child of the daemon, in a scope of its own. One that returns by itself ends the daemon."""
    with trio.CancelScope() as scope:
        await service(task_status=_Handing(task_status, scope))
        raise ServiceExited(name)


@attrs.frozen
class _Handing:
    """Passes ``started()`` on with the scope of the child that said it."""

    _status: trio.TaskStatus[trio.CancelScope]
    _scope: trio.CancelScope

    def started(self, value: object = None) -> None:
        self._status.started(self._scope)


async def _second_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    scope.cancel(f"a second {signal.Signals(await anext(signals)).name}")


def _plan(config: Config) -> Plan:
    kept = config.keeping
    return Plan(
        hour=kept.hour,
        timezone=config.assistant.timezone,
        settle=kept.settle,
        copies=kept.copies,
        weeks=kept.weeks,
        messages=kept.messages,
        logs=kept.logs,
        usage=kept.usage,
    )
