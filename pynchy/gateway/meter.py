"""Read a call's token usage from its answer as it passes.

Pure: bytes go in as they come, in any pieces; nothing is changed and nothing held back. What cannot
be read is bounded instead: a call that was cut off counts for what it can have produced.
"""

from __future__ import annotations

import json
from typing import Any, Final

import attrs

from pynchy.gateway.exchange import Usage
from pynchy.limits import GATEWAY

MAX_LINE: Final = 1 << 20  # an event longer than this is not one that tells usage

# No model writes faster than this: what a cut-off call is charged for each second it ran.
FASTEST: Final = 1_000  # tokens a second
# A piece of text comes in an event that has so many bytes without it; a token is at least one byte.
_EVENT: Final = len(b'data:{"type":"content_block_delta","delta":{"type":"x_delta","x":""}}')


class Meter:
    """The usage of one answer. ``final`` is True once the answer has told all of it; ``error`` is the event that it
    ended in, if that was an error; ``answered``: it began as the Messages API's do, and so is paid for."""

    def __init__(self, *, stream: bool) -> None:
        self.usage = Usage()
        self.final = False
        self.written = 0  # tokens of output that were seen to come, at most
        self.error: dict[str, Any] | None = None
        self.answered = False
        self._stream = stream
        self._began = False  # its beginning has told the input
        self._rest = bytearray()
        self._skipping = False

    def feed(self, chunk: bytes) -> None:
        """Take the next piece of the answer's body."""
        if not self._stream:
            if len(self._rest) <= GATEWAY.answer:
                self._rest += chunk
            return
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            self._line(bytes(self._rest) + line)
            self._rest.clear()
            self._skipping = False
        if not self._skipping:
            self._rest += rest
            if len(self._rest) > MAX_LINE:
                self.written += len(self._rest)
                self._rest.clear()
                self._skipping = True
        else:
            self.written += len(rest)

    def end(self) -> None:
        """The answer is whole."""
        if not self._stream:
            answer = _object(bytes(self._rest))
            told = answer.get("usage")
            self._take(told)
            self.answered = "content" in answer or len(self._rest) > GATEWAY.answer
            self.final = isinstance(told, dict)
            self._rest.clear()

    def _line(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            self.written += max(1, len(line) - _EVENT)
        if line.startswith(b"event:") and line[6:].strip() == b"error":
            self.error = self.error or {}
        if self._skipping or not line.startswith(b"data:"):
            return
        self.answered |= b'"message_start"' in line
        if b'"error"' in line and (failed := _object(line[5:])).get("type") == "error":
            self.error = failed
        if b'"usage"' not in line:
            return
        event = _object(line[5:])
        match event.get("type"):
            case "message_start":
                message = event.get("message")
                told = message.get("usage") if isinstance(message, dict) else None
                self._take(told)
                self._began = isinstance(told, dict)
            case "message_delta":
                told = event.get("usage")
                self._take(told)
                self.final = isinstance(told, dict) and (self._began or "input_tokens" in told)

    def _take(self, told: Any) -> None:
        """Each figure that is told replaces the one before: the API's are running totals."""
        if not isinstance(told, dict):
            return
        if isinstance(rounds := told.get("iterations"), list):
            told = _together(told, rounds)
        now = self.usage
        written = _count(told, "cache_creation_input_tokens", now.cache_write)
        split, hour = told.get("cache_creation"), now.cache_write_hour
        if isinstance(split, dict):
            hour = _count(split, "ephemeral_1h_input_tokens", hour)
        if "cache_creation_input_tokens" in told:
            hour = min(hour, written)
            written -= hour
        made = told.get("server_tool_use")
        searches = now.searches
        if isinstance(made, dict):
            searches = _count(made, "web_search_requests", searches)
        self.usage = Usage(
            input=_count(told, "input_tokens", now.input),
            output=_count(told, "output_tokens", now.output),
            cache_read=_count(told, "cache_read_input_tokens", now.cache_read),
            cache_write=written,
            cache_write_hour=hour,
            searches=searches,
        )

    def bound(self, *, input: int, output: int, seconds: float, searches: int = 0) -> Usage:
        """What a call that ended here can have used at most: ``input`` and ``searches`` were its bounds, ``output``
        what it was allowed, ``seconds`` how long it may have written what was not seen to come."""
        written = min(output, self.written + int(FASTEST * (seconds + 1)))
        known = self.usage
        if known.tokens - known.output == 0:
            known = attrs.evolve(known, cache_write_hour=input)
        elif searches:
            # What was told at the beginning is without what the provider's tools brought since.
            rest = input - (known.tokens - known.output)
            known = attrs.evolve(known, cache_write_hour=known.cache_write_hour + max(0, rest))
        return attrs.evolve(
            known,
            output=max(known.output, written),
            searches=max(known.searches, searches),
            estimated=True,
        )


def _together(told: dict[str, Any], rounds: list[Any]) -> dict[str, Any]:
    """The usage of a call in several rounds: the figures beside them leave some of the rounds out."""
    whole = dict(told)
    for key in (
        "input_tokens",
        "output_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
    ):
        figures = [_count(each, key, 0) for each in rounds if isinstance(each, dict)]
        if key in told:
            whole[key] = max(_count(told, key, 0), sum(figures))
    return whole


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _count(told: dict[str, Any], key: str, default: int) -> int:
    value = told.get(key)
    return value if type(value) is int and 0 <= value < 1 << 40 else default
