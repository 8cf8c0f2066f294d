"""The files by which a service manager keeps the daemon alive, and the words it is told in between.

The rule that keeps it so: `systemd_unit` and `launchd_plist` only render; `notify` does nothing unless
a service manager asked to be told. The standard library alone.
"""

from __future__ import annotations

import os
import plistlib
import socket
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Final

LABEL: Final = "org.pynchy.daemon"
UNIT: Final = "pynchy.service"
WATCHDOG: Final = 120  # seconds without a sign of life after which systemd starts it anew


def systemd_unit(*, python: Path, home: Path, path: str) -> str:
    """A user unit. No option that implies NoNewPrivileges: rootless engines need newuidmap. No
    PrivateTmp: clients look for the sockets of a long home below /tmp."""
    return f"""\
[Unit]
Description=Pynchy, a personal assistant
StartLimitIntervalSec=600
StartLimitBurst=10

[Service]
Type=notify
NotifyAccess=main
ExecStart={_quoted(str(python))} -m pynchy run
Environment={_quoted(f"PYNCHY_HOME={home}", dollar="$")}
Environment={_quoted(f"PATH={path}", dollar="$")}
Restart=always
RestartSec=5
RestartPreventExitStatus=69 78
TimeoutStartSec=300
TimeoutStopSec=60
WatchdogSec={WATCHDOG}
Delegate=yes
KillMode=mixed
UMask=0077
LimitCORE=0

[Install]
WantedBy=default.target
"""


def _quoted(text: str, *, dollar: str = "$$") -> str:
    """One word for systemd, which substitutes in ExecStart alone. Raises ValueError for a line end."""
    if any(ord(char) < 32 for char in text):
        raise ValueError(f"{text!r} cannot be in a unit")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped.replace("$", dollar)}"'


def launchd_plist(*, python: Path, home: Path, path: str) -> bytes:
    """A launch agent: started at login, and again after a failure."""
    return plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": [str(python), "-m", "pynchy", "run"],
            "EnvironmentVariables": {"PYNCHY_HOME": str(home), "PATH": path},
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": 30,
            "ExitTimeOut": 60,
            "ProcessType": "Background",
            "Umask": 0o077,
            "StandardOutPath": "/dev/null",
            "StandardErrorPath": str(home / "logs" / "launchd.log"),
        }
    )


def take_watchdog(environ: MutableMapping[str, str]) -> tuple[str, float]:
    """The socket to notify and the seconds between two signs of life ("" and 0 for none).

    Taken out of the environment, so that no child speaks in our name.
    """
    where = environ.pop("NOTIFY_SOCKET", "")
    wanted, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    if not where or not wanted.isdigit() or pid not in ("", str(os.getpid())):
        return where, 0.0
    return where, int(wanted) / 2e6


def notify(where: str, word: str) -> None:
    """Tell the service manager ``READY=1``, ``WATCHDOG=1`` or ``STOPPING=1``. Never fails, never waits."""
    if not where:
        return
    address = "\0" + where[1:] if where.startswith("@") else where
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as teller:
        teller.setblocking(False)
        try:
            teller.sendto(word.encode("ascii"), address)
        except OSError:
            return


def place(user_home: Path, environ: Mapping[str, str], *, platform: str) -> Path:
    """Where this platform's service manager looks for the file."""
    if platform == "darwin":
        return user_home / "Library" / "LaunchAgents" / f"{LABEL}.plist"
    config = Path(environ.get("XDG_CONFIG_HOME") or user_home / ".config")
    return config / "systemd" / "user" / UNIT
