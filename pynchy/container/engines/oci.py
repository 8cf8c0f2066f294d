"""The engines docker, podman and Apple's container, which keep containers by name.

Their client is not the container: a client that is killed leaves it running. So a container is made (`create`), then
started attached, and ended by its name, and the engine is asked whether it still has it. That a container is made in
a step of its own is what lets a missing image or a name that is taken be told at once.

The rule that keeps it so: an engine is a table of argv (`Engine`), every call has a bound, and only containers with
the label of this installation are ever listed.
"""

from __future__ import annotations

import json
import os
import resource
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio

from pynchy.container.engines import probe, seccomp
from pynchy.container.engines.accounts import write_accounts
from pynchy.container.engines.client import Called, attach, call
from pynchy.container.engines.runtime import (
    Container,
    ContainerStays,
    NoRuntime,
    SpawnFailed,
    refused,
)
from pynchy.container.engines.submounts import with_submounts
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

AGENT: Final = 1000  # the agent's uid and gid under a root daemon
CREATE_TIMEOUT: Final = 30.0  # seconds; an engine under load is slow, not dead
GONE_TIMEOUT: Final = 20.0  # seconds until a removed container must be off the engine's list
MOUNTS: Final = Path("/proc/self/mountinfo")
LOOK_AGAIN: Final = 0.05  # seconds between two looks at that list


@attrs.frozen
class Engine:
    """What is said to one engine. Where there is a ``start``, ``run`` becomes a ``create`` before it."""

    name: str
    run: Callable[[Spec], list[str]]
    start: tuple[str, ...]
    stop: tuple[str, ...]
    remove: tuple[str, ...]
    names: tuple[str, ...]
    parse_names: Callable[[str, str], list[str]]
    has_image: tuple[str, ...]
    version: tuple[str, ...]
    parse_version: Callable[[str], dict[str, str]]
    storage: tuple[str, ...]  # what says how images are kept; empty where nothing does
    mount_table: tuple[
        str, ...
    ] = ()  # what shows the mounts that it sees; empty: those that we see


# --- finding them ----------------------------------------------------------------------------------


def _user() -> tuple[int, int]:
    return (AGENT, AGENT) if os.getuid() == 0 else (os.getuid(), os.getgid())


async def find_docker(
    *, install: str, image: str | None, environ: Mapping[str, str], folder: Path
) -> Oci:
    """docker, if its daemon answers. ``folder`` is for files of ours that containers are given."""
    env = client_environ(environ)
    seen = await call(["docker", "version", "--format", "{{.Server.Version}}"], env=env)
    if not seen.ok:
        raise _refusal(seen, "docker")
    etc = _etc(folder)
    return Oci(_docker(_user(), etc), install=install, image=image, env=env, user=_user())


async def find_podman(
    *, install: str, image: str | None, environ: Mapping[str, str], folder: Path
) -> Oci:
    """podman, if it can say how it runs containers. ``folder`` is for files of ours: those that containers are given,
    and the stricter profile made of its own."""
    env = client_environ(environ)
    seen = await call(["podman", "info", "--format", "{{json .Host}}"], env=env)
    if not seen.ok:
        raise _refusal(seen, "podman")
    host = json.loads(seen.out)
    security = host.get("security") or {}
    machine = Podman(
        rootless=bool(security.get("rootless")),
        nproc=_nproc(),
        controllers=frozenset(host.get("cgroupControllers") or ()),
        seccomp=_tightened(security.get("seccompProfilePath"), folder),
        etc=_etc(folder),
    )
    engine = _podman(partial(podman_argv, user=_user(), machine=machine))
    if machine.rootless:  # it lives among mounts of its own, as they were when it began
        table = ("podman", "unshare", "cat", str(MOUNTS))
        engine = attrs.evolve(engine, mount_table=table)
    return Oci(engine, install=install, image=image, env=env, user=_user())


def _etc(folder: Path) -> Path:
    etc = (folder / "etc").absolute()
    write_accounts(etc, _user())
    return etc


def _tightened(path: str | None, folder: Path) -> Path | None:
    """podman's profile made stricter; None where it has none that we can read, and its default stays."""
    try:
        profile = seccomp.tighten(json.loads(Path(path or "").read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    aside, place = folder / ".podman-seccomp", folder / "podman-seccomp.profile"
    aside.write_text(json.dumps(profile))
    return aside.replace(place)


async def find_apple(*, install: str, image: str | None, environ: Mapping[str, str]) -> Oci:
    """Apple's container; its system is started when it is down."""
    env = client_environ(environ)
    status = ["container", "system", "status", "--format", "json"]
    seen = await call(status, env=env)
    if not seen.ok and seen.code not in {124, 127}:
        await call(["container", "system", "start", "--enable-kernel-install"], env=env, seconds=60)
        seen = await call(status, env=env)
    if not seen.ok:
        raise _refusal(seen, "container")
    return Oci(_apple(_user()), install=install, image=image, env=env, user=_user())


def _refusal(seen: Called, program: str) -> NoRuntime:
    missing = seen.code == 127 and seen.err.startswith(f"{program}:")
    return refused(program, seen.reason, installed=not missing)


def _docker(user: tuple[int, int], etc: Path) -> Engine:
    return Engine(
        name="docker",
        run=partial(docker_argv, user=user, etc=etc),
        start=("docker", "start", "--attach", "--interactive"),
        stop=("docker", "stop", "--time", str(STOP_GRACE)),
        remove=("docker", "rm", "--force", "--volumes"),
        names=("docker", "ps", "--all", "--no-trunc", "--format", "{{.Names}}", "--filter"),
        parse_names=lambda out, _: out.split(),
        has_image=("docker", "image", "inspect", "--format", "{{.Id}}"),
        version=("docker", "version", "--format", "{{json .Server}}"),
        parse_version=docker_versions,
        storage=("docker", "info", "--format", "{{.Driver}}"),
    )


def _nproc() -> int:
    """What podman may set: no more than is ours, nor than the pids there are, to which it lowers itself first."""
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    return 32768 if hard == resource.RLIM_INFINITY else min(hard, 32768)


def _podman(run: Callable[[Spec], list[str]]) -> Engine:
    return Engine(
        name="podman",
        run=run,
        start=("podman", "start", "--attach", "--interactive"),
        stop=("podman", "stop", "--time", str(STOP_GRACE)),
        remove=("podman", "rm", "--force", "--time", "0", "--volumes"),
        names=("podman", "ps", "--all", "--no-trunc", "--format", "{{.Names}}", "--filter"),
        parse_names=lambda out, _: out.split(),
        has_image=("podman", "image", "inspect", "--format", "{{.Id}}"),
        version=("podman", "info", "--format", "json"),
        parse_version=podman_versions,
        storage=("podman", "info", "--format", "{{.Store.GraphDriverName}}"),
    )


def _apple(user: tuple[int, int]) -> Engine:
    return Engine(
        name="container",
        run=partial(apple_argv, user=user),
        start=(),
        stop=("container", "stop", "--time", str(STOP_GRACE)),
        remove=("container", "delete", "--force"),
        names=("container", "list", "--all", "--format", "json"),
        parse_names=apple_names,
        has_image=("container", "image", "inspect"),
        version=("container", "system", "version", "--format", "json"),
        parse_version=apple_versions,
        storage=(),
    )


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


# --- the runtime -----------------------------------------------------------------------------------


class Oci:
    """The `Runtime` of an engine with names."""

    def __init__(
        self,
        engine: Engine,
        *,
        install: str,
        image: str | None,
        env: Mapping[str, str],
        user: tuple[int, int],
    ) -> None:
        self.name = engine.name
        self._engine = engine
        self._install = install
        self._image = image
        self._env = env
        self._user = user
        self._held: dict[str, str] | None = None

    @property
    def owner(self) -> tuple[int, int]:
        return self._user

    async def versions(self) -> dict[str, str]:
        seen = await call(self._engine.version, env=self._env)
        try:
            return self._engine.parse_version(seen.out) if seen.ok else {}
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return {}

    async def storage_driver(self) -> str:
        if not self._engine.storage:
            return ""
        seen = await call(self._engine.storage, env=self._env)
        return seen.out.strip() if seen.ok else ""

    async def has_image(self) -> bool:
        """Whether the image that agents run from is there."""
        return (await call([*self._engine.has_image, str(self._image)], env=self._env)).ok

    async def limits_held(self) -> dict[str, str]:
        """Looked at from inside a container that is started as an agent's is; once, since it does not change while
        the engine stays."""
        if self._held is None:
            limits, run = Limits(), secrets.token_hex(8)
            spec = Spec(
                name=f"pynchy-{self._install}-{run}",
                run=run,
                install=self._install,
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
        argv = [*self._engine.names]
        if argv[-1] == "--filter":
            argv.append(f"label={INSTALL_LABEL}={self._install}")
        seen = await call(argv, env=self._env)
        if not seen.ok:
            raise ContainerStays(f"{self.name} cannot say what it has: {seen.reason}")
        return self._engine.parse_names(seen.out, self._install)

    async def remove(self, name: str) -> None:
        await self.kill(name)
        await self.see_gone(name)

    async def see_gone(self, name: str) -> None:
        """Return when the engine's list no longer has it; insist while it has. Raises `ContainerStays`."""
        reason = ""
        with trio.move_on_after(GONE_TIMEOUT):
            # Removing may go on after the answer, and a second `remove` be refused meanwhile: the list decides.
            while name in await self.list():
                reason = (await self.kill(name)).reason
                await trio.sleep(LOOK_AGAIN)
            return
        raise ContainerStays(f"{self.name} still has {name}: {reason}")

    async def stop(self, name: str) -> Called:
        return await call([*self._engine.stop, name], env=self._env, seconds=STOP_GRACE + 10)

    async def kill(self, name: str) -> Called:
        return await call([*self._engine.remove, name], env=self._env)

    @asynccontextmanager
    async def open(self, spec: Spec, *, grace: float) -> AsyncIterator[Container]:
        if spec.image is None:
            spec = attrs.evolve(spec, image=self._image)
        try:
            make_places(spec)
            argv = self._engine.run(with_submounts(spec, await self._mount_table()))
        except (OSError, BadSpec) as error:
            raise SpawnFailed(self.name, str(error)) from error
        if self._engine.start:
            await self._create(spec, [argv[0], "create", *argv[2:]])
            argv = [*self._engine.start, spec.name]
        ending = Named(self, spec.name)
        try:
            async with attach(
                argv, name=spec.name, env=self._env, grace=grace, ending=ending
            ) as client:
                yield client
        except FileNotFoundError as error:
            raise SpawnFailed(self.name, f"{error.filename}: {error.strerror}") from error

    async def _mount_table(self) -> bytes:
        if not self._engine.mount_table:
            return MOUNTS.read_bytes() if MOUNTS.exists() else b""
        seen = await call(self._engine.mount_table, env=self._env)
        if not seen.ok:
            raise SpawnFailed(self.name, f"it cannot say what is mounted: {seen.reason}")
        return os.fsencode(seen.out)

    async def _create(self, spec: Spec, argv: Sequence[str]) -> None:
        """Make the container. Cancelled or refused, none is left."""
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
        """Not cut short: an engine whose client is killed half-way may make the container all the same,
        after we have looked. It takes some 50 ms; its bound is how long a cancel can be held up."""
        with trio.CancelScope(shield=True):
            seen = await call(argv, env=self._env, seconds=CREATE_TIMEOUT)
        await trio.lowlevel.checkpoint_if_cancelled()
        return seen

    async def _explain(self, spec: Spec, seen: Called) -> str:
        """What went wrong, and what to do about it where we know."""
        if (await call([*self._engine.has_image, str(spec.image)], env=self._env)).ok:
            return seen.reason
        if (await call(self._engine.version, env=self._env)).ok:
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
    """How a container ends whose engine knows it by name."""

    runtime: Oci
    name: str

    async def stop(self, client: trio.Process) -> None:
        await self.runtime.stop(self.name)

    async def kill(self, client: trio.Process) -> None:
        await self.runtime.kill(self.name)

    async def see_gone(self) -> None:
        await self.runtime.see_gone(self.name)
