"""The table of tools: closed schemas, and a check of arguments that agrees with JSON Schema's own."""

from __future__ import annotations

from typing import Any

import jsonschema  # type: ignore[import-untyped]  # ships no types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy_agent.toolset import TOOLS, misfit

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 60),
    st.text(max_size=8),
    st.sampled_from(["cron", "group", "x" * 20_000]),
    st.lists(st.text(max_size=3) | st.integers(), max_size=14),
)


@pytest.mark.parametrize("tool", TOOLS.values(), ids=lambda tool: tool.name)
def test_every_schema_is_valid_and_closed(tool: Any) -> None:
    # threat I1: an argument that is not in the table is refused, whoever sends it
    jsonschema.Draft202012Validator.check_schema(tool.schema)
    assert tool.schema["additionalProperties"] is False
    assert tool.description.endswith(".")
    assert all(rule["description"] for rule in tool.schema["properties"].values())
    for name in ("is_main", "group", "source_group", "is_admin"):
        assert misfit({name: True}, tool.schema) is not None


@given(data=st.data())
def test_the_check_agrees_with_json_schema(data: st.DataObject) -> None:
    tool = data.draw(st.sampled_from(list(TOOLS.values())))
    names = st.sampled_from([*tool.schema["properties"], "other"])
    args = data.draw(st.dictionaries(names, values, max_size=6))
    valid = jsonschema.Draft202012Validator(tool.schema).is_valid(args)
    assert (misfit(args, tool.schema) is None) == valid
