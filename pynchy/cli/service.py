"""`pynchy service`: have the machine keep the daemon alive, by systemd or launchd."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import click

from pynchy import service
from pynchy.cli.client import Failure
from pynchy.exits import Exit
from pynchy.home import Home

_MAC = sys.platform == "darwin"


@click.group()
def command() -> None:
    """Install it as a service of yours: started at boot or login, and again after a crash.

    \b
    pynchy service install
    pynchy service status
    """


@command.command("install")
@click.option("--print", "only_print", is_flag=True, help="Show the file; change nothing.")
@click.option("--no-start", is_flag=True, help="Write the file; do not start it.")
def install(only_print: bool, no_start: bool) -> None:
    """Write the service's file, and start it. Again: write it anew.

    \b
    pynchy service install
    pynchy service install --print
    """
    home = Home.of(os.environ)
    render = _plist if _MAC else _unit
    data = render(Path(sys.executable), home.root, os.environ.get("PATH", os.defpath))
    if only_print:
        click.echo(data.decode(), nl=False)
        return
    path = _place()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    click.echo(f"written: {path}")
    if no_start:
        return
    home.make()
    for each in service.to_install(path, platform=sys.platform, uid=os.getuid()):
        _carry_out(each)
    if (asked := service.to_outlive_logout(platform=sys.platform)) is None:
        return
    try:
        _carry_out(asked)
        click.echo("it goes on when you log out; loginctl disable-linger would change that")
    except Failure:
        click.echo("it ends when you log out; to keep it: sudo loginctl enable-linger $USER")


@command.command("uninstall")
def uninstall() -> None:
    """Stop it, and remove the file. Nothing of PYNCHY_HOME is touched.

    \b
    pynchy service uninstall
    """
    path = _place()
    if not path.exists():
        click.echo("it is not installed")
        return
    for each in service.to_uninstall(platform=sys.platform, uid=os.getuid()):
        _carry_out(each)
    path.unlink()
    click.echo(f"removed: {path}")


@command.command("status")
def status() -> None:
    """What the service manager says of it.

    \b
    pynchy service status
    """
    if not _place().exists():
        raise Failure("it is not installed: pynchy service install", Exit.NOT_RUNNING)
    if _MAC:
        _call("launchctl", "print", f"gui/{os.getuid()}/{service.LABEL}")
    else:
        _call("systemctl", "--user", "--no-pager", "status", service.UNIT)


@command.command("restart")
def restart() -> None:
    """Stop it in order, and start it again.

    \b
    pynchy service restart
    """
    if _MAC:
        _call("launchctl", "kickstart", "-k", f"gui/{os.getuid()}/{service.LABEL}")
    else:
        _call("systemctl", "--user", "restart", service.UNIT)


@command.command("logs")
def logs() -> None:
    """What the service manager kept of its output; pynchy.log has all else.

    \b
    pynchy service logs
    """
    if _MAC:
        _call("tail", "-n", "200", str(Home.of(os.environ).logs / "launchd.log"))
    else:
        _call("journalctl", "--user", "--no-pager", "-n", "200", "-u", service.UNIT)


def _plist(python: Path, home: Path, path: str) -> bytes:
    return service.launchd_plist(python=python, home=home, path=path)


def _unit(python: Path, home: Path, path: str) -> bytes:
    return service.systemd_unit(python=python, home=home, path=path).encode()


def _place() -> Path:
    return service.place(Path.home(), os.environ, platform=sys.platform)


def _call(*argv: str) -> None:
    _carry_out(service.Call(argv))


def _carry_out(asked: service.Call) -> None:
    for attempt in range(10):
        try:
            quiet = subprocess.DEVNULL if asked.expected else None
            done = subprocess.run(asked.argv, check=False, stderr=quiet)
        except FileNotFoundError:
            raise Failure(f"there is no {asked.argv[0]} on this machine", Exit.OURS) from None
        if done.returncode not in asked.again or attempt == 9:
            break
        time.sleep(1.0)
    if done.returncode and done.returncode not in asked.expected:
        raise Failure(f"{' '.join(asked.argv)} failed ({done.returncode})", Exit.OURS)
