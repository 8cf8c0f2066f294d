"""The entry point in the container: takes stdin and stdout for the wire, then runs the agent.

Whatever else this process or its children print lands on stderr: the two descriptors are moved away before anything
is imported that could write to them. The order here is for speed alone: the CLI and the imports of the SDK take about
half a second each, so they go side by side, and no garbage is looked for while there is none.
"""

from __future__ import annotations

import gc
import os
import socket
import sys

from pynchy_agent import launch, wire
from pynchy_agent.places import Places


def main() -> int:
    """Run one agent from its `start` line to its end; the exit code says how it ended."""
    lines, frames = _take_stdio()
    # A sign of life: on a machine that is slow the rest takes long, and the host waits for whoever gave one.
    os.write(frames, wire.encode_frame(wire.Progress(what="starting")))
    places = Places.from_environ(os.environ)
    try:
        start, rest = _read_start(lines)
        if start is None:
            return 0
        listener = None if start.gateway.startswith("http://") else _listen()
        base_url = (
            start.gateway if listener is None else f"http://127.0.0.1:{listener.getsockname()[1]}"
        )
        cli = launch.start_cli(start, base_url, places, os.environ)
    except (wire.BadFrame, OSError) as error:
        os.write(frames, wire.encode_frame(wire.Error(kind="agent", message=str(error)[:500])))
        return 1

    try:
        gc.disable()
        import trio

        from pynchy_agent import runner

        gc.freeze()
        gc.enable()
        return trio.run(runner.main, start, cli, listener, lines, rest, frames, places)
    finally:
        cli.kill()  # gone already, unless we broke: then it must not be left alone


def _take_stdio() -> tuple[int, int]:
    """Copies of stdin and stdout that only we know; whoever uses the old ones reads nothing and writes to stderr."""
    lines, frames = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return lines, frames


def _read_start(lines: int) -> tuple[wire.Start | None, bytes]:
    """The first line, and what came with it; None when the host went away before it said one."""
    received = b""
    while b"\n" not in received:
        data = os.read(lines, 1 << 20)
        if not data:
            return None, b""
        received += data
    line, _, rest = received.partition(b"\n")
    start = wire.decode_line(line)
    if not isinstance(start, wire.Start):
        raise wire.BadFrame(f"the first line is a {type(start).__name__}, not a start")
    return start, rest


def _listen() -> socket.socket:
    """The relay's port; connections wait in its backlog until the relay runs."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


if __name__ == "__main__":
    sys.exit(main())
