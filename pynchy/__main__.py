"""The entry point of `pynchy`: picks the command and imports only what it needs.

Exit codes are in `pynchy.exits`. The rule that keeps it so: nothing is imported before it is known to
be needed. ``--version`` needs nothing, and a plain start of the daemon does not need click, which
would take a seventh of the time until it is ready.
"""

import sys
from collections.abc import Sequence
from typing import NoReturn

from pynchy import __version__
from pynchy.config import cores


def main() -> NoReturn:
    """`pynchy`, and `python -m pynchy`."""
    sys.exit(_dispatch(sys.argv[1:]))


def _dispatch(arguments: Sequence[str]) -> int:
    if arguments in (["--version"], ["-V"]):
        sys.stdout.write(f"pynchy {__version__}\n")
        return 0
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
