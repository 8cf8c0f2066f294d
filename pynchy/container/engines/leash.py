"""A small process between the daemon and bwrap that ends the sandbox when either dies.

    python -I -S leash.py '{"daemon": PID, "program": "/usr/bin/bwrap", "args": [...], "command": [...], ...}'

Why it exists: bwrap's --die-with-parent fires when the *thread* that started it ends, and a worker thread ends after
ten idle seconds. Here bwrap's parent has one thread and lives as long as the sandbox. The leash ends the sandbox when
the daemon ends, at once on SIGQUIT, and on SIGTERM asks the agent to end. It is the reaper of everything that bwrap
starts, so **when it has exited, the whole tree is gone**; its exit code is the agent's.

It may be killed itself, even while it sets the sandbox up. Then bwrap dies with it, but the processes that bwrap has
made may not yet be bound to their parent's life. So the agent's program starts only after the leash has heard from
inside, when all are bound, and has answered: without a leash nobody answers (`GATE`). What waits for ever in a
half-made sandbox has the run's name in its command line, by which the daemon finds it.

Standard library only, one thread, no imports of ours, no output after the start. It is started with an empty
environment, since a sandbox can read that of its first process.
"""

import ctypes
import errno
import fcntl
import json
import os
import resource
import select
import signal
import stat
import sys
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18

#: In the sandbox, before the agent's program: says that it is there, waits to be told to go. Digits, since a plain
#: shell knows no others.
HERE, GO = 8, 9
GATE = 'echo >&8 && read -r go <&9 || exit 137; exec "$@" 8>&- 9<&-'
HIGH = 20  # where our own descriptors are, out of the way of those

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def memory_file(name: str, content: bytes) -> int:
    """A descriptor that the sandbox's program inherits and reads from the start."""
    fd = os.memfd_create(name, 0)
    os.write(fd, content)
    os.lseek(fd, 0, os.SEEK_SET)
    high = fcntl.fcntl(fd, fcntl.F_DUPFD, HIGH)
    os.close(fd)
    return high


def pipe() -> tuple[int, int]:
    """A pipe whose ends no child inherits unless told so."""
    low = os.pipe2(os.O_CLOEXEC)
    ends = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH) for fd in low]
    for fd in low:
        os.close(fd)
    return ends[0], ends[1]


def stage(pairs: list[list[str]]) -> None:
    """Bind each source to a place below an empty /tmp of our own, so that a uid that may not enter the folders above
    a source can still be given it. Nothing of this is seen outside: the mounts are this process's."""
    if _libc.unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    mount(b"none", b"/", None, MS_REC | MS_PRIVATE)
    held = [(os.open(source, os.O_PATH | os.O_CLOEXEC), place) for source, place in pairs]
    mount(b"tmpfs", b"/tmp", b"tmpfs", MS_NOSUID | MS_NODEV)  # mode 1777
    for fd, place in held:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            os.mkdir(place)  # noqa: PTH102 - pathlib is 10 ms of every start
        else:
            os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        mount(b"/proc/self/fd/%d" % fd, os.fsencode(place), None, MS_BIND | MS_REC)
        os.close(fd)


def mount(source: bytes, target: bytes, kind: bytes | None, flags: int) -> None:
    if _libc.mount(source, target, kind, ctypes.c_ulong(flags), None) != 0:
        raise OSError(ctypes.get_errno(), f"mount {os.fsdecode(target)}")


def start(order: dict[str, Any], status: int, gate: int, here: int, go: int) -> int:
    """Fork, apply the limits, become bwrap. A failure is reported on stderr, with exit code 125."""
    argv = [
        order.get("name") or order["program"],
        "--json-status-fd",
        str(status),
        "--block-fd",
        str(gate),
    ]
    if order.get("seccomp"):
        argv += ["--seccomp", str(memory_file("seccomp", bytes.fromhex(order["seccomp"])))]
    # Not on the command line: /proc/1/cmdline can be read inside, and would tell the host's paths.
    args = memory_file("args", b"".join(os.fsencode(word) + b"\0" for word in order["args"]))
    argv += ["--args", str(args), "--", "/bin/sh", "-c", GATE, "sh", *order["command"]]
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(125)
        be_the_first_to_go()
        for folder in order.get("cgroups", ()):
            with open(f"{folder}/cgroup.procs", "w") as procs:
                procs.write("0")
        for name, value in order.get("rlimits", {}).items():
            number = getattr(resource, f"RLIMIT_{name}")
            hard = resource.getrlimit(number)[1]
            least = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(number, (least, least))
        if order.get("stage"):
            stage(order["stage"])
        if user := order.get("user"):
            os.setgroups([])
            os.setresgid(user[1], user[1], user[1])
            os.setresuid(user[0], user[0], user[0])
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # changing ids has cleared it
            if os.getppid() != parent:
                os._exit(125)
        os.dup2(here, HERE)
        os.dup2(go, GO)
        os.set_inheritable(status, True)
        os.set_inheritable(gate, True)
        os.execve(order["program"], argv, {})
    except OSError as error:
        print(f"leash: {order['program']}: {error}", file=sys.stderr, flush=True)
    os._exit(125)


def be_the_first_to_go() -> None:
    """If memory runs out, have the kernel kill what is in the sandbox rather than us or the daemon."""
    try:
        with open("/proc/self/oom_score_adj", "r+") as file:
            score = min(1000, int(file.read()) + 300)
            file.seek(0)
            file.write(str(score))
    except OSError:
        return  # then the sizes decide, and an agent's are far larger


def limit_pids(init: int, pids: int | None) -> None:
    """Limit the processes of a sandbox that has no control group. They are counted in its user namespace, so the limit
    is set on its init once it has that namespace, and before it starts anything."""
    if pids:
        try:
            resource.prlimit(init, resource.RLIMIT_NPROC, (pids, pids))
        except OSError:
            return  # said by `limits_held`: not ours to set on this machine


def limit_shared(init: int, limits: dict[str, int]) -> None:
    """Limit what the kernel counts per user in each user namespace and in all above it: otherwise one sandbox could use
    up what all programs of this user share. In a process of its own, since nobody can leave a namespace."""
    if not limits:
        return
    child = os.fork()
    if child == 0:
        try:
            space = os.open(f"/proc/{init}/ns/user", os.O_RDONLY)
            if _libc.setns(space, CLONE_NEWUSER) == 0:
                for name, most in limits.items():
                    bound(f"/proc/sys/user/{name}", most)
        finally:
            os._exit(0)  # a kernel without one of them, or not ours to set: the host's limit holds
    os.waitpid(child, 0)


def bound(path: str, most: int) -> None:
    try:
        with open(path, "r+") as file:
            if int(file.read()) > most:
                file.seek(0)
                file.write(str(most))
    except OSError:
        return  # as said above


def ask(init: int) -> None:
    """SIGTERM to the processes that the sandbox's own init has started: to bwrap itself it would mean KILL."""
    try:
        with open(f"/proc/{init}/task/{init}/children") as children:
            pids = [int(pid) for pid in children.read().split()]
        for pid in pids:
            fd = os.pidfd_open(pid)
            try:
                with open(f"/proc/{pid}/stat") as stat_file:
                    still_its = int(stat_file.read().rpartition(")")[2].split()[1]) == init
                if still_its:
                    signal.pidfd_send_signal(fd, signal.SIGTERM)
            finally:
                os.close(fd)
    except (OSError, ValueError):
        return  # ending by itself: who asked will insist


def kill_children() -> None:
    """Kill each of our own children. No pid can be another process's yet: we alone reap them."""
    me = os.getpid()
    with open(f"/proc/{me}/task/{me}/children") as children:
        pids = [int(pid) for pid in children.read().split()]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def reap(first: int) -> int:
    """Kill and reap all that is left; returns the exit code of ``first`` as a shell would say it.

    A bwrap that was killed while it set the sandbox up leaves its inner half behind, which waits at the gate for ever
    and is not yet bound to any parent's life. It becomes our child, as every orphan here does, when its parent is
    reaped.
    """
    code = 137
    while True:
        kill_children()
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return code
        if pid == first:
            code = os.waitstatus_to_exitcode(status)
            code = 128 - code if code < 0 else code


def main() -> NoReturn:
    order = json.loads(sys.argv[1])
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    daemon = os.pidfd_open(order["daemon"])
    if os.getppid() != order["daemon"]:
        os._exit(137)  # it ended before we could look
    signals = {signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGHUP}
    wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake_write)
    for number in signals:
        signal.signal(number, lambda *_: None)
    status, status_out = pipe()
    gate, gate_out = pipe()
    here, here_out = pipe()
    go, go_out = pipe()
    bwrap = start(order, status_out, gate, here_out, go)
    for fd in (status_out, gate, here_out, go):
        os.close(fd)
    devnull = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):  # so that ends of file mean the agent's, not ours
        os.dup2(devnull, fd)
    child = os.pidfd_open(bwrap)
    watched = [daemon, child, wake_read, status, here]
    said = b""
    init = 0  # the sandbox's first process, once there is one
    while True:
        ready = select.select(watched, [], [])[0]
        received: bytes = b""
        if wake_read in ready:
            received = os.read(wake_read, 512)
        if child in ready:
            break
        if daemon in ready or signal.SIGQUIT in received:
            os.kill(bwrap, signal.SIGKILL)
            break
        if status in ready:
            piece = os.read(status, 4096)
            said += piece
            if b"\n" in said or not piece:
                watched.remove(status)
            if b"\n" in said:
                init = json.loads(said.partition(b"\n")[0])["child-pid"]
                limit_pids(init, order.get("pids"))
                limit_shared(init, order.get("shared", {}))
                os.write(gate_out, b"1")
        if here in ready:
            if os.read(
                here, 1
            ):  # all of it is tied to us by now: bwrap, its inner half, the first process
                os.write(go_out, b"\n")
            watched.remove(here)
        if signal.SIGTERM in received and init:
            ask(init)
    os._exit(reap(bwrap))


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        print(f"leash: {errno.errorcode.get(error.errno or 0)}: {error}", file=sys.stderr)
        os._exit(125)
