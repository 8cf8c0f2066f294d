"""The first request of a group to the model: its size, and what it says.

A daemon as a user would start it, with a sandbox and the real CLI, whose model is on loopback and keeps what it gets.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from tests.benchmarks.recorder import open_recorder
from tests.end_to_end.house import running


@attrs.frozen
class FirstRequest:
    """One body as it was sent."""

    body: bytes

    @property
    def size(self) -> int:
        return len(self.body)

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document

    @property
    def parts(self) -> Mapping[str, int]:
        """Bytes of each part, and of each tool."""
        document = self.document
        tools = {f"tools.{tool['name']}": tool for tool in document["tools"]}
        return {name: len(json.dumps(part)) for name, part in (document | tools).items()}

    @property
    def tools(self) -> set[str]:
        """The names of the tools that the model is shown."""
        return {tool["name"] for tool in self.document["tools"]}

    @property
    def text(self) -> str:
        """All that is said to the model beside the tools."""
        found: list[str] = []

        def gather(part: Any) -> None:
            if isinstance(part, dict):
                found.extend(str(part[key]) for key in ("text",) if key in part)
                gather(part.get("content"))
            elif isinstance(part, list):
                for each in part:
                    gather(each)
            elif isinstance(part, str):
                found.append(part)

        gather(self.document["system"])
        gather(self.document["messages"])
        return "\n".join(found)


@contextmanager
def open_requests(folder: Path, engine: str) -> Iterator[Callable[[str, str], FirstRequest]]:
    """Gives a function that says something in a group of a new daemon, and returns the request that it led to."""
    with (
        open_recorder() as recorder,
        running(
            folder / "home",
            engine,
            f"model.base_url=http://127.0.0.1:{recorder.port}",
            ANTHROPIC_API_KEY="sk-ant-of-a-test",
        ) as daemon,
        daemon.talk() as owner,
    ):

        def ask(group: str, words: str) -> FirstRequest:
            chat = f"console:{group}"
            if group != "main":
                owner.call("groups.add", chat=chat, folder=group, requires_trigger=False)
            with daemon.talk(chat) as talk:
                talk.ask(words)
            return next(
                FirstRequest(body)
                for _, path, body in recorder.arrivals
                if path.startswith("/v1/messages?") and words.encode() in body
            )

        yield ask
