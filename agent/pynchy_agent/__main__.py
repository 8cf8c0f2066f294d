"""The entry point in the container: takes stdin and stdout for the wire, then runs the agent.

The order here is for speed alone: the CLI and the imports of the SDK take about half a second each, so they go side
by side, and the garbage collector is off until they are done.
"""

from __future__ import annotations

import gc
import os
import socket
import sys

from pynchy_agent import launch, wire
from pynchy_agent.places import Places
from pynchy_agent.stdio import Stdio


def main() -> int:
    """Run one agent from its `start` line to its end; the exit code says how it ended."""
    stdio = Stdio.taken()
    # A sign of life: on a slow machine the rest takes long, and the host waits for who has given one.
    stdio.say(wire.Progress(what="starting"))
    places = Places.from_environ(os.environ)
    try:
        start = stdio.read_start()
        if start is None:
            return 0
        listener = None if start.gateway.startswith("http://") else _listen()
        cli = launch.start_cli(start, launch.base_url_of(start, listener), places, os.environ)
    except (wire.BadFrame, OSError) as error:
        stdio.say(wire.Error(kind="agent", message=str(error)[:500]))
        return 1

    try:
        gc.disable()
        import trio

        from pynchy_agent import runner

        gc.freeze()
        gc.enable()
        return trio.run(runner.main, start, cli, listener, stdio, places)
    finally:
        cli.kill()  # gone already, unless we broke: then it must not be left alone


def _listen() -> socket.socket:
    """The relay's port; connections wait in its backlog until the relay runs."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


if __name__ == "__main__":
    sys.exit(main())
