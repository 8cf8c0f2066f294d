"""Run one program, and end every process that it left behind: started by its path, in a Python of its own.

``python -I -S reaper.py PROGRAM ARGUMENT...`` ends as the program ended, and when nothing of it is left. Its
descendants stay ours wherever they go, since this process inherits each one that loses its parent; so neither a
session of its own nor a second fork lets one outlive the program. SIGTERM ends them all at once.

Only the standard library may be imported: nothing else is found from here.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_SET_CHILD_SUBREAPER = 36  # of prctl(2)
_AWAITED = {signal.SIGTERM, signal.SIGCHLD}


def main(argv: list[str]) -> int:
    """Run ``argv`` to its end and its descendants to theirs; give its wait status."""
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    program = os.posix_spawn(argv[0], argv, os.environ, setsid=True, setsigmask=[])
    status = None
    while status is None and signal.sigwait(_AWAITED) == signal.SIGCHLD:
        status = _reaped(os.WNOHANG).get(program)
    while True:
        for child in _children():
            os.kill(
                child, signal.SIGKILL
            )  # ours until it is reaped, so the number is nobody else's
        ended = _reaped(0)
        if not ended:
            return status or 0
        if status is None:
            status = ended.get(program)


def _reaped(options: int) -> dict[int, int]:
    """The children that have ended, with their status: all that have, or with no options one, waited for."""
    ended: dict[int, int] = {}
    try:
        while options or not ended:
            child, status = os.waitpid(-1, options)
            if child == 0:
                break
            ended[child] = status
    except ChildProcessError:
        pass
    return ended


def _children() -> list[int]:
    """Our own children, the orphans among them included."""
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - to import pathlib takes longer than all else here
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    state, parent = file.read().rpartition(b")")[2].split()[:2]
            except OSError:  # it has ended
                continue
            if int(parent) == os.getpid() and state != b"Z":
                found.append(int(name))
    return found


def _end_like(status: int) -> None:
    """End this process as the program ended."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.kill(os.getpid(), -code)
    os._exit(abs(code))


if __name__ == "__main__":
    _end_like(main(sys.argv[1:]))
