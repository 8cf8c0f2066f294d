"""How `pynchy` ends: every exit code, in the one place they are documented.

systemd does not restart after 69 and 78 (``RestartPreventExitStatus``): only a person can help there.
"""

from enum import IntEnum


class Exit(IntEnum):
    """What a program that called us may rely on."""

    OK = 0, "done"
    OURS = 1, "a bug or a failure of ours; the log says more"
    USAGE = 2, "the command line was wrong"
    NO_ANSWER = 3, "no answer came in time; what was asked may be done all the same"
    NOT_RUNNING = 4, "the daemon is not running, or went away"
    TURN_FAILED = 5, "the agent failed to answer, and will not try again"
    NO_RUNTIME = 69, "nothing on this machine can hold an agent"
    STORE = 73, "the database cannot be opened or written"
    ALREADY_RUNNING = 75, "another daemon runs on this home"
    CONFIG = 78, "the configuration or the credential is missing or wrong"
    INTERRUPTED = 130, "Ctrl-C on a terminal; all was stopped in order"

    meaning: str

    def __new__(cls, code: int, meaning: str) -> "Exit":
        self = int.__new__(cls, code)
        self._value_ = code
        self.meaning = meaning
        return self
