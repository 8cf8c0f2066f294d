"""Service files for systemd and launchd, and the messages to systemd while running.

The rule that keeps it so: `systemd_unit` and `launchd_plist` only render; a `Manager` is told nothing
unless it asked for it.
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

from pynchy.config import itself
from pynchy.container.spec import ENGINE_NAMES
from pynchy.limits import SERVICES

LABEL: Final = "org.pynchy.daemon"
UNIT: Final = "pynchy.service"
_NOT_LOADED: Final = frozenset({3, 36, 113})  # launchctl: no such process, in progress, unknown
_IN_PROGRESS: Final = frozenset({5, 36, 37})  # launchctl: the one before has not quite ended
_ALL: Final = frozenset(range(256))  # launchctl: whatever it says, it is not there any more
_NOT_FAILED: Final = frozenset({1})  # systemctl: there is no failure to forget
SERVICE: Final = (
    "PYNCHY_SERVICE"  # names the service manager, which starts it again, whatever happens
)
LATELY: Final = SERVICES.lately
FEW: Final = SERVICES.few
FIRST: Final = SERVICES.first
LONGEST: Final = SERVICES.longest
MOST: Final = 20  # starts that are noted
WATCHDOG: Final = SERVICES.watchdog
START: Final = SERVICES.start
STOP: Final = 60  # seconds that a stop may take, if it does not say more
SLACK: Final = 30.0  # seconds of a stop that are not for turns


def to_keep(environ: Mapping[str, str]) -> dict[str, str]:
    """What of a person's environment the daemon needs, and no service manager knows."""
    kept = {name: environ[name] for name in sorted(ENGINE_NAMES) if environ.get(name)}
    return {"PATH": environ.get("PATH", os.defpath), **kept}


def systemd_unit(*, python: Path, home: Path, environ: Mapping[str, str]) -> str:
    """A user unit. No option that implies NoNewPrivileges: rootless engines need newuidmap. No
    PrivateTmp: clients look for the sockets of a long home below /tmp. Where memory runs out an
    agent goes, not the daemon, and the unit goes on: 100 is what the user's manager itself has,
    below the 200 of what it starts. It is started again without end: `wait_before` slows that down."""
    told = {"PYNCHY_HOME": str(home), **to_keep(environ), SERVICE: "systemd"}
    start = " ".join([_quoted(str(python)), *itself.argv("pynchy", "run")[1:]])
    lines = "\n".join(f"Environment={_quoted(f'{k}={v}', dollar='$')}" for k, v in told.items())
    return f"""\
[Unit]
Description=Pynchy, a personal assistant
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={start}
{lines}
Restart=always
RestartSec=5
RestartPreventExitStatus=69 78
TimeoutStartSec={START}
TimeoutStopSec={STOP}
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


def launchd_plist(
    *, python: Path, home: Path, environ: Mapping[str, str], stop: float = STOP
) -> bytes:
    """A launch agent: started at login, and again after a failure. ``stop``: seconds that a stop may take.

    Interactive, since somebody waits for its answers: any other kind is throttled, it and all that it
    starts. What it says on stderr is little (`pynchy.cli.start`), since launchd rotates nothing.
    """
    told = {"PYNCHY_HOME": str(home), **to_keep(environ), SERVICE: "launchd"}
    return plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": itself.argv("pynchy", "run", python=str(python)),
            "EnvironmentVariables": told,
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": 30,
            "ExitTimeOut": round(stop),
            "ProcessType": "Interactive",
            "Umask": 0o077,
            "StandardOutPath": "/dev/null",
            "StandardErrorPath": str(errors_of(home)),
        }
    )


def errors_of(home: Path) -> Path:
    """Where launchd puts what the daemon says on stderr. It makes the file, and not its folder."""
    return home / "logs" / "launchd.log"


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
        for folder in (
            file.parent.parent,
            file.parent,
        ):  # the home may be made here, and is ours alone
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.write_text("".join(f"{start}\n" for start in [*recent, now][-MOST:]), encoding="ascii")
    return wait_before(recent, now=now)


@attrs.frozen
class Call:
    """Something a service manager is asked to do. ``expected``: exit codes that are no failure here;
    ``again``: those after which it is asked once more, a second later, ``tries`` times at most."""

    argv: tuple[str, ...]
    expected: frozenset[int] = frozenset()
    again: frozenset[int] = frozenset()
    tries: int = 10
    hints: Mapping[int, str] = {}


@attrs.frozen
class Calls:
    """What a service manager is asked, in order, for each thing that is done with the service.

    ``install``: a written file takes effect, whether or not one was in effect before. ``stop``: in order, until it is
    started or somebody logs in. ``uninstall``: before its file goes, ``forget``: when it is gone. ``outlive_logout``:
    where the manager needs to be told to keep it when its user logs out; an administrator may have to.
    """

    install: tuple[Call, ...]
    start: tuple[Call, ...]
    stop: tuple[Call, ...]
    restart: tuple[Call, ...]
    uninstall: tuple[Call, ...]
    forget: tuple[Call, ...] = ()
    outlive_logout: Call | None = None


def calls(file: Path, *, platform: str, uid: int) -> Calls:
    """How this platform's manager is asked."""
    return _of_launchd(file, uid) if platform == "darwin" else _SYSTEMD


def _systemctl(*words: str, expected: frozenset[int] = frozenset()) -> Call:
    return Call(("systemctl", "--user", *words), expected)


_START: Final = _systemctl("restart", UNIT)  # one that waits after crashes is started at once, too
_SYSTEMD: Final = Calls(
    install=(_systemctl("daemon-reload"), _systemctl("enable", UNIT), _START),
    start=(_START,),
    stop=(_systemctl("stop", UNIT),),
    restart=(_START,),
    uninstall=(_systemctl("disable", "--now", UNIT),),
    forget=(
        _systemctl("daemon-reload"),
        _systemctl("reset-failed", UNIT, expected=_NOT_FAILED),
    ),
    outlive_logout=Call(("loginctl", "--no-ask-password", "enable-linger")),
)


def _of_launchd(file: Path, uid: int) -> Calls:
    """launchd keeps what it has read, so one that is loaded is taken out before it is loaded again. Not its
    ``kickstart -k``, which kills at once. A launch agent ends with its session: no call can change that."""
    domain, target = f"gui/{uid}", f"gui/{uid}/{LABEL}"
    nobody = "; nobody is logged in at this Mac's screen, where a launch agent runs"
    start = (
        Call(("launchctl", "enable", target)),  # whoever disabled it wants it now
        Call(
            ("launchctl", "bootstrap", domain, str(file)), again=_IN_PROGRESS, hints={125: nobody}
        ),
    )
    stop = (
        Call(("launchctl", "bootout", target), expected=_NOT_LOADED),
        # The answer comes before the end, and until then nothing can be loaded in its place.
        Call(("launchctl", "print", target), expected=_ALL, again=frozenset({0}), tries=90),
    )
    anew = (*stop, *start)
    return Calls(install=anew, start=start, stop=stop, restart=anew, uninstall=stop)


@attrs.frozen
class Manager:
    """Whoever keeps the daemon alive and asked to be told how it is. ``beat``: seconds between two signs
    of life, 0 for none."""

    where: str
    beat: float

    def tell(self, *words: str) -> None:
        """``READY=1``, ``WATCHDOG=1``, ``STOPPING=1``, ``STATUS=…``: all at once. Never fails, never waits."""
        address = "\0" + self.where[1:] if self.where.startswith("@") else self.where
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as teller, suppress(OSError):
            teller.setblocking(False)
            teller.sendto("\n".join(words).encode("utf-8", "replace"), address)

    def starting(self, status: str, wait: float) -> None:
        """A start that waits for something so many seconds is to be given them, whatever the unit says."""
        self.tell(f"STATUS={status}", patience(wait + START))

    def stopping(self, status: str, wait: float) -> None:
        """The same of a stop."""
        self.tell("STOPPING=1", f"STATUS={status}", patience(wait + SLACK))


def take_manager(environ: MutableMapping[str, str]) -> Manager | None:
    """Who is to be told, if anybody. Taken out of the environment, so that no child speaks in our name."""
    where = environ.pop("NOTIFY_SOCKET", "")
    wanted, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    if not where:
        return None
    if not wanted.isdigit() or pid not in ("", str(os.getpid())):
        return Manager(where, 0.0)
    return Manager(where, int(wanted) / 2e6)


def patience(seconds: float) -> str:
    """The word that asks a manager to wait so long, from now on."""
    return f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}"


def places(user_home: Path, environ: Mapping[str, str], *, platform: str) -> list[Path]:
    """Where this platform's service manager looks for the file, the likeliest first. On Linux that is the
    manager's own configuration folder, and whether it knows of our XDG_CONFIG_HOME is for it to say."""
    if platform == "darwin":
        return [user_home / "Library" / "LaunchAgents" / f"{LABEL}.plist"]
    folders = [user_home / ".config"]
    if (named := Path(environ.get("XDG_CONFIG_HOME", ""))).is_absolute() and named not in folders:
        folders.append(named)
    return [folder / "systemd" / "user" / UNIT for folder in folders]


def installed(user_home: Path, environ: Mapping[str, str], *, platform: str) -> Path | None:
    """The file, where one was written."""
    found = places(user_home, environ, platform=platform)
    return next((each for each in found if each.exists()), None)
