"""The same promises of every engine, against the real bwrap, podman and docker."""

# ruff: noqa: ASYNC110 - a test looks at the disk and at /proc between two awaits; nothing else runs meanwhile

import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import trio
import trustme

from pynchy.config.paths import Home
from pynchy.container import folders, skills
from pynchy.container.engines.runtime import ContainerGone, SpawnFailed
from pynchy.container.spec import Limits, Mount, Spec
from pynchy.model import Group, GroupId, RunId
from tests.edges.runtimes import Lab, daemon_like, everything, line, living, open_lab


@pytest.fixture
async def lab(
    runtime_name: str, tmp_path: Path, agent_image: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Lab]:
    monkeypatch.setenv("PYNCHY_CANARY", "canary-8d1f")
    async with open_lab(runtime_name, tmp_path / "home", image=agent_image) as lab:
        yield lab


# --- talking -----------------------------------------------------------------------------------------


async def test_lines_go_in_and_out_and_the_exit_code_comes_back(lab: Lab) -> None:
    source = """
import sys
for line in sys.stdin:
    sys.stdout.write(line.upper()); sys.stdout.flush()
sys.stderr.write("apart"); sys.exit(3)
"""
    async with lab.open(lab.python(source)) as container:
        await container.send(b"one\n")
        assert await line(container) == b"ONE"
        await container.send(b"two\n")
        assert await line(container) == b"TWO"
        assert await lab.runtime.list() == [container.name]
    assert await container.wait() == 3
    assert b"apart" in container.stderr_tail()
    assert await lab.runtime.list() == []
    with pytest.raises(ContainerGone):
        await container.send(b"three\n")


async def test_what_is_not_received_holds_the_container_back(lab: Lab) -> None:
    # threat S3
    source = """
import os
for n in range(4000):
    os.write(1, b"x" * 10_000)
    if n % 5 == 0: open("/workspace/group/progress", "w").write(str(n))
"""
    async with lab.open(lab.python(source)) as container:
        await line_of_progress(lab.group / "progress")
        with trio.move_on_after(
            0.5
        ):  # a container that is not held back writes all of it in this time
            await container.wait()
        assert int((lab.group / "progress").read_text()) < 1000
        assert len(await everything(container)) == 40_000_000
        assert await container.wait() == 0


async def line_of_progress(file: Path) -> None:
    while not file.exists() or not file.read_text():
        await trio.sleep(0.01)


async def test_a_flood_on_stderr_blocks_nothing_and_is_not_kept(lab: Lab) -> None:
    # threat S4, invariant 94
    source = """
import os
for n in range(300): os.write(2, b"y" * 100_000)
os.write(2, b"the end")
print("done")
"""
    async with lab.open(lab.python(source)) as container:
        assert await line(container) == b"done"
        await container.wait()
    tail = container.stderr_tail()
    assert len(tail) <= 65536
    assert tail.endswith(b"the end")


async def test_an_error_of_the_block_comes_out_as_it_is(lab: Lab) -> None:
    with pytest.raises(KeyError, match="ours"):
        async with lab.open(lab.python("input()")):
            raise KeyError("ours")
    assert await lab.runtime.list() == []


# --- what it can and cannot do -------------------------------------------------------------------------

LOOK_AROUND = """
import json, os, socket
status = dict(l.split(":", 1) for l in open("/proc/self/status") if ":" in l)
def writes(path):
    try:
        with open(path, "w") as f: f.write("x")
        return True
    except OSError: return False
def connects(address):
    try:
        socket.create_connection(address, timeout=5).close()
        return True
    except OSError: return False
print(json.dumps({
    "ids": [os.getuid(), os.getgid(), *os.getgroups()],
    "caps": [int(status[n], 16) for n in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
    "privileges": int(status["NoNewPrivs"]), "seccomp": int(status["Seccomp"]),
    "writes": [p for p in ("/x", "/usr/x", "/etc/passwd", "/etc/x", "/run/x", "/run/pynchy/x", "/workspace/x",
        "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/vm/drop_caches", "/sys/x", "/bin/x",
        "/workspace/group/x", "/tmp/x", "/home/agent/x") if writes(p)],
    "interfaces": [l.split(":")[0].strip() for l in open("/proc/net/dev").readlines()[2:]],
    "connects": [a for a in (["1.1.1.1", 53], ["127.0.0.1", 22], ["169.254.169.254", 80]) if connects(tuple(a))],
    "host": socket.gethostname(), "cwd": os.getcwd(), "home": os.environ["HOME"],
    "pids": sorted(int(p) for p in os.listdir("/proc") if p.isdigit()),
    "core": __import__("resource").getrlimit(4), "nofile": __import__("resource").getrlimit(7),
    "fsize": __import__("resource").getrlimit(1),
    "sockets": [p for p in ("/var/run/docker.sock", "/run/docker.sock", "/run/podman") if os.path.exists(p)],
}))
"""


async def test_it_is_nobody_with_no_powers_and_no_network(lab: Lab) -> None:
    # threat X7 X9 X10 N1 K2, invariant 102
    seen = await lab.ask(LOOK_AROUND)
    uid, gid = lab.runtime.owner
    assert seen["ids"][:2] == [uid, gid]
    assert 0 not in seen["ids"]
    assert seen["caps"] == [0, 0, 0, 0, 0]
    assert seen["privileges"] == 1
    assert seen["seccomp"] == 2, "a filter"
    assert seen["interfaces"] == ["lo"]
    assert seen["connects"] == []
    assert seen["writes"] == ["/workspace/group/x", "/tmp/x", "/home/agent/x"]
    assert seen["host"] == "agent"
    assert (seen["cwd"], seen["home"]) == ("/", "/home/agent")
    assert len(seen["pids"]) <= 3, "its own processes alone"
    assert seen["sockets"] == []
    assert seen["core"] == [0, 0]
    assert seen["nofile"] == [4096, 4096]
    assert seen["fsize"] == [1 << 30, 1 << 30]


ROOM = """
import json, os
found = {}
for line in open("/proc/self/mountinfo"):
    point, kind = line.split()[4], line.split(" - ")[1].split()[0]
    here = os.statvfs(point)
    if here.f_flag & os.ST_RDONLY or point.startswith(("/proc", "/workspace")) or not os.path.isdir(point): continue
    device = os.stat(point).st_dev
    for top, folders, _ in os.walk(point):
        folders[:] = [each for each in folders if os.lstat(os.path.join(top, each)).st_dev == device]
        try: os.close(os.open(os.path.join(top, "x"), os.O_CREAT | os.O_WRONLY))
        except OSError: continue
        found[top] = [kind, here.f_blocks * here.f_frsize]
print(json.dumps(found))
"""


async def test_wherever_it_may_write_there_is_an_end_of_room(lab: Lab) -> None:
    # threat X2 X4: what is written outside of its folders is memory, and /dev is such a place
    seen = await lab.ask(ROOM, limits=Limits(tmp_bytes=32 << 20))
    assert {"/tmp", "/home/agent"} <= seen.keys()
    for place, (kind, size) in seen.items():
        if kind != "mqueue":  # which counts as its user's, RLIMIT_MSGQUEUE at most
            assert (kind, size <= 64 << 20) == ("tmpfs", True), (place, kind, size)


async def test_nothing_of_our_environment_can_be_read_inside(lab: Lab) -> None:
    # threat K1 K2, invariant 143: /proc/1 is what an engine starts first
    source = """
import glob, json, os
seen = json.dumps(dict(os.environ))
for name in ("environ", "cmdline"):
    for path in glob.glob(f"/proc/[0-9]*/{name}"):
        seen += open(path, "rb").read().decode(errors="replace")
print(json.dumps(seen))
"""
    seen = await lab.ask(source)
    assert os.environ["PYNCHY_CANARY"] not in seen
    assert str(lab.home) not in seen


CALLS = """
import ctypes, errno, json, os, platform, socket
libc = ctypes.CDLL(None, use_errno=True)
numbers = {"x86_64": {"ptrace": 101, "mount": 165, "unshare": 272, "setns": 308, "keyctl": 250, "add_key": 248,
    "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "io_uring_setup": 425},
    "aarch64": {"ptrace": 117, "mount": 40, "unshare": 97, "setns": 268, "keyctl": 219, "add_key": 217, "bpf": 280,
    "perf_event_open": 241, "userfaultfd": 282, "io_uring_setup": 425}}[platform.machine()]
seen = {}
clone = {"x86_64": 56, "aarch64": 220}[platform.machine()]
child = libc.syscall(ctypes.c_long(clone), *map(ctypes.c_long, (0x10000000 | 17, 0, 0, 0, 0)))
if child == 0: os._exit(0)
seen["clone"] = errno.errorcode[ctypes.get_errno()] if child < 0 else "ok"
for name, number in numbers.items():
    arguments = (0x10000000, 0, 0, 0, 0) if name == "unshare" else (0, 0, 0, 0, 0)
    result = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    seen[name] = errno.errorcode[ctypes.get_errno()] if result < 0 else "ok"
for name, family in {"vsock": 40, "crypto": 38, "packets": 17}.items():
    try: socket.socket(family, socket.SOCK_SEQPACKET if family == 38 else socket.SOCK_STREAM).close(); seen[name] = "ok"
    except OSError as error: seen[name] = errno.errorcode[error.errno]
for protocol in (0, 4, 6, 9, 12, 15, 16, 20, 21):
    try: socket.socket(16, socket.SOCK_RAW, protocol).close(); seen[f"asking {protocol}"] = "ok"
    except OSError as error: seen[f"asking {protocol}"] = errno.errorcode[error.errno]
import fcntl
with open("/workspace/group/leased", "w") as file:
    try: fcntl.fcntl(file, 1024, fcntl.F_WRLCK); seen["lease"] = "ok"
    except OSError as error: seen["lease"] = errno.errorcode[error.errno]
print(json.dumps(seen))
"""


async def test_system_calls_that_lead_out_are_refused(lab: Lab) -> None:
    # threat X10
    seen = await lab.ask(CALLS)
    if (
        lab.runtime.name == "docker"
    ):  # its profile allows ptrace of one's own; io_uring in old versions
        del seen["ptrace"], seen["io_uring_setup"], seen["vsock"]  # the last, before 23.0
    asked = {name: seen.pop(name) for name in list(seen) if name.startswith("asking")}
    assert asked.pop("asking 0") == "ok", "addresses and routes"
    if lab.runtime.name != "docker":  # its own profile, which is not ours to change
        assert "ok" not in asked.values(), asked
    if lab.runtime.name != "bwrap":  # theirs allow it
        del seen["lease"]
    for family in {"vsock", "crypto", "packets"} & seen.keys():  # said in other words by some
        assert seen.pop(family) != "ok", family
    assert set(seen.values()) <= {"EPERM", "ENOSYS"}, seen


# --- mounts ------------------------------------------------------------------------------------------


async def test_certificates_of_the_owner_are_the_ones_that_programs_trust(lab: Lab) -> None:
    ours = lab.home / "certificates.pem"
    trustme.CA().cert_pem.write_to_path(str(ours))
    source = """
import json, os, ssl
usual = "/etc/ssl/certs/ca-certificates.crt"
def attempt(what):
    try: what(); return True
    except OSError: return False
print(json.dumps([len(ssl.create_default_context().get_ca_certs()), open(os.environ["CURL_CA_BUNDLE"]).read(),
    open(usual).read() if os.path.exists(usual) else None,
    attempt(lambda: open(os.environ["CURL_CA_BUNDLE"], "w"))]))
"""
    number, named, usual, written = await lab.ask(source, certificates=ours)
    assert (number, named, written) == (1, ours.read_text(), False)
    assert usual in (None, ours.read_text())


async def test_mounts_are_where_they_should_be_and_no_more_writable_than_said(lab: Lab) -> None:
    # threat L14, invariant 107
    claude = lab.folder("claude")
    settings = lab.home / "settings.json"
    settings.write_text('{"hooks": {}}')
    skills = lab.home / "skills"
    (skills / "one").mkdir(parents=True)
    (skills / "one" / "SKILL.md").write_text("a skill")
    mounts = (
        Mount(skills, "/home/agent/.claude/skills"),
        Mount(settings, "/home/agent/.claude/settings.json"),
        Mount(claude, "/home/agent/.claude", writable=True),
        Mount(skills, "/workspace/extra/skills"),
    )
    source = """
import json, os
def attempt(what):
    try: what(); return True
    except OSError: return False
base = "/home/agent/.claude"
os.makedirs(f"{base}/projects/x")
open(f"{base}/projects/x/t.jsonl", "w").write("a transcript")
print(json.dumps([open(f"{base}/settings.json").read(), open(f"{base}/skills/one/SKILL.md").read(),
    attempt(lambda: open(f"{base}/settings.json", "w")), attempt(lambda: os.unlink(f"{base}/settings.json")),
    attempt(lambda: os.rename(f"{base}/skills", f"{base}/other")), attempt(lambda: open(f"{base}/skills/x", "w")),
    attempt(lambda: open("/workspace/extra/skills/x", "w"))]))
"""
    seen = await lab.ask(source, mounts=mounts)
    assert seen == ['{"hooks": {}}', "a skill", False, False, False, False, False]
    written = claude / "projects" / "x" / "t.jsonl"
    assert written.read_text() == "a transcript"
    assert (written.stat().st_uid, written.stat().st_gid) == lab.runtime.owner
    assert settings.read_text() == '{"hooks": {}}'


@pytest.mark.parametrize("dangling", [True, False])
async def test_a_link_that_an_agent_has_left_is_not_followed(lab: Lab, dangling: bool) -> None:
    # threat L9, invariant 152: the place of a nested mount is made by us
    claude = lab.folder("claude")
    victim = lab.home / "victim"
    if not dangling:
        victim.write_text("the host's")
    (claude / "settings.json").symlink_to(victim)
    settings = lab.home / "settings.json"
    settings.write_text("{}")
    mounts = (
        Mount(claude, "/home/agent/.claude", writable=True),
        Mount(settings, "/home/agent/.claude/settings.json"),
    )
    with pytest.raises(SpawnFailed, match=r"settings\.json"):
        async with lab.open(lab.python("", mounts=mounts)):
            pass
    assert victim.exists() is not dangling


async def test_the_gateway_is_reached_from_a_home_with_a_very_long_path(
    runtime_name: str, tmp_path: Path, agent_image: str
) -> None:
    # decision 14; threat R3
    home = tmp_path / ("h" * 100) / ("h" * 100)
    home.mkdir(parents=True)
    async with (
        open_lab(runtime_name, home, image=agent_image) as lab,
        trio.open_nursery() as nursery,
    ):
        folder = Home(home).gateway(RunId("0" * 16))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "gateway.sock"
        path.unlink(missing_ok=True)
        listening = trio.socket.socket(trio.socket.AF_UNIX)
        await listening.bind(str(path))
        path.chmod(0o666)
        listening.listen()

        async def greet(stream: trio.SocketStream) -> None:
            async with stream:
                await stream.send_all(b"welcome")

        nursery.start_soon(trio.serve_listeners, greet, [trio.SocketListener(listening)])
        source = """
import json, socket
s = socket.socket(socket.AF_UNIX); s.connect("/run/pynchy/gateway.sock")
print(json.dumps(s.recv(100).decode()))
"""
        assert await lab.ask(source, gateway_dir=folder) == "welcome"
        nursery.cancel_scope.cancel()
    path.unlink()
    folder.rmdir()


# --- limits ------------------------------------------------------------------------------------------


async def test_a_fork_bomb_meets_a_limit_and_kill_ends_it(lab: Lab) -> None:
    # threat X1 S5, invariant 81
    if not (await lab.runtime.limits_held())["pids"]:
        pytest.skip("no pids limit on this machine")
    marker = f"bomb-{lab.install}"
    source = f"""
import os, sys, time
count = 0
try:
    while True:
        if os.fork() == 0:
            os.setsid()
            os.execvp("sleep", ["sleep", "1000"]) if count % 2 else time.sleep(1000)
        count += 1
except OSError: print(count, "{marker}", flush=True)
time.sleep(1000)
"""
    spec = lab.python(source, limits=Limits(pids=60))
    async with lab.open(spec) as container:
        count = int((await line(container)).split()[0])
        assert 30 < count < 60
        assert living(marker)
        container.kill()
        assert await container.wait() == 137
    assert living(marker) == []


async def test_a_memory_hog_ends_alone(lab: Lab) -> None:
    # threat X2
    held = (await lab.runtime.limits_held())["memory"]
    if not held:
        pytest.skip("no memory limit on this machine")
    spec = lab.python(
        "hog = []\nwhile True: hog.append(bytearray(1 << 20))", limits=Limits(memory_bytes=64 << 20)
    )
    async with lab.open(spec) as container:
        code = await container.wait()
    if held.startswith("cgroup"):
        assert code == 137
    else:  # each process by itself: Python is told, and says so
        assert b"MemoryError" in container.stderr_tail()


# --- the end -----------------------------------------------------------------------------------------


async def test_a_double_fork_in_a_session_of_its_own_is_gone_too(lab: Lab) -> None:
    # threat S5, invariant 81
    marker = f"stray-{lab.install}"
    source = f"""
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print("{marker}", flush=True)
        while True: time.sleep(1000)
    os._exit(0)
os.wait()
time.sleep(0.2)
"""
    async with lab.open(lab.python(source)) as container:
        assert await line(container) == marker.encode()
        assert living(marker)
        assert await container.wait() == 0
    assert living(marker) == []
    assert await lab.runtime.list() == []


async def test_closing_stdin_is_asking_first_and_term_comes_second(lab: Lab) -> None:
    # invariant 81, 110
    marker = f"polite-{lab.install}"
    source = f"""
import signal, sys, time
def bye(*_):
    open("/workspace/group/said", "a").write("term ")
    sys.exit(0)
signal.signal(signal.SIGTERM, bye)
print("{marker}", flush=True)
sys.stdin.read()
open("/workspace/group/said", "a").write("eof ")
while True: time.sleep(1000)
"""
    async with lab.open(lab.python(source), grace=0.5) as container:
        await line(container)
    assert (lab.group / "said").read_text() == "eof term "
    assert living(marker) == []


async def test_one_that_will_not_go_is_killed(lab: Lab) -> None:
    # threat S5, invariant 81, 82
    marker = f"stubborn-{lab.install}"
    source = f"""
import signal, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE): signal.signal(number, signal.SIG_IGN)
print("{marker}", flush=True)
while True: time.sleep(1000)
"""
    async with lab.open(lab.python(source), grace=0.1) as container:
        await line(container)
    assert await container.wait() == 137
    assert living(marker) == []
    assert await lab.runtime.list() == []


async def test_a_cancelled_block_leaves_nothing(lab: Lab) -> None:
    marker = f"cancelled-{lab.install}"
    with trio.CancelScope() as scope:
        async with lab.open(
            lab.python(f"print('{marker}', flush=True); input()"), grace=1000
        ) as container:
            await line(container)
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert living(marker) == []
    assert await lab.runtime.list() == []


async def test_cancelled_while_it_starts_it_leaves_nothing(lab: Lab) -> None:
    # threat D10
    for delay in (0.0, 0.005, 0.02, 0.06, 0.15):
        with trio.move_on_after(delay):
            async with lab.open(lab.python("input()"), grace=1000):
                await trio.sleep_forever()
        assert await lab.runtime.list() == []


async def test_a_daemon_that_is_killed_leaves_nothing_that_cannot_be_found(
    lab: Lab, runtime_name: str, tmp_path: Path, agent_image: str
) -> None:
    # threat X11, invariant 34, 82, 83
    marker = f"orphan-{lab.install}"
    source = f"""
import signal, sys, time
print("{marker}", flush=True)
sys.stdin.read()
while True: time.sleep(1000)
"""
    argv = daemon_like(
        runtime_name, lab.home, image=agent_image, install=lab.install, source=source
    )
    root = Path(__file__).resolve().parents[2]
    daemon = await trio.lowlevel.open_process(argv, stdout=subprocess.PIPE, cwd=root)
    assert daemon.stdout is not None
    heard = b""
    while b"\n" not in heard:
        heard += await daemon.stdout.receive_some(1000)
    name, said = heard.decode().split()
    assert said == marker
    assert await lab.runtime.list() == [name]
    daemon.send_signal(signal.SIGKILL)
    await daemon.wait()
    if runtime_name == "bwrap":
        while living(marker):  # without anybody's doing; the guard is the lab's
            await trio.sleep(0.01)
    else:
        assert await lab.runtime.list() == [name]
        other = await open_other_install(runtime_name, tmp_path, agent_image)
        assert name not in await other.runtime.list()
        await lab.runtime.remove(name)
    assert await lab.runtime.list() == []
    assert living(marker) == []
    await lab.runtime.remove(name)  # again: no error


async def open_other_install(runtime_name: str, tmp_path: Path, image: str) -> Lab:
    async with open_lab(runtime_name, tmp_path / "other", image=image) as lab:
        return lab


# --- failures ----------------------------------------------------------------------------------------


async def test_a_folder_that_is_not_there_is_told_at_once(lab: Lab) -> None:
    # invariant 95
    mount = Mount(lab.home / "missing", "/workspace/extra/x")
    with pytest.raises(SpawnFailed, match="missing"):
        async with lab.open(lab.python("", mounts=(mount,))):
            raise AssertionError
    assert not mount.source.exists(), "an engine makes nothing on the host"
    assert await lab.runtime.list() == []


async def test_a_command_that_is_not_there_ends_the_run(lab: Lab) -> None:
    # threat S5
    async with lab.open(lab.spec("no-such-command")) as container:
        assert await everything(container) == b""
        assert await container.wait() != 0
    assert container.stderr_tail(), "somebody says why"
    assert await lab.runtime.list() == []


def a_skill(home: Home, group: GroupId) -> Mapping[str, Path]:
    """One of the owner's own."""
    own = home.skills(group) / "a-skill"
    own.mkdir(parents=True)
    (own / "SKILL.md").write_text("how")
    return skills.offered(home, group, ours=None, browser=False)


@pytest.mark.parametrize("main", [False, True])
async def test_a_groups_folders_can_be_read_and_written_as_they_should(
    lab: Lab, main: bool
) -> None:
    # decision 14: a root daemon's folders are the agent's, or it could not enter them
    home = Home(lab.home / "pynchy")
    home.make()
    name = GroupId("main" if main else "family")
    group = Group(folder=name, name=name, trigger="x", requires_trigger=True, is_main=main)
    mounts = folders.prepare(home, group, owner=lab.runtime.owner, skills=a_skill(home, name))
    source = """
import json, os
def lists(path):
    try: return bool(os.listdir(path)) or not path.endswith("/groups")  # an image may have an empty one
    except OSError: return False
def writes(path):
    try: open(path + "/x", "w").close(); return True
    except OSError: return False
places = ["group", "global", "media", "groups", "ipc/commands"]
paths = ["/workspace/" + p for p in places] + ["/home/agent/.claude"]
skills = "/home/agent/.claude/skills"
assert os.listdir(skills) == ["a-skill"] and os.listdir(skills + "/a-skill") == ["SKILL.md"]
assert not writes(skills) and not writes(skills + "/a-skill")
print(json.dumps([[p for p in paths if lists(p)], [p for p in paths if writes(p)]]))
"""
    run = os.urandom(8).hex()
    spec = Spec(
        name=f"pynchy-{lab.install}-{run}",
        run=run,
        install=lab.install,
        image=None,
        command=("python3", "-c", source),
        mounts=mounts,
        gateway_dir=lab.gateway,
    )
    async with lab.open(spec) as container:
        listed, written = json.loads(await everything(container))
    always = ["/workspace/group", "/workspace/global", "/workspace/media"]
    tail = ["/workspace/ipc/commands", "/home/agent/.claude"]
    assert listed == [*always, *(["/workspace/groups"] if main else []), *tail]
    assert written == ["/workspace/group", *(["/workspace/global"] if main else []), *tail]
