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
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final

import trio

from pynchy.actions.later import Bells
from pynchy.chat import command_handlers, receiver, sender
from pynchy.chat.channel import Channel
from pynchy.chat.console import open_console
from pynchy.clock import real_world
from pynchy.config import credentials
from pynchy.config.installation import install_id
from pynchy.config.settings import Config
from pynchy.config.sources import credential_now
from pynchy.container import folders
from pynchy.container.deadlines import Timeouts
from pynchy.container.engines.health import Health
from pynchy.control import server
from pynchy.control.subscriptions import Watching
from pynchy.daemon import desktop, edges, effects, ops, recovery, scheduler
from pynchy.daemon.edges import Edges
from pynchy.daemon.lock import open_lock
from pynchy.daemon.loop_watchdog import open_watch
from pynchy.daemon.recovery import Recovery
from pynchy.daemon.workers import GroupWorkers
from pynchy.files.changes import Watches, open_watches
from pynchy.files.disk import Threshold, space_of
from pynchy.gateway.exchange import Upstream
from pynchy.groups import dispatcher, queue, turn
from pynchy.groups.agent import ContainedAgents, bounds_of
from pynchy.groups.guards import Guards
from pynchy.ipc.watcher import CommandService
from pynchy.logs import logger
from pynchy.maintenance.disk_guard import DiskGuard
from pynchy.maintenance.nightly import NightlyRound
from pynchy.policy.failures import Terms as Failing
from pynchy.reader_budget import open_loop_time
from pynchy.store import groups
from pynchy.store.connection import StoreError
from pynchy.store.database import Store, open_store

WHATSAPP_PACE: Final = sender.Pace(burst=5, rate=0.5)  # faster is what gets accounts banned


class ServiceExited(Exception):
    """A service returned: a bug, for silence is not success."""


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
    home = config.home
    world, measure = real_world(), partial(space_of, home.root)
    home.make()
    with (
        open_loop_time(),
        open_lock(home.lock),
        trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals,
        open_watches() as watches,
    ):
        async with (
            open_store(
                home.database, mark=home.store_mark, now=world.now, new_id=world.new_id
            ) as store,
            edges.open_upstream(config) as upstream,
            open_console(now=world.now, new_id=world.new_id) as console,
            open_watch() as stalls,
        ):
            guard = Guards(store, await edges.allowed(config))
            known: list[str] = []
            runtime = await edges.find_runtime(config, signals, told=known.append)
            if runtime is None:
                return
            known += await edges.warn_of_escapes(config, runtime)
            whatsapp = edges.whatsapp(config, store, runtime)
            agents = ContainedAgents(
                config,
                edges.gateway(config, upstream, store, world),
                runtime,
                store,
                world.now,
                measure,
                install=install_id(home),
                guard=guard,
                watches=watches,
            )
            channels: list[Channel] = [console] if whatsapp is None else [console, whatsapp]
            between = Edges(
                store,
                runtime,
                {each.name: each for each in channels},
                agents,
                world,
                upstream.name,
                console=console,
                whatsapp=whatsapp,
                guard=guard,
                stalls=stalls,
                watches=watches,
                renewal=_renewal(config, upstream, watches),
                warnings=partial(edges.warnings, known, watches),
                look=Health(runtime, config.container.image, known).look,
                notify=desktop.notify,
                has_home=True,
                upstream=upstream,
                measure=measure,
            )
            await serve(config, between, signals=signals, ready=ready, stopping=stopping)


async def serve(
    config: Config,
    edges: Edges,
    *,
    signals: AsyncIterator[int],
    ready: Callable[[], None],
    stopping: Callable[[str], None] = lambda reason: None,
) -> None:
    """Everything between the edges: recover, start the services, serve until a signal, stop in order."""
    store, world = edges.store, edges.world
    now, new_id = world.now, world.new_id
    boot = new_id()[:16]
    events_in, events = trio.open_memory_channel[queue.Event](0)
    tasks_bell, tasks = _bell()
    linked, links = trio.open_memory_channel[str](len(edges.channels))
    drained, bells = trio.Event(), Bells()
    line = queue.GroupQueue(capacity=config.limits.containers, prewarm=config.container.prewarm)
    watching = Watching(now)
    store.tell_changes(watching.changed)
    threshold = config.disk.threshold
    outgoing = _sender(edges, links)

    async with trio.open_nursery() as nursery:
        child = partial(_start, nursery)
        notices = effects.Notices(
            store, nursery, outgoing.ring, config.assistant.name, edges.notify
        )
        disk = DiskGuard(
            measure=edges.measure, threshold=threshold, feed=events_in.send, tell=notices.main
        )
        bell = effects.Bell(events_in.send, disk.look, watching.changed)
        channels = effects.Channels(edges.channels, notices, linked, watching.changed)
        after = effects.AfterCommit(
            store,
            nursery,
            bell,
            effects.StopButtons(),
            channels,
            effects.Terminals(edges.console),
            bells,
            registered=_nothing if edges.whatsapp is None else edges.whatsapp.registration_changed,
            spoke=outgoing.ring,
            scheduled=tasks_bell,
        )
        daemon = ops.Daemon(config, edges, line, disk, watching, after)
        commands = CommandService(store, after.soon, bells)
        workers = GroupWorkers(
            nursery,
            turn.Services(
                store,
                _terms(config, boot),
                world,
                outbox=outgoing,
                typing=channels.typing,
                tell=after.terminals.turn,
                last_call=edges.agents.last_call,
                released=after.well_again,
                alert=notices.alert,
            ),
            edges.agents,
            commands,
            after,
            watching,
            disk.look,
        )
        receive = partial(
            receiver.Receiver,
            store=store,
            on_command=partial(
                command_handlers.carry_out,
                scaffold=partial(folders.scaffold, config.home),
                costs=edges.costs(config),
            ),
            carry_out=after.carry_out,
            stored=after.terminals.stored,
            on_state=channels.on_state,
        )
        schedule = scheduler.Scheduler(
            store,
            tasks,
            due=bell.tasks,
            wake=bell.messages,
            outbox_bell=outgoing.ring,
            now=now,
            steady=world.steady,
            bounds=bounds_of(config),
        )

        if (
            edges.whatsapp is not None
        ):  # it connects meanwhile, and brings nothing before it is listened to
            await child(edges.whatsapp.run, "whatsapp")
        if edges.watches is not None:
            await child(edges.watches.listen, "folder changes")
        await _recover(config, edges, boot, commands)
        await child(outgoing.run, "sender")
        await child(commands.run, "ipc")
        dispatch = partial(
            dispatcher.run, events, events_in, queue=line, start=workers.start, drained=drained
        )
        await child(dispatch, "dispatcher")
        await child(disk.run, "disk guard")
        if edges.renewal is not None:
            await child(partial(edges.renewal, changed=after.credential_changed), "credentials")
        if edges.has_home:
            await child(_nightly_round(config, edges, threshold, notices).run, "maintenance")
        inlets = [
            await child(receive(channel).run, f"receiver {name}")
            for name, channel in edges.channels.items()
        ]
        inlets.append(await child(schedule.run, "scheduler"))
        if edges.console is not None:
            await child(watching.run, "watching")
            control = partial(
                server.run, config.home.control_socket, ops.table(daemon), fatal=(StoreError,)
            )
            await child(control, "control")

        waiting = await bell.everything(store)
        outgoing.ring()
        ready()  # before it is told of: the first line of a log loads what writes it
        logger.info(
            "ready: {} with {}, {} groups wait",
            config.assistant.name,
            edges.runtime.name,
            waiting,
        )
        await _warm_up(config, store, events_in.send)
        if edges.look is not None:
            nursery.start_soon(edges.look, name="look at the engine")
        if store.stopped_uncleanly:  # damage ends the daemon, like any trouble of the store
            nursery.start_soon(store.check, name="store check")

        reason = signal.Signals(await anext(signals)).name
        stopping(reason)
        logger.info("stopping: {}", reason)
        for inlet in inlets:
            inlet.cancel(reason)
        nursery.start_soon(_second_signal, signals, nursery.cancel_scope, edges)
        with trio.move_on_after(config.limits.drain):
            await events_in.send(queue.Draining())
            await drained.wait()
        _end(nursery.cancel_scope, edges, reason)
    logger.info("stopped")


async def _start(
    nursery: trio.Nursery, service: Callable[..., Awaitable[object]], name: str
) -> trio.CancelScope:
    """Start a service as a child of the nursery; the scope that ends it."""
    scope = trio.CancelScope()
    await nursery.start(_service, service, name, scope, name=name)
    return scope


async def _service(
    service: Callable[..., Awaitable[object]],
    name: str,
    scope: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """A child of the daemon, in a scope of its own. One that returns by itself ends the daemon."""
    with scope:
        await service(task_status=task_status)
        raise ServiceExited(name)


async def _second_signal(
    signals: AsyncIterator[int], scope: trio.CancelScope, edges: Edges
) -> None:
    _end(scope, edges, f"a second {signal.Signals(await anext(signals)).name}")


def _end(scope: trio.CancelScope, edges: Edges, reason: str) -> None:
    """Cancel everything, as somebody asked: no message is to blame."""
    if edges.whatsapp is not None:
        edges.whatsapp.spare()
    scope.cancel(reason)


# --- what the settings say of services ---


def _bell() -> tuple[Callable[[], None], trio.MemoryReceiveChannel[None]]:
    """A bell: what rings it, and where it is heard. Rung twice before it is heard is rung once."""
    ring, heard = trio.open_memory_channel[None](1)

    def rung() -> None:
        with suppress(trio.WouldBlock):
            ring.send_nowait(None)

    return rung, heard


def _nothing() -> None:
    """Where there is nobody to be told."""


async def _warm_up(
    config: Config, store: Store, feed: Callable[[queue.Event], Awaitable[None]]
) -> None:
    """Let the queue know who may well speak next, where agents are started before they are asked."""
    if prewarm := config.container.prewarm:
        most = prewarm + config.limits.containers
        recent = await store.call(groups.spoke_last, limit=most)
        await feed(queue.Likely(tuple(recent)))


def _terms(config: Config, boot: str) -> turn.Terms:
    limits = config.limits
    return turn.Terms(
        bounds=bounds_of(config),
        timeouts=Timeouts(
            silence=limits.progress, turn=limits.turn, idle=limits.idle, close=limits.close_grace
        ),
        timezone=config.assistant.timezone,
        assistant=config.assistant.name,
        model=config.model.name or None,
        boot=boot,
        install=install_id(config.home),
        failing=Failing(outage=limits.outage, timezone=config.assistant.timezone),
    )


def _renewal(
    config: Config, upstream: Upstream, watches: Watches
) -> Callable[..., Awaitable[object]] | None:
    """The service that takes up a new credential, where the model has one."""
    if (use := edges.renewing(config, upstream)) is None:
        return None
    home = config.home
    read = partial(credential_now, os.environ, home)
    return partial(credentials.run, home.root, watches, read=read, use=use)


def _sender(edges: Edges, links: trio.MemoryReceiveChannel[str]) -> sender.Sender:
    world = edges.world
    return sender.Sender(
        edges.channels,
        edges.store,
        now=world.now,
        jitter=world.jitter,
        paces={"whatsapp": WHATSAPP_PACE},
        connected=links,
    )


async def _recover(config: Config, edges: Edges, boot: str, commands: CommandService) -> None:
    """Put right what an earlier life left; where there is no home, its rows alone."""
    left = Recovery(
        edges.store,
        edges.runtime,
        config.home,
        boot,
        config.assistant.name,
        partial(edges.agents.sweep, commands=commands),
    )
    await recovery.recover(left, recovery.STEPS if edges.has_home else recovery.ROWS)


def _nightly_round(
    config: Config, edges: Edges, threshold: Threshold, notices: effects.Notices
) -> NightlyRound:
    return NightlyRound(
        store=edges.store,
        home=config.home,
        kept=config.keeping,
        timezone=config.assistant.timezone,
        threshold=threshold,
        now=edges.world.now,
        measure=edges.measure,
        tell=notices.main,
        steady=edges.world.steady,
    )
