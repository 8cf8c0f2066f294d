"""Open the edges that may need waiting for: the container engine, the model API, the messengers.

The rule that keeps it so: each is opened here as the settings say, and what uses it does not ask how.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

import attrs
import trio

import pynchy
from pynchy.actions import usage
from pynchy.chat.channel import Channel
from pynchy.chat.console import Console
from pynchy.clock import World, day_of
from pynchy.config import installation
from pynchy.config.settings import Config, Credential
from pynchy.container.engines.choice import open_runtime
from pynchy.container.engines.escapes import known_escapes
from pynchy.container.engines.runtime import Installation, NoRuntime, Runtime
from pynchy.container.mounts.extra import Allowed
from pynchy.container.mounts.rules import BadAllowlist
from pynchy.container.session import Session, Traffic
from pynchy.daemon.loop_watchdog import Watch as LoopWatch
from pynchy.files.changes import Watches
from pynchy.files.disk import ENDLESS, Space
from pynchy.gateway.exchange import RunIdentity, Upstream
from pynchy.gateway.proxy import Gateway
from pynchy.gateway.searching import Searching
from pynchy.gateway.way import way_of
from pynchy.groups.guards import Guards
from pynchy.ipc.watcher import CommandService
from pynchy.logs import logger
from pynchy.model import SECOND, ChatId, Group, GroupId, RunId, channel_of
from pynchy.policy.allowance import Budget
from pynchy.policy.failures import CallResult
from pynchy.store import groups, guard_reports
from pynchy.store.database import Store
from pynchy.store.ledger import StoreLedger
from pynchy_agent import wire

if TYPE_CHECKING:
    from pynchy.whatsapp.channel import WhatsApp

LOOK_AGAIN: Final = 1 * SECOND  # between two looks for an engine that is not up yet


class Agents(Protocol):
    """How agents come to life. A simulation has its own."""

    def open(
        self,
        group: Group,
        run: RunId,
        start: wire.Start,
        heard: trio.MemorySendChannel[Traffic],
        commands: CommandService,
    ) -> AbstractAsyncContextManager[Session]: ...

    async def sweep(self, group: GroupId, commands: CommandService) -> None: ...

    def last_call(self, run: RunId) -> CallResult | None: ...


@attrs.frozen
class Edges:
    """What a daemon stands between. ``model`` names what answers.

    ``has_home``: there are folders to put right at a start and to keep up afterwards. ``renewal`` is the service that
    takes up a new credential, ``look`` has a look at the engine once the daemon is up, ``notify`` shows a text on the
    owner's desktop, ``measure`` says how much room the disk has. Where there is no ``console`` there is no control
    socket.
    """

    store: Store
    runtime: Runtime
    channels: Mapping[str, Channel]
    agents: Agents
    world: World
    model: str
    console: Console | None = None
    whatsapp: WhatsApp | None = None
    guard: Guards | None = None
    stalls: LoopWatch | None = None
    watches: Watches | None = None
    renewal: Callable[..., Awaitable[object]] | None = None
    warnings: Callable[[], tuple[str, ...]] = tuple
    look: Callable[[], Awaitable[None]] | None = None
    notify: Callable[[str, str], Awaitable[None]] | None = None
    has_home: bool = False
    measure: Callable[[], Space] = lambda: ENDLESS
    upstream: Upstream | None = None

    def costs(self, config: Config) -> usage.Terms:
        """What decides what groups pay."""
        upstream = self.upstream

        def billed() -> bool:  # a credential may be renewed by one of another kind
            return upstream is not None and upstream.billed

        def budget() -> Budget:
            return usage.budget_of(config.budget, billed=billed())

        return usage.Terms(
            config.model.name,
            config.assistant.timezone,
            budget,
            free=upstream is not None and upstream.free,
            billed=billed,
        )


async def find_runtime(
    config: Config, signals: AsyncIterator[int], *, told: Callable[[str], object]
) -> Runtime | None:
    """The container engine, waiting a bounded time for one that is not up yet; None if a signal ends the wait.
    ``told`` hears what the owner should know of the choice."""
    deadline = trio.current_time() + config.limits.engine_wait
    home, auto = config.home, config.container.engine == "auto"
    ours = Installation(
        installation.install_id(home), config.container.image, home.sandboxes, os.environ
    )
    said = False
    while True:
        notes: list[str] = []
        try:
            runtime = await open_runtime(
                None if auto else config.container.engine,
                ours,
                last=installation.last_engine(home) if auto else None,
                told=notes.append,
            )
        except NoRuntime as error:
            if trio.current_time() + LOOK_AGAIN > deadline or not error.heals:
                raise
            if not said:
                logger.warning("waiting for a container engine: {}", error)
                said = True
        else:
            if auto:
                installation.remember_engine(home, runtime.name)
            for note in notes:
                logger.warning("{}", note)
                told(note)
            return runtime
        with trio.move_on_after(LOOK_AGAIN):
            logger.info("stopping: {}", signal.Signals(await anext(signals)).name)
            return None


class HasVersions(Protocol):
    """Of an engine, what is asked for here."""

    async def versions(self) -> dict[str, str]: ...


async def warn_of_escapes(config: Config, runtime: HasVersions) -> tuple[str, ...]:
    """Ways out of containers that this engine's version is known for: a warning, or no start at all if the owner
    wants it so."""
    found = tuple(known_escapes(await runtime.versions()))
    if found and config.container.require_patched:
        raise NoRuntime(f"container.require_patched is set, and {'; '.join(found)}")
    for each in found:
        logger.warning("{}", each)
    return found


def warnings(known: Sequence[str], watches: Watches) -> tuple[str, ...]:
    """What is wrong at this moment with what the daemon stands on, for `pynchy status`."""
    return (*known, *filter(None, [watches.trouble]))


@asynccontextmanager
async def open_upstream(config: Config) -> AsyncIterator[Upstream]:
    """Who answers: the model API with the owner's credential, or the built-in model."""
    if config.model.offline or config.credential is None:
        from pynchy.gateway.offline import OfflineModel

        yield OfflineModel()
        return
    from pynchy.gateway.upstream import credential_of, open_anthropic

    credential = credential_of(config.credential.kind, config.credential.secret)
    base_url = config.model.base_url
    async with open_anthropic(
        credential, base_url=base_url, way=way_of(config.gateway)
    ) as upstream:
        yield upstream


def renewing(config: Config, upstream: Upstream) -> Callable[[Credential], None] | None:
    """What takes up a new credential, where the model has one."""
    if config.credential is None or config.model.offline:
        return None
    from pynchy.gateway.upstream import Anthropic, credential_of

    assert isinstance(upstream, Anthropic)

    def use(found: Credential) -> None:
        upstream.renew(credential_of(found.kind, found.secret))

    return use


def gateway(config: Config, upstream: Upstream, store: Store, world: World) -> Gateway:
    """The one way out of a container, with its book in the store."""
    return Gateway(
        upstream=upstream,
        searching=_searching(config, upstream),
        way=way_of(config.gateway),
        ledger=StoreLedger(store, now=world.now, day_of=partial(day_of, config.assistant.timezone)),
        tell=partial(_budget_used_up, store, world),
        report=partial(_refused, store, world),
        install=installation.install_id(config.home),
    )


def _searching(config: Config, upstream: Upstream) -> Searching:
    """Whether the model API searches the web, by the setting, by its name, or by asking it."""
    said = {"yes": True, "no": False}.get(config.model.web_search)
    if upstream.free:  # the offline model
        said = False
    elif said is None and urlsplit(config.model.base_url).hostname == "api.anthropic.com":
        said = True
    return Searching(upstream, known=said, model=config.model.name)


async def _budget_used_up(store: Store, world: World, who: RunIdentity, reason: str) -> None:
    await store.call(guard_reports.budget_used_up, folder=who.group, run=who.run, reason=reason)


async def _refused(store: Store, world: World, who: RunIdentity, what: str, times: int) -> None:
    await store.call(
        guard_reports.egress_refused, folder=who.group, run=who.run, what=what, times=times
    )


def whatsapp(config: Config, store: Store, runtime: Runtime) -> WhatsApp | None:
    """The WhatsApp channel, if it is wanted; its modules are imported only then."""
    if not config.whatsapp.enabled:
        return None
    from pynchy.voice.transcriber import Transcriber
    from pynchy.whatsapp.channel import Terms, WhatsApp

    home = config.home

    async def registered() -> Mapping[ChatId, Path]:
        chats = await store.call(groups.registered_chats)
        return {
            chat: home.media(folder) for chat, folder in chats if channel_of(chat) == "whatsapp"
        }

    terms = Terms(
        store=home.store,
        log=home.logs / "whatsapp.log",
        name=config.assistant.name,
        own_number=config.assistant.has_own_number,
        media_limit=config.whatsapp.media_limit,
        transcribe=Transcriber(config, runtime, installation.install_id(home)).text,
        read_receipts=config.whatsapp.read_receipts,
        registered=registered,
        blameless=lambda: store.is_broken,
        proxy=config.gateway.proxy,
        no_proxy=config.gateway.no_proxy,
        ca_file=config.gateway.ca_file,
    )
    return WhatsApp(terms)


def _program_folders(user_home: Path) -> tuple[Path, ...]:
    """Where the owner's shell looks for programs: PATH as we have it, and what a login shell adds."""
    written = [Path(each) for each in os.environ.get("PATH", "").split(os.pathsep)]
    return tuple(
        each
        for each in (*written, user_home / "bin", user_home / ".local" / "bin")
        if each.is_absolute()
    )


async def allowed(config: Config) -> Allowed:
    """The allowlist of extra mounts, read now. One that cannot be used allows nothing, and says so in the log."""
    home = config.home
    code = {Path(pynchy.__file__).parents[1], Path(wire.__file__).parents[1], Path(sys.prefix)}
    allowed = Allowed(
        path=config.container.mount_allowlist or home.mount_allowlist,
        ours=(home.root, *sorted(code)),
        empty=home.data / "agent",
        user_home=Path.home(),
        programs=_program_folders(Path.home()),
    )
    with suppress(BadAllowlist):
        await trio.to_thread.run_sync(allowed.reload)
    return allowed
