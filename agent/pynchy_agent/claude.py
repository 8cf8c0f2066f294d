"""The Claude agent: start the SDK's client, and turn its messages into frames.

What to know of the CLI, all of it observed:

* a turn may take in prompts that were sent while it ran, so results are not counted but matched by the prompts' ids;
* a result names at most 64 of the prompts that its turn took in, so the CLI never has more than `MAX_OWED` at once;
* its `result` is the last block of text alone, so the answer is put together from all that was heard (`answer`);
* a failed call of the model API ends in a message that calls itself a success: ``is_error`` decides, nothing else;
* an interrupt that overtakes its prompt is lost, so it is repeated at each turn that begins with a prompt it meant;
* text that begins with ``/`` or holds ``@path`` is a command to the CLI unless it is marked as composed by us.
"""

from __future__ import annotations

import base64
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio
from claude_agent_sdk import (
    AgentDefinition,
    AssistantMessage,
    ClaudeAgentOptions,
    ClaudeSDKClient,
    HookMatcher,
    RateLimitEvent,
    ResultMessage,
    StreamEvent,
    SystemMessage,
    ToolUseBlock,
    UserMessage,
)

from pynchy_agent import archive, launch, script, wire
from pynchy_agent.hints import Hints
from pynchy_agent.tools import build_server
from pynchy_agent.transport import CliTransport
from pynchy_agent.turn import Turn, was_interrupted

if TYPE_CHECKING:
    from claude_agent_sdk import Message

    from pynchy_agent.host_client import HostClient
    from pynchy_agent.places import Places
    from pynchy_agent.relay import Refusals
    from pynchy_agent.streams import Frames

ToAnswer = wire.Prompt | wire.Compact
ToFeed = ToAnswer | wire.Interrupt | wire.Close

MEDIA: Final = PurePosixPath("/workspace/media")  # as the host names it, wherever it is mounted
MAX_IMAGE: Final = 5 << 20  # bytes; the model API takes no larger one
MAX_TRANSCRIPT: Final = 64 << 20  # bytes of a session, compacted or not, that is taken up again
MAX_OWED: Final = 60  # prompts with the CLI and not answered; its result names at most 64
MAX_NAMED: Final = 500  # prompts that one frame names
PREFIX: Final = f"mcp__{launch.SERVER_NAME}__"  # of our tools, as the model calls them
#: The agents that the CLI may start inside itself: one, instead of its own five for work on a code base. Its name is
#: the one that is taken where none is given.
SUBAGENTS: Final = {
    "general-purpose": AgentDefinition(
        description="Does one piece of work with the same tools and reports what came of it.",
        prompt="Do the piece of work that you are given, completely. Your last text is all that comes back of it: say"
        " what you found or did, and what failed.",
    )
}
STREAMING_EVERY: Final = 5.0  # seconds between two frames that say only that text is streaming


class Outgrown(Exception):
    """The session is too large to be taken up again. What was said in it is archived."""


class Agent:
    """One client from connecting to its end."""

    def __init__(
        self,
        start: wire.Start,
        frames: Frames,
        host: HostClient,
        places: Places,
        refusals: Refusals,
        way: Mapping[str, str],
    ) -> None:
        self._start = start
        self._way = way  # to the network, as the programs of scripts find it
        self._refusals = refusals
        self._frames = frames
        self._host = host
        self._tools = {f"{PREFIX}{tool.name}": tool for tool in start.tools}
        self._places = places
        # Prompts that wait to be given, those that were given and not yet named by an outcome, in order, and of these
        # the ones that an interrupt meant. Whoever changes one of them wakes the giver.
        self._held: deque[ToAnswer] = deque()
        self._owed: dict[str, None] = {}
        self._stopping: set[str] = set()
        self._giver = trio.lowlevel.ParkingLot()
        self._idle = True
        self._closing = False
        self._over = trio.Event()
        self._session = start.session
        self._compacts: set[str] = set()  # those of them that are no prompts
        self._turn = self._new_turn()
        self._streamed = 0.0

    async def run(
        self, cli: subprocess.Popen[bytes], feed: trio.MemoryReceiveChannel[ToFeed]
    ) -> int:
        """Connect, answer what is fed, and return the exit code once closed or broken. The CLI is gone after."""
        client = ClaudeSDKClient(self._options(), transport=CliTransport(cli))
        try:
            await trio.to_thread.run_sync(self._archive_what_is_over)
            await trio.to_thread.run_sync(self._refuse_a_session_that_is_too_large)
            await client.connect()
            await self._frames.say(wire.Ready())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, client, nursery)
                nursery.start_soon(self._feed, client, feed)
                nursery.start_soon(self._give, client)
                await self._over.wait()
                nursery.cancel_scope.cancel("closed")
        except Exception as error:
            # Contained here, and only here: the SDK or the CLI broke. The host is told, and the run ends.
            kind = "history" if "No conversation found" in str(error) else "agent"
            if isinstance(error, Outgrown):
                kind = "context"
                cli.kill()  # nobody has spoken to it yet
            await self._frames.say(
                wire.Error(
                    kind=kind,
                    message=_tell(error),
                    prompts=tuple(self._owed),
                    session=self._session,
                )
            )
            return 1
        finally:
            if not self._idle:
                # Else the CLI would try to end the turn first, for as long as it is let.
                with trio.move_on_after(1, shield=True), suppress(Exception):
                    await client.interrupt()
            await client.disconnect()
        return 0

    def _archive_what_is_over(self) -> None:
        """Keep the conversations that ended since the last run as pages, as a compaction does."""
        now = archive.local_time(self._start.timezone)()
        for session in self._start.ended:
            transcript = archive.transcript_of(self._places.config, session)
            if transcript is not None:
                archive.keep(transcript, self._places.group / "conversations", now)

    def _refuse_a_session_that_is_too_large(self) -> None:
        """To take it up would cost minutes: archive what was said, and let the host begin another session."""
        if self._session is None:
            return
        transcript = archive.transcript_of(self._places.config, self._session)
        if transcript is None or (size := transcript.stat().st_size) <= MAX_TRANSCRIPT:
            return
        now = archive.local_time(self._start.timezone)()
        archive.archive(transcript, self._places.group / "conversations", now)
        raise Outgrown(f"the session's transcript has {size >> 20} MiB")

    # --- towards the agent ---------------------------------------------------------------------

    async def _feed(self, client: ClaudeSDKClient, feed: trio.MemoryReceiveChannel[ToFeed]) -> None:
        """Take what the host says as it comes; prompts wait for `_give`, so that nothing waits behind them."""
        async for line in feed:
            match line:
                case wire.Prompt() | wire.Compact():
                    self._held.append(line)
                    self._giver.unpark_all()
                case wire.Interrupt():
                    held = [each.id for each in self._held]
                    self._held.clear()
                    for first in range(0, len(held), MAX_NAMED):
                        await self._interrupted(held[first : first + MAX_NAMED])
                    if self._owed or not self._idle:
                        self._stopping = set(self._owed)
                        await client.interrupt()
                case wire.Close():
                    self._closing = True
                    self._end_if_done()

    async def _interrupted(self, prompts: list[str]) -> None:
        await self._frames.say(
            wire.Error(
                kind="interrupted",
                message="interrupted before it began",
                prompts=tuple(prompts),
                session=self._session,
            )
        )

    async def _give(self, client: ClaudeSDKClient) -> None:
        """Give the CLI the prompts, in order: no more at once than its results can name, and none that it could merge
        into the turn that is to be stopped."""
        while True:
            while not self._held or self._stopping or len(self._owed) >= MAX_OWED:
                await self._giver.park()
            line = self._held.popleft()
            self._owed[line.id] = None
            if isinstance(line, wire.Compact):
                self._compacts.add(line.id)
            elif line.script is not None:
                output = await self._run_script(line.id, line.script)
                if output is None:
                    continue
                line = attrs.evolve(line, text=script.with_output(line.text, output))
            await client.query(_only(await self._message(line)))
            await self._frames.say(wire.Accepted(prompts=(line.id,)))

    async def _run_script(self, prompt: str, source: str) -> str | None:
        """Run a task's script before its prompt: what it printed, or None if the model is not to be woken."""
        say = self._frames.say
        await say(wire.Accepted(prompts=(prompt,)))
        await say(wire.Progress(what="script", timeout=script.TIMEOUT))
        ended = await script.run(source, self._places.group, self._way)
        refused = _refused(self._refusals.take())
        if ended.wakes:
            return f"{ended.output}\n{refused}" if refused else ended.output
        self._named((prompt,))
        if ended.broken is None:
            await say(wire.Result(text=None, answered=(prompt,), session=self._session))
        else:
            words = f"the task's script: {ended.broken}: {ended.output[-500:]}"
            await say(wire.Error(kind="agent", message=words, prompts=(prompt,)))
        if self._owes_nothing():
            await say(wire.Idle())
        self._end_if_done()
        return None

    async def _message(self, line: ToAnswer) -> dict[str, Any]:
        content: Any = "/compact"
        if isinstance(line, wire.Prompt):
            content = [await self._picture(image) for image in line.images]
            content.append({"type": "text", "text": line.text})
        return {
            "type": "user",
            "message": {"role": "user", "content": content},
            "parent_tool_use_id": None,
            "uuid": line.id,
            "client_composed": isinstance(line, wire.Prompt),
        }

    async def _picture(self, image: wire.Image) -> dict[str, Any]:
        """The picture for the model, or the reason why it cannot be shown, as text."""
        media = trio.Path(self._places.media)
        try:
            path = await (media / PurePosixPath(image.path).relative_to(MEDIA)).resolve(strict=True)
            path.relative_to(await media.resolve())
            if (await path.stat()).st_size > MAX_IMAGE:
                raise ValueError(f"more than {MAX_IMAGE >> 20} MiB")
            data = base64.b64encode(await path.read_bytes()).decode()
        except (OSError, ValueError) as error:
            return {"type": "text", "text": f"[the picture {image.path} cannot be shown: {error}]"}
        source = {"type": "base64", "media_type": image.media_type, "data": data}
        return {"type": "image", "source": source}

    # --- from the agent ------------------------------------------------------------------------

    async def _read(self, client: ClaudeSDKClient, nursery: trio.Nursery) -> None:
        async for message in client.receive_messages():
            await self.hear(message, partial(nursery.start_soon, client.interrupt))
        raise ConnectionError("the agent's process ended without being asked to")

    async def hear(self, message: Message, interrupt: Callable[[], None]) -> None:
        """What one message of the CLI comes to. ``interrupt`` has the CLI stop the turn that it begins with."""
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
                if self._owes_nothing():
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
                self._turn.compaction = message.data.get("compact_result") or self._turn.compaction
                await say(wire.Progress(what=message.subtype))
            case AssistantMessage():
                self._turn.listen(message)
                tools = [block for block in message.content if isinstance(block, ToolUseBlock)]
                for tool in tools:
                    await say(wire.Progress(what=tool.name, timeout=self._timeout(tool)))
                if not tools:
                    await say(wire.Progress(what="text"))
            case UserMessage():
                self._turn.learn_what_was_sent(message)
                await say(wire.Progress(what="tool result"))
            case StreamEvent():
                self._turn.listen_to_the_stream(message)
                now = trio.current_time()
                if now - self._streamed >= STREAMING_EVERY:
                    self._streamed = now
                    await say(wire.Progress(what="streaming"))
            case RateLimitEvent():
                limit = message.rate_limit_info
                self._turn.retry_at = limit.resets_at if limit.status == "rejected" else None
            case ResultMessage():
                await self._outcome(message)

    def _new_turn(self) -> Turn:
        return Turn(frozenset(name for name, tool in self._tools.items() if tool.speaks))

    def _timeout(self, call: ToolUseBlock) -> float:
        """How many seconds a call may be silent."""
        ours = self._tools.get(call.name)
        return declared_timeout(call.name, call.input) if ours is None else ours.timeout

    async def _outcome(self, result: ResultMessage) -> None:
        turn, self._turn = self._turn, self._new_turn()
        prompts = tuple(result.user_message_uuids or ())
        if not prompts and result.user_message_uuid is not None:
            prompts = (result.user_message_uuid,)  # some failures say no more
        if not prompts and was_interrupted(result):
            prompts = tuple(
                self._stopping
            )  # an interrupted turn may name none: it was one that was meant
        compact = self._compacts.intersection(prompts)
        self._compacts -= compact
        self._named(prompts)
        self._session = result.session_id
        if compact:
            frame = turn.compacted(result, prompts)
        else:
            frame = turn.outcome(result, prompts, silent=self._start.scheduled)
        await self._frames.say(frame)
        self._end_if_done()

    def _named(self, prompts: Iterable[str]) -> None:
        """An outcome names these prompts: they are owed no more."""
        for prompt in prompts:
            self._owed.pop(prompt, None)
        self._stopping &= self._owed.keys()
        self._giver.unpark_all()

    def _owes_nothing(self) -> bool:
        return self._idle and not self._owed and not self._held

    def _end_if_done(self) -> None:
        if self._closing and self._owes_nothing():
            self._over.set()

    def _options(self) -> ClaudeAgentOptions:
        """What is said over the pipe at connecting; the command line says the rest (`launch`)."""
        server = build_server(self._start.tools, self._host.ask)
        keep = archive.hook(
            self._places.group / "conversations", archive.local_time(self._start.timezone)
        )
        return ClaudeAgentOptions(
            # The prompt is on the command line. snapshot: else a resumed session keeps that of the day it began
            system_prompt={"type": "custom", "prompt": "", "snapshot": False},
            agents=SUBAGENTS,
            mcp_servers={
                launch.SERVER_NAME: {"type": "sdk", "name": launch.SERVER_NAME, "instance": server}
            },
            hooks={
                "PreCompact": [HookMatcher(hooks=[keep])],
                **Hints(self._refusals, may_ask=f"{PREFIX}request_host" in self._tools).hooks(),
            },
        )


def _refused(reasons: list[str]) -> str:
    return "\n".join(f"The gateway refused a connection: {each}" for each in reasons)


def declared_timeout(tool: str, arguments: Mapping[str, Any]) -> float:
    """How many seconds a tool of the CLI may be silent by its own word; 0 when it does not say."""
    if tool != "Bash" or arguments.get("run_in_background"):
        return 0.0
    given = arguments.get("timeout")
    if isinstance(given, bool) or not isinstance(given, int | float) or given <= 0:
        return launch.BASH_TIMEOUT
    return min(given / 1000, launch.BASH_TIMEOUT_MOST)


async def _only(message: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield message


def _tell(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"[:2000]
