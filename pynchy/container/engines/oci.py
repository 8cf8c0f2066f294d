"""The engines docker, podman and Apple's container, which keep containers by name.

The client is not the container: a client that is killed leaves the container running. So a container is created,
started attached and ended by its name, and the engine is asked whether it still has it. Creating it in a step of its
own makes a missing image or a name in use visible at once.

An engine is a row of words (`Engine`), every call has a time limit, and only containers with this installation's label
are listed.
"""

from __future__ import annotations

import json
import os
import resource
import secrets
import shlex
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio

from pynchy.container.engines import probe, seccomp
from pynchy.container.engines.accounts import agent_user, write_etc
from pynchy.container.engines.client import CALL_TIMEOUT, Called, attach, call
from pynchy.container.engines.runtime import (
    Container,
    ContainerStays,
    Installation,
    NoRuntime,
    SpawnFailed,
)
from pynchy.container.engines.submounts import with_submounts
from pynchy.container.engines.troubles import refused
from pynchy.container.places import make_places
from pynchy.container.spec import (
    INSTALL_LABEL,
    STOP_GRACE,
    BadSpec,
    Limits,
    Podman,
    Spec,
    apple_argv,
    client_environ,
    docker_argv,
    podman_argv,
)
from pynchy.files.writing import replace

CREATE_TIMEOUT: Final = 30.0  # seconds; an engine under load is slow, not dead
GONE_TIMEOUT: Final = 20.0  # seconds until a removed container must be off the engine's list
MOUNTS: Final = Path("/proc/self/mountinfo")
LOOK_AGAIN: Final = 0.05  # seconds between two looks at that list


# --- what they answer ------------------------------------------------------------------------------


def apple_names(out: str, install: str) -> list[str]:
    """The names with our label in ``container list --format json``, of releases before 1.0 and after."""
    found = []
    for item in json.loads(out or "[]") or []:
        configuration = item.get("configuration") or {}
        if (configuration.get("labels") or {}).get(INSTALL_LABEL) == install:
            found.append(str(item.get("id") or configuration.get("id")))
    return found


def docker_versions(out: str) -> dict[str, str]:
    server = json.loads(out)
    parts = {part["Name"].lower(): part["Version"] for part in server.get("Components") or []}
    parts.pop("engine", None)
    return {"docker": str(server.get("Version", "")), **parts}


def podman_versions(out: str) -> dict[str, str]:
    info = json.loads(out)
    runtime = info["host"]["ociRuntime"]
    words = runtime.get("version", "").split()
    number = words[words.index("version") + 1] if "version" in words[:-1] else ""
    return {"podman": str(info["version"]["Version"]), str(runtime["name"]): number}


def apple_versions(out: str) -> dict[str, str]:
    found = json.loads(out)
    first = found[0] if isinstance(found, list) else found
    return {"container": str(first.get("version", ""))}


# --- what is said to them --------------------------------------------------------------------------


@attrs.frozen
class Engine:
    """What is said to one engine: the words after its name, as a shell takes them.

    Where there is a ``start``, a container is created first. Where nothing reads ``names``, the engine filters by our
    label and prints a name on each line.
    """

    name: str
    stop: str
    remove: str
    names: str
    has_image: str
    version: str
    read_version: Callable[[str], dict[str, str]]
    start: str = ""
    read_names: Callable[[str, str], list[str]] | None = None
    storage: str = ""  # how images are kept; empty where nothing says


DOCKER: Final = Engine(
    name="docker",
    start="start --attach --interactive",
    stop=f"stop --time {STOP_GRACE}",
    remove="rm --force --volumes",
    names="ps --all --no-trunc --format {{.Names}}",
    has_image="image inspect --format {{.Id}}",
    version="version --format '{{json .Server}}'",
    read_version=docker_versions,
    storage="info --format {{.Driver}}",
)
PODMAN: Final = attrs.evolve(
    DOCKER,
    name="podman",
    remove="rm --force --time 0 --volumes",
    version="info --format json",
    read_version=podman_versions,
    storage="info --format {{.Store.GraphDriverName}}",
)
APPLE: Final = Engine(
    name="container",
    stop=f"stop --time {STOP_GRACE}",
    remove="delete --force",
    names="list --all --format json",
    read_names=apple_names,
    has_image="image inspect",
    version="system version --format json",
    read_version=apple_versions,
)


# --- finding them ----------------------------------------------------------------------------------


async def find_docker(ours: Installation) -> Oci:
    """docker, if its daemon answers."""
    await _ask_first("docker", ["version", "--format", "{{.Server.Version}}"], ours)
    user = agent_user()
    return Oci(DOCKER, partial(docker_argv, user=user, etc=write_etc(ours.folder, user)), ours)


async def find_podman(ours: Installation) -> Oci:
    """podman, if it can say how it runs containers."""
    host = json.loads(await _ask_first("podman", ["info", "--format", "{{json .Host}}"], ours))
    security, user = host.get("security") or {}, agent_user()
    machine = Podman(
        rootless=bool(security.get("rootless")),
        nproc=_nproc(),
        controllers=frozenset(host.get("cgroupControllers") or ()),
        seccomp=_tightened(security.get("seccompProfilePath"), ours.folder),
        etc=write_etc(ours.folder, user),
    )
    # Rootless it lives among mounts of its own, as they were when it began.
    table = f"unshare cat {MOUNTS}" if machine.rootless else ""
    return Oci(PODMAN, partial(podman_argv, user=user, machine=machine), ours, table)


async def find_apple(ours: Installation) -> Oci:
    """Apple's container; its system is started when it is down."""
    status = ["system", "status", "--format", "json"]
    try:
        await _ask_first("container", status, ours)
    except NoRuntime as refusal:
        if not refusal.installed:
            raise
        start = ["container", "system", "start", "--enable-kernel-install"]
        await call(start, env=client_environ(ours.environ), seconds=60)
        await _ask_first("container", status, ours)
    return Oci(APPLE, partial(apple_argv, user=agent_user()), ours)


async def _ask_first(program: str, words: Sequence[str], ours: Installation) -> str:
    """The answer of an engine. Raises `NoRuntime` if it does not answer."""
    seen = await call([program, *words], env=client_environ(ours.environ))
    if not seen.ok:
        missing = seen.code == 127 and seen.err.startswith(f"{program}:")
        raise refused(program, seen.reason, installed=not missing)
    return seen.out


def _tightened(path: str | None, folder: Path) -> Path | None:
    """podman's seccomp profile made stricter; None if we cannot read one, and its default is used."""
    try:
        profile = seccomp.tighten(json.loads(Path(path or "").read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    place = folder / "podman-seccomp.profile"
    replace(place, json.dumps(profile))
    return place


def _nproc() -> int:
    """The most processes that podman may allow: no more than our own limit, nor than the pids that it reduces itself
    to."""
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    return 32768 if hard == resource.RLIM_INFINITY else min(hard, 32768)


# --- the runtime -----------------------------------------------------------------------------------


class Oci:
    """The `Runtime` of an engine that keeps containers by name."""

    def __init__(
        self,
        engine: Engine,
        run: Callable[[Spec], list[str]],
        ours: Installation,
        mount_table: str = "",
    ) -> None:
        """``run`` makes the argv of a container, ``mount_table`` shows the mounts that the engine sees; they are ours
        where it is empty."""
        self.name = engine.name
        self.owner = agent_user()
        self._engine = engine
        self._run = run
        self._ours = ours
        self._mount_table = mount_table
        self._env = client_environ(ours.environ)
        self._held: dict[str, str] | None = None

    async def _ask(self, words: str, *more: str, seconds: float = CALL_TIMEOUT) -> Called:
        argv = [self.name, *shlex.split(words), *more]
        return await call(argv, env=self._env, seconds=seconds)

    async def versions(self) -> dict[str, str]:
        seen = await self._ask(self._engine.version)
        try:
            return self._engine.read_version(seen.out) if seen.ok else {}
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return {}

    async def storage_driver(self) -> str:
        if not self._engine.storage:
            return ""
        seen = await self._ask(self._engine.storage)
        return seen.out.strip() if seen.ok else ""

    async def has_image(self) -> bool:
        return (await self._ask(self._engine.has_image, str(self._ours.image))).ok

    async def limits_held(self) -> dict[str, str]:
        """Looked at once, from inside a container that is started as an agent's is."""
        if self._held is None:
            limits, run = Limits(), secrets.token_hex(8)
            spec = Spec(
                name=f"pynchy-{self._ours.id}-{run}",
                run=run,
                install=self._ours.id,
                image=None,
                mounts=(),
                command=("sh", "-c", probe.SCRIPT),
                limits=limits,
            )
            said = bytearray()
            async with self.open(spec, grace=STOP_GRACE) as container:
                while chunk := await container.receive():
                    said += chunk
                code = await container.wait()
            if code != 0 or not said:
                tail = container.stderr_tail().decode("utf-8", "replace")
                raise SpawnFailed(self.name, Called(code, "", tail).reason)
            text = said.decode("utf-8", "replace")
            self._held = probe.held(text, limits, own_machine=self.name == "container")
        return self._held

    async def list(self) -> list[str]:
        read = self._engine.read_names
        label = () if read else ("--filter", f"label={INSTALL_LABEL}={self._ours.id}")
        seen = await self._ask(self._engine.names, *label)
        if not seen.ok:
            raise ContainerStays(f"{self.name} does not list its containers: {seen.reason}")
        return read(seen.out, self._ours.id) if read else seen.out.split()

    async def remove(self, name: str) -> None:
        await self.kill(name)
        await self.see_gone(name)

    async def see_gone(self, name: str) -> None:
        """Return when the engine no longer lists it; remove it again while it does. Raises `ContainerStays`."""
        reason = ""
        with trio.move_on_after(GONE_TIMEOUT):
            # Removing may go on after the answer, and a second `remove` be refused meanwhile: the list decides.
            while name in await self.list():
                reason = (await self.kill(name)).reason
                await trio.sleep(LOOK_AGAIN)
            return
        raise ContainerStays(f"{self.name} still has {name}: {reason}")

    async def stop(self, name: str) -> Called:
        return await self._ask(self._engine.stop, name, seconds=STOP_GRACE + 10)

    async def kill(self, name: str) -> Called:
        return await self._ask(self._engine.remove, name)

    @asynccontextmanager
    async def open(self, spec: Spec, *, grace: float) -> AsyncIterator[Container]:
        if spec.image is None:
            spec = attrs.evolve(spec, image=self._ours.image)
        try:
            make_places(spec)
            argv = self._run(with_submounts(spec, await self._mounts_seen()))
        except (OSError, BadSpec) as error:
            raise SpawnFailed(self.name, str(error)) from error
        if self._engine.start:
            await self._create(spec, [argv[0], "create", *argv[2:]])
            argv = [self.name, *self._engine.start.split(), spec.name]
        ending = Named(self, spec.name)
        async with attach(
            argv, name=spec.name, env=self._env, grace=grace, ending=ending
        ) as client:
            yield client

    async def _mounts_seen(self) -> bytes:
        if not self._mount_table:
            return MOUNTS.read_bytes() if MOUNTS.exists() else b""
        seen = await self._ask(self._mount_table)
        if not seen.ok:
            raise SpawnFailed(self.name, f"it does not say what is mounted: {seen.reason}")
        return os.fsencode(seen.out)

    async def _create(self, spec: Spec, argv: Sequence[str]) -> None:
        """Make the container. If that is cancelled or refused, none is left."""
        made = False
        try:
            seen = await self._call_create(argv)
            if not seen.ok and _is_taken(seen):
                await self.remove(spec.name)
                seen = await self._call_create(argv)
            if not seen.ok:
                raise SpawnFailed(self.name, await self._explain(spec, seen))
            made = True
        finally:
            if not made:
                with trio.move_on_after(GONE_TIMEOUT, shield=True):
                    await self.kill(spec.name)

    async def _call_create(self, argv: Sequence[str]) -> Called:
        """Not to be cut short: an engine whose client is killed half-way may still make the container after we have
        looked. It takes some 50 ms; its time limit is how long a cancel can be held up."""
        with trio.CancelScope(shield=True):
            seen = await call(argv, env=self._env, seconds=CREATE_TIMEOUT)
        await trio.lowlevel.checkpoint_if_cancelled()
        return seen

    async def _explain(self, spec: Spec, seen: Called) -> str:
        """What went wrong, and what to do about it where that is known."""
        if (await self._ask(self._engine.has_image, str(spec.image))).ok:
            return seen.reason
        if (await self._ask(self._engine.version)).ok:
            ours = str(spec.image).startswith("localhost/pynchy-")
            mend = (
                f"build it: just image {self.name}"
                if ours
                else f"{self.name} has to pull or build it"
            )
            return f"there is no image {spec.image}; {mend} ({seen.reason})"
        return f"it does not answer; start it, or see `pynchy doctor` ({seen.reason})"


def _is_taken(seen: Called) -> bool:
    said = seen.err.lower()
    return "already in use" in said or "already exists" in said


@attrs.frozen
class Named:
    """How a container ends that its engine knows by name."""

    runtime: Oci
    name: str

    @property
    def engine(self) -> str:
        return self.runtime.name

    async def stop(self, client: trio.Process) -> None:
        await self.runtime.stop(self.name)

    async def kill(self, client: trio.Process) -> None:
        await self.runtime.kill(self.name)

    async def see_gone(self) -> None:
        await self.runtime.see_gone(self.name)
