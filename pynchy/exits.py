"""Every exit code of `pynchy`, with its meaning.

systemd does not restart after 69 and 78 (``RestartPreventExitStatus``): only a person can help there.
"""

import errno
from enum import IntEnum
from typing import Final


class Exit(IntEnum):
    """What a program that called us may rely on."""

    OK = 0, "done"
    OURS = 1, "a bug or a failure of ours; the log says more"
    USAGE = 2, "the command line was wrong"
    NO_ANSWER = 3, "no answer came in time; what was asked may be done all the same"
    NOT_RUNNING = 4, "the daemon is not running, or went away"
    TURN_FAILED = 5, "the agent failed to answer, and will not try again"
    NO_RUNTIME = 69, "no working sandbox was found"
    STORE = 73, "the database, or the disk it is on, cannot be opened or written"
    ALREADY_RUNNING = 75, "another daemon runs on this home"
    CONFIG = 78, "the configuration or the credential is missing or wrong"
    INTERRUPTED = 130, "Ctrl-C on a terminal; all was stopped in order"

    meaning: str

    def __new__(cls, code: int, meaning: str) -> "Exit":
        self = int.__new__(cls, code)
        self._value_ = code
        self.meaning = meaning
        return self


#: A disk that is full, read-only or broken, and what to do about each.
_DISK: Final = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room: your quota of the disk is used up",
    errno.EROFS: "mount the disk to be written, or set PYNCHY_HOME to a folder that can be",
    errno.EIO: "the disk may be failing: look at the system's log",
}


def of_disk(error: OSError) -> tuple[Exit, str]:
    """The exit code and the sentence for a file or folder that could not be used."""
    where = f"{error.filename}: " if error.filename else ""
    told = f"{where}{error.strerror or error}"
    if (advice := _DISK.get(error.errno or 0)) is not None:
        return Exit.STORE, f"{told}; {advice}"
    if isinstance(error, PermissionError | FileExistsError | NotADirectoryError):
        return Exit.CONFIG, told
    return Exit.OURS, told


def is_of_disk(error: OSError) -> bool:
    """Whether `of_disk` knows the cause, so that it is not a bug of ours."""
    return of_disk(error)[0] is not Exit.OURS
