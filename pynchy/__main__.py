"""The entry point of `pynchy`: picks the command and imports only what it needs.

Exit codes are in `pynchy.exits`. The rule that keeps it so: nothing is imported before it is known to
be needed. ``--version`` needs nothing, and a plain start of the daemon does not need click, which
would take a seventh of the time until it is ready.
"""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from pynchy import __version__
from pynchy.config import cores


def main() -> NoReturn:
    """`pynchy`, and `python -m pynchy`."""
    _open_closed_streams()
    sys.exit(_dispatch(sys.argv[1:]))


def _open_closed_streams() -> None:
    """Let stdin, stdout and stderr that are closed be /dev/null, as if whoever started us had said so.

    Python has None in their place, on which any look at a stream fails. And the next file that is opened,
    the database say, would get the number of the closed one, and with it what is written to that number.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one
            os.set_inheritable(descriptor, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "r" if descriptor == 0 else "w", closefd=False))  # noqa: SIM115 - for as long as we run


def _tell_version() -> int:
    try:
        os.write(1, f"pynchy {__version__}\n".encode())
    except OSError as error:
        sys.stderr.write(f"Error: {error.strerror}\n")
        return 1
    return 0


def _dispatch(arguments: Sequence[str]) -> int:
    if arguments in (["--version"], ["-V"]):
        return _tell_version()
    cores.switch_off()
    match arguments:
        case ["run"]:
            from pynchy.cli.start import start

            return start({})
        case ["run", "--offline"]:
            from pynchy.cli.start import start

            return start({"model.offline": True})
        case _:
            from pynchy.cli.app import pynchy

            pynchy.main(arguments, prog_name="pynchy")  # ends by SystemExit
            raise AssertionError("click came back")


if __name__ == "__main__":
    main()
