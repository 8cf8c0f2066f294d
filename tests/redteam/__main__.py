"""Every attack of docs/threats.md against the real thing, and what came of it: `just redteam`.

Prints a line for each row: how many tests stand for it and whether they passed, or why there is none; and then
what a hostile agent gained within a minute. Exits with 1 if anything did not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.hang_guard import limit
from tests.redteam.rows import Row, rows
from tests.redteam.siege import besiege
from tests.redteam.watch import OUT


def main() -> int:
    parser = argparse.ArgumentParser(prog="just redteam", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="how long the agent attacks")
    parser.add_argument("--rows", default="", help="only these rows, with commas")
    parser.add_argument("--no-siege", action="store_true", help="no hostile agent")
    asked = parser.parse_args()
    wanted = {each for each in asked.rows.split(",") if each}
    chosen = [row for row in rows() if not wanted or row.id in wanted]
    account = run(chosen)
    sound = report(chosen, account)
    if not asked.no_siege:
        with (
            tempfile.TemporaryDirectory() as folder,
            limit(300.0 + 5.0 * asked.seconds, "the siege"),
        ):
            siege = besiege(Path(folder), asked.seconds)
        print(f"\na hostile agent, in a sandbox of bwrap:\n{siege}")
        sound = sound and not siege.wrong
    return 0 if sound else 1


def run(chosen: list[Row]) -> dict[str, Any]:
    """Run the tests of all rows, each once."""
    nodes = dict.fromkeys(node for row in chosen for node in row.tests)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "account.json"
        argv = [sys.executable, "-m", "pytest", "-q", "-p", "tests.redteam.watch", *nodes]
        if not nodes:
            return {"outcomes": {}, "reasons": {}, "wrong": [], "grown": 0}
        subprocess.run(argv, env={**os.environ, OUT: str(out)}, check=False)
        if not out.exists():
            return {"outcomes": {}, "reasons": {}, "wrong": ["the tests did not run"], "grown": 0}
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return found


def report(chosen: list[Row], account: dict[str, Any]) -> bool:
    counts = {"passed": 0, "by design": 0, "not yet": 0, "not here": 0, "FAILED": 0}
    print()
    for row in chosen:
        word, why = verdict(row, account)
        counts[word] += 1
        print(f"{row.id:4} {word:9} {row.attack[:70]:70}  {why}")
    print(f"\n{len(chosen)} rows: " + ", ".join(f"{n} {word}" for word, n in counts.items()))
    print(f"the process of the tests grew by {account['grown'] / 2**20:.0f} MiB at most in one")
    for each in account["wrong"]:
        print(f"WRONG: {each}")
    return not counts["FAILED"] and not account["wrong"]


def verdict(row: Row, account: dict[str, Any]) -> tuple[str, str]:
    """What became of a row: in a word, and with what to say of it."""
    outcomes = {node: account["outcomes"].get(node, []) for node in row.tests}
    if failed := [node for node, seen in outcomes.items() if "failed" in seen or not seen]:
        return "FAILED", ", ".join(failed)
    passed = [node for node, seen in outcomes.items() if "passed" in seen]
    if passed and row.proof == "test":
        return "passed", f"{len(passed)} tests"
    if row.proof != "test":
        return row.proof, row.why
    reasons = {account["reasons"].get(node, "no test") for node in row.tests} or {"no test"}
    return "not here", "; ".join(sorted(reasons))


if __name__ == "__main__":
    sys.exit(main())
