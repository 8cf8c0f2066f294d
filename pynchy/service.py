"""The files by which a service manager keeps the daemon alive, and the words it is told in between.

The rule that keeps it so: `systemd_unit` and `launchd_plist` only render; `notify` does nothing unless
a service manager asked to be told.
"""

from __future__ import annotations

import os
import plistlib
import socket
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs

LABEL: Final = "org.pynchy.daemon"
UNIT: Final = "pynchy.service"
_NOT_LOADED: Final = frozenset({3, 36, 113})  # launchctl: no such process, in progress, unknown
_IN_PROGRESS: Final = frozenset({5, 36, 37})  # launchctl: the one before has not quite ended
SERVICE: Final = "PYNCHY_SERVICE"  # says that a service manager starts it again, whatever happens
LATELY: Final = 3600.0  # seconds that a crash counts
FEW: Final = 3  # crashes that cost no wait
FIRST: Final = 5.0  # seconds of the first wait; each is twice the one before
LONGEST: Final = 160.0  # within systemd's patience with a start
MOST: Final = 20  # starts that are noted
WATCHDOG: Final = 120  # seconds without a sign of life after which systemd starts it anew


def systemd_unit(*, python: Path, home: Path, path: str) -> str:
    """A user unit. No option that implies NoNewPrivileges: rootless engines need newuidmap. No
    PrivateTmp: clients look for the sockets of a long home below /tmp. Where memory runs out an
    agent goes, not the daemon, and the unit goes on: 100 is what the user's manager itself has,
    below the 200 of what it starts. It is started again without end: `wait_before` slows that down."""
    return f"""\
[Unit]
Description=Pynchy, a personal assistant
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={_quoted(str(python))} -m pynchy run
Environment={_quoted(f"PYNCHY_HOME={home}", dollar="$")}
Environment={_quoted(f"PATH={path}", dollar="$")}
Environment={SERVICE}=1
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
OOMScoreAdjust=100
OOMPolicy=continue

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
            "EnvironmentVariables": {"PYNCHY_HOME": str(home), "PATH": path, SERVICE: "1"},
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


def wait_before(starts: Sequence[float], *, now: float) -> float:
    """How long a start waits after these, which did not end in order. Seconds; none for a rare crash."""
    recent = sum(now - LATELY < start <= now for start in starts)
    return 0.0 if recent < FEW else min(LONGEST, FIRST * 2.0 ** (recent - FEW))


def slow_down(file: Path, *, now: float) -> float:
    """Note this start, and say how long it should wait first; `ended` forgets them."""
    try:
        noted = [float(line) for line in file.read_text(encoding="ascii").split()]
    except (OSError, ValueError):  # none, or half a line of one that died while it wrote
        noted = []
    recent = [start for start in noted if now - LATELY < start <= now]
    with suppress(OSError):  # a home that cannot be written is said by the start itself
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.write_text("".join(f"{start}\n" for start in [*recent, now][-MOST:]), encoding="ascii")
    return wait_before(recent, now=now)


@attrs.frozen
class Call:
    """Something a service manager is asked to do. ``expected``: exit codes that are no failure here;
    ``again``: those after which it is asked once more, a second later, ten times at most."""

    argv: tuple[str, ...]
    expected: frozenset[int] = frozenset()
    again: frozenset[int] = frozenset()


def to_install(file: Path, *, platform: str, uid: int) -> list[Call]:
    """How a written file takes effect, whether or not one was in effect before."""
    if platform == "darwin":
        domain = f"gui/{uid}"
        return [
            # launchd keeps what it has read, so one that is loaded is taken out first; and taking
            # out goes on after the answer, while which a bootstrap is refused.
            Call(("launchctl", "bootout", f"{domain}/{LABEL}"), expected=_NOT_LOADED),
            Call(("launchctl", "bootstrap", domain, str(file)), again=_IN_PROGRESS),
        ]
    return [
        Call(("systemctl", "--user", "daemon-reload")),
        Call(("systemctl", "--user", "enable", UNIT)),
        Call(("systemctl", "--user", "restart", UNIT)),
    ]


def to_outlive_logout(*, platform: str) -> Call | None:
    """How it is kept when its user logs out, where the manager needs to be told. It may be refused:
    then an administrator has to."""
    if platform == "darwin":
        return None  # a launch agent ends with its session; there is no other way for a user's own
    return Call(("loginctl", "--no-ask-password", "enable-linger"))


def to_uninstall(*, platform: str, uid: int) -> list[Call]:
    """How it is stopped for good, before its file goes."""
    if platform == "darwin":
        return [Call(("launchctl", "bootout", f"gui/{uid}/{LABEL}"), expected=_NOT_LOADED)]
    return [Call(("systemctl", "--user", "disable", "--now", UNIT))]


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
