"""What an agent finds in its container: the same in every engine, whichever the host has."""

import errno
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest

from pynchy.container.spec import Limits, Mount
from tests.edges.runtimes import Lab, open_lab


@pytest.fixture
async def lab(runtime_name: str, tmp_path: Path, agent_image: str) -> AsyncIterator[Lab]:
    async with open_lab(runtime_name, tmp_path / "home", image=agent_image) as lab:
        yield lab


PROBE: Final = """
import getpass, grp, json, multiprocessing, os, pwd, resource, shutil, socket, subprocess, sys, time, zoneinfo
from multiprocessing import shared_memory

def said(*argv):
    try: done = subprocess.run(argv, capture_output=True, text=True)
    except OSError as error: return type(error).__name__
    return done.stdout.strip() if done.returncode == 0 else f"{done.returncode}: {done.stderr.strip()}"

def tried(what):
    try: return what()
    except Exception as error: return f"{type(error).__name__}: {error}"

def shared():
    block = shared_memory.SharedMemory(create=True, size=100)
    block.close(), block.unlink()
    with multiprocessing.Lock(): return True

def mount(place):
    for line in reversed(open("/proc/self/mountinfo").readlines()):
        if line.split()[4] == place:
            kind = line.split(" - ")[1].split()[0]
            here = os.statvfs(place)
            flags = {"ro": os.ST_RDONLY, "nosuid": os.ST_NOSUID, "nodev": os.ST_NODEV, "noexec": os.ST_NOEXEC}
            return [kind, here.f_blocks * here.f_frsize, *(n for n, f in flags.items() if here.f_flag & f),
                    oct(os.stat(place).st_mode & 0o7777)]

def writes(folder):
    path = folder + "/.written"
    try: open(path, "w").close()
    except OSError: return False
    os.unlink(path)
    return True

status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
python = subprocess.run(["python3", "-Ic", "import sys; print(sys.prefix); import claude_agent_sdk"],
    capture_output=True, text=True)
own = {"PATH", "PYTHONPATH", "container", "HOSTNAME", "PWD"}  # of the engine, or below
# In bwrap the certificates are this machine's; an image has its own.
own |= {"SSL_CERT_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "REQUESTS_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS",
    "CARGO_HTTP_CAINFO"}
empty = {name for name, value in os.environ.items() if not value}
print(json.dumps({
    "name": [tried(getpass.getuser), said("whoami"), said("id", "-un"), said("id", "-gn"),
             tried(lambda: pwd.getpwuid(os.getuid()).pw_dir)],
    "ids": [os.getuid(), os.getgid(), [gid for gid in os.getgroups() if gid != os.getgid()]],
    "umask": oct(os.umask(0o22)),
    "shared memory": tried(shared),
    "zone": [said("date", "-d", "@1767225600", "+%Z %H"), tried(lambda: str(zoneinfo.ZoneInfo("Asia/Kolkata")))],
    "limits": {name: resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in ("NOFILE", "CORE", "FSIZE")},
    "mounts": {place: mount(place) for place in ("/tmp", "/home/agent", "/home/agent/.claude", "/dev/shm")},
    "writes": [place for place in ("/", "/etc", "/usr", "/dev", "/dev/shm", "/run", "/run/pynchy", "/var/tmp",
        "/workspace", "/sys", "/proc/sys", "/home", "/home/agent", "/home/agent/.claude",
        "/tmp", "/workspace/group") if writes(place)],
    "env": {n: v for n, v in os.environ.items() if v and n not in own},
    "hosts": [socket.gethostname(), tried(lambda: socket.gethostbyname("localhost"))],
    "status": {name: status[name].strip() for name in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")},
    "python": [python.stdout.strip(), "No module named 'claude_agent_sdk'" in python.stderr],
    "programs": [name for name in ("bash", "git", "rg", "curl", "ps", "python3") if not shutil.which(name)],
    "text": ["\\u00fc\\u20ac".encode().decode(), sys.getfilesystemencoding()],
    "init": max(int(pid) for pid in os.listdir("/proc") if pid.isdigit()) < 100,
    "terminal": os.isatty(0) or os.isatty(1),
}))
"""


async def test_an_agent_finds_the_same_in_every_engine(lab: Lab) -> None:
    # invariant 102
    uid, gid = lab.runtime.owner
    seen = await lab.ask(PROBE, env={"TZ": "Asia/Kolkata"}, limits=Limits(tmp_bytes=64 << 20))
    prefix, ours_is_out_of_sight = seen.pop("python")
    if lab.runtime.name != "bwrap":  # whose Python is the one that the host's daemon runs on
        assert prefix in ("/usr", "/usr/local"), "the system's"
        assert ours_is_out_of_sight
    tmpfs = ["tmpfs", 64 << 20, "nosuid", "nodev"]
    assert seen == {
        "name": ["agent", "agent", "agent", "agent", "/home/agent"],
        "ids": [uid, gid, []],
        "umask": "0o22",
        "shared memory": True,
        "zone": ["IST 05", "Asia/Kolkata"],
        "limits": {"NOFILE": [4096, 4096], "CORE": [0, 0], "FSIZE": [1 << 30, 1 << 30]},
        "mounts": {
            "/tmp": [*tmpfs, "0o1777"],
            "/home/agent": [*tmpfs, "0o700"],
            "/home/agent/.claude": [*tmpfs, "0o700"],
            "/dev/shm": [*tmpfs, "0o1777"],
        },
        "writes": [
            *("/dev/shm", "/home/agent", "/home/agent/.claude", "/tmp", "/workspace/group"),
        ],
        "env": {
            "HOME": "/home/agent",
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "CLAUDE_CONFIG_DIR": "/home/agent/.claude",
            "TZ": "Asia/Kolkata",
        },
        "hosts": ["agent", "127.0.0.1"],
        "status": {"CapEff": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2"},
        "programs": [],
        "text": ["ü€", "utf-8"],
        "init": True,
        "terminal": False,
    }


DISKS: Final = ("My Disk", "My Disk/deeper")  # where something is mounted


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A folder below which other file systems are mounted, writable by everyone."""
    if given := os.environ.get("PYNCHY_TEST_MOUNTED"):  # by root, for whoever is not
        for name in DISKS:
            Path(given, name, "word").write_text("the owner's")
        yield Path(given)
        return
    if os.getuid() != 0:
        pytest.skip("only root can mount")
    folder, made = tmp_path / "disks", list[Path]()
    try:
        for place in (folder / name for name in DISKS):
            place.mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=777", "none", place], check=True)
            made.append(place)
            (place / "word").write_text("the owner's")
            (place / "word").chmod(0o666)
        yield folder
    finally:
        for place in reversed(made):
            subprocess.run(["umount", place], check=True)


async def test_a_read_only_mount_is_read_only_where_something_is_mounted_below(
    lab: Lab, mounted: Path
) -> None:
    # threat M11
    words = [f"{place}/word" for place in DISKS]
    source = f"""
import json, os
said = []
for word in {words!r}:
    said.append(open("/workspace/extra/disks/" + word).read())
    try: open("/workspace/extra/disks/" + word, "w").write("the agent's")
    except OSError as error: said.append(error.errno)
print(json.dumps(said))
"""
    seen = await lab.ask(source, mounts=(Mount(mounted, "/workspace/extra/disks"),))
    assert [(mounted / word).read_text() for word in words] == ["the owner's"] * 2
    assert seen == ["the owner's", errno.EROFS] * 2


async def test_what_is_mounted_below_a_writable_mount_stays_writable(
    lab: Lab, mounted: Path
) -> None:
    if os.getuid() == 0:
        os.chown(mounted, *lab.runtime.owner)
    source = "open('/workspace/extra/disks/My Disk/word', 'w').write('changed'); print('{}')"
    await lab.ask(source, mounts=(Mount(mounted, "/workspace/extra/disks", writable=True),))
    assert (mounted / "My Disk" / "word").read_text() == "changed"
