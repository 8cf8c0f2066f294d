"""Tell the model beside a tool's result what the tool itself leaves out.

The CLI's tools hide why the gateway refused a connection, and call it a search where the model API has answered by
itself. These are hooks of the SDK; what they say comes to the model after the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from claude_agent_sdk import HookMatcher

if TYPE_CHECKING:
    from claude_agent_sdk.types import HookContext, HookEvent, HookInput, HookJSONOutput

    from pynchy_agent.relay import Refusals

REACHING_OUT: Final = "Bash|WebFetch|WebSearch"  # tools that connect elsewhere, or have it done
NOT_FOUND: Final = (
    "Nothing was found on the web for this: what stands there is a model's own word. Do not tell people that you"
    " looked it up."
)
NO_ASKING: Final = "; you cannot ask for anything here: say in your answer what is missing"


class Hints:
    """What is said after tools of one run. ``may_ask``: it has the tools to ask people for hosts; a helper has not."""

    def __init__(self, refusals: Refusals, *, may_ask: bool) -> None:
        self._refusals = refusals
        self._more = "" if may_ask else NO_ASKING

    def hooks(self) -> dict[HookEvent, list[HookMatcher]]:
        return {
            "PostToolUse": [HookMatcher(matcher=REACHING_OUT, hooks=[self._after])],
            "PostToolUseFailure": [HookMatcher(matcher=REACHING_OUT, hooks=[self._after])],
        }

    async def _after(
        self, told: HookInput, _tool_use: str | None, _context: HookContext
    ) -> HookJSONOutput:
        words = [
            f"The gateway refused a connection: {each}{self._more}"
            for each in self._refusals.take()
        ]
        if told["hook_event_name"] == "PostToolUse":
            if told["tool_name"] == "WebSearch" and not _found_anything(told["tool_response"]):
                words.append(NOT_FOUND)
            event: Any = "PostToolUse"
        else:
            event = "PostToolUseFailure"
        if not words:
            return {}
        return {
            "hookSpecificOutput": {"hookEventName": event, "additionalContext": "\n".join(words)}
        }


def _found_anything(response: Any) -> bool:
    """Whether a search has links among its results; its texts are the model's."""
    results = response.get("results") if isinstance(response, dict) else None
    return isinstance(results, list) and any(
        isinstance(each, dict) and each.get("content") for each in results
    )
