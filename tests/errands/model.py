"""A model that plays the errands: for each message of a household, the calls that a model would make for it.

It is asked over HTTP as the model API is, so the gateway, its ledger and the real CLI are between it and the daemon.
What it answers comes of what its tools gave back.
"""

from __future__ import annotations

import html
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
import trio

from tests.end_to_end.scripted import Call, results
from tests.messages_api import Reply, Request, blocks, says, uses

#: One answer of the model: calls of tools, or words; known from the start, or made of what it is asked with.
Answer = list[Call] | str
Step = Answer | Callable[[Request], Answer]

_BYTES_OF_A_TOKEN: Final = 4  # about; the real count is the API's
TOGETHER: Final = 60.0  # seconds within which those who work at once have all begun


def told(call: Request) -> str:
    """What the tools of the step before gave back."""
    return "\n".join(results(call))


def tool(name: str, **arguments: Any) -> list[Call]:
    """A step that calls one of Pynchy's tools."""
    return [(f"mcp__pynchy__{name}", arguments)]


def look_up(name: str) -> list[Call]:
    """A step that looks up what a rarely used tool takes."""
    return [("ToolSearch", {"query": f"select:mcp__pynchy__{name}"})]


def bash(command: str) -> list[Call]:
    return [("Bash", {"command": command})]


@attrs.define(eq=False)
class Together:
    """Answers that wait until so many are asked for: that work is done at once, and not one after the other."""

    count: int
    begun: int = 0
    everybody: trio.Event = attrs.field(factory=trio.Event)

    async def wait(self) -> None:
        self.begun += 1
        if self.begun == self.count:
            self.everybody.set()
        with trio.move_on_after(TOGETHER):
            await self.everybody.wait()


@attrs.define(eq=False)
class Model:
    """``plays``: what it does when a message has these words. ``together``: words whose answers wait for each other.
    ``wrong``: what it should have been given and was not."""

    plays: dict[str, Sequence[Step]] = attrs.field(factory=dict)
    together: dict[str, Together] = attrs.field(factory=dict)
    wrong: list[str] = attrs.field(factory=list)

    async def answer(self, call: Request) -> Reply:
        await trio.lowlevel.checkpoint()
        if call.path.endswith("count_tokens"):
            return Reply()
        size = len(str(call.body)) // _BYTES_OF_A_TOKEN
        return attrs.evolve(await self._answer(call), input_tokens=size)

    async def _answer(self, call: Request) -> Reply:
        if (small := _asked_by_the_cli(call)) is not None:
            return small
        words, done = self._play(call.body["messages"])
        for each, others in self.together.items():
            if each in words and not done:
                await others.wait()
        steps = self.plays.get(words, ())
        if done >= len(steps):
            return says("I have nothing more to do.")
        step = steps[done]
        try:
            answer = step(call) if callable(step) else step
        except Exception as error:
            self.wrong.append("".join(traceback.format_exception(error)))
            answer = "Something is wrong."
        return says(answer) if isinstance(answer, str) else uses(*answer)

    def _play(self, messages: list[dict[str, Any]]) -> tuple[str, int]:
        """The known words that stand in the newest message of people, and how many answers came after it."""
        done = 0
        for message in reversed(messages):
            content = message["content"]
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            if message["role"] == "assistant":
                done += 1
            elif message["role"] == "user":
                said = html.unescape("".join(part.get("text", "") for part in parts))
                found = [words for words in self.plays if words in said]
                if found:
                    return max(found, key=said.rindex), done
        return "", done


def _asked_by_the_cli(call: Request) -> Reply | None:
    """The CLI's small calls for its own tools: a search of the web, the reading of a page."""
    first = str(call.body["messages"][0])
    if [each.get("name") for each in call.body.get("tools", ())] == ["web_search"]:
        hit = {"type": "web_search_result", "title": "Weather", "url": "https://weather.example/",
               "encrypted_content": "x", "page_age": None}  # fmt: skip
        return blocks(
            {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search",
             "input": {"query": "weather"}},
            {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [hit]},
            "Tomorrow: sunny, 21 degrees.",
            searches=1,
        )  # fmt: skip
    if "Web page content:" in first:
        page = first.partition("Web page content:")[2]
        return says("; ".join(point for point in ("rye", "salt", "two hours") if point in page))
    return None
