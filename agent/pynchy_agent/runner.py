"""Run one conversation of the agent, driven by frames from the host.

It reads lines from the host, feeds the prompts to one client of the Claude Agent SDK, and says in frames what
happens. One task listens to the host, one feeds the agent in the order of the lines, one reads the agent from
connecting to the end. What the host may rely on:

* every accepted prompt is named by one `result` or `error`, or the run ends;
* a failure of the model API is an `error`, never a `result`;
* `idle` is said only when nothing is owed;
* the end of stdin ends the run at once; `close` ends it when nothing is owed, and cannot be taken back.
"""

from __future__ import annotations

import os
import subprocess
from socket import socket
from typing import Final

import trio

from pynchy_agent import launch, relay, wire
from pynchy_agent.claude import Agent, ToFeed
from pynchy_agent.host_client import HostClient
from pynchy_agent.places import Places
from pynchy_agent.stdio import Stdio
from pynchy_agent.streams import Frames, Lines

MAX_QUEUED: Final = 1000  # lines that wait until the agent has connected


async def main(
    start: wire.Start,
    cli: subprocess.Popen[bytes],
    listener: socket | None,
    stdio: Stdio,
    places: Places,
) -> int:
    """Run the agent whose CLI was started for ``start``, and give the exit code."""
    async with (
        trio.lowlevel.FdStream(stdio.lines) as stdin,
        trio.lowlevel.FdStream(stdio.frames) as stdout,
    ):
        lines, frames = Lines(stdin, stdio.received), Frames(stdout)
        host = HostClient(commands=places.commands, answers=places.answers)
        refusals = relay.Refusals()
        way = launch.way_out(start, launch.base_url_of(start, listener), os.environ)
        agent = Agent(start, frames, host, places, refusals, way)
        to_feed, feed = trio.open_memory_channel[ToFeed](MAX_QUEUED + len(start.prompts))
        for prompt in start.prompts:
            to_feed.send_nowait(prompt)
        code = 0  # stays so when stdin ends first
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_listen, lines, to_feed, host, nursery.cancel_scope)
                if listener is not None:
                    await nursery.start(relay.run, start.gateway, listener, refusals)
                code = await agent.run(cli, feed)
                nursery.cancel_scope.cancel("the agent has ended")
        except* wire.BadFrame as group:
            # The host is of another version: nothing it says can be trusted to mean the same here.
            await frames.say(
                wire.Error(kind="agent", message=f"bad line from the host: {group.exceptions[0]}")
            )
            code = 1
        finally:
            cli.kill()  # gone already, unless stdin ended before the agent had it
            cli.wait()
    return code


async def _listen(
    lines: Lines,
    to_feed: trio.MemorySendChannel[ToFeed],
    host: HostClient,
    everything: trio.CancelScope,
) -> None:
    """Hand on what the host says until stdin ends, and with it the run."""
    while (line := await lines.read()) is not None:
        match line:
            case wire.Answer():
                await host.take(line)
            case wire.Start():
                raise wire.BadFrame("a second start")
            case _:
                await to_feed.send(line)
    everything.cancel("stdin ended")
