"""The door of the container: takes stdin and stdout for the wire, then runs the agent.

Whatever else this process or its children print lands on stderr: the two descriptors are moved away before anything
is imported that could write to them.
"""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run one agent from its `start` line to its end; the exit code says how it ended."""
    lines, frames = _take_stdio()
    import trio

    from pynchy_agent import runner

    return trio.run(runner.main, lines, frames, runner.Places.from_environ(os.environ))


def _take_stdio() -> tuple[int, int]:
    lines, frames = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return lines, frames


if __name__ == "__main__":
    sys.exit(main())
