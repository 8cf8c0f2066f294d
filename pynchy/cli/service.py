"""`pynchy service`: install the daemon as a systemd or launchd service."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from pynchy.cli.client import Failure, open_connection, printable
from pynchy.config import itself
from pynchy.config.paths import Home
from pynchy.config.sources import ConfigError, from_environ
from pynchy.daemon import service_files
from pynchy.daemon.lock import is_held
from pynchy.exits import Exit

PLATFORM: Final = sys.platform
TO_COME: Final = 30.0  # seconds until a launch agent that was started should answer
LINES: Final = 200  # of output, the last
_DEAD: Final = 3  # systemctl status: it does not run


@click.group()
def command() -> None:
    """Manage the user service: started at boot or login, and restarted after a crash.

    \b
    pynchy service install
    pynchy service status
    """


@command.command("install")
@click.option("--print", "only_print", is_flag=True, help="Show the file; change nothing.")
@click.option("--no-start", is_flag=True, help="Write the file; do not start it.")
def install(only_print: bool, no_start: bool) -> None:
    """Install and start the service. Run again to apply changes.

    \b
    pynchy service install
    pynchy service install --print
    """
    home = Home.of(os.environ)
    data = _render(home)
    if only_print:
        click.echo(data.decode(), nl=False)
        return
    path = service_files.places(Path.home(), os.environ, platform=PLATFORM)[0]
    if not no_start:
        path = _reach_manager()
        if is_held(home.lock) and not _runs():
            raise Failure(
                f"a daemon is already running on {home.root}, and not as this service: stop it first",
                Exit.ALREADY_RUNNING,
            )
    home.make()  # launchd makes no folder for what it writes
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    click.echo(f"written: {path}")
    if no_start:
        return
    _start(home, _calls(path).install)
    if (asked := _calls(path).outlive_logout) is None:
        return
    if _ask(asked.argv).returncode == 0:
        click.echo("it keeps running after you log out; loginctl disable-linger undoes that")
    else:
        click.echo(
            "it stops when you log out; to keep it running: sudo loginctl enable-linger $USER"
        )


@command.command("uninstall")
def uninstall() -> None:
    """Stop the service and remove its file. PYNCHY_HOME is kept.

    \b
    pynchy service uninstall
    """
    if (path := _found()) is None:
        click.echo("it is not installed")
        return
    for each in _calls(path).uninstall:
        _carry_out(each)
    path.unlink()
    for each in _calls(path).forget:
        _carry_out(each)
    click.echo(f"removed: {path}")


@command.command("start")
def start() -> None:
    """Start the service, if it is not running.

    \b
    pynchy service start
    """
    path, home = _installed(), Home.of(os.environ)
    if is_held(home.lock) and _runs():
        click.echo("it is already running")
        return
    _start(home, _calls(path).start)


@command.command("stop")
def stop() -> None:
    """Stop the service until `start` or the next boot; for a restore, for example.

    \b
    pynchy service stop && pynchy restore COPY && pynchy service start
    """
    for each in _calls(_installed()).stop:
        _carry_out(each)
    click.echo("stopped; to start it again: pynchy service start")


@command.command("restart")
def restart() -> None:
    """Restart the service, letting running turns finish.

    \b
    pynchy service restart
    """
    _start(Home.of(os.environ), _calls(_installed()).restart)


@command.command("status")
def status() -> None:
    """Show what the service manager reports. Exits with 4 if the service is not running.

    \b
    pynchy service status
    """
    _installed()
    if PLATFORM == "darwin":
        asked = ["launchctl", "print", f"gui/{os.getuid()}/{service_files.LABEL}"]
    else:
        asked = ["systemctl", "--user", "--no-pager", "status", service_files.UNIT]
    seen = _ask(asked, shown=True)
    if seen.returncode:
        if PLATFORM != "darwin" and seen.returncode != _DEAD:
            raise Failure(f"{' '.join(asked)} failed ({seen.returncode})", Exit.OURS)
        raise Failure(f"it is not running{_why(Home.of(os.environ))}", Exit.NOT_RUNNING)


@command.command("logs")
@click.option("-f", "--follow", is_flag=True, help="Go on as it is written; Ctrl-C ends it.")
def logs(follow: bool) -> None:
    """Show the output that the service manager kept; `pynchy logs` has the rest.

    \b
    pynchy service logs
    """
    home = Home.of(os.environ)
    more = ["-f"] if follow else []
    if PLATFORM == "darwin":
        file = service_files.errors_of(home.root)
    else:
        # Not --user: that looks into files of your own, which a journal in memory has not.
        asked = ["journalctl", "--quiet", "--no-pager", "-n", str(LINES), "--user-unit"]
        asked.append(service_files.UNIT)
        seen = _ask(asked)
        if seen.returncode == 0 and seen.stdout.strip():
            if follow:
                _ask([*asked, "-f"], shown=True)
            else:
                click.echo(printable(seen.stdout), nl=False)
            return
        click.echo(f"the journal has nothing of this service; this is {home.log}", err=True)
        file = home.log
    if not file.exists():
        raise Failure(f"there is no {file} yet", Exit.NOT_RUNNING)
    _ask(["tail", "-n", str(LINES), *more, str(file)], shown=True)


def _render(home: Home) -> bytes:
    python, environ = Path(sys.executable), os.environ
    if PLATFORM == "darwin":
        return service_files.launchd_plist(
            python=python, home=home.root, environ=environ, stop=_patience()
        )
    return service_files.systemd_unit(python=python, home=home.root, environ=environ).encode()


def _patience() -> float:
    """Seconds that a stop may take, as things are set now: launchd is told once, systemd each time."""
    try:
        return max(
            service_files.STOP, from_environ(os.environ).limits.stopping + service_files.SLACK
        )
    except ConfigError:  # said by the start itself
        return service_files.STOP


def _found() -> Path | None:
    return service_files.installed(Path.home(), os.environ, platform=PLATFORM)


def _installed() -> Path:
    if (path := _found()) is None:
        raise Failure("it is not installed: pynchy service install", Exit.NOT_RUNNING)
    return path


def _reach_manager() -> Path:
    """Where the manager, which must be there, looks for the file."""
    places = service_files.places(Path.home(), os.environ, platform=PLATFORM)
    if PLATFORM == "darwin":
        return places[0]
    seen = _ask(["systemctl", "--user", "show", "--property=UnitPath", "--value"])
    if seen.returncode:
        raise Failure(
            f"systemd's user manager does not answer ({_last(seen.stderr)}). It runs while "
            "you are logged in, at the screen or by ssh; su and sudo do not count. To have it always: "
            "sudo loginctl enable-linger $USER",
            Exit.OURS,
        )
    known = seen.stdout.split()
    return next((each for each in places if str(each.parent) in known), places[0])


def _runs() -> bool:
    """Whether the manager has a living one, or is about to."""
    if PLATFORM == "darwin":
        return (
            _ask(["launchctl", "print", f"gui/{os.getuid()}/{service_files.LABEL}"]).returncode == 0
        )
    seen = _ask(["systemctl", "--user", "is-active", service_files.UNIT])
    return seen.stdout.strip() in ("active", "activating", "deactivating", "reloading")


def _start(home: Home, calls: Sequence[service_files.Call]) -> None:
    """Carry them out, and see that it comes up. A person asked: crashes of before cost no wait."""
    home.starts.unlink(missing_ok=True)
    try:
        for each in calls:
            _carry_out(each)
        if PLATFORM == "darwin":
            _wait_until_up()
    except Failure as failure:
        raise Failure(f"{failure.message}{_why(home)}", Exit.OURS) from None
    click.echo("it is running")


def _wait_until_up() -> None:
    """launchd does not say when a daemon is ready, nor whether it came to that."""
    deadline = time.monotonic() + TO_COME
    while True:
        try:
            with open_connection():
                return
        except Failure:
            if time.monotonic() > deadline:
                raise Failure("it is not answering", Exit.NOT_RUNNING) from None
            time.sleep(0.2)


def _why(home: Home) -> str:
    """What is known of why it does not run, as the rest of a sentence."""
    if PLATFORM == "darwin":
        file = service_files.errors_of(home.root)
        told = _last(file.read_text(errors="replace")) if file.exists() else ""
    else:
        asked = [
            "systemctl",
            "--user",
            "show",
            "--property=StatusText",
            "--value",
            service_files.UNIT,
        ]
        told = _last(_ask(asked).stdout)
    return f": {told}" if told else "; pynchy service logs may say why"


def _last(text: str) -> str:
    return printable((text.strip().splitlines() or [""])[-1])


def _calls(file: Path) -> service_files.Calls:
    return service_files.calls(file, platform=PLATFORM, uid=os.getuid())


def _carry_out(asked: service_files.Call) -> None:
    for attempt in range(asked.tries):
        done = _ask(asked.argv, shown=not asked.expected)
        if done.returncode not in asked.again or attempt == asked.tries - 1:
            break
        time.sleep(1.0)
    if done.returncode and done.returncode not in asked.expected:
        hint = asked.hints.get(done.returncode, "")
        raise Failure(f"{' '.join(asked.argv)} failed ({done.returncode}){hint}", Exit.OURS)


def _ask(argv: Sequence[str], *, shown: bool = False) -> subprocess.CompletedProcess[str]:
    """Run the manager's own client, and show what it says or keep it."""
    try:
        return subprocess.run(
            argv, check=False, capture_output=not shown, text=True, env=_environ(), errors="replace"
        )
    except FileNotFoundError:
        raise Failure(
            f"there is no {argv[0]} on this machine; have its own service manager run: "
            + shlex.join(itself.argv("pynchy", "run")),
            Exit.OURS,
        ) from None
    except KeyboardInterrupt:  # whoever follows the log has seen enough
        raise SystemExit(Exit.INTERRUPTED) from None


def _environ() -> dict[str, str]:
    """Ours, and where a user's manager is to be found: su and cron do not say it."""
    found = dict(os.environ)
    runtime = Path("/run/user", str(os.getuid()))
    if not found.get("XDG_RUNTIME_DIR") and runtime.is_dir():
        found["XDG_RUNTIME_DIR"] = str(runtime)
    return found
