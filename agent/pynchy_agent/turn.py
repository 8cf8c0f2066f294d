"""Collect what the CLI says in one turn, and make its result frame.

The rules of what a failure is called are tables here, and pure; `claude` does the rest.
"""

from __future__ import annotations

import re
from typing import Final

from claude_agent_sdk import (
    AssistantMessage,
    ResultMessage,
    StreamEvent,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)

from pynchy_agent import wire
from pynchy_agent.answer import Answer

MAX_ANSWER: Final = 80_000  # characters; each is at most 12 bytes of a frame
INTERRUPTED: Final = frozenset({"aborted_streaming", "aborted_tools"})  # ends of a turn
DIAGNOSTIC: Final = (
    "[ede_diagnostic]",
    "[session_crash]",
)  # errors that are for the CLI's own makers
SYNTHETIC: Final = "<synthetic>"  # the model of what the CLI says in the agent's place
NOTHING_TO_SHORTEN: Final = "There is nothing to shorten yet."
#: Failures after which what was said stands, if a limit ended it.
BOUGHT: Final = frozenset({"budget", "context", "output_limit"})

#: How the CLI names a status where it gives a failure as text alone.
_STATUS_IN_WORDS: Final = re.compile(r"\bAPI Error: ([1-5]\d\d)\b", re.ASCII)

_STATUS_KINDS: Final[dict[int, str]] = {
    400: "history",
    401: "credential",
    402: "budget",
    403: "credential",
    404: "policy",
    413: "context",
    429: "rate_limit",
}

_CAUSE_KINDS: Final[dict[str, str]] = {
    "authentication_failed": "credential",
    "billing_error": "billing",
    "max_output_tokens": "output_limit",
    "rate_limit": "rate_limit",
    "model_not_found": "policy",
    "server_error": "outage",
}

_REASON_KINDS: Final[dict[str, str]] = {
    **dict.fromkeys(INTERRUPTED, "interrupted"),
    "budget_exhausted": "budget",
    "max_turns": "max_turns",
    "prompt_too_long": "context",
}


class Turn:
    """What is heard between two results, and the frame that it comes to. ``speaking``: the tools whose calls reach
    the chat, by the names that the model calls them by."""

    def __init__(self, speaking: frozenset[str]) -> None:
        self._tools = speaking
        self.compaction: str | None = None  # how shortening the conversation went
        self.retry_at: float | None = None  # when the limit of the model API that was met is over
        self._answer = Answer()
        self._cause: str | None = None  # what the last failed call of the model API was about
        self._speaking: dict[str, str] = {}  # calls of tools that reach the chat, with their text
        self._spoke = False

    def listen(self, message: AssistantMessage) -> None:
        """Keep what the agent says, and which tools it speaks by."""
        for block in message.content:
            if isinstance(block, ToolUseBlock) and block.name in self._tools:
                self._speaking[block.id] = str(block.input.get("text", ""))
        if message.parent_tool_use_id is not None:  # a subagent's
            return
        if message.error is not None or message.model == SYNTHETIC:  # the CLI's own words
            self._cause = message.error or self._cause
            return
        for block in message.content:
            if isinstance(block, TextBlock):
                self._answer.text(message.message_id, block.text)
            else:
                self._answer.other(message.message_id, tool=isinstance(block, ToolUseBlock))
        if not message.content:  # a kind of block that the SDK does not know
            self._answer.other(message.message_id, tool=False)
        if message.stop_reason is not None:  # it was not streamed
            self._answer.stop(message.stop_reason)

    def listen_to_the_stream(self, message: StreamEvent) -> None:
        """Keep where the messages begin, and why they end."""
        if message.parent_tool_use_id is not None:
            return
        match message.event:
            case {"type": "message_start"}:
                self._answer.begin()
            case {"type": "message_delta", "delta": {"stop_reason": str(reason)}}:
                self._answer.stop(reason)

    def learn_what_was_sent(self, message: UserMessage) -> None:
        """Keep which calls of tools have reached the chat."""
        for block in message.content:
            if isinstance(block, ToolResultBlock) and not block.is_error:
                text = self._speaking.pop(block.tool_use_id, None)
                if text is not None:
                    self._spoke = True
                    self._answer.sent(text)

    def outcome(
        self, result: ResultMessage, prompts: tuple[str, ...], *, silent: bool
    ) -> wire.Result | wire.Error:
        """The answer, or why there is none. ``silent``: nobody waits for one, so that to say nothing is a success."""
        kind = error_kind(result, self._cause, self._answer.last_stop)
        words, cut = self._answer.words(), self._answer.is_cut()
        if kind in BOUGHT and cut:
            kind = None  # there is an answer, though a part is missing, and another try would buy it again
        elif kind is None:
            words = words or result.result or ""
            if not (words.strip() or self._spoke or silent) and prompts:
                kind = "empty"
        text = words[:MAX_ANSWER] if words.strip() else None
        if kind is None:
            return wire.Result(
                text=text,
                answered=prompts,
                session=result.session_id,
                cut=cut or len(words) > MAX_ANSWER,
            )
        return wire.Error(
            kind=kind,
            message=_reason(result, kind),
            prompts=prompts,
            session=result.session_id,
            retry_at=self.retry_at if kind == "rate_limit" else None,
            status=result.api_error_status,
            text=text,
        )

    def compacted(
        self, result: ResultMessage, prompts: tuple[str, ...]
    ) -> wire.Result | wire.Error:
        """Whether the conversation was shortened. The CLI calls it a success in any case."""
        kind = error_kind(result, self._cause, None)
        if kind is None and self.compaction in ("success", None):
            return wire.Result(
                text=None if self.compaction else NOTHING_TO_SHORTEN,
                answered=prompts,
                session=result.session_id,
            )
        found = _STATUS_IN_WORDS.search(result.result or "")
        status = int(found[1]) if found else None
        return wire.Error(
            kind=kind or ("agent" if status is None else _of_status(status)),
            message=_reason(result, kind or "agent"),
            prompts=prompts,
            session=result.session_id,
            status=status,
        )


def _reason(result: ResultMessage, kind: str) -> str:
    if kind == "interrupted":
        return "interrupted"  # the CLI's own words are of no use to anybody
    if kind == "empty":
        return "the model said nothing, and nothing when it was asked to"
    errors = (each for each in result.errors or () if not each.startswith(DIAGNOSTIC))
    return (result.result or "; ".join(errors) or result.subtype)[:2000]


def was_interrupted(result: ResultMessage) -> bool:
    """Whether the turn was stopped before its end."""
    return result.terminal_reason in INTERRUPTED


def error_kind(result: ResultMessage, cause: str | None, stop: str | None) -> str | None:
    """What kind of failure a result is, in the wire's words; None for a success.

    ``cause`` is the CLI's word for its last failed call of the model API, ``stop`` why the model's last message ended.
    """
    if (kind := _REASON_KINDS.get(result.terminal_reason or "")) is not None:
        return kind
    if not result.is_error and result.subtype == "success":
        return None
    if result.stop_reason == "refusal":
        return "refusal"
    if cause == "max_output_tokens" and stop == "model_context_window_exceeded":
        return "context"
    status = result.api_error_status
    unexplained = result.subtype == "error_during_execution" and status is None and cause is None
    if unexplained and stop not in (None, "tool_use"):
        return "empty"  # the model ended without a word, for a reason that the CLI does not know
    if cause == "billing_error" and status != 402:
        return "billing"
    if status is not None:
        return _of_status(status)
    return _CAUSE_KINDS.get(cause or "") or (
        "outage" if result.terminal_reason == "api_error" else "agent"
    )


def _of_status(status: int) -> str:
    return _STATUS_KINDS.get(status) or ("outage" if status >= 500 else "agent")
