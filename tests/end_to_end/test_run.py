"""`pynchy run` as it is started: on a terminal, without one, and where it cannot be."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from pynchy.config.paths import Home
from tests.terminal import terminal

BWRAP = {"PYNCHY_CONTAINER_ENGINE": "bwrap"}


def environment(home: Home, **more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYNCHY_HOME": str(home.root), **BWRAP, **more}


def pynchy(home: Home, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pynchy", *arguments],
        env=environment(home, **more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def started(home: Home) -> Iterator["subprocess.Popen[str]"]:
    """A daemon without a terminal, its stdin closed, that has said it is ready."""
    process = subprocess.Popen(
        [
            "/bin/sh",
            "-c",
            'exec "$@" <&-',
            "sh",
            sys.executable,
            "-m",
            "pynchy",
            "run",
            "--offline",
        ],
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.mark.runtime("bwrap")
def test_without_a_terminal_it_is_ready_and_runs_until_a_signal(
    home: Home, runtime_name: str
) -> None:
    with started(home) as daemon:
        assert pynchy(home, "status").returncode == 0
        second = pynchy(home, "run", "--offline")  # invariant 32
        assert (second.returncode, second.stdout) == (75, "")
        assert f"process {daemon.pid}" in second.stderr
        assert pynchy(home, "status").returncode == 0  # the first has not noticed
        daemon.send_signal(signal.SIGTERM)
        rest, err = daemon.communicate(timeout=60)
    assert (daemon.returncode, rest) == (0, "")
    assert "OFFLINE MODEL" in err
    assert not home.control_socket.exists()
    assert pynchy(home, "status").returncode == 4
    assert "ready" in home.log.read_text()


@pytest.mark.runtime("bwrap")
def test_a_killed_daemon_is_followed_by_the_next(home: Home, runtime_name: str) -> None:
    with started(home) as daemon:
        daemon.send_signal(signal.SIGKILL)
        daemon.wait(60)
    assert pynchy(home, "status").returncode == 4  # its socket is there, and says nothing
    with started(home):
        assert pynchy(home, "status").returncode == 0


def test_a_home_it_cannot_use_is_said_with_its_exit_code(home: Home, tmp_path: Path) -> None:
    home.store.mkdir(parents=True)
    home.database.write_bytes(b"no database " * 1000)
    broken = pynchy(home, "run", "--offline")
    assert broken.returncode == 73
    assert broken.stderr.splitlines()[-1].startswith("pynchy: ")
    (tmp_path / "file").write_text("")
    assert pynchy(Home(tmp_path / "file"), "run", "--offline").returncode == 78


def test_a_machine_that_cannot_hold_an_agent_is_said_with_what_to_install(home: Home) -> None:
    done = pynchy(home, "run", "--offline", PYNCHY_CONTAINER_ENGINE="docker", PATH="/nonexistent")
    assert done.returncode == 69
    assert "docker" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.runtime("bwrap")
async def test_on_a_terminal_it_talks_and_stops_with_the_chat(
    home: Home, runtime_name: str
) -> None:
    with trio.fail_after(120):
        async with terminal(home, "run", **BWRAP) as screen:
            banner = await screen.sees("OFFLINE MODEL")
            await screen.sees("you> ", after=banner)
            await screen.types("echo it works\r")
            typed = await screen.sees("echo it works")
            await screen.sees("it works", after=typed)
            await screen.types("/quit\r")
            assert await screen.ended() == 0
    assert b"Traceback" not in screen.seen
    assert pynchy(home, "status").returncode == 4


@pytest.mark.runtime("bwrap")
async def test_ctrl_c_stops_both(home: Home, runtime_name: str) -> None:
    with trio.fail_after(120):
        async with terminal(home, "run", **BWRAP) as screen:
            await screen.sees("you> ")
            await screen.types("\x03")
            assert await screen.ended() == 130
    assert pynchy(home, "status").returncode == 4


@pytest.mark.runtime("bwrap")
@pytest.mark.parametrize("victim", ["chat", "daemon"])
async def test_when_one_is_ended_the_other_ends_too(
    home: Home, runtime_name: str, victim: str
) -> None:
    with trio.fail_after(120):
        async with terminal(home, "run", **BWRAP) as screen:
            await screen.sees("you> ")
            if victim == "daemon":
                screen.process.send_signal(signal.SIGTERM)
            else:
                listed = await trio.run_process(
                    ["pgrep", "-f", "-P", str(screen.process.pid), "pynchy chat"],
                    capture_stdout=True,
                )
                os.kill(int(listed.stdout), signal.SIGHUP)
            assert await screen.ended() == 0
    assert pynchy(home, "status").returncode == 4
