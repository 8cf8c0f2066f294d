"""`just torture N`: kill the daemon N times under load, and say what it came to as one line."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.hang_guard import limit
from tests.torture.kills import report, torture, torture_limit


def main() -> None:
    parser = argparse.ArgumentParser(prog="just torture")
    parser.add_argument("kills", type=int, nargs="?", default=200, help="how often (default 200)")
    parser.add_argument(
        "--seed", type=int, default=None, help="of the moments at which it is killed"
    )
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="pynchy-torture-", ignore_cleanup_errors=True) as folder,
        limit(torture_limit(options.kills), f"{options.kills} kills"),
    ):
        account = torture(Path(folder) / "home", options.kills, seed=options.seed)
    print(report(account))
    sys.exit(0 if account.sound else 1)


if __name__ == "__main__":
    main()
