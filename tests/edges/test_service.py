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
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import attrs
import pytest

from pynchy.config.paths import Home
from pynchy.container.spec import ENGINE_NAMES, client_environ
from pynchy.daemon import service_files

PYTHON = Path("/opt/my python/bin/python3")
HOME = Path("/home/100% me/$x")
ENVIRON = {"PATH": "/usr/bin", "DOCKER_HOST": "unix:///run/user/1000/docker.sock", "EDITOR": "ed"}


def test_the_unit_says_what_it_must() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[method-assign,assignment]  # as the documentation says
    unit.read_string(service_files.systemd_unit(python=PYTHON, home=HOME, environ=ENVIRON))
    told = unit["Service"]
    assert shlex.split(told["ExecStart"]) == [str(PYTHON), "-P", "-m", "pynchy", "run"]
    assert told["RestartPreventExitStatus"] == "69 78"
    assert (told["Type"], told["Delegate"]) == ("notify", "yes")
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"  # it slows down, and never gives up
    assert f'Environment="{service_files.SERVICE}=systemd"' in unit_text()
    assert 'Environment="DOCKER_HOST=unix:///run/user/1000/docker.sock"' in unit_text()
    assert "EDITOR" not in unit_text()
    text = service_files.systemd_unit(python=PYTHON, home=HOME, environ=ENVIRON)
    assert 'Environment="PYNCHY_HOME=/home/100%% me/$x"' in text


def unit_text() -> str:
    return service_files.systemd_unit(python=PYTHON, home=HOME, environ=ENVIRON)


def test_crashes_slow_the_next_starts_down_and_an_hour_later_they_are_forgotten(
    tmp_path: Path,
) -> None:
    starts = tmp_path / "run" / "starts"
    now = 1_790_000_000.0
    waits = [service_files.slow_down(starts, now=now + number) for number in range(12)]
    assert waits[:6] == [0, 0, 0, 5, 10, 20]
    assert waits[-1] == service_files.LONGEST == max(waits)
    assert service_files.slow_down(starts, now=now + 3700) == 0
    starts.write_text("not\na number")
    assert service_files.slow_down(starts, now=now) == 0
    assert service_files.wait_before([now + 10] * 9, now=now) == 0  # the clock was set back


def test_a_start_by_a_manager_is_noted_until_it_ends_in_order(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    environ = {
        "PYNCHY_HOME": str(home.root),
        "PATH": os.environ["PATH"],
        "PYNCHY_CONTAINER_ENGINE": "bwrap",
        service_files.SERVICE: "1",
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
        service_files.systemd_unit(python=PYTHON, home=Path("/a\nExecStartPre=/bad"), environ={})


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / service_files.UNIT
    unit.write_text(
        service_files.systemd_unit(python=Path("/bin/true"), home=HOME, environ=ENVIRON)
    )
    seen = subprocess.run(
        ["systemd-analyze", "verify", "--user", str(unit)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert service_files.UNIT not in seen.stderr


def test_the_plist_says_what_it_must() -> None:
    told = plistlib.loads(service_files.launchd_plist(python=PYTHON, home=HOME, environ=ENVIRON))
    assert told["ProgramArguments"] == [str(PYTHON), "-P", "-m", "pynchy", "run"]
    assert told["KeepAlive"] == {"SuccessfulExit": False}
    assert told["ProcessType"] == "Interactive"  # others are throttled, with all that they start
    assert told["ExitTimeOut"] == service_files.STOP
    assert told["EnvironmentVariables"]["DOCKER_HOST"] == ENVIRON["DOCKER_HOST"]
    patient = service_files.launchd_plist(python=PYTHON, home=HOME, environ=ENVIRON, stop=630.0)
    assert plistlib.loads(patient)["ExitTimeOut"] == 630
    assert told["EnvironmentVariables"]["PYNCHY_HOME"] == str(HOME)


def test_where_memory_runs_out_the_daemon_goes_on() -> None:
    unit = service_files.systemd_unit(python=PYTHON, home=HOME, environ=ENVIRON).splitlines()
    assert {"OOMScoreAdjust=100", "OOMPolicy=continue"} <= set(unit)


def test_nobody_at_the_screen_of_a_mac_is_said() -> None:
    calls = service_files.calls(Path("/x.plist"), platform="darwin", uid=501).start
    assert calls[-1].argv == ("launchctl", "bootstrap", "gui/501", "/x.plist")
    assert "nobody is logged in" in calls[-1].hints[125]


@attrs.define(eq=False)
class Mac:
    """What a person does on a Mac, with a launchctl that behaves like the real one."""

    folder: Path

    @property
    def home(self) -> Home:
        return Home(self.folder / "home")

    @property
    def launchd(self) -> Path:
        return self.folder / "launchd"

    def service(self, *argv: str, exits: int = 0) -> str:
        as_mac = "import pynchy.cli.service as s; s.PLATFORM = 'darwin'; s.command()"
        done = subprocess.run(
            [sys.executable, "-c", as_mac, *argv],
            env={
                "HOME": str(self.folder),
                "PYNCHY_HOME": str(self.home.root),
                "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
                "LAUNCHD": str(self.launchd),
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == exits, done.stdout + done.stderr
        return done.stdout + done.stderr

    def pid(self) -> int:
        return int((self.launchd / "pid").read_text())


@pytest.fixture
def mac(tmp_path: Path) -> Iterator[Mac]:
    made = Mac(tmp_path)
    for folder in (made.launchd, tmp_path / "bin", made.home.root):
        folder.mkdir(mode=0o700)
    program = tmp_path / "bin" / "launchctl"
    fake = Path(__file__).with_name("fake_launchctl.py")
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {fake} "$@"\n')
    program.chmod(0o755)
    made.home.config.write_text('[model]\noffline = true\n[container]\nengine = "bwrap"\n')
    yield made
    with suppress(OSError, ValueError):
        os.kill(made.pid(), signal.SIGKILL)


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac has the real one")
def test_a_launch_agent_is_installed_restarted_in_order_and_removed(mac: Mac) -> None:
    assert "it is running" in mac.service("install")  # waited for: launchd itself does not say
    first = mac.pid()
    mac.service("status")

    # Again, while the first takes its time to end: a second that holds everything it needs.
    log = mac.home.log
    (mac.launchd / "disabled").touch()  # as somebody's `launchctl disable` leaves it
    assert "it is running" in mac.service("restart")
    assert mac.pid() != first
    assert log.read_text().count("stopping: SIGTERM") == 1
    assert log.read_text().count("stopped") == 1

    # Nobody rotates what launchd keeps, so the log is not in it; a start shortens it.
    kept = service_files.errors_of(mac.home.root)
    assert "ready: " in log.read_text()
    assert "ready: " not in kept.read_text()
    with kept.open("a") as file:
        file.write("x" * 2_000_000)
    mac.service("restart")
    assert kept.stat().st_size < 10_000

    mac.service("stop")
    assert "it is not running" in mac.service("status", exits=4)
    assert "it is running" in mac.service("start")
    assert "it is already running" in mac.service("start")
    assert "OFFLINE" in mac.service("logs")
    assert "removed" in mac.service("uninstall")
    assert service_files.installed(mac.folder, {}, platform="darwin") is None
    assert log.read_text().count("stopping: SIGTERM") == 4
    assert "kickstart" not in (mac.launchd / "asked").read_text()


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac has the real one")
def test_a_launch_agent_that_does_not_come_up_says_why(mac: Mac) -> None:
    mac.home.config.write_text("[assistant]\nname = 7\n")
    assert "assistant.name" in mac.service("install", exits=1)


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
    for code, told in ((0, "it keeps running after you log out"), (1, "it stops when you log out")):
        may_linger(code)
        installed = run("install")
        assert installed.returncode == 0
        assert told in installed.stdout
    unit = service_files.installed(tmp_path, {}, platform="linux")
    assert unit is not None
    asked = log.read_text().splitlines()
    assert asked == 2 * [
        "--user show --property=UnitPath --value",
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
    told = service_files.Manager(str(tmp_path / "notify"), 0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(5)
        manager.bind(told.where)
        told.tell("READY=1", "STATUS=für dich", service_files.patience(1.5))
        assert manager.recv(64).decode() == "READY=1\nSTATUS=für dich\nEXTEND_TIMEOUT_USEC=1500000"
    told.tell("READY=1")  # nobody listens any more


def test_no_child_speaks_in_our_name() -> None:
    environ = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid())}
    assert service_files.take_manager(environ) == service_files.Manager("@x", 2.0)
    assert environ == {}
    assert service_files.take_manager(environ) is None
    assert service_files.take_manager(
        {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}
    ) == service_files.Manager("@x", 0)


def test_what_a_service_keeps_of_the_environment_reaches_the_engine() -> None:
    environ = dict.fromkeys([*ENGINE_NAMES, "PATH", "ANTHROPIC_API_KEY"], "x")
    kept = service_files.to_keep(environ)
    assert set(kept) == {*ENGINE_NAMES, "PATH"}
    assert kept.items() <= client_environ(environ).items()


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
                assert manager.recv(256) == b"STATUS=starting\nEXTEND_TIMEOUT_USEC=360000000"
                assert manager.recv(256) == b"READY=1\nSTATUS=ready; the offline model answers"
                assert manager.recv(256) == b"WATCHDOG=1"
                assert manager.recv(256) == b"WATCHDOG=1"
            finally:
                daemon.terminate()
            assert words(manager)[-1] == b"STATUS=stopped"
            assert daemon.wait(30) == 0


def words(manager: socket.socket) -> list[bytes]:
    """What is said while a daemon stops, but for its signs of life, up to its last word."""
    said: list[bytes] = []
    while not said or said[-1] != b"STATUS=stopped":
        if (word := manager.recv(256)) != b"WATCHDOG=1":
            said.append(word)
    assert said[0].startswith(b"STOPPING=1\n")
    return said
