"""A crash leaves no core dump, whatever this machine makes of one, and nobody looks into our memory."""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest

from pynchy.config import itself

HANG = 60.0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="told by Linux's /proc")


def cored(argv: list[str], folder: Path, ready: str, **environ: str) -> tuple[bool, list[str]]:
    """Whether a program leaves a core when it aborts, in a world that wants one, and how large one might be."""

    def wants_cores() -> None:
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))

    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYNCHY_", "ANTHROPIC_"))}
    with subprocess.Popen(
        argv,
        cwd=folder,
        env={**kept, "PYNCHY_HOME": str(folder / "home"), **environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=wants_cores,
        start_new_session=True,
    ) as started:
        assert started.stdout is not None
        _until(started.stdout, folder, ready)
        limits = Path(f"/proc/{started.pid}/limits").read_text()
        os.kill(started.pid, signal.SIGABRT)
        _, status = os.waitpid(started.pid, 0)
        started.returncode = -os.WTERMSIG(status)
    assert started.returncode == -signal.SIGABRT
    (limit,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    return os.WCOREDUMP(status) or bool(list(folder.rglob("core*"))), limit.split()[-3:]


def _until(stdout: IO[bytes], folder: Path, ready: str) -> None:
    """Until it has said a word, or a file is there for who says none."""
    said, deadline = b"", time.monotonic() + HANG
    while ready.encode() not in said and not (folder / ready).exists():
        if select.select([stdout], [], [], 0.05)[0]:
            piece = os.read(stdout.fileno(), 4096)
            assert piece, said
            said += piece
        assert time.monotonic() < deadline, said


def test_a_program_that_does_not_care_leaves_one(tmp_path: Path) -> None:
    """Else the tests below show nothing on this machine."""
    source = "import time; print('up', flush=True); time.sleep(100)"
    if not cored([sys.executable, "-c", source], tmp_path, "up")[0]:
        pytest.skip("this machine lets nobody leave a core")


@pytest.mark.parametrize(
    ("argv", "ready"),
    [
        (["pynchy", "run", "--offline", "--set", "container.engine=bwrap"], "ready"),
        (["pynchy", "web", "--port", "0"], "http://127.0.0.1"),
        (["pynchy.whatsapp.bridge", "{folder}/store"], "store"),
    ],
)
def test_whoever_holds_a_secret_leaves_none(tmp_path: Path, argv: list[str], ready: str) -> None:
    # threat K1, K2
    (tmp_path / "home").mkdir(mode=0o700)
    words = [word.format(folder=tmp_path) for word in argv]
    roomy = {"PYNCHY_DISK_FREE": "1m", "PYNCHY_DISK_FREE_PERCENT": "0"}
    dumped, limit = cored(itself.argv(*words), tmp_path, ready, **roomy)
    assert not dumped
    assert limit == ["0", "0", "bytes"]


def test_another_program_of_this_user_cannot_look_into_our_memory() -> None:
    # threat K2: as another user, if we are root, who may look anywhere
    source = """
import os, sys
from pynchy.files import changes
from pynchy.config import cores
if os.getuid() == 0: os.setgroups([]); os.setgid(61235); os.setuid(61235)
secret = "sk-ant-" + "canary" * 3
print(os.getpid(), flush=True)
sys.stdin.readline()
cores.switch_off()
fd = os.open("/tmp", os.O_RDONLY)
seen = sorted(os.listdir("/proc/self/fd"))[:1], os.readlink(f"/proc/self/fd/{fd}")
print(*seen, changes.refusal() == "", flush=True)
sys.stdin.readline()
"""
    look = """
import os, sys
if os.getuid() == 0: os.setgroups([]); os.setgid(61235); os.setuid(61235)
try: open(f"/proc/{sys.argv[1]}/mem", "rb").close(); print("looked")
except OSError as error: print(error.strerror)
"""

    def seen(pid: str) -> str:
        argv = [sys.executable, "-c", look, pid]
        return subprocess.run(argv, capture_output=True, text=True, timeout=HANG).stdout.strip()

    with subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as ours:
        assert ours.stdout is not None
        assert ours.stdin is not None
        pid = ours.stdout.readline().strip()
        ours.stdin.write("\n")
        ours.stdin.flush()
        assert ours.stdout.readline() == "['0'] /tmp True\n", "it still finds what is its own"
        assert seen(pid) == "Permission denied"
        ours.stdin.write("\n")
        ours.stdin.flush()
        assert ours.wait(HANG) == 0
