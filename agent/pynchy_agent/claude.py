"""Claude behind the wire: the SDK's client, what it is started with, and what its messages mean in frames.

The traps it steps round, each seen on the real CLI:

* a turn may take in prompts that were sent while it ran, so results are not counted but matched by the prompts' ids;
* a failed call of the model API ends in a message that calls itself a success: ``is_error`` decides, nothing else;
* an interrupt that overtakes its prompt is lost, so it is repeated at each turn that begins with a prompt it meant;
* text that begins with ``/`` or holds ``@path`` is a command to the CLI unless it is marked as composed by us.
"""

from __future__ import annotations

import base64
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio
from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ClaudeSDKClient,
    HookMatcher,
    ResultMessage,
    StreamEvent,
    SystemMessage,
    ToolUseBlock,
    UserMessage,
)

from pynchy_agent import archive, launch, wire
from pynchy_agent.tools import build_server
from pynchy_agent.transport import CliTransport

if TYPE_CHECKING:
    from claude_agent_sdk import Message

    from pynchy_agent.desk import Desk
    from pynchy_agent.places import Places
    from pynchy_agent.runner import Frames

ToFeed = wire.Prompt | wire.Interrupt | wire.Close

MAX_IMAGE: Final = 5 << 20  # bytes; the model API takes no larger one
MAX_ANSWER: Final = 80_000  # characters; each is at most 12 bytes of a frame
STREAMING_EVERY: Final = 5.0  # seconds between two frames that say only that text is streaming


class Agent:
    """One client from connecting to its end."""

    def __init__(self, start: wire.Start, frames: Frames, desk: Desk, places: Places) -> None:
        self._start = start
        self._frames = frames
        self._desk = desk
        self._places = places
        self._owed: dict[
            str, None
        ] = {}  # prompts in the order they were given, not yet named by an outcome
        self._stopping: set[str] = set()  # those of them that an interrupt meant
        self._stopped = trio.Event()
        self._idle = True
        self._closing = False
        self._over = trio.Event()
        self._session = start.session
        self._cause: str | None = None  # what the last failed call of the model API was about
        self._streamed = 0.0

    async def run(
        self, cli: subprocess.Popen[bytes], feed: trio.MemoryReceiveChannel[ToFeed]
    ) -> int:
        """Connect, answer what is fed, and return the exit code once closed or broken. The CLI is gone after."""
        client = ClaudeSDKClient(self._options(), transport=CliTransport(cli))
        try:
            await client.connect()
            await self._frames.say(wire.Ready())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, client, nursery)
                nursery.start_soon(self._feed, client, feed)
                await self._over.wait()
                nursery.cancel_scope.cancel("closed")
        except (
            Exception
        ) as error:  # contained here, and only here: the SDK or the CLI broke, and the host is told
            await self._frames.say(
                wire.Error(
                    kind="session" if "No conversation found" in str(error) else "agent",
                    message=_tell(error),
                    prompts=tuple(self._owed),
                    session=self._session,
                )
            )
            return 1
        finally:
            if not self._idle:
                # Else disconnecting waits five seconds for the turn to end by itself.
                with trio.move_on_after(1, shield=True), suppress(Exception):
                    await client.interrupt()
            await client.disconnect()
        return 0

    # --- towards the agent ---------------------------------------------------------------------

    async def _feed(self, client: ClaudeSDKClient, feed: trio.MemoryReceiveChannel[ToFeed]) -> None:
        async for line in feed:
            match line:
                case wire.Prompt():
                    while (
                        self._stopping
                    ):  # else it could be merged into the turn that is to be stopped
                        await self._stopped.wait()
                    self._owed[line.id] = None
                    content = await self._content(line)
                    await client.query(_one(line.id, content))
                    await self._frames.say(wire.Accepted(prompts=(line.id,)))
                case wire.Interrupt() if not self._idle or self._owed:
                    self._stopping, self._stopped = set(self._owed), trio.Event()
                    await client.interrupt()
                case wire.Interrupt():
                    pass
                case wire.Close():
                    self._closing = True
                    self._end_if_done()

    async def _content(self, prompt: wire.Prompt) -> list[dict[str, Any]]:
        blocks: list[dict[str, Any]] = []
        for image in prompt.images:
            path = self._places.media / Path(image.path).relative_to("/workspace/media")
            data = await trio.Path(path).read_bytes()
            source = {
                "type": "base64",
                "media_type": image.media_type,
                "data": base64.b64encode(data).decode(),
            }
            blocks.append({"type": "image", "source": source})
        return [*blocks, {"type": "text", "text": prompt.text}]

    # --- from the agent ------------------------------------------------------------------------

    async def _read(self, client: ClaudeSDKClient, nursery: trio.Nursery) -> None:
        async for message in client.receive_messages():
            await self._hear(message, partial(nursery.start_soon, client.interrupt))
        raise ConnectionError("the agent's process ended without being asked to")

    async def _hear(self, message: Message, interrupt: Callable[[], None]) -> None:
        say = self._frames.say
        match message:
            case SystemMessage(subtype="init", data=data):
                if data["session_id"] != self._session:
                    self._session = data["session_id"]
                    await say(wire.Progress(what="session", session=self._session))
                if self._stopping:
                    interrupt()
            case SystemMessage(subtype="session_state_changed", data={"state": state}):
                self._idle = state == "idle"
                if self._idle and not self._owed:
                    await say(wire.Idle())
                self._end_if_done()
            case SystemMessage(subtype="api_retry", data=data):
                await say(
                    wire.Retrying(
                        attempt=int(data.get("attempt") or 0),
                        delay=float(data.get("retry_delay_ms") or 0) / 1000,
                        reason=f"{data.get('error')} ({data.get('error_status')})",
                    )
                )
            case SystemMessage():
                await say(wire.Progress(what=message.subtype))
            case AssistantMessage():
                self._cause = message.error or self._cause
                tools = [block for block in message.content if isinstance(block, ToolUseBlock)]
                for tool in tools:
                    await say(
                        wire.Progress(
                            what=tool.name, timeout=declared_timeout(tool.name, tool.input)
                        )
                    )
                if not tools:
                    await say(wire.Progress(what="text"))
            case UserMessage():
                await say(wire.Progress(what="tool result"))
            case StreamEvent():
                now = trio.current_time()
                if now - self._streamed >= STREAMING_EVERY:
                    self._streamed = now
                    await say(wire.Progress(what="streaming"))
            case ResultMessage():
                await self._outcome(message)

    async def _outcome(self, result: ResultMessage) -> None:
        prompts = tuple(result.user_message_uuids or ())
        for prompt in prompts:
            self._owed.pop(prompt, None)
        self._session = result.session_id
        if (kind := error_kind(result, self._cause)) is not None:
            text = result.result or "; ".join(result.errors or ()) or result.subtype
            await self._frames.say(
                wire.Error(kind=kind, message=text[:2000], prompts=prompts, session=self._session)
            )
        else:
            usage = result.usage or {}
            await self._frames.say(
                wire.Result(
                    text=_cut(result.result) if result.result else None,
                    answered=prompts,
                    session=self._session,
                    usage=wire.Usage(
                        input_tokens=sum(int(usage.get(name) or 0) for name in _INPUT_TOKENS),
                        output_tokens=int(usage.get("output_tokens") or 0),
                        cost_usd=result.total_cost_usd or 0.0,
                    ),
                )
            )
        self._cause = None
        self._stopping &= self._owed.keys()
        if not self._stopping:
            self._stopped.set()
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._closing and self._idle and not self._owed:
            self._over.set()

    def _options(self) -> ClaudeAgentOptions:
        """What is said over the pipe at connecting; the command line says the rest (`launch`)."""
        server = build_server(self._start.tools, self._desk.ask)
        return ClaudeAgentOptions(
            # snapshot: else a resumed session keeps the memory of the day it began
            system_prompt={"type": "preset", "preset": "claude_code", "snapshot": False},
            mcp_servers={
                launch.SERVER_NAME: {"type": "sdk", "name": launch.SERVER_NAME, "instance": server}
            },
            hooks={"PreCompact": [HookMatcher(hooks=[archive.hook(self._places.group)])]},
        )


_INPUT_TOKENS: Final = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")

_STATUS_KINDS: Final[dict[int, str]] = {
    401: "authentication",
    402: "budget",
    403: "authentication",
    404: "model",
    413: "too_long",
    429: "rate_limit",
    529: "overloaded",
}

_CAUSE_KINDS: Final[dict[str, str]] = {
    "authentication_failed": "authentication",
    "billing_error": "billing",
    "rate_limit": "rate_limit",
    "model_not_found": "model",
    "server_error": "server",
}

_REASON_KINDS: Final[dict[str, str]] = {
    "aborted_streaming": "interrupted",
    "aborted_tools": "interrupted",
    "budget_exhausted": "budget",
    "max_turns": "max_turns",
    "prompt_too_long": "too_long",
}


def error_kind(result: ResultMessage, cause: str | None) -> str | None:
    """What kind of failure a result is, in the wire's words; None for a success."""
    if (kind := _REASON_KINDS.get(result.terminal_reason or "")) is not None:
        return kind
    if not result.is_error and result.subtype == "success":
        return None
    status = result.api_error_status
    if cause == "billing_error" and status != 402:
        return "billing"
    if status is not None:
        return _STATUS_KINDS.get(status) or ("server" if status >= 500 else "agent")
    return _CAUSE_KINDS.get(cause or "") or (
        "server" if result.terminal_reason == "api_error" else "agent"
    )


def declared_timeout(tool: str, arguments: Mapping[str, Any]) -> float:
    """How many seconds a tool may be silent by its own word; 0 when it does not say."""
    if tool != "Bash" or arguments.get("run_in_background"):
        return 0.0
    given = arguments.get("timeout")
    if isinstance(given, bool) or not isinstance(given, int | float) or given <= 0:
        return launch.BASH_TIMEOUT
    return min(given / 1000, launch.BASH_TIMEOUT_MOST)


async def _one(prompt_id: str, content: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    yield {
        "type": "user",
        "message": {"role": "user", "content": content},
        "parent_tool_use_id": None,
        "uuid": prompt_id,
        "client_composed": True,
    }


def _cut(text: str) -> str:
    if len(text) <= MAX_ANSWER:
        return text
    return f"{text[:MAX_ANSWER]}\n\n[cut: the answer has {len(text)} characters]"


def _tell(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"[:2000]
