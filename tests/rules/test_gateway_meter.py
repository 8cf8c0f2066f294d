"""What calls cost, and reading what they used out of what passes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy.gateway.exchange import Usage
from pynchy.gateway.meter import FASTEST, MAX_LINE, Meter
from pynchy.gateway.prices import (
    DEAREST,
    PRICES,
    cost,
    input_bound,
    output_bound,
    output_for,
    price_of,
    window_of,
)


def event(kind: str, **more: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()


START = event(
    "message_start",
    message={
        "usage": {
            "input_tokens": 10,
            "output_tokens": 1,
            "cache_read_input_tokens": 1000,
            "cache_creation_input_tokens": 300,
            "cache_creation": {
                "ephemeral_5m_input_tokens": 100,
                "ephemeral_1h_input_tokens": 200,
            },
        }
    },
)
TEXT = event("content_block_delta", delta={"type": "text_delta", "text": 'say "usage"'})
END = event("message_delta", delta={}, usage={"output_tokens": 50})
WHOLE = Usage(input=10, output=50, cache_read=1000, cache_write=100, cache_write_hour=200)


def read(*pieces: bytes, stream: bool = True) -> Meter:
    meter = Meter(stream=stream)
    for piece in pieces:
        meter.feed(piece)
    return meter


@given(st.lists(st.integers(0, 600), max_size=6))
def test_a_stream_tells_its_usage_however_it_is_cut(cuts: list[int]) -> None:
    data = START + TEXT + END
    pieces, last = [], 0
    for at in sorted(cuts):
        pieces.append(data[last:at])
        last = max(last, at)
    meter = read(*pieces, data[last:])
    assert (meter.usage, meter.final) == (WHOLE, True)


def test_line_ends_may_be_those_of_the_network() -> None:
    assert read((START + END).replace(b"\n", b"\r\n")).usage == WHOLE


def test_the_last_figures_count() -> None:
    told = {"input_tokens": 20, "output_tokens": 7, "server_tool_use": {"web_search_requests": 3}}
    meter = read(START, END, event("message_delta", usage=told))
    assert meter.usage.input == 20
    assert meter.usage.output == 7
    assert meter.usage.searches == 3


def test_an_answer_that_is_no_stream() -> None:
    body = json.dumps({"usage": {"input_tokens": 3, "output_tokens": 4}}).encode()
    meter = read(body[:9], body[9:], stream=False)
    assert not meter.final
    meter.end()
    assert (meter.usage, meter.final) == (Usage(input=3, output=4), True)


@pytest.mark.parametrize(
    "usage", [None, [], {"input_tokens": "3"}, {"input_tokens": -1}, {"input_tokens": 1 << 50}]
)
def test_figures_that_are_none_are_not_taken(usage: Any) -> None:
    assert read(event("message_start", message={"usage": usage})).usage == Usage()


@given(st.binary(max_size=300))
def test_any_bytes_can_be_fed(noise: bytes) -> None:
    for stream in (True, False):
        meter = read(b'data: {"usage"', noise, b"\n", noise, stream=stream)
        meter.end()


def test_a_line_without_end_is_not_kept() -> None:
    meter = read(START, *[b"data: x" * 1000] * (3 * MAX_LINE // 7000))
    assert len(meter._rest) <= MAX_LINE
    meter.feed(b"\n" + END)
    assert meter.usage == WHOLE


def test_a_call_that_was_cut_off_is_charged_for_what_it_may_have_written() -> None:
    meter = read(START, TEXT)
    assert not meter.final
    bound = meter.bound(input=9_999, output=128_000, seconds=4.0)
    assert bound.input == 10
    assert bound.estimated
    assert 5 * FASTEST < bound.output < 5 * FASTEST + len(START + TEXT)
    assert meter.bound(input=9_999, output=200, seconds=4.0).output == 200


def test_a_call_of_which_nothing_is_known_is_charged_for_its_estimate() -> None:
    bound = read().bound(input=500, output=100, seconds=60)
    assert (bound.tokens, bound.output) == (600, 100)


def test_prices_go_by_the_longest_name() -> None:
    assert price_of("claude-opus-4-5-20251101") is PRICES["claude-opus-4-5"]
    assert price_of("claude-opus-4-20250514") is PRICES["claude-opus-4"]
    assert price_of("claude-opus-5-5") is PRICES["claude-opus-5-5"]
    assert price_of("claude-opus-55") is DEAREST


def test_an_unknown_model_has_the_dearest_price() -> None:
    assert price_of("gpt-x") is DEAREST
    assert all(p.output <= DEAREST.output and p.input <= DEAREST.input for p in PRICES.values())


def test_what_a_call_costs() -> None:
    # 10 at $4, 50 at $20, 1000 at $0.20, 100 at $5, 200 at $8, each a million
    assert cost("claude-opus-5-5", WHOLE) == 40 + 1000 + 200 + 500 + 1600
    assert cost("claude-opus-5-5", Usage(searches=2)) == 20_000


@given(
    st.sampled_from([*PRICES, "unknown"]),
    st.builds(Usage, *[st.integers(0, 10**6)] * 5),
)
def test_the_bound_is_never_below_the_cost(model: str, usage: Usage) -> None:
    rest = usage.tokens - usage.output
    money = output_bound(model, usage.output, input=rest)
    assert input_bound(model, rest) + money >= cost(model, usage)
    assert output_for(model, money, input=rest) >= usage.output
    assert output_bound(model, output_for(model, money, input=rest), input=rest) <= money


def test_a_long_prompt_has_its_price_and_a_model_its_window() -> None:
    assert cost("claude-sonnet-4-5", Usage(input=200_000)) == 600_000
    assert cost("claude-sonnet-4-5", Usage(input=100_000, cache_read=100_001, output=10)) == (
        600_000 + 60_001 + 225
    )
    assert window_of("claude-sonnet-4-5-20250929", "") == 200_000
    assert (
        window_of("claude-sonnet-4-5-20250929", "effort-2025-11-24,context-1m-2025-08-07")
        == 1_000_000
    )
    assert window_of("claude-opus-5-5", "") == window_of("unheard-of", "") == 1_000_000


def test_an_answer_that_tells_no_usage_is_not_taken_for_free() -> None:
    whole = Meter(stream=False)
    whole.feed(b'{"content": []}')
    whole.end()
    assert not whole.final
    assert whole.bound(input=500, output=100, seconds=0).estimated
    assert not read(b'data: {"type":"message_delta","usage":{"output_tokens":5}}\n').final


def test_the_rounds_of_one_call_are_added_up() -> None:
    rounds = [{"input_tokens": 100, "output_tokens": 7}, {"input_tokens": 30, "output_tokens": 5}]
    meter = read(
        b'data: {"type":"message_start","message":{"usage":{"input_tokens":30}}}\n',
        b'data: {"type":"message_delta","usage":%s}\n'
        % json.dumps({"input_tokens": 30, "output_tokens": 5, "iterations": rounds}).encode(),
    )
    assert (meter.usage.input, meter.usage.output) == (130, 12)
