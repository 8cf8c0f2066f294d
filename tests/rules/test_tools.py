"""The one table of tools: closed schemas that agree with the check, and an act for each entry."""

from __future__ import annotations

from typing import Any

import attrs
import jsonschema  # type: ignore[import-untyped]  # ships no types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy.actions import approvals, commands
from pynchy.model import Group, GroupId
from pynchy.policy.tools import TOOLS, Tool, misfit, offered, offered_to_helpers
from pynchy_agent import wire

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 60),
    st.text(max_size=8),
    st.sampled_from(["cron", "group", "x" * 20_000, "x" * 40_000]),
    st.lists(st.text(max_size=3) | st.integers(), max_size=14),
)


def group(*, main: bool) -> Group:
    folder = GroupId("main" if main else "family")
    return Group(folder=folder, name="x", trigger="x", requires_trigger=True, is_main=main)


@pytest.mark.parametrize("tool", TOOLS.values(), ids=lambda tool: tool.name)
def test_every_schema_is_valid_and_closed(tool: Tool) -> None:
    # threat I1: an argument that is not in the table is refused, whoever sends it
    jsonschema.Draft202012Validator.check_schema(tool.schema)
    assert tool.schema["additionalProperties"] is False
    assert tool.description.endswith(".")
    assert all(rule["description"] for rule in tool.schema["properties"].values())
    for name in ("is_main", "group", "source_group", "is_admin"):
        assert misfit(tool.name, {name: True}) is not None


@given(data=st.data())
def test_the_check_agrees_with_the_schema_that_a_model_reads(data: st.DataObject) -> None:
    tool: Tool = data.draw(st.sampled_from(list(TOOLS.values())))
    names = st.sampled_from([*tool.arguments, "other"])
    args = data.draw(st.dictionaries(names, values, max_size=6))
    valid = jsonschema.Draft202012Validator(tool.schema).is_valid(args)
    assert (misfit(tool.name, args) is None) == valid


def test_every_tool_has_an_act_and_every_act_a_tool() -> None:
    always_asked = {name for name, tool in TOOLS.items() if tool.asks}  # carried out when approved
    assert commands.ACTS.keys() == TOOLS.keys() - always_asked
    assert always_asked < approvals.APPROVED.keys()


@pytest.mark.parametrize("main", [True, False])
def test_what_is_offered_is_bounded_and_always_in_the_same_order(main: bool) -> None:
    names = [tool.name for tool in offered(group(main=main))]
    assert names == [name for name in TOOLS if name in names]
    assert [tool.name for tool in offered_to_helpers(group(main=main))] == [
        name for name in names if TOOLS[name].for_helpers
    ]
    described: list[Any] = [attrs.asdict(tool) for tool in offered(group(main=main))]
    assert (
        len(wire.dumps({"tools": described})) < 24 << 10
    )  # each start and each first request has it
