"""Offer the tools as one MCP server; each call becomes a command to the host.

It is written on anyio. The runner gives it to the SDK in process; other agents run it over
stdio, ``python3 -P -s -m pynchy_agent.tools`` (docs/wire.md says what it expects of them).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

import anyio
from mcp import types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from pynchy_agent import wire
from pynchy_agent.host_client import ask_by_fifo
from pynchy_agent.launch import SERVER_NAME
from pynchy_agent.places import Places

Ask = Callable[[wire.Command], Awaitable[wire.Answer]]


def build_server(tools: Iterable[wire.Tool], ask: Ask) -> Server[Any]:
    """The server of these tools."""
    listing = types.ListToolsResult(
        tools=[
            types.Tool(
                name=tool.name,
                description=tool.description,
                input_schema=dict(tool.schema),
                _meta={"anthropic/alwaysLoad": False} if tool.rare else None,
                annotations=types.ToolAnnotations(read_only_hint=tool.parallel),
            )
            for tool in tools
        ]
    )
    names = {tool.name for tool in listing.tools}

    async def list_tools(
        _context: ServerRequestContext[Any], _params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return listing

    async def call_tool(
        _context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        if params.name not in names:
            return _said(f"there is no tool {params.name[:64]!r} here", ok=False)
        try:
            answer = await ask(wire.Command(name=params.name, args=params.arguments or {}))
        except (wire.BadFrame, OSError) as error:  # too large, or no room to write it
            return _said(f"{params.name}: {error}", ok=False)
        return _said(answer.text, ok=answer.ok)

    return Server(SERVER_NAME, version="1", on_list_tools=list_tools, on_call_tool=call_tool)


def _said(text: str, *, ok: bool) -> types.CallToolResult:
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=text)], is_error=not ok
    )


async def serve_stdio(environ: Mapping[str, str]) -> None:
    """Serve MCP on stdin and stdout until stdin ends: the tools of the `start` line in the file ``PYNCHY_START``."""
    places = Places.from_environ(environ)
    start = wire.decode_start(await anyio.Path(environ["PYNCHY_START"]).read_bytes())
    server = build_server(
        start.tools, partial(ask_by_fifo, commands=places.commands, answers=places.answers)
    )
    async with stdio_server() as (received, said):
        await server.run(received, said, server.create_initialization_options())


if __name__ == "__main__":
    if "PYNCHY_START" not in os.environ:
        sys.exit("PYNCHY_START must name a file that holds the start line: the tools are in it")
    anyio.run(serve_stdio, os.environ, backend="trio")
