"""The life of one agent: prepare its container, open a session, clean up after it.

Folders, mounts, gateway, container, talk and commands are opened in this order, and end in the other. The rule that
keeps it so: what a run gets is looked up anew for each, and whatever ends, what was opened is closed.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import trio

from pynchy.actions import usage
from pynchy.actions.call import Host
from pynchy.actions.effects import Effects
from pynchy.config.paths import stamp_of
from pynchy.config.settings import Config
from pynchy.container import folders, runlog, skills
from pynchy.container.engines.runtime import Runtime
from pynchy.container.mounts.extra import Extras
from pynchy.container.session import Session, Traffic, open_session
from pynchy.container.spec import AGENT_COMMAND, GATEWAY, WORK, Limits, Mount, Spec
from pynchy.files.changes import Watches
from pynchy.files.disk import Space
from pynchy.files.usage import Usage
from pynchy.gateway.exchange import RunIdentity
from pynchy.gateway.prices import asked_of
from pynchy.gateway.proxy import Gateway
from pynchy.groups.guards import Guards
from pynchy.groups.queue import room_for_delegates
from pynchy.ipc.spool import open_spool
from pynchy.ipc.watcher import CommandService, Inbox
from pynchy.model import Group, GroupId, Micros, RunId, channel_of
from pynchy.policy import group_settings
from pynchy.policy.effect_limits import Bounds
from pynchy.policy.failures import CallResult
from pynchy.policy.system_prompt import ChatFacts, Facts, system_prompt
from pynchy.reader_budget import Account, charged_to
from pynchy.store import authority, groups, guard_reports, runs
from pynchy.store.database import Store
from pynchy_agent import wire


def bounds_of(config: Config) -> Bounds:
    """What the agents of one group may do by themselves."""
    return Bounds(
        **attrs.asdict(config.effects),
        background=room_for_delegates(config.limits.containers) > 0,
    )


@attrs.frozen
class ContainedAgents:
    """Agents as they really are: in a container of the engine, with the gateway as their one door."""

    config: Config
    gateway: Gateway
    runtime: Runtime
    store: Store
    now: Callable[[], Micros]
    measure: Callable[[], Space]  # how much room the disk has
    install: str
    guard: Guards
    watches: Watches
    baselines: dict[str, Usage] = attrs.field(factory=dict)  # what each group held before its runs
    walks: trio.CapacityLimiter = attrs.field(factory=partial(trio.CapacityLimiter, 1))

    def _inbox(self, group: GroupId) -> Inbox:
        home = self.config.home
        return Inbox(
            folder=group,
            commands=home.commands(group),
            work=home.group(group),
            outgoing=home.data / "outgoing" / group,
            errors=home.errors(group),
            host=Host(
                self.config.assistant.timezone,
                partial(folders.scaffold, home),
                bounds_of(self.config),
                searches=not self.gateway.has_no_search,
            ),
            open_spool=partial(open_spool, watch=self.watches.of),
        )

    async def sweep(self, group: GroupId, commands: CommandService) -> None:
        """Carry out the commands that a run of an earlier life left behind; no container is."""
        folders.clear_helper(self.config.home)
        run = await self.store.call(authority.last_run, group, but=None)
        await commands.sweep(self._inbox(group), run)

    @asynccontextmanager
    async def open(
        self,
        group: Group,
        run: RunId,
        start: wire.Start,
        heard: trio.MemorySendChannel[Traffic],
        commands: CommandService,
    ) -> AsyncIterator[Session]:
        """A group's agent for the length of the block: folders, gateway, container, talk, commands."""
        config, runtime = self.config, self.runtime
        began = await self.store.call(runs.get, run)
        helper = began is not None and began.kind == "delegate"
        prepare = (
            partial(folders.prepare_helper, config.home, group, run)
            if helper
            else partial(folders.prepare, config.home, group)
        )
        own, extras, trouble = await self.guard.of(group)
        image = group_settings.IMAGES[own.image] or config.container.image
        offered = skills.offered(
            config.home, group.folder, ours=own_skills(), browser=_has_browser(runtime.name, image)
        )
        mounts = await trio.to_thread.run_sync(
            partial(prepare, owner=runtime.owner, skills=offered)
        )
        if helper:  # it reads what its group may write
            extras = attrs.evolve(
                extras, mounts=tuple(attrs.evolve(each, writable=False) for each in extras.mounts)
            )
        refused = [(each.request.name, each.reason) for each in extras.refused]
        if trouble:
            refused.append(("settings", trouble))
        if refused or own.mounts:
            told = await self.store.call(
                guard_reports.mounts_refused, folder=group.folder, run=run, refused=refused
            )
            commands.committed(Effects(speaks=told))
        token = secrets.token_hex(32)
        directory = config.home.gateway(run)
        ca_file = config.gateway.ca_file
        trusted = ca_file and await trio.to_thread.run_sync(
            folders.certificates, config.home, ca_file
        )
        spec = attrs.evolve(self._spec(run, image, (*mounts, *extras.mounts)), certificates=trusted)
        egress = group_settings.egress_of(
            own,
            default=config.gateway.egress,
            mounted=bool(extras.mounts),
            denied=_model_hosts(config),
        )
        searches = await self.gateway.searches()
        server_tools = group_settings.server_tools_of(own, egress, searches=searches)
        who = RunIdentity(
            run=run,
            group=group.folder,
            token=token,
            models=own.models,
            server_tools=server_tools,
            egress=egress,
            budget=group_settings.budget_of(
                own, usage.budget_of(config.budget, billed=self.gateway.upstream.billed)
            ),
        )
        first = attrs.evolve(
            start,
            token=token,
            model=asked_of(own.models, start.model or "") or None,
            gateway=f"{GATEWAY}/gateway.sock",
            web=group_settings.web_of(egress, server_tools, searches=searches),
            compact_at=config.model.compact_at,
            cache_hour=await self.store.call(usage.keeps_an_hour, group.folder),
        )
        about = system_prompt(
            await self._facts(group, first, who, extras=extras.mounts, helper=helper)
        )
        first = attrs.evolve(first, about=about)
        inbox = self._inbox(group.folder)
        if helper:
            inbox = attrs.evolve(inbox, commands=config.home.scratch / run / "commands")
        log_name = f"{stamp_of(self.now() // 1_000_000)}-{run}"
        with (
            charged_to(Account()),
            runlog.kept(config.home.run_logs, log_name, secret=token) as log,
        ):
            async with (
                self._scratch(run) if helper else commands.swept(inbox, run),
                self.gateway.open_run(who, directory, owner=runtime.owner),
                runtime.open(spec, grace=config.limits.stop_grace) as container,
                self._watched(group, own, heard, scratch=run if helper else None),
                _unchanged(extras),
                open_session(container, heard, first) as session,
                commands.open(inbox, run, answer=session.tell),
            ):
                log.of(session.diary, container.stderr_tail)
                yield session

    async def _facts(
        self,
        group: Group,
        start: wire.Start,
        who: RunIdentity,
        *,
        extras: tuple[Mount, ...],
        helper: bool,
    ) -> Facts:
        """What is true of a run, for its system prompt: what the gateway and the mounts will really let it do."""
        present = await self.store.call(groups.present, group.folder)
        return Facts(
            assistant=start.assistant,
            name=group.name,
            is_main=group.is_main,
            helper=helper,
            scheduled=start.scheduled,
            timezone=start.timezone,
            chats=[ChatFacts(name, channel_of(chat)) for chat, name in present.chats],
            people=present.people,
            mounts=[(each.target, each.writable) for each in extras],
            egress=who.egress,
            searches="search" in start.web,
            search_exists=not self.gateway.has_no_search,
            tools=frozenset(tool.name for tool in start.tools),
            budget=who.budget,
            turn=self.config.limits.turn,
        )

    def last_call(self, run: RunId) -> CallResult | None:
        """How the newest call of the model in a run that goes on ended."""
        return self.gateway.last_call(run)

    def _spec(self, run: RunId, image: str, mounts: tuple[Mount, ...]) -> Spec:
        box = self.config.container
        return Spec(
            name=f"pynchy-{self.install}-{run}",
            run=run,
            install=self.install,
            image=image,
            command=box.command or AGENT_COMMAND,
            workdir=WORK if box.command else "/",  # an own program is promised the group's folder
            mounts=mounts,
            gateway_dir=self.config.home.gateway(run),
            env={"TZ": self.config.assistant.timezone},
            limits=Limits(
                memory_bytes=box.memory,
                cpus=box.cpus,
                pids=box.pids,
                nofile=box.nofile,
                fsize_bytes=box.file_size,
                tmp_bytes=box.tmp,
            ),
        )

    def _watched(
        self,
        group: Group,
        own: group_settings.Settings,
        heard: trio.MemorySendChannel[Traffic],
        *,
        scratch: RunId | None,
    ) -> AbstractAsyncContextManager[None]:
        """Watch what one run writes, and how much of it."""
        # Loaded here, for the first run: a start does not need it.
        from pynchy.container.quota import Quota, QuotaWatch, watched

        home, disk = self.config.home, self.config.disk
        # Of the last two the folder around them, which is ours: nothing that was set aside is left out.
        tops = [
            home.group(group.folder),
            home.session(group.folder).parent,
            home.commands(group.folder).parent,
        ]
        if scratch is not None:
            tops = [home.scratch / scratch]
        elif group.is_main:
            tops.append(home.shared)
        watch = QuotaWatch(
            tops=tops,
            quota=Quota(
                bytes=disk.group if own.disk is None else own.disk,
                files=disk.group_files if own.files is None else own.files,
            ),
            threshold=disk.threshold,
            measure=self.measure,
            turns=self.walks,
            before=None if scratch is not None else partial(self._before, group.folder),
        )
        return watched(watch, heard)

    def _before(self, group: GroupId, found: Usage) -> Usage:
        """What a group held at the first look of this daemon's life, or at a later one if that was less."""
        known = self.baselines.setdefault(group, found)
        if found.bytes <= known.bytes and found.files <= known.files:
            self.baselines[group] = found
        return self.baselines[group]

    @asynccontextmanager
    async def _scratch(self, run: RunId) -> AsyncIterator[None]:
        """A helper's own folders, gone when the block ends. What it asked for last needs no answer."""
        try:
            yield
        finally:
            with trio.CancelScope(shield=True):  # one small tree
                await trio.to_thread.run_sync(folders.clear_helper, self.config.home, run)


def own_skills() -> Path | None:
    """Where the skills for every agent are, if this installation has any."""
    found = Path(wire.__file__).parent / "skills"
    return found if found.is_dir() else None


def _has_browser(engine: str, image: str) -> bool:
    """Whether a run finds a browser: in the image that has one, or in bwrap what this machine has."""
    if engine == "bwrap":
        return shutil.which("agent-browser", path="/usr/local/bin:/usr/bin:/bin") is not None
    return image == group_settings.IMAGES["agent-browser"]


@asynccontextmanager
async def _unchanged(extras: Extras) -> AsyncIterator[None]:
    """See, now that the container is there and before it is spoken to, that it got what was judged."""
    await trio.to_thread.run_sync(extras.check)
    yield


def _model_hosts(config: Config) -> tuple[str, ...]:
    """The model API's own host is no way out: there the daemon's credential counts, not a container's."""
    host = urlsplit(config.model.base_url).hostname
    return (host,) if host else ()
