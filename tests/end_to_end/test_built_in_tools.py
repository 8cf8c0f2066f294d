"""The CLI's own tools, each called in a real sandbox under each egress setting: what is offered works, and what is
refused says why and what can be asked for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from pynchy_agent.claude import PREFIX
from tests.end_to_end.house import Daemon, Talk, running
from tests.end_to_end.scripted import KEY, Call, Scripted, do, open_scripted, results
from tests.end_to_end.test_looking_in import asked, pynchy
from tests.internet import Internet
from tests.messages_api import Reply, Request, blocks, fails, says, uses

WORK = "/workspace/group"
HELPED = "Paint is dry."


def small_calls(call: Request) -> Reply | None:
    """What the CLI asks besides the conversation: a search, the reading of a page, a subagent's work."""
    if call.path.endswith("count_tokens"):
        return Reply()
    tools = [tool["name"] for tool in call.body.get("tools", [])]
    first = json.dumps(call.body["messages"][0])
    if tools == ["web_search"] and "by heart" in first:
        return says("It is always sunny.")
    if tools == ["web_search"]:
        return blocks(
            {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search",
             "input": {"query": "weather"}},
            {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1",
             "content": [{"type": "web_search_result", "title": "Weather", "url": "https://w.example/",
                          "encrypted_content": "x", "page_age": None}]},
            "It will be sunny.",
            searches=1,
        )  # fmt: skip
    if "Web page content:" in first:
        return says("Three points." if "Once upon a time" in first else "Something else.")
    if "look behind the router" in first and "DO " not in first:
        fetch = ("WebFetch", {"url": "https://router.example.org/", "prompt": "?"})
        return says(_lines_of_the_gateway(call)) if results(call) else uses(fetch)
    return says(HELPED) if "watch the paint" in first else None


def ours(tool: str, arguments: dict[str, Any]) -> Call:
    """A call of a tool of ours, by the name that the CLI gives it."""
    return (f"{PREFIX}{tool}", arguments)


def _lines_of_the_gateway(call: Request) -> str:
    return "\n".join(line for line in call.mid_turn.splitlines() if "The gateway" in line) or "none"


@attrs.define(eq=False)
class World:
    """A daemon whose model is scripted, and its owner at the console."""

    daemon: Daemon
    talk: Talk
    model: Scripted
    asked: int = 0

    @property
    def folder(self) -> Path:
        return self.daemon.home.groups / "main"

    def use(self, *calls: Call) -> str:
        """What tools gave back that the model called at once."""
        self.asked += 1
        start = f"{self.asked}: "
        self.talk.say(do(self.asked, list(calls)))
        told = self.talk.wait(lambda event: str(event.get("text", "")).startswith(start))
        return str(told["text"]).removeprefix(start)

    def is_given(self, *calls: Call) -> None:
        """Let the model ask for things, approve them, and wait until the agent has heard of it."""
        for told in self.use(*calls).splitlines():
            code = told.partition("waiting for approval ")[2][:8]
            pynchy(self.daemon.home.root, "approvals", "approve", code)
            self.unasked()

    def unasked(self) -> None:
        """Wait for the agent's next word that answers nobody."""
        self.talk.wait(lambda event: event.get("text") == "nobody asked")

    def offers(self, tool: str) -> bool:
        """Whether the newest call offers a tool, or names it as one to be looked up."""
        named = self.beside().splitlines().count(tool)  # and once more where it is taken back
        return tool in self.model.last.tools or named % 2 == 1

    def newest(self) -> str:
        """What came last to the model, of whatever kind."""
        return json.dumps(self.model.last.body["messages"][-2:])

    def beside(self) -> str:
        """What stands in messages of the system in the newest call."""
        return self.model.last.mid_turn


@contextmanager
def open_world(
    tmp_path: Path, internet: Internet, *settings: str, model: Scripted | None = None
) -> Iterator[World]:
    model = model or Scripted(small_calls)
    with (
        open_scripted(internet, model.answer),
        running(
            tmp_path / "home",
            "bwrap",
            f"model.base_url={internet.model_url}",
            *settings,
            inside=internet,
            ANTHROPIC_API_KEY=KEY,
        ) as daemon,
        daemon.talk() as talk,
    ):
        yield World(daemon, talk, model)


@pytest.mark.parametrize("egress", ["none", "allowlist", "public"])
def test_what_works_within_the_sandbox_works_whatever_the_network_allows(
    tmp_path: Path, internet: Internet, egress: str
) -> None:
    with open_world(tmp_path, internet, f"gateway.egress={egress}") as world:
        use, folder = world.use, world.folder
        assert "6" in use(("Bash", {"command": "echo $((2*3)); id -un"}))
        use(("Write", {"file_path": f"{WORK}/list.txt", "content": "milk\nbread\n"}))
        change = {"old_string": "bread", "new_string": "rye bread"}
        use(("Edit", {"file_path": f"{WORK}/list.txt", **change}))
        assert (folder / "list.txt").read_text() == "milk\nrye bread\n"
        assert "rye bread" in use(("Read", {"file_path": f"{WORK}/list.txt"}))

        (folder / "letter.pdf").write_bytes(pdf(40))
        (folder / "dot.png").write_bytes(PICTURE)
        (folder / "sums.ipynb").write_text(json.dumps(NOTEBOOK))
        whole = use(("Read", {"file_path": f"{WORK}/letter.pdf"}))
        pages = use(("Read", {"file_path": f"{WORK}/letter.pdf", "pages": "2-3"}))
        if shutil.which("pdftoppm"):
            assert "40 pages" in whole  # and how many may be read at once
            assert pages.count("[image/jpeg]") == 2
        else:
            assert "[application/pdf]" in whole
            assert "pdftoppm is not installed" in pages
        assert use(("Read", {"file_path": f"{WORK}/dot.png"})) == "[image/png]"
        assert "42" in use(("Read", {"file_path": f"{WORK}/sums.ipynb"}))
        cell = {"cell_id": "a", "new_source": "print(1)"}
        use(("NotebookEdit", {"notebook_path": f"{WORK}/sums.ipynb", **cell}))
        assert "print(1)" in (folder / "sums.ipynb").read_text()

        assert use(("Glob", {"pattern": "*.pdf"})) == "letter.pdf"
        found = use(("Grep", {"pattern": "rye", "output_mode": "content"}))
        assert found == "list.txt:2:rye bread"
        todo = {"content": "shop", "status": "pending", "activeForm": "shopping"}
        assert "modified successfully" in use(("TodoWrite", {"todos": [todo]}))
        assert "chat-formatting" in use(("Skill", {"skill": "chat-formatting"}))
        assert "chat" in world.model.last.prompt.lower()  # its page, for the model to read

        work = {"description": "watch", "prompt": "watch the paint"}
        assert HELPED in use(("Agent", {**work, "run_in_background": False}))
        assert "in the background" in use(("Agent", work))
        world.unasked()  # it wakes the agent when it is done
        assert HELPED in world.newest()
        slow = {"command": "sleep 1; echo over", "run_in_background": True}
        assert "in background" in use(("Bash", slow))
        world.unasked()
        assert "completed" in world.newest()


def test_the_web_is_reached_where_it_is_open(tmp_path: Path, internet: Internet) -> None:
    internet.page("www.example.org", "tale.html", "<p>Once upon a time")
    with open_world(
        tmp_path, internet, "gateway.egress=public", "budget.day_dollars=1", "model.name=sonnet"
    ) as world:
        page = {"url": "https://www.example.org/tale.html", "prompt": "in three points"}
        assert world.use(("WebFetch", page)) == "Three points."
        before = _dollars(world)
        assert "sunny" in world.use(("WebSearch", {"query": "weather tomorrow"}))
        assert 0.01 <= _dollars(world) - before < 0.02  # a search costs a cent
        assert (world.offers("WebFetch"), world.offers("WebSearch")) == (True, True)
        [search] = [
            call for call in world.model.calls if call.path == "/v1/messages?beta=true"
            and [tool["name"] for tool in call.body["tools"]] == ["web_search"]
        ]  # fmt: skip
        assert search.body["tools"][0]["type"].startswith("web_search_")

        assert "Nothing was found on the web" not in world.beside()
        world.use(("WebSearch", {"query": "weather, by heart"}))
        assert "Nothing was found on the web" in world.beside()

        # The gateway's words, whichever program asked.
        inner = "https://router.example.org/"
        why = "router.example.org is not on the public internet"
        assert "refused" in world.use(("WebFetch", {"url": inner, "prompt": "?"}))
        assert why in world.beside()
        assert "403" in world.use(("Bash", {"command": f"curl -sS {inner} 2>&1; true"}))
        assert world.beside().count(why) == 2
        assert "403" in world.use(("Bash", {"command": f"curl -fsS {inner}"}))  # which fails
        assert world.beside().count(why) == 3
        world.use(("Bash", {"command": "true"}))
        assert world.beside().count(why) == 3  # told once
        # In a helper, which has no tool to ask with, and in a subagent.
        helper = world.use(ours("delegate", {"prompt": "look behind the router"}))
        assert f"{why}; you cannot ask for anything here" in helper
        work = {"description": "look", "prompt": "look behind the router"}
        assert why in world.use(("Agent", {**work, "run_in_background": False}))

        # A host's own refusal is the host's.
        theirs = {"url": "https://www.example.org/-/status/403", "prompt": "?"}
        assert "403" in world.use(("WebFetch", theirs))
        assert world.beside().count("The gateway refused") == 3


def _dollars(world: World) -> float:
    return sum(float(each["cost"]) for each in asked(world.daemon.home.root, "usage"))


def test_where_little_is_open_a_refusal_says_what_can_be_asked_for(
    tmp_path: Path, internet: Internet
) -> None:
    internet.page("www.example.org", "tale.html", "<p>Once upon a time")
    page = {"url": "https://www.example.org/tale.html", "prompt": "in three points"}
    with open_world(tmp_path, internet, "gateway.egress=allowlist") as world:
        assert "refused" in world.use(("WebFetch", page))
        assert "www.example.org is not on this group's list of hosts" in world.beside()
        assert "request_host" in world.beside()
        assert "WebSearch is disabled" in world.use(("WebSearch", {"query": "weather"}))
        assert (world.offers("WebFetch"), world.offers("WebSearch")) == (True, False)

        world.is_given(
            ours("request_host", {"host": "www.example.org"}),
            ours("request_tool", {"tool": "web_search"}),
        )
        assert world.use(("WebFetch", page)) == "Three points."
        assert "sunny" in world.use(("WebSearch", {"query": "weather tomorrow"}))


def test_what_cannot_work_is_not_offered(tmp_path: Path, internet: Internet) -> None:
    def lacks_search(call: Request) -> Reply | None:
        if call.path.endswith("count_tokens"):
            return fails(400, "invalid_request_error", "what is web_search?")
        return small_calls(call)

    with open_world(
        tmp_path, internet, "gateway.egress=public", model=Scripted(lacks_search)
    ) as world:
        assert "disabled" in world.use(("WebSearch", {"query": "weather"}))
        assert (world.offers("WebFetch"), world.offers("WebSearch")) == (True, False)
        told = world.use(ours("request_tool", {"tool": "web_search"}))
        assert "model.web_search" in told
        pynchy(world.daemon.home.root, "groups", "set", "main", "egress", "none")
        page = {"url": "https://www.example.org/", "prompt": "?"}
        assert "disabled" in world.use(("WebFetch", page))
        assert not world.offers("WebFetch")
        assert (
            "egress is none"
            in world.use(("Bash", {"command": "wget -O- https://www.example.org/ 2>&1; true"}))
            + world.beside()
        )
    assert internet.seen() == []


def test_a_model_that_is_not_the_groups_is_refused_by_name(
    tmp_path: Path, internet: Internet
) -> None:
    with open_world(tmp_path, internet, "model.name=sonnet") as world:
        home = world.daemon.home.root
        world.use(("Bash", {"command": "true"}))
        pynchy(home, "groups", "set", "main", "models", world.model.last.body["model"])
        work = {"description": "watch", "prompt": "watch the paint", "run_in_background": False}
        told = world.use(("Agent", {**work, "model": "haiku"}))
        assert "authenticate" not in told
        refused = told.partition("may not use '")[2].partition("'")[0]
        assert "haiku" in refused
        assert "setting models" in told
        world.is_given(ours("request_tool", {"tool": "model", "model": refused}))
        assert HELPED in world.use(("Agent", {**work, "model": "haiku"}))


# --- files to read -------------------------------------------------------------------------------

PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108020000009077"
    "53de0000000c4944415408d763f8cfc000000301010018dd8db00000000049454e44ae426082"
)
NOTEBOOK = {
    "cells": [
        {"cell_type": "code", "id": "a", "source": ["6 * 7"], "metadata": {}, "execution_count": 1,
         "outputs": [{"output_type": "stream", "name": "stdout", "text": ["42\n"]}]}
    ],
    "metadata": {"language_info": {"name": "python"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}  # fmt: skip


def pdf(pages: int, lines: Mapping[int, str] | None = None) -> bytes:
    """A document of so many pages, each with its number on it, or with the line that is given for it."""
    kids = " ".join(f"{3 + 2 * page} 0 R" for page in range(pages))
    font = "<< /Font << /F << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>"
    parts = ["<< /Type /Catalog /Pages 2 0 R >>"]
    parts += [f"<< /Type /Pages /Kids [{kids}] /Count {pages} >>"]
    for page in range(pages):
        line = (lines or {}).get(page + 1, f"page {page + 1}")
        text = f"BT /F 24 Tf 20 100 Td ({line}) Tj ET"
        parts += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Contents {4 + 2 * page} 0 R /Resources {font} >>",
            f"<< /Length {len(text)} >>\nstream\n{text}\nendstream",
        ]
    whole, offsets = b"%PDF-1.4\n", []
    for number, part in enumerate(parts, start=1):
        offsets.append(len(whole))
        whole += f"{number} 0 obj\n{part}\nendobj\n".encode()
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    end = f"trailer << /Size {len(parts) + 1} /Root 1 0 R >>\nstartxref\n{len(whole)}\n%%EOF\n"
    return whole + f"xref\n0 {len(parts) + 1}\n0000000000 65535 f \n{table}{end}".encode()
