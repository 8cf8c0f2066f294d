"""The tool server: the offered tools of `toolset` as one MCP server, each call a command to the host.

It is written on anyio and knows only `Desk`. The runner gives it to the SDK in process; other agents run it over
stdio, ``python -m pynchy_agent.tools`` (docs/wire.md says what it expects of them).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from mcp import types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server

from pynchy_agent import wire
from pynchy_agent.launch import SERVER_NAME
from pynchy_agent.toolset import TOOLS

Ask = Callable[[wire.Command], Awaitable[wire.Answer]]


def build_server(offered: Iterable[str], ask: Ask) -> Server[Any]:
    """The server of the ``offered`` tools; a name that this side does not know is passed over."""
    tools = {name: TOOLS[name] for name in offered if name in TOOLS}
    listing = types.ListToolsResult(
        tools=[
            types.Tool(name=tool.name, description=tool.description, input_schema=tool.schema)
            for tool in tools.values()
        ]
    )

    async def list_tools(
        _context: ServerRequestContext[Any], _params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return listing

    async def call_tool(
        _context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        if params.name not in tools:
            return _said(f"there is no tool {params.name[:64]!r} here", ok=False)
        wrong = misfit(params.arguments or {}, tools[params.name].schema)
        if wrong is not None:
            return _said(f"{params.name}: {wrong}", ok=False)
        try:
            answer = await ask(wire.Command(name=params.name, args=params.arguments or {}))
        except wire.BadFrame as error:
            return _said(f"{params.name}: {error}", ok=False)
        return _said(answer.text, ok=answer.ok)

    return Server(SERVER_NAME, version="1", on_list_tools=list_tools, on_call_tool=call_tool)


def _said(text: str, *, ok: bool) -> types.CallToolResult:
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=text)], is_error=not ok
    )


def misfit(args: dict[str, Any], schema: dict[str, Any]) -> str | None:
    """What is wrong with these arguments, in a sentence a model can act on; None if nothing is."""
    properties: dict[str, Any] = schema["properties"]
    for name in args:
        if name not in properties:
            return f"unknown argument {name[:64]!r}; known are {', '.join(properties) or 'none'}"
    for name in schema["required"]:
        if name not in args:
            return f"the argument {name} is missing"
    for name, value in args.items():
        wrong = _wrong(value, properties[name])
        if wrong is not None:
            return f"{name} {wrong}"
    return None


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


def _is_a(value: Any, kind: str) -> bool:
    return isinstance(value, _TYPES[kind]) and not (isinstance(value, bool) and kind != "boolean")


def _wrong(value: Any, rule: dict[str, Any]) -> str | None:
    """The part of JSON Schema that the table uses, and no more."""
    kind = rule["type"]
    if not _is_a(value, kind):
        return f"must be of type {kind}"
    if "enum" in rule and value not in rule["enum"]:
        return f"must be one of {', '.join(map(str, rule['enum']))}"
    if kind == "string" and len(value) < rule.get("minLength", 0):
        return "must not be empty"
    if kind == "string" and len(value) > rule.get("maxLength", len(value)):
        return f"has {len(value)} characters, the limit is {rule['maxLength']}"
    if kind in ("integer", "number") and not (
        rule.get("minimum", value) <= value <= rule.get("maximum", value)
    ):
        return f"must lie between {rule.get('minimum')} and {rule.get('maximum')}"
    if kind == "array":
        if not rule.get("minItems", 0) <= len(value) <= rule.get("maxItems", len(value)):
            return f"must have {rule.get('minItems', 0)} to {rule.get('maxItems')} items"
        for item in value:
            wrong = _wrong(item, rule["items"])
            if wrong is not None:
                return f"has an item that {wrong}"
    return None
