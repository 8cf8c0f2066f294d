"""The daemon as a service of a real `systemd --user`, from its installation until it is removed."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pynchy.daemon.service_files import UNIT
from tests.end_to_end.user_manager import HOME, Machine, machine

SETTINGS = """\
[model]
offline = true
[container]
engine = "bwrap"
[disk]
free = "1m"
free_percent = 0
"""
QUICK = """\
[Service]
RestartSec=0
WatchdogSec=10
TimeoutStopSec=2
"""


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Machine]:
    """Somebody with a login, settings and no service yet."""
    with machine(tmp_path) as made:
        give(made, ".pynchy/config.toml", SETTINGS)
        yield made
        sys.stdout.write(made.said())  # shown where the test has failed


def give(owner: Machine, name: str, text: str) -> Path:
    """A file of the person's own in their home."""
    folder = str(Path(HOME, name).parent)
    owner.run("mkdir", "-p", "-m", "700", folder)
    owner.run("sh", "-c", 'printf %s "$1" >"$2"', "sh", text, str(Path(HOME, name)))
    return owner.outside / name


def hurry(owner: Machine) -> None:
    """The unit's own patience is that of a year; a drop-in, as its user may have one, makes it seconds."""
    give(owner, f".config/systemd/user/{UNIT}.d/quick.conf", QUICK)
    owner.run("systemctl", "--user", "daemon-reload")


def begin(owner: Machine, rest: str) -> None:
    """Have an agent do something that takes its time."""
    (owner.outside / ".pynchy/groups/main/began").unlink(missing_ok=True)
    owner.pynchy("send", "main", f"bash touch began; {rest}", "--wait", "0")


def test_a_service_is_installed_killed_hung_stopped_and_removed(owner: Machine) -> None:
    # Before it is there, every word says so.
    assert "pynchy service install" in owner.pynchy("service", "status", exits=4)
    assert "pynchy service install" in owner.pynchy("service", "start", exits=4)
    said = owner.pynchy("service", "install")
    assert "it is running" in said
    assert "sudo loginctl enable-linger" in said  # there is no logind to ask
    assert owner.shown("ActiveState") == "active"  # READY=1 came: nothing else makes it so
    assert owner.shown("StatusText") == "ready; the offline model answers"
    assert owner.shown("UnitFileState") == "enabled"
    assert "active (running)" in owner.pynchy("service", "status")

    # An agent runs under all that the unit forbids, and has only what it should have.
    assert "4242 /workspace/group" in owner.pynchy("send", "main", "bash echo $(id -u) $PWD")
    unit = owner.outside / ".config/systemd/user" / UNIT

    # Installed again it is the same, and in effect.
    first = owner.pid()
    unit.write_text(unit.read_text() + "# mine\n")
    owner.pynchy("service", "install")
    assert owner.pid() != first
    assert "# mine" not in unit.read_text()

    # Killed in the middle of a turn it comes again, with nobody left of before, and the turn is done.
    hurry(owner)
    owner.pynchy("service", "restart")
    work = owner.outside / ".pynchy/groups/main"
    begin(owner, "until [ -e go ]; do sleep 0.1; done; touch ended")
    owner.wait((work / "began").exists)
    killed = owner.kill(signal.SIGKILL)
    owner.wait_for_another(killed)
    give(owner, ".pynchy/groups/main/go", "")
    owner.wait((work / "ended").exists)
    assert owner.shown("NRestarts") == "1"

    # A loop that goes on says so, and nothing happens to it; one that stands still is noticed by its silence.
    living = owner.pid()
    owner.wait_for_change("WatchdogTimestampMonotonic")
    assert owner.pid() == living
    stopped = owner.kill(signal.SIGSTOP)
    owner.wait_for_another(stopped)
    assert owner.shown("NRestarts") == "2"
    assert "again" in owner.pynchy("send", "main", "bash echo again")

    # A turn gets its time to end, even where the unit is less patient than the settings are.
    begin(owner, "sleep 5; touch late")
    owner.wait((work / "began").exists)
    owner.pynchy("service", "stop")
    assert (work / "late").exists()
    assert owner.shown("Result") == "success"
    assert "it is not running: stopped" in owner.pynchy("service", "status", exits=4)
    assert owner.processes() == []
    assert owner.asked("why", "--unended") == []
    owner.pynchy("service", "start")
    assert owner.shown("ActiveState") == "active"
    assert "it is already running" in owner.pynchy("service", "start")

    assert "ready" in owner.pynchy("service", "logs")
    owner.pynchy("service", "uninstall")
    assert owner.processes() == []
    assert not unit.exists()
    assert owner.shown("LoadState") in ("not-found", "masked")
    left = owner.run("find", f"{HOME}/.config/systemd", "-type", "f", "-o", "-type", "l").stdout
    assert left.split() == [f"{HOME}/.config/systemd/user/{UNIT}.d/quick.conf"]  # the person's own
    assert owner.pynchy("service", "uninstall") == "it is not installed\n"


def test_what_keeps_it_from_starting_is_said_and_it_is_not_tried_for_ever(owner: Machine) -> None:
    broken = SETTINGS + "[assistant]\nname = 7\n"
    settings = give(owner, ".pynchy/config.toml", broken)
    said = owner.pynchy("service", "install", exits=1)
    assert "assistant.name" in said
    assert (owner.shown("ActiveState"), owner.shown("ExecMainStatus")) == ("failed", "78")
    assert "assistant.name" in owner.pynchy("service", "status", exits=4)
    assert owner.shown("NRestarts") == "0"
    settings.write_text(SETTINGS)
    assert "it is running" in owner.pynchy("service", "restart")

    # Crash after crash it waits longer, and says so; whoever asks for it does not wait.
    hurry(owner)
    for _ in range(2):
        owner.wait_for_another(owner.kill(signal.SIGKILL))
    for seconds in ("5", "10", "20"):
        owner.kill(signal.SIGKILL)
        owner.wait(lambda told=f"waits {seconds} s": told in owner.shown("StatusText"))  # type: ignore[misc]
    assert "waits 20 s" in owner.pynchy("service", "status", exits=4)
    assert "it is running" in owner.pynchy("service", "restart")
    assert owner.shown("StatusText") == "ready; the offline model answers"
    assert len(owner.home.starts.read_text().split()) == 1

    # No engine: it waits for one, in its own time, and a stop ends that at once.
    settings.write_text(SETTINGS.replace('"bwrap"', '"docker"') + "[limits]\nengine_wait = 600\n")
    owner.run("systemctl", "--user", "restart", "--no-block", UNIT)
    owner.wait(lambda: "waiting for a container engine" in owner.home.log.read_text())
    owner.pynchy("service", "stop")
    assert owner.shown("Result") == "success"

    # With none at all it ends, and is left alone: the whole reason is one line.
    settings.write_text(SETTINGS + "[limits]\nengine_wait = 0\n")
    nowhere = ".config/systemd/user/pynchy.service.d/nowhere.conf"
    give(owner, nowhere, "[Service]\nRestrictNamespaces=yes\n")
    owner.run("systemctl", "--user", "daemon-reload")
    said = owner.pynchy("service", "start", exits=1)
    assert "no container engine to run agents in: bwrap" in said
    assert (owner.shown("ActiveState"), owner.shown("ExecMainStatus")) == ("failed", "69")


def test_a_daemon_in_a_terminal_is_not_fought_with(owner: Machine) -> None:
    home = f"--setenv=PYNCHY_HOME={HOME}/.pynchy"
    argv = ["systemd-run", "--user", "--quiet", "--service-type=notify", home]
    owner.run(*argv, sys.executable, "-m", "pynchy", "run")
    assert "not as this service" in owner.pynchy("service", "install", exits=75)
    assert not (owner.outside / ".config/systemd").exists()


def test_without_a_login_it_is_said_what_is_missing(owner: Machine) -> None:
    said = owner.pynchy("service", "install", exits=1, XDG_RUNTIME_DIR="/run/nobody")
    assert "su and sudo do not count" in said
    assert not (owner.outside / ".config").exists()
    # Where only the variable is missing, as after su, the manager is found all the same.
    assert "it is running" in owner.pynchy("service", "install", XDG_RUNTIME_DIR="")
    assert "active (running)" in owner.pynchy("service", "status", XDG_RUNTIME_DIR="")


def test_a_shell_with_another_configuration_folder_is_no_obstacle(owner: Machine) -> None:
    named = f"{HOME}/dots"
    assert "it is running" in owner.pynchy("service", "install", XDG_CONFIG_HOME=named)
    assert (owner.outside / ".config/systemd/user" / UNIT).exists()
    assert "active (running)" in owner.pynchy("service", "status", XDG_CONFIG_HOME=named)
    assert "removed" in owner.pynchy("service", "uninstall")
