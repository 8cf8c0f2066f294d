"""What a conversation costs to go on with, and for how long it should stay cached at the provider.

Pure. A message is paid with all that was said before: cheaply while that is cached, in full after. A provider keeps it
for five minutes after its last use, or for an hour, which is dearer to write. Which is cheaper depends on the pace of a
group alone, so it is worked out on what its calls were lately: docs/costs.md has the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from pynchy.gateway.exchange import Usage
from pynchy.gateway.prices import cost
from pynchy.model import HOUR, MINUTE, Micros

SHORT: Final = 5 * MINUTE
LONG: Final = HOUR
FRESH: Final = 8_000  # tokens of a conversation that begins: instructions and tools
#: What a short message and its answer come to, in tokens: what `next_message` reckons with.
SAID: Final = 500
ANSWERED: Final = 500


@attrs.frozen
class PastCall:
    """A call of a group's conversation: when, of which model, and how many tokens it read and wrote."""

    at: Micros = attrs.field(metadata={"column": "usage.created_at"})
    model: str = attrs.field(metadata={"column": "usage.model"})
    #: Tokens of input of all kinds.
    prompt: int = attrs.field(
        metadata={"column": "input_tokens + cache_read_tokens + cache_write_tokens"}
    )
    output: int = attrs.field(metadata={"column": "output_tokens"})


def hour_pays(calls: Sequence[PastCall]) -> bool:
    """Whether these calls, in their order, would have been cheaper if all were cached for an hour."""
    return _reading(calls, kept=LONG) < _reading(calls, kept=SHORT)


def _reading(calls: Sequence[PastCall], *, kept: float) -> int:
    """What reading came to if what is read once is kept for so many seconds after each use, in micro-dollars."""
    money, cached = 0, 0
    before: Micros | None = None
    for call in calls:
        if before is None or call.at - before > kept * 1e6:
            cached = 0
        read = min(cached, call.prompt)
        money += cost(call.model, _usage(read, call.prompt - read, hour=kept == LONG))
        # Small questions besides the conversation, as of a helper, leave what is cached of it in its place.
        cached, before = max(cached, call.prompt), call.at
    return money


def next_message(model: str, size: int, *, hour: bool) -> tuple[int, int]:
    """What one short message costs in a conversation of so many tokens, answered at once: while that is cached, and
    when it is not, in micro-dollars. An estimate: each tool that the agent uses reads the conversation once more."""
    answer = Usage(output=ANSWERED)
    return (
        cost(model, _usage(size, SAID, hour=hour)) + cost(model, answer),
        cost(model, _usage(0, size + SAID, hour=hour)) + cost(model, answer),
    )


def _usage(read: int, written: int, *, hour: bool) -> Usage:
    if hour:
        return Usage(cache_read=read, cache_write_hour=written)
    return Usage(cache_read=read, cache_write=written)
