"""What a container is started with: a `Spec`, and each engine's argv made from it.

Every argument comes from a typed, validated value; nothing is ever joined into a shell line. A test parses each argv
back by the engine's own rules. The rule that keeps it so: no I/O and no look at this machine. Whatever an argv needs
to know of the machine (where Python lives, which uid the agent has) comes in as an argument.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final

import attrs

HOME: Final = "/home/agent"
GATEWAY: Final = "/run/pynchy"
CERTIFICATES: Final = "/opt/certificates.pem"
_IMAGE_CERTIFICATES: Final = "/etc/ssl/certs/ca-certificates.crt"  # of Debian, and of most images
WORK: Final = "/workspace/group"
CLAUDE: Final = f"{HOME}/.claude"
#: How the agent of this release is started: isolated, so that no module is looked for in the working directory,
#: in the environment or in a home folder, where an agent may have left a module of the same name.
AGENT_COMMAND: Final = ("/opt/pynchy/bin/python", "-I", "-m", "pynchy_agent")
STOP_GRACE: Final = 5  # seconds an engine waits between TERM and KILL

INSTALL_LABEL: Final = "pynchy.install"
RUN_LABEL: Final = "pynchy.run"

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
_HEX: Final = re.compile(r"[0-9a-f]{1,64}", re.ASCII)
_TARGET: Final = re.compile(r"(?:/[A-Za-z0-9._-]+)+", re.ASCII)
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
_IMAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

# What no mount may ever cover: the system, our own door, and the kernel's files.
_RESERVED: Final = ("/proc", "/sys", "/dev", "/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc")

_PROXY_NAMES: Final = tuple(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (upper, upper.lower())
)


class BadSpec(ValueError):
    """A value that may not become part of an argv. It is ours or of an owner's settings, never an agent's."""


@attrs.frozen
class Mount:
    """A host file or folder at a place in the container. ``source`` is a real path: absolute, links resolved."""

    source: Path
    target: str
    writable: bool = False

    def __attrs_post_init__(self) -> None:
        source = str(self.source)
        if not self.source.is_absolute() or ".." in self.source.parts or source == "/":
            raise BadSpec(f"not a mount source: {source!r}")
        if _CONTROL.search(source):
            raise BadSpec(f"control characters in a mount source: {source!r}")
        check_target(self.target)


def check_target(target: str) -> None:
    """Raise `BadSpec` unless ``target`` is a plain absolute path where a mount may be."""
    parts = target.split("/")
    if not _TARGET.fullmatch(target) or "." in parts or ".." in parts or len(target) > 512:
        raise BadSpec(f"not a place in a container: {target!r}")
    for reserved in (*_RESERVED, GATEWAY):
        if target == reserved or target.startswith(reserved + "/"):
            raise BadSpec(f"reserved for the system: {target!r}")
    if target in {"/run", "/tmp", "/home", HOME}:  # noqa: S108 - a place in the container
        raise BadSpec(f"reserved for the system: {target!r}")


@attrs.frozen
class Limits:
    """What one container may use. The defaults are documented with the configuration."""

    memory_bytes: int = 2 << 30
    cpus: float = 1.5
    pids: int = 512
    nofile: int = 4096
    fsize_bytes: int = 1 << 30
    tmp_bytes: int = 512 << 20  # each of /tmp, the home folder and /dev/shm

    def __attrs_post_init__(self) -> None:
        numbers = (self.memory_bytes, self.pids, self.nofile, self.fsize_bytes, self.tmp_bytes)
        if min(numbers) <= 0 or not 0 < self.cpus <= 1024:
            raise BadSpec(f"limits are positive: {self}")


@attrs.frozen
class Spec:
    """One container, whatever the engine. ``gateway_dir`` holds the run's gateway.sock; it is mounted read-only.
    ``certificates`` is a file of those that programs are to trust instead of the usual ones.

    ``workdir`` is a folder that no agent can write, for a program that is ours: a program may load what lies there.
    ``submounts`` are host paths below the source of a read-only mount where another file system is mounted: docker
    and podman make read-only what they mount and not what is mounted below it, so each gets a mount of its own.
    """

    name: str
    run: str
    install: str
    image: str | None
    mounts: tuple[Mount, ...]
    gateway_dir: Path | None = None
    certificates: Path | None = None
    command: tuple[str, ...] = AGENT_COMMAND
    env: Mapping[str, str] = attrs.field(factory=dict)
    workdir: str = "/"
    limits: Limits = attrs.field(factory=Limits)
    submounts: tuple[Path, ...] = ()

    def __attrs_post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise BadSpec(f"not a container name: {self.name!r}")
        if not _HEX.fullmatch(self.run) or not _HEX.fullmatch(self.install):
            raise BadSpec(f"not an id: {self.run!r}, {self.install!r}")
        if self.image is not None and not _IMAGE.fullmatch(self.image):
            raise BadSpec(f"not an image: {self.image!r}")
        if not self.command or not self.command[0] or any("\0" in word for word in self.command):
            raise BadSpec(f"not a command: {self.command!r}")
        if self.command[0].startswith("-"):
            raise BadSpec(f"a command that looks like a flag: {self.command!r}")
        plain = self.workdir == "/" or _TARGET.fullmatch(self.workdir)
        if not plain or ".." in self.workdir.split("/"):
            raise BadSpec(f"not a working directory: {self.workdir!r}")
        for name, value in self.env.items():
            if not _ENV_NAME.fullmatch(name) or _CONTROL.search(value):
                raise BadSpec(f"not an environment variable: {name!r}")
        if self.gateway_dir is not None:
            source = str(self.gateway_dir)
            if not self.gateway_dir.is_absolute() or _CONTROL.search(source):
                raise BadSpec(f"not a gateway folder: {source!r}")
        if self.certificates is not None:
            Mount(self.certificates, WORK)  # refuses what is no source of a mount
        targets = [mount.target for mount in self.mounts]
        if len(set(targets)) != len(targets):
            raise BadSpec(f"two mounts in one place: {sorted(targets)}")
        for writable, parent in ((m, self._parent(m)) for m in self.mounts):
            if writable.writable and parent is not None and not parent.writable:
                raise BadSpec(f"{writable.target} is writable inside a read-only mount")

    @property
    def fresh(self) -> tuple[str, ...]:
        """The agent's own folders that are new and empty in each container. Its configuration is one of them, so that
        no run finds another's there; what is kept of it is mounted."""
        return tuple(p for p in (HOME, CLAUDE) if p not in {mount.target for mount in self.mounts})

    def _parent(self, mount: Mount) -> Mount | None:
        """The deepest mount that contains this one, if any."""
        around = [m for m in self.mounts if is_below(mount.target, m.target)]
        return max(around, key=lambda m: len(m.target), default=None)

    def nested(self) -> tuple[tuple[Mount, Mount, PurePosixPath], ...]:
        """Mounts that lie inside another one: (outer, inner, the inner one's place relative to the outer)."""
        found = []
        for mount in self.ordered():
            if (outer := self._parent(mount)) is not None:
                place = PurePosixPath(mount.target).relative_to(outer.target)
                found.append((outer, mount, place))
        return tuple(found)

    def ordered(self) -> tuple[Mount, ...]:
        """The mounts, outer ones first."""
        return tuple(sorted(self.mounts, key=lambda m: (m.target.count("/"), m.target)))


def is_below(target: str, outer: str) -> bool:
    return target.startswith(outer + "/")


# Who is told of certificates by the environment alone, or would trust a list of its own.
_CERTIFICATE_NAMES: Final = (
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "CARGO_HTTP_CAINFO",
)


def container_env(spec: Spec) -> dict[str, str]:
    """The whole environment that we give, in every engine; nothing in it is secret."""
    return {
        "HOME": HOME,
        "LANG": "C.UTF-8",
        "TERM": "dumb",  # there is no terminal; podman would say xterm, and docker nothing
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "CLAUDE_CONFIG_DIR": CLAUDE,
        **(dict.fromkeys(_CERTIFICATE_NAMES, CERTIFICATES) if spec.certificates else {}),
        **spec.env,
    }


# --- docker, podman, Apple container ---------------------------------------------------------------


def docker_argv(spec: Spec, *, user: tuple[int, int], etc: Path | None = None) -> list[str]:
    """``docker run`` attached to our pipes. ``etc`` holds the files that name the agent's user."""
    uid, gid = user
    # An engine client may put proxies (with credentials) of its own configuration into a container; an empty value of
    # ours wins over it.
    own = [f"--env={name}=" for name in _PROXY_NAMES]
    flags = [*_flags(spec, user, home=f"mode=700,uid={uid},gid={gid}", etc=etc), *own]
    return ["docker", "run", *flags, *_tail(spec)]


@attrs.frozen
class Podman:
    """What podman's argv needs to know of this machine.

    ``nproc`` is a number that it lets podman set: with one ulimit given podman takes no default for the others, and its
    own is more than some machines allow. ``seccomp`` is a stricter profile than its own, ``etc`` holds the files that
    name the agent's user. ``controllers`` are the control groups that it may use: rootless there may be none.
    """

    rootless: bool
    nproc: int
    controllers: frozenset[str] = frozenset({"memory", "pids", "cpu"})
    seccomp: Path | None = None
    etc: Path | None = None


def podman_argv(spec: Spec, *, user: tuple[int, int], machine: Podman) -> list[str]:
    """``podman run``. Rootless, the caller's own ids are kept so that it can write its own folders.

    Without control groups podman silently drops the limits of memory and processes, so they are given as rlimits: of
    each process, and of all in the container's own user namespace.
    """
    # By itself podman makes /run, /tmp and /var/tmp of a read-only container writable, without an end.
    own = ["--http-proxy=false", "--read-only-tmpfs=false"]
    nproc, alone = machine.nproc, machine.rootless  # root's processes have no such bound
    if alone:
        own.append("--userns=keep-id")
    if alone and "pids" not in machine.controllers:
        nproc = min(nproc, spec.limits.pids)
    own.append(f"--ulimit=nproc={nproc}:{nproc}")
    if alone and "memory" not in machine.controllers:
        data = data_limit(spec.limits)
        own.append(f"--ulimit=data={data}:{data}")
    if machine.seccomp is not None:
        own.append(f"--security-opt=seccomp={machine.seccomp}")
    flags = [*_flags(spec, user, home="U,mode=700", etc=machine.etc), *own]
    return ["podman", "run", *flags, *_tail(spec)]


def data_limit(limits: Limits) -> int:
    """The memory limit of one process where rlimits alone limit it; an engine's own start needs some, too."""
    return max(limits.memory_bytes, 256 << 20)


def _flags(spec: Spec, user: tuple[int, int], *, home: str, etc: Path | None) -> list[str]:
    """The flags that docker and podman share. ``home`` gives the home folder to the agent, in the engine's own
    words; ``etc`` has the files that name its user, whatever the uid and the image."""
    limits = spec.limits
    uid, gid = _not_root(user)
    tmpfs = f"rw,nosuid,nodev,exec,size={limits.tmp_bytes}"
    flags = ["-i", "--rm", "--init", "--pull=never", "--log-driver=none"]
    flags += [f"--name={spec.name}"]
    flags += [f"--label={INSTALL_LABEL}={spec.install}", f"--label={RUN_LABEL}={spec.run}"]
    flags += ["--network=none", "--ipc=none", "--hostname=agent"]
    flags += ["--cap-drop=ALL", "--security-opt=no-new-privileges", f"--user={uid}:{gid}"]
    flags += [f"--pids-limit={limits.pids}", f"--cpus={limits.cpus:g}"]
    flags += [f"--memory={limits.memory_bytes}", f"--memory-swap={limits.memory_bytes}"]
    flags += [f"--ulimit=nofile={limits.nofile}:{limits.nofile}", "--ulimit=core=0:0"]
    flags += [f"--ulimit=fsize={limits.fsize_bytes}:{limits.fsize_bytes}"]
    flags += ["--read-only", f"--tmpfs=/tmp:{tmpfs},mode=1777"]
    flags += [f"--tmpfs={place}:{tmpfs},{home}" for place in spec.fresh]
    # With --ipc=none there would be no shared memory at all, which multiprocessing needs.
    flags += [f"--tmpfs=/dev/shm:{tmpfs},mode=1777"]
    flags += [f"--stop-timeout={STOP_GRACE}", f"--workdir={spec.workdir}"]
    flags += [f"--env={name}={value}" for name, value in container_env(spec).items()]
    flags += [f"--mount={field}" for field in _mount_fields(spec)]
    if spec.gateway_dir is not None:
        flags.append(f"--mount={_bind(spec.gateway_dir, GATEWAY, writable=False)}")
    if spec.certificates is not None:
        places = (CERTIFICATES, _IMAGE_CERTIFICATES)
        flags += [f"--mount={_bind(spec.certificates, at, writable=False)}" for at in places]
    if etc is not None:
        binds = (_bind(etc / name, f"/etc/{name}", writable=False) for name in ("passwd", "group"))
        flags += [f"--mount={bind}" for bind in binds]
    return flags


def _not_root(user: tuple[int, int]) -> tuple[int, int]:
    if user[0] == 0:
        raise BadSpec("an agent never runs as root")
    return user


def _tail(spec: Spec) -> list[str]:
    if spec.image is None:
        raise BadSpec("this engine needs an image")
    return [spec.image, *spec.command]


def mount_field(mount: Mount) -> str:
    """The value of ``--mount``: one record of comma-separated ``key=value``."""
    return _bind(mount.source, mount.target, writable=mount.writable)


def _mount_fields(spec: Spec) -> list[str]:
    """The spec's mounts, and read-only ones over its submounts; each after those it lies in."""
    binds = {mount.target: mount_field(mount) for mount in spec.mounts}
    for mount in spec.mounts:
        for point in spec.submounts if not mount.writable else ():
            if mount.source in point.parents:
                target = f"{mount.target}/{point.relative_to(mount.source)}"
                binds.setdefault(target, _bind(point, target, writable=False))
    return [binds[target] for target in sorted(binds, key=lambda t: (t.count("/"), t))]


def _bind(source: Path, target: str, *, writable: bool) -> str:
    # The engines do not agree on quoting, so what would need it is refused.
    if re.search(r'[,"]', str(source)) or _CONTROL.search(str(source)):
        raise BadSpec(f"this engine cannot mount a path with a comma or a quote: {str(source)!r}")
    field = f"type=bind,source={source},target={target}"
    return field if writable else field + ",readonly"


def apple_argv(spec: Spec, *, user: tuple[int, int]) -> list[str]:
    """Apple's ``container run``. Each container is a VM, so a few of the flags have no counterpart.

    The gateway's socket is relayed as one file: a folder of sockets is not (ENOTSUP).
    """
    limits = spec.limits
    uid, gid = _not_root(user)
    flags = ["-i", "--rm", "--init", "--progress", "none", "--name", spec.name]
    flags += ["-l", f"{INSTALL_LABEL}={spec.install}", "-l", f"{RUN_LABEL}={spec.run}"]
    flags += ["--network", "none", "--no-dns", "--cap-drop", "ALL", "-u", f"{uid}:{gid}"]
    flags += ["-m", f"{max(1, limits.memory_bytes >> 20)}M", "-c", str(max(1, round(limits.cpus)))]
    flags += ["--ulimit", f"nofile={limits.nofile}:{limits.nofile}"]
    flags += ["--ulimit", f"nproc={limits.pids}:{limits.pids}", "--ulimit", "core=0:0"]
    flags += ["--ulimit", f"fsize={limits.fsize_bytes}:{limits.fsize_bytes}"]
    flags += ["--read-only", "--tmpfs", "/tmp"]  # noqa: S108 - inside
    for place in spec.fresh:
        flags += ["--tmpfs", place]
    flags += ["-w", spec.workdir]
    for name, value in container_env(spec).items():
        flags += ["-e", f"{name}={value}"]
    for mount in spec.ordered():
        flags += ["--mount", mount_field(mount)]
    if spec.certificates is not None:
        flags += ["--mount", _bind(spec.certificates, CERTIFICATES, writable=False)]
    if spec.gateway_dir is not None:
        socket = spec.gateway_dir / "gateway.sock"
        if ":" in str(socket):
            raise BadSpec(f"this engine cannot relay a socket with a colon: {str(socket)!r}")
        flags += ["-v", f"{socket}:{GATEWAY}/gateway.sock"]
    return ["container", "run", *flags, *_tail(spec)]


# --- bwrap ---------------------------------------------------------------------------------------


@attrs.frozen
class HostTree:
    """What a sandbox shares with the host, read-only, found by the edge: all real paths or plain links.

    ``path`` is the PATH inside, ``python_path`` where the agent's source is when it is not installed. ``masked`` are
    files and ``masked_folders`` folders below /proc that tell of the host and are covered. ``certificates`` is the file
    of these trees with those that this machine trusts.
    """

    trees: tuple[tuple[Path, str], ...]
    links: tuple[tuple[str, str], ...]
    path: tuple[str, ...]
    python_path: tuple[str, ...] = ()
    masked: tuple[str, ...] = ()
    masked_folders: tuple[str, ...] = ()
    certificates: str = ""


def bwrap_args(spec: Spec, *, host: HostTree, user: tuple[int, int]) -> list[str]:
    """The arguments of bwrap up to the command. The caller adds descriptors and puts the command after ``--``.

    The order matters: a mount comes after the one it lies in, and the root becomes read-only last of all.
    """
    limits = spec.limits
    uid, gid = _not_root(user)
    args = ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net"]
    args += ["--unshare-cgroup-try", "--disable-userns", "--die-with-parent", "--new-session"]
    args += ["--uid", str(uid), "--gid", str(gid), "--hostname", "agent", "--cap-drop", "ALL"]
    args += ["--clearenv"]
    trusted = dict.fromkeys(_CERTIFICATE_NAMES, host.certificates) if host.certificates else {}
    env = {"PATH": ":".join(host.path), **trusted, **container_env(spec)}
    if host.python_path and spec.command != AGENT_COMMAND:  # ours is told otherwise
        env["PYTHONPATH"] = ":".join((*host.python_path, *filter(None, [env.get("PYTHONPATH")])))
    for name, value in env.items():
        args += ["--setenv", name, value]
    size = str(limits.tmp_bytes)
    args += ["--proc", "/proc", "--dev", "/dev", "--ro-bind", "/proc/sys", "/proc/sys"]
    # bwrap's own /dev may be written in, up to half the machine's memory.
    args += ["--perms", "1777", "--size", size, "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]  # noqa: S108
    for place in host.masked:
        args += ["--ro-bind", "/dev/null", place]  # on a mount without devices: it cannot be opened
    for place in host.masked_folders:
        args += ["--size", "4096", "--tmpfs", place, "--remount-ro", place]
    args += ["--perms", "1777", "--size", size, "--tmpfs", "/tmp"]  # noqa: S108 - in the sandbox
    for place in spec.fresh:
        args += ["--perms", "0700", "--size", size, "--tmpfs", place]
    for target, place in host.links:
        args += ["--symlink", target, place]
    for source, place in host.trees:
        args += ["--ro-bind", str(source), place]
    for mount in spec.ordered():
        args += ["--bind" if mount.writable else "--ro-bind", str(mount.source), mount.target]
    if spec.gateway_dir is not None:
        args += ["--ro-bind", str(spec.gateway_dir), GATEWAY]
    if spec.certificates is not None:
        for place in filter(None, (CERTIFICATES, host.certificates)):
            args += ["--ro-bind", str(spec.certificates), place]
    return [*args, "--chdir", spec.workdir, "--remount-ro", "/"]


# --- what an engine's client may know ------------------------------------------------------------

ENGINE_NAMES: Final = frozenset(  # which engine: what its user has set, and a service manager does not know
    "DOCKER_HOST DOCKER_CONTEXT DOCKER_CONFIG DOCKER_TLS_VERIFY DOCKER_CERT_PATH CONTAINER_HOST"
    " CONTAINER_CONNECTION CONTAINERS_CONF CONTAINERS_CONF_OVERRIDE CONTAINERS_STORAGE_CONF".split()
)
_CLIENT_NAMES: Final = ENGINE_NAMES | frozenset(
    "PATH HOME USER LOGNAME TMPDIR XDG_RUNTIME_DIR XDG_CONFIG_HOME XDG_DATA_HOME XDG_CACHE_HOME"
    " DBUS_SESSION_BUS_ADDRESS".split()
)


def client_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that an engine's client needs to find its engine, and no others."""
    return {"LC_ALL": "C"} | {k: v for k, v in environ.items() if k in _CLIENT_NAMES}
