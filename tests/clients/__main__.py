"""`just clients`: every program against every way out, as a table. Exits with 1 if one got what it may not have, or did
not get what it may."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.clients.programs import furnish, programs
from tests.clients.rig import MODES, open_rig
from tests.clients.table import Cell, attempt
from tests.internet import open_internet


def main() -> int:
    parser = argparse.ArgumentParser(prog="just clients", description=__doc__)
    parser.add_argument("names", nargs="*", help="only programs whose names begin so")
    parser.add_argument("--verbose", action="store_true", help="also what each wrote")
    asked = parser.parse_args()
    wrong = False
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="pynchy-clients-") as top,
        open_internet(Path(top, "net")) as net,
        open_rig(net, Path(top, "gateways")) as rig,
    ):
        furnish(net)
        print(f"{'':20}" + "".join(f"{mode:22}" for mode in MODES))
        for program in programs():
            if asked.names and not program.name.startswith(tuple(asked.names)):
                continue
            print(f"{program.name:20}", end="", flush=True)
            if not program.is_here:
                print("not on this machine")
                continue
            for mode in MODES:
                cell, output = attempt(rig, program, mode)
                wrong = wrong or cell in (Cell.WRONG, Cell.LEAKED)
                print(f"{cell.value:22}", end="", flush=True)
                if asked.verbose or cell in (Cell.WRONG, Cell.LEAKED):
                    print(f"\n--- {mode}\n{output}\n---")
            print()
    print(f"{time.monotonic() - began:.0f} s")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
