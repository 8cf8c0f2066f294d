"""What a service manager is given, read back by parsers, and what it is told."""

import configparser
import os
import plistlib
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pynchy import doctor, service
from pynchy.home import Home

PYTHON = Path("/opt/my python/bin/python3")
HOME = Path("/home/100% me/$x")


def test_the_unit_says_what_it_must() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[method-assign,assignment]  # as the documentation says
    unit.read_string(service.systemd_unit(python=PYTHON, home=HOME, path="/usr/bin"))
    told = unit["Service"]
    assert shlex.split(told["ExecStart"]) == [str(PYTHON), "-m", "pynchy", "run"]
    assert told["RestartPreventExitStatus"] == "69 78"
    assert (told["Type"], told["Delegate"]) == ("notify", "yes")
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"  # it slows down, and never gives up
    assert f"Environment={service.SERVICE}=1" in unit_text()
    text = service.systemd_unit(python=PYTHON, home=HOME, path="/usr/bin")
    assert 'Environment="PYNCHY_HOME=/home/100%% me/$x"' in text


def unit_text() -> str:
    return service.systemd_unit(python=PYTHON, home=HOME, path="/usr/bin")


def test_crashes_slow_the_next_starts_down_and_an_hour_later_they_are_forgotten(
    tmp_path: Path,
) -> None:
    starts = tmp_path / "run" / "starts"
    now = 1_790_000_000.0
    waits = [service.slow_down(starts, now=now + number) for number in range(12)]
    assert waits[:6] == [0, 0, 0, 5, 10, 20]
    assert waits[-1] == service.LONGEST == max(waits)
    assert service.slow_down(starts, now=now + 3700) == 0
    starts.write_text("not\na number")
    assert service.slow_down(starts, now=now) == 0
    assert service.wait_before([now + 10] * 9, now=now) == 0  # the clock was set back


def test_a_start_by_a_manager_is_noted_until_it_ends_in_order(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    environ = {
        "PYNCHY_HOME": str(home.root),
        "PATH": os.environ["PATH"],
        "PYNCHY_CONTAINER_ENGINE": "bwrap",
        service.SERVICE: "1",
    }
    argv = [sys.executable, "-m", "pynchy", "run", "--offline"]
    for how in (signal.SIGKILL, signal.SIGTERM):
        with subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, text=True) as daemon:
            assert daemon.stdout is not None
            assert daemon.stdout.readline() == "ready\n"
            noted = starts_of(home)
            daemon.send_signal(how)
            daemon.wait(60)
    assert noted == 2  # the one that was killed, and this one
    assert starts_of(home) == 0


def starts_of(home: Home) -> int:
    return len(home.starts.read_text().split()) if home.starts.exists() else 0


def test_a_line_end_makes_no_second_setting() -> None:
    with pytest.raises(ValueError, match="cannot be in a unit"):
        service.systemd_unit(python=PYTHON, home=Path("/a\nExecStartPre=/bad"), path="")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / service.UNIT
    unit.write_text(service.systemd_unit(python=Path("/bin/true"), home=HOME, path="/usr/bin"))
    seen = subprocess.run(
        ["systemd-analyze", "verify", "--user", str(unit)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert service.UNIT not in seen.stderr


def test_the_plist_says_what_it_must() -> None:
    told = plistlib.loads(service.launchd_plist(python=PYTHON, home=HOME, path="/usr/bin"))
    assert told["ProgramArguments"] == [str(PYTHON), "-m", "pynchy", "run"]
    assert told["KeepAlive"] == {"SuccessfulExit": False}
    assert told["EnvironmentVariables"]["PYNCHY_HOME"] == str(HOME)


def test_where_memory_runs_out_the_daemon_goes_on() -> None:
    unit = service.systemd_unit(python=PYTHON, home=HOME, path="/usr/bin").splitlines()
    assert {"OOMScoreAdjust=100", "OOMPolicy=continue"} <= set(unit)


def test_a_launch_agent_that_is_loaded_is_taken_out_before_the_new_one() -> None:
    out, in_ = service.to_install(Path("/x.plist"), platform="darwin", uid=501)
    assert out.argv == ("launchctl", "bootout", "gui/501/org.pynchy.daemon")
    assert 3 in out.expected  # none was loaded
    assert in_.argv == ("launchctl", "bootstrap", "gui/501", "/x.plist")
    assert not in_.expected


FAKE_MANAGER = """#!/bin/sh
echo "$*" >>"{log}"
exit {code}
"""


@pytest.mark.skipif(sys.platform == "darwin", reason="systemd's commands")
def test_installing_it_again_takes_effect_and_removing_it_leaves_the_home(tmp_path: Path) -> None:
    programs, log = tmp_path / "bin", tmp_path / "log"
    programs.mkdir()
    manager, login = programs / "systemctl", programs / "loginctl"

    def may_linger(code: int) -> None:
        login.write_text(FAKE_MANAGER.format(log=log, code=code))
        login.chmod(0o755)

    def run(word: str, *, code: int = 0) -> "subprocess.CompletedProcess[str]":
        manager.write_text(FAKE_MANAGER.format(log=log, code=code))
        manager.chmod(0o755)
        return subprocess.run(
            [sys.executable, "-m", "pynchy", "service", word],
            env={
                "HOME": str(tmp_path),
                "PYNCHY_HOME": str(tmp_path / "home"),
                "PATH": f"{programs}:/usr/bin:/bin",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    # invariants 176, 178: it is kept when its user logs out, or it is said that it is not
    for code, told in ((0, "it goes on when you log out"), (1, "it ends when you log out")):
        may_linger(code)
        installed = run("install")
        assert installed.returncode == 0
        assert told in installed.stdout
    unit = service.place(tmp_path, {}, platform="linux")
    assert unit.exists()
    asked = log.read_text().splitlines()
    assert asked == 2 * [
        "--user daemon-reload",
        "--user enable pynchy.service",
        "--user restart pynchy.service",
        "--no-ask-password enable-linger",
    ]
    refused = run("restart", code=1)
    assert refused.returncode == 1
    assert "systemctl --user restart pynchy.service failed (1)" in refused.stderr
    assert run("uninstall").returncode == 0
    assert not unit.exists()
    assert (tmp_path / "home" / "store").is_dir()
    assert run("uninstall").stdout == "it is not installed\n"


def test_the_manager_is_told(tmp_path: Path) -> None:
    where = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(5)
        manager.bind(where)
        service.notify(where, "READY=1")
        assert manager.recv(64) == b"READY=1"
    service.notify(where, "READY=1")  # nobody listens any more
    service.notify("", "READY=1")


def test_no_child_speaks_in_our_name() -> None:
    environ = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid())}
    assert service.take_watchdog(environ) == ("@x", 2.0)
    assert environ == {}
    assert service.take_watchdog(
        {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}
    ) == ("@x", 0)


def test_the_doctor_looks_where_it_is_installed(tmp_path: Path) -> None:
    assert service.place(tmp_path, {}, platform="linux") == tmp_path / doctor.UNIT
    assert service.place(tmp_path, {}, platform="darwin") == tmp_path / doctor.PLIST


def test_a_daemon_tells_its_manager_how_it_is(tmp_path: Path) -> None:
    where = str(tmp_path / "notify")
    environ = {
        "PYNCHY_HOME": str(tmp_path / "home"),
        "PATH": os.environ["PATH"],
        "PYNCHY_CONTAINER_ENGINE": "bwrap",
        "NOTIFY_SOCKET": where,
        "WATCHDOG_USEC": "1000000",
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(30)
        manager.bind(where)
        argv = [sys.executable, "-m", "pynchy", "run", "--offline"]
        with subprocess.Popen(argv, env=environ, stdin=subprocess.DEVNULL) as daemon:
            try:
                assert manager.recv(64) == b"READY=1"
                assert manager.recv(64) == b"WATCHDOG=1"
                assert manager.recv(64) == b"WATCHDOG=1"
            finally:
                daemon.terminate()
            while (word := manager.recv(64)) == b"WATCHDOG=1":
                pass
            assert word == b"STOPPING=1"
            assert daemon.wait(30) == 0
