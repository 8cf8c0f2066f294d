"""The CLI is started by us and not by the SDK; this holds the two together, and the tool server that runs by itself."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import mcp
import pytest
import trio
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, ProcessError, __version__
from mcp.client.stdio import StdioServerParameters, stdio_client

from pynchy_agent import launch, wire
from pynchy_agent.places import Places
from pynchy_agent.tools import build_server
from tests.guest import Home, next_command, start

SESSION = "84fcb054-1ee7-4502-b220-fec571e5629d"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.make(tmp_path)


async def test_the_command_line_is_what_the_sdk_would_have_used(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A program in the CLI's place that only tells how it was started.
    seen = home.root / "seen.json"
    witness = home.root / "witness"
    witness.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        f"json.dump([sys.argv[1:], dict(os.environ)], open({str(seen)!r}, 'w'))\nsys.exit(1)\n"
    )
    witness.chmod(0o755)
    for name in [name for name in os.environ if name.startswith(("CLAUDE", "ANTHROPIC"))]:
        monkeypatch.delenv(name)

    first = start(home, session=SESSION)
    places = Places.from_environ(home.environ())
    environ = launch.environment(first, "http://127.0.0.1:1", places, os.environ)

    async def ask(_: wire.Command) -> wire.Answer:
        raise AssertionError

    options = ClaudeAgentOptions(
        cli_path=witness,
        cwd=places.group,
        resume=SESSION,
        system_prompt={"type": "file", "path": "/a/file"},
        setting_sources=["user"],
        strict_mcp_config=True,
        permission_mode="bypassPermissions",
        tools=launch.built_in(first),
        settings=json.dumps(launch.SETTINGS),
        include_partial_messages=True,
        mcp_servers={
            launch.SERVER_NAME: {**launch.SERVER, "instance": build_server([], ask)}  # type: ignore[dict-item]
        },
        env={name: value for name, value in environ.items() if os.environ.get(name) != value},
    )
    with trio.fail_after(30), pytest.raises(ProcessError):
        await ClaudeSDKClient(options).connect()  # the witness says nothing, so it cannot connect

    argv, found = json.loads(seen.read_text())
    ours = launch.argv(first, witness, prompt="/a/file")
    assert ours[1:] == argv
    for noise in ("_", "LC_CTYPE"):
        found.pop(noise, None)
        environ.pop(noise, None)
    assert environ == found
    assert __version__ == launch.SDK_VERSION
    assert launch.find_cli().is_file()


async def test_tools_over_stdio_are_answered_at_a_fifo(home: Home) -> None:
    first = home.root / "start.json"
    first.write_bytes(wire.encode_line(start(home, tools=["send_message", "recall"])))
    environ = {**home.environ(), "PYNCHY_START": str(first)}
    for name in ("json", "anyio", "queue"):  # threat L16
        (home.group / f"{name}.py").write_text("raise SystemExit('planted')")
    server = StdioServerParameters(
        command=sys.executable,
        args=["-P", "-s", "-m", "pynchy_agent.tools"],
        env=environ,
        cwd=home.group,
    )
    answers = Path(environ["PYNCHY_ANSWERS"])
    results: list[mcp.types.CallToolResult] = []

    with trio.fail_after(30):
        async with stdio_client(server) as (read, write), mcp.ClientSession(read, write) as client:
            await client.initialize()
            assert {tool.name for tool in (await client.list_tools()).tools} == {
                "send_message",
                "recall",
            }

            async def call() -> None:
                results.append(await client.call_tool("send_message", {"text": "hello"}))

            for text, ok in (
                ("it was sent\n\N{GRINNING FACE}" + "x" * 100_000, True),
                ("no", False),
            ):
                seen = {path.name for path in home.commands.iterdir()}
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(call)
                    command_id, command = await next_command(home, seen=seen)
                    assert command == {"name": "send_message", "text": "hello"}
                    line = wire.encode_line(wire.Answer(id=command_id, ok=ok, text=text))
                    await trio.to_thread.run_sync((answers / command_id).write_bytes, line)
                (content,) = results[-1].content
                assert isinstance(content, mcp.types.TextContent)
                assert (content.text, results[-1].is_error) == (text, not ok)
            assert list(answers.iterdir()) == []
