"""`just errands`: what a household asks in the first week, each end to end, a line each. Exits with 1 if one fails.

The model is played by a script over real HTTP; all else is real: the daemon, its gateway, the Claude CLI, the
sandboxes, the files. The hosts are an internet of the test's own. Tokens are those sent, about four bytes each.
Spoken words need `.ci/voice just errands`; without them that errand is named as not here.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.conftest import RUNTIMES, runtime_answers
from tests.errands.errands import ERRANDS, carry_out
from tests.errands.household import open_house
from tests.internet import open_internet


def main() -> int:
    parser = argparse.ArgumentParser(prog="just errands", description=__doc__)
    parser.add_argument("names", nargs="*", help="only errands whose names begin so")
    parser.add_argument(
        "--engine", action="append", choices=RUNTIMES, help="every one here, if left out"
    )
    parser.add_argument("--list", action="store_true", help="what they say, and do nothing")
    asked = parser.parse_args()
    chosen = [each for each in ERRANDS if each.name.startswith(tuple(asked.names or [""]))]
    if asked.list:
        for each in chosen:
            print(f"{each.name:20} {each.words}")
        return 0
    engines = asked.engine or [name for name in RUNTIMES if runtime_answers(name)]
    failed = not engines or not chosen
    for engine in engines:
        print(f"{engine}:", flush=True)
        with (
            tempfile.TemporaryDirectory(prefix="pynchy-errands-") as top,
            open_internet(Path(top, "net")) as net,
            open_house(Path(top, "home"), engine, net) as house,
        ):
            for each in chosen:
                outcome = carry_out(house, each)
                failed = failed or (bool(outcome.why) and outcome.is_here)
                print(f"  {outcome.line}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
