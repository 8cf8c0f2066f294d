"""What the model is sent for the first word of a group by the real daemon, sandbox and CLI: how much, and what."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.first_request import FirstRequest, open_requests
from tests.end_to_end.test_built_in_tools import open_world
from tests.internet import Internet

MOST = 28_000  # bytes


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FirstRequest]:
    with open_requests(tmp_path_factory.mktemp("first"), "bwrap") as ask:
        return {group: ask(group, f"hello from {group}") for group in ("family", "main")}


@pytest.mark.parametrize("group", ["family", "main"])
def test_the_first_request_is_small(requests: dict[str, FirstRequest], group: str) -> None:
    assert requests[group].size <= MOST, requests[group].parts


def test_it_is_an_assistants_and_not_a_developers(requests: dict[str, FirstRequest]) -> None:
    said = requests["family"].text
    for word in ("Claude Code", "terminal", "Co-Authored-By", "pull request", "settings.json"):
        assert word not in said
    assert "You are Pynchy, the personal assistant of the people in a group chat." in said
    assert 'People seen here: "Owner".' in said  # in a new group, too
    assert "The console renders Markdown" in said
    assert "- Here: " in said
    assert "What is worth knowing here every time" in said  # its memory
    assert "using-the-tools" in said  # its skills, and none of the CLI's
    assert "code-review" not in said
    assert "It is not the main group" in said
    assert "It is the main group" in requests["main"].text


def test_rare_tools_are_named_and_not_shown(requests: dict[str, FirstRequest]) -> None:
    family, main = requests["family"], requests["main"]
    assert {"mcp__pynchy__send_message", "mcp__pynchy__recall", "Bash", "Read"} <= family.tools
    for name in ("mcp__pynchy__schedule_task", "mcp__pynchy__get_usage", "TodoWrite", "WebFetch"):
        assert name not in family.tools
        assert f"\n{name}\n" in family.text
    assert "mcp__pynchy__list_groups" in main.text
    assert "mcp__pynchy__list_groups" not in family.text


def test_a_tool_that_is_looked_up_is_shown_from_then_on(tmp_path: Path, internet: Internet) -> None:
    name = "mcp__pynchy__list_tasks"
    with open_world(tmp_path, internet) as world:
        look = {"query": f"select:{name}", "max_results": 1}
        assert world.use(("ToolSearch", look)) == "[tool_reference]"
        assert name in world.model.last.tools
        assert world.use((name, {})) == "nothing is scheduled"
