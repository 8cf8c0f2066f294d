"""A real `systemd --user` for a test, and a person with a login on that machine.

The rule that keeps it so: user_manager.sh makes the machine; here it is begun, spoken to and ended.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from pynchy.config.paths import Home
from pynchy.daemon.service_files import UNIT
from tests.end_to_end.house import HANG
from tests.processes import parents

SCRIPT: Final = Path(__file__).with_suffix(".sh")
UID: Final = 4242
DEMANDED: Final = "PYNCHY_TEST_USER_MANAGER"  # where it is set, its absence is a failure
HOME: Final = "/home/owner"


@attrs.define(eq=False)
class Machine:
    """What a person can do there. ``outside``: their home as we see it."""

    outside: Path
    _init: int  # its first process

    @property
    def home(self) -> Home:
        return Home(self.outside / ".pynchy")

    def run(self, *argv: str, exits: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command there, as that person."""
        done = subprocess.run(
            [*self._enter(**more), *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=HANG,
            check=False,
        )
        assert done.returncode == exits, f"{argv}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def _enter(self, **more: str) -> list[str]:
        environ = {
            "HOME": HOME,
            "USER": "owner",
            "LOGNAME": "owner",
            "PATH": "/usr/bin:/bin",
            "XDG_RUNTIME_DIR": f"/run/user/{UID}",
            "TERM": "dumb",
            "TZ": "UTC",
            "PYNCHY_HOME": f"{HOME}/.pynchy",
        } | more
        return [
            *("nsenter", "--target", str(self._init), "--mount", "--cgroup", "--pid"),
            *("setpriv", "--reuid", str(UID), "--regid", str(UID), "--init-groups"),
            *("env", "--chdir", HOME, "--ignore-environment"),
            *(f"{name}={value}" for name, value in environ.items() if value),
        ]

    def pynchy(self, *argv: str, exits: int = 0, **more: str) -> str:
        """What `pynchy` says there, on both of its streams."""
        done = self.run(sys.executable, "-m", "pynchy", *argv, exits=exits, **more)
        return done.stdout + done.stderr

    def asked(self, *argv: str) -> Any:
        return json.loads(self.run(sys.executable, "-m", "pynchy", *argv, "--json").stdout)

    def shown(self, name: str) -> str:
        """A property of the unit."""
        told = self.run("systemctl", "--user", "show", "--property", name, "--value", UNIT)
        return told.stdout.strip()

    def pid(self) -> int:
        """The daemon's, as it is called there."""
        return int(self.shown("MainPID"))

    def kill(self, how: signal.Signals) -> int:
        """Send the daemon a signal from outside of all that manages it; who it was."""
        pid = self.pid()
        self.run("kill", f"-{how.value}", str(pid))
        return pid

    def wait(self, what: Callable[[], bool]) -> None:
        """systemd tells nobody that is not on its bus: look until it is so."""
        deadline = time.monotonic() + HANG
        while not what():
            if time.monotonic() > deadline:
                said = self.run("systemctl", "--user", "show", UNIT).stdout
                raise AssertionError(f"not within {HANG:g} s\n{said}\n{self.said()}")
            time.sleep(0.1)

    def wait_for_change(self, name: str) -> None:
        """Until a property of the unit is not what it was."""
        before = self.shown(name)
        self.wait(lambda: self.shown(name) != before)

    def wait_for_another(self, pid: int) -> None:
        """Until a daemon is ready that is not this one. Both are asked for at once: one may end in between."""

        def came() -> bool:
            asked = ("--property=SubState", "--property=MainPID")
            told = self.run("systemctl", "--user", "show", *asked, UNIT).stdout
            facts = dict(line.split("=", 1) for line in told.splitlines())
            return facts["SubState"] == "running" and facts["MainPID"] not in ("0", str(pid))

        self.wait(came)

    def said(self) -> str:
        """What the journal has, for whoever may read all of it."""
        enter = ["nsenter", "--target", str(self._init), "--mount", "--pid"]
        seen = subprocess.run(
            [*enter, "journalctl", "--quiet", "--no-pager"], capture_output=True, text=True
        )
        return "\n".join(line for line in seen.stdout.splitlines() if " kernel: " not in line)

    def processes(self) -> list[str]:
        """The command lines of that person's processes, but for the manager's."""
        lines = self.run("ps", "-u", str(UID), "-o", "args=").stdout.splitlines()
        return [line for line in lines if "systemd" not in line and not line.startswith("ps ")]


def _why_not() -> str:
    """Why no such machine can be had here; empty if it may be."""
    if sys.platform != "linux" or os.getuid() != 0:
        return "only root on Linux can make one"
    for program in ("/lib/systemd/systemd", "unshare", "nsenter", "setpriv", "systemctl"):
        if shutil.which(program) is None:
            return f"there is no {program}"
    return ""


@contextmanager
def machine(folder: Path, **how: str) -> Iterator[Machine]:
    """A machine for the length of the block, with ``folder`` as the person's home; gone after.

    Where none can be had the test is skipped, or fails if one is demanded.
    """
    if why := _why_not():
        _give_up(why)
    shown = {str(Path(__file__).parents[2]), sys.base_prefix, sys.prefix}
    with subprocess.Popen(
        ["bash", str(SCRIPT), str(folder), *sorted(shown)],
        env=os.environ | how,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            if process.stdout.readline() != "up\n":
                _give_up(process.stderr.read().strip() or "it did not come up")
            yield Machine(folder, _first_of(process.pid))
        finally:
            process.stdin.close()
            process.wait(HANG)


def _give_up(why: str) -> None:
    told = f"no user manager of systemd's can be had here: {why}"
    if os.environ.get(DEMANDED):
        pytest.fail(f"{told}, and {DEMANDED} demands it")
    pytest.skip(told)


def _first_of(outer: int) -> int:
    """The number of the machine's first process: the child of unshare, the child of the script."""
    parent_of = parents()
    (unshare,) = (each for each, parent in parent_of.items() if parent == outer)
    (first,) = (each for each, parent in parent_of.items() if parent == unshare)
    return first
