"""Seeds that once broke something, each played in every test run. One line each: seed, what it was.

A seed is a world only as long as the world's own code stays the same; what it showed is also told by
a test of its own, where the bug was.
"""

from __future__ import annotations

from typing import Final

SEEDS: Final[dict[int, str]] = {
    20: "a turn given back overtook an older one of its chat that waited for its retry",
    2: "the same, with kills",
    1043: "what a run said after it was given up overtook what is asked again",
}
