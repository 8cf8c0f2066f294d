"""A model for a daemon in an internet of a test's own: it makes the tool calls that a person's message names.

The daemon talks to it as to the model API, so the gateway, its ledger and the real CLI are between the two. A message
holds steps, `do(7, [call, call], [call])`; each step is one answer of the model, with its calls at once. When all are
done the model says what the tools of the last step said, after the message's number: `7: milk and bread`.
"""

from __future__ import annotations

import html
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import trio

from tests.internet import Internet
from tests.messages_api import Reply, Request, Script, open_messages_api, says, uses

KEY = "sk-ant-api03-scripted"  # what a daemon with this model needs in ANTHROPIC_API_KEY

Call = tuple[str, dict[str, Any]]
_PLAN = re.compile(r"DO (\d+) (\[\[.*\]\]) DONE", re.DOTALL)


def do(number: int, *steps: list[Call]) -> str:
    """The message of this number, that has the model make these calls."""
    return f"DO {number} {json.dumps(steps)} DONE"


@attrs.define(eq=False)
class Scripted:
    """``also`` answers what no person asked, as the CLI's own small calls and those of its subagents."""

    also: Callable[[Request], Reply | None] = lambda _: None
    calls: list[Request] = attrs.field(factory=list)

    @property
    def last(self) -> Request:
        """The newest call."""
        return self.calls[-1]

    async def answer(self, call: Request) -> Reply:
        await trio.lowlevel.checkpoint()
        self.calls.append(call)
        if (reply := self.also(call)) is not None:
            return reply
        number, steps, done = _plan(call.body["messages"])
        if done < len(steps):
            return uses(*[(name, args) for name, args in steps[done]])
        return says(f"{number}: " + "\n".join(results(call)) if number else "nobody asked")


def results(call: Request) -> list[str]:
    """What the tools gave back to this call: text as it is, of other things their kind and type."""
    found = []
    for block in call.blocks:
        if block["type"] == "tool_result":
            content = block["content"]
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            found.append(" ".join(map(_told, parts)))
    return found


def _told(part: dict[str, Any]) -> str:
    match part:
        case {"type": "text", "text": str(text)}:
            return text
        case {"source": {"media_type": str(kind)}}:
            return f"[{kind}]"
    return f"[{part['type']}]"


def _plan(messages: list[dict[str, Any]]) -> tuple[str, list[list[Call]], int]:
    """The number and the steps of the newest message of people, and how many answers came after it."""
    number = ""
    steps: list[list[Call]] = []
    done = 0
    for message in messages:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if message["role"] == "assistant":
            done += 1
        elif message["role"] == "user" and all(block["type"] == "text" for block in blocks):
            found = _PLAN.search(html.unescape("".join(block["text"] for block in blocks)))
            number, steps = (found[1], json.loads(found[2])) if found else ("", [])
            done = 0
    return number, steps, done


@contextmanager
def open_scripted(internet: Internet, answer: Script) -> Iterator[None]:
    """Serve a model where a daemon inside finds it, at `Internet.model_url`, for the length of the block."""
    up, over = threading.Event(), threading.Event()

    async def serve() -> None:
        async with open_messages_api(answer, internet.model_socket):
            up.set()
            await trio.to_thread.run_sync(over.wait)

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    try:
        assert up.wait(10)
        yield
    finally:
        over.set()
        thread.join()
