"""What may stand in the body of a model call."""

import json
import time
from typing import Any, TypeVar

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pynchy.gateway.body import (
    MAX_DEPTH,
    MAX_OUTPUT,
    MAX_VALUES,
    SLICE,
    Call,
    Contents,
    Steps,
    at_once,
    check,
    decode,
)
from pynchy.gateway.exchange import RunIdentity
from pynchy.gateway.policy import MAX_BODY, Refusal
from pynchy.model import GroupId, RunId

T = TypeVar("T")
WHO = RunIdentity(RunId("0123456789abcdef"), GroupId("family"), "t")
PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}


def body(**more: Any) -> dict[str, Any]:
    say = {"role": "user", "content": "hello"}
    return {"model": "claude-x", "max_tokens": 100, "messages": [say], **more}


def checked(document: Any, who: RunIdentity = WHO, *, counting: bool = False) -> Call:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return at_once(check(who, raw, counting=counting, user="a-user"))


def refused(document: Any, who: RunIdentity = WHO) -> Refusal:
    with pytest.raises(Refusal) as raised:
        checked(document, who)
    return raised.value


def saying(*blocks: Any) -> dict[str, Any]:
    return body(messages=[{"role": "user", "content": list(blocks)}])


def test_what_was_checked_is_what_is_sent() -> None:
    document = body(system="é", stream=True, temperature=0.5)
    assert json.loads(at_once(checked(document).encode())) == document


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(json_values, st.booleans())
@example('\\"', False)
@example("\\\\", True)
@example('[[[[{{{{,"\\', True)
def test_any_json_comes_through_as_it_is(value: Any, ascii_only: bool) -> None:
    raw = json.dumps({"key": value}, ensure_ascii=ascii_only).encode()
    assert at_once(decode(raw)) == {"key": value}


@given(st.binary(max_size=200) | st.text('{}[]",:\\ au0e1.-\n', max_size=60).map(str.encode))
def test_any_bytes_are_decoded_or_refused(raw: bytes) -> None:
    try:
        assert isinstance(at_once(decode(raw)), dict)
    except Refusal as refusal:
        assert refusal.status == 400  # whether it raises at all is open


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"{} {}",
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
        b'{"a":"\xff"}',
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1e999}',
        b'{"a":' + b"9" * 10_000 + b"}",
        b'{"a":' + b"[" * 200 + b"]" * 200 + b"}",
        b'{"a":' + b"[" * 1_000_000,
        b'{"a":"\n"}',
    ],
)
def test_loose_json_is_refused(raw: bytes) -> None:  # threat N2, L8
    assert refused(raw).status == 400


def test_depth_and_number_have_bounds_that_normal_bodies_keep() -> None:
    def nested(levels: int) -> bytes:
        return b'{"a":' * levels + b"1" + b"}" * levels

    assert at_once(decode(nested(MAX_DEPTH)))
    assert "deep" in refused(nested(MAX_DEPTH + 1)).message
    many = {"a": ["x,[{"] * (MAX_VALUES - 10)}  # brackets within strings are no values
    assert at_once(decode(json.dumps(many).encode())) == many
    assert "too many" in refused(json.dumps({"a": [1] * (MAX_VALUES + 1)}).encode()).message
    assert "too many" in refused(json.dumps({"a": ["x"] * (MAX_VALUES + 1)}).encode()).message


def test_a_body_that_only_opens_strings_is_refused_quickly() -> None:
    # A scan that starts again at every quote would take hours for these.
    for piece in (b'\\"', b'"', b"\\\\", b'\\\\"', b"[", b"]"):
        raw = b'{"a":"' + piece * ((30 << 20) // len(piece))
        assert refused(raw).status == 400


def test_a_lone_surrogate_is_refused() -> None:
    call = checked(b'{"model":"m","max_tokens":1,"messages":[{"content":"\\ud800"}]}')
    with pytest.raises(Refusal):
        at_once(call.encode())


@pytest.mark.parametrize("tokens", [10**9, MAX_OUTPUT + 1, 0, -5, 1.5, "100", None, True])
def test_max_tokens_is_a_sane_number(tokens: Any) -> None:  # threat N2, X6
    assert refused(body(max_tokens=tokens)).status == 400


def test_counting_needs_no_max_tokens() -> None:
    document = body()
    del document["max_tokens"]
    assert checked(document, counting=True).max_tokens == 0
    assert refused(document).status == 400


@pytest.mark.parametrize("key", ["mcp_servers", "container"])
@pytest.mark.parametrize("value", [[], None, "x"])
def test_what_makes_the_provider_reach_out_is_refused(key: str, value: Any) -> None:  # threat N3
    refusal = refused(body(**{key: value}))
    assert refusal.status == 403
    assert key in refusal.message


def test_keys_that_nobody_looked_at_are_left_out() -> None:
    document = checked(body(speed="fast", inference_geo="us", fallbacks=[1], thinking={})).document
    assert set(document) == {"model", "max_tokens", "messages", "thinking"}


def test_the_provider_sees_one_user_for_a_group() -> None:  # threat K5
    sent = checked(body(metadata={"user_id": "device-and-account", "more": 1}))
    assert sent.document["metadata"] == {"user_id": "a-user"}
    assert "metadata" not in checked(body()).document


@pytest.mark.parametrize(
    "kind", ["web_search_20250305", "web_fetch_20250910", "code_execution_20250825"]
)
def test_a_server_tool_passes_only_where_it_was_given(kind: str) -> None:  # threat N3, N7
    document = body(tools=[{"type": kind, "name": kind.rpartition("_")[0], "max_uses": 1}])
    refusal = refused(document)
    assert refusal.status == 403
    assert kind in refusal.message
    who = RunIdentity(WHO.run, WHO.group, "t", server_tools=frozenset({kind.rpartition("_")[0]}))
    assert checked(document, who).document["tools"] == document["tools"]


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "mcp_toolset", "mcp_server_name": "x"},
        {"type": "advisor_20260301", "name": "advisor"},
        {"type": "web_search", "name": "x"},
        {"type": "Custom", "name": "x"},
        {"type": "", "name": "x"},
        {"type": "a_tool_of_next_year_20280101", "name": "x"},
    ],
)
def test_unknown_tools_are_refused(tool: dict[str, Any]) -> None:
    who = RunIdentity(
        WHO.run, WHO.group, "t", server_tools=frozenset({"code_execution", "not-a-family"})
    )
    assert refused(body(tools=[tool]), who).status == 403


@pytest.mark.parametrize("tools", ["x", {}, [None], ["x"], [{"type": None}], [{"type": 3}]])
def test_malformed_tools_are_refused(tools: Any) -> None:
    assert refused(body(tools=tools)).status == 400


def test_tools_of_the_container_pass() -> None:
    tools = [
        {"name": "mcp__pynchy__send_message", "input_schema": {"type": "object"}},
        {"type": "custom", "name": "x", "input_schema": {}},
        {"type": "bash_20250124", "name": "bash"},
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
        {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"},
    ]
    assert checked(body(tools=tools)).document["tools"] == tools


@pytest.mark.parametrize(
    "block",
    [
        {"type": "document", "source": {"type": "file", "file_id": "file_x"}},
        {"type": "image", "source": {"type": "file", "file_id": "file_x"}},
        {"type": "image", "source": {"type": "anything", "file_id": "file_x"}},
        {"type": "container_upload", "file_id": "file_x"},
        {"type": "image", "source": {"type": "url", "url": "https://evil.example/?q=secret"}},
        {"type": "document", "source": {"type": "url", "url": "https://evil.example/"}},
    ],
)
def test_content_that_lies_elsewhere_is_refused(block: dict[str, Any]) -> None:  # threat N3, K5
    result = {"type": "tool_result", "tool_use_id": "x", "content": [block]}
    deep = {"type": "document", "source": {"type": "content", "content": [block]}}
    for document in (saying(block), saying(result), saying(deep), body(system=[block])):
        assert refused(document).status == 403


def test_content_by_url_passes_where_fetching_was_given() -> None:
    who = RunIdentity(WHO.run, WHO.group, "t", server_tools=frozenset({"web_fetch"}))
    checked(saying({"type": "image", "source": {"type": "url", "url": "https://x.example/"}}), who)


def test_what_an_agent_hands_to_a_tool_is_its_own() -> None:
    use = {"type": "tool_use", "id": "x", "name": "y", "input": {"type": "file", "file_id": "z"}}
    checked(saying(use))


@pytest.mark.parametrize(
    "document",
    [
        body(messages="x"),
        body(messages=["x"]),
        body(model=None),
        body(model=""),
        body(model="x" * 129),
        body(stream="yes"),
        body(stream=1),
    ],
)
def test_malformed_calls_are_refused(document: dict[str, Any]) -> None:
    assert refused(document).status == 400


def test_a_group_may_be_held_to_its_models() -> None:
    who = RunIdentity(WHO.run, WHO.group, "t", models=("claude-haiku-5-5",))
    assert refused(body(), who).status == 400
    assert checked(body(model="claude-haiku-5-5"), who).model == "claude-haiku-5-5"
    who = RunIdentity(WHO.run, WHO.group, "t", models=("haiku", "best"))
    for model in ("claude-haiku-5-5", "claude-haiku-9-20300101", "claude-opus-5-5"):
        assert checked(body(model=model), who).model == model
    for model in ("claude-opus-4-5", "claude-sonnet-5-5", "claude-haikus-5"):
        assert refused(body(model=model), who).status == 400


def test_pictures_do_not_count_by_their_bytes() -> None:
    call = checked(saying(PICTURE, {"type": "tool_result", "content": [PICTURE]}))
    assert (call.contents.pictures, call.contents.opaque) == (2, 8)
    assert call.most_input(3_008, window=WINDOW) == 3_000 + 10_000 + 1_024


WINDOW = 200_000
PAGES = {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}
FETCH = RunIdentity(WHO.run, WHO.group, "t", server_tools=frozenset({"web_fetch", "web_search"}))


def most(document: dict[str, Any], who: RunIdentity = WHO) -> int:
    return checked(document, who).most_input(1_000, window=WINDOW)


def test_what_cannot_be_measured_here_may_be_all_that_the_model_reads() -> None:  # threat X6
    assert most(saying({"type": "document", "source": PAGES})) == WINDOW
    assert (
        most(saying({"type": "tool_result", "content": [{"type": "document", "source": PAGES}]}))
        == WINDOW
    )
    for odd in ({"media_type": "image/png"}, {"type": "BASE64"}, {"type": "of another day"}):
        assert most(saying({"type": "document", "source": {**PAGES, **odd}})) == WINDOW
    elsewhere = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    assert most(saying(elsewhere), FETCH) == WINDOW
    assert most(body(tools=[{"type": "web_fetch_20250910", "name": "web_fetch"}]), FETCH) == WINDOW
    compact = {"edits": [{"type": "compact_20260112"}]}
    assert most(body(context_management=compact)) == 2 * (1_000 + 1_024)


def test_searches_are_bounded_by_their_number() -> None:  # threat X6
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}
    call = checked(body(tools=[search]), FETCH)
    assert call.contents.searches == 2
    assert call.most_input(1_000, window=WINDOW) == 1_000 + 1_024 + 1_024 + 2_048 + 2 * 40_000
    for uses in (None, 0, -1, True, "8", 8, 10**9):  # what is reserved for is what is sent
        bounded = checked(body(tools=[{**search, "max_uses": uses}]), FETCH)
        assert bounded.contents.searches == bounded.document["tools"][0]["max_uses"] == 3
    assert search["max_uses"] == 2
    # Of what it will bring the API can count nothing.
    assert call.counted_input(1_000, window=WINDOW) == 1_050 + 1_024 + 80_000


texts = st.text(max_size=300)


def block(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, **more}


def result(text: str) -> dict[str, Any]:
    return block("tool_result", tool_use_id="x", content=[PICTURE, block("text", text=text)])


def quoted(text: str) -> dict[str, Any]:
    source = {"type": "text", "media_type": "text/plain", "data": text}
    return block("document", citations={"enabled": True}, source=source)


blocks = st.one_of(
    st.builds(lambda text: block("text", text=text), texts),
    st.builds(lambda text: block("tool_use", id="x", name="n", input={"a": text}), texts),
    st.builds(result, texts),
    st.builds(quoted, texts),
    st.just(PICTURE),
    st.just(block("document", source=PAGES)),
)
schema = {"type": "object"}
tools = st.one_of(
    st.builds(lambda text: {"name": "t", "description": text, "input_schema": schema}, texts),
    st.just(block("bash_20250124", name="bash")),
    st.just(block("text_editor_20250728", name="e")),
    st.just(block("computer_20250124", name="c", display_width_px=1, display_height_px=1)),
)


def charged(value: Any) -> int:
    """What the API may charge for a part of a body at the very most, by its documentation: a token for each
    byte of text, with sentences that are cited numbered, and so on."""
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, list):
        return sum(map(charged, value))
    if not isinstance(value, dict):
        return 1
    if value == PICTURE:
        return 4_784
    if value.get("source") == PAGES:
        return 100 * (1_568 + 3_000)
    whole = sum(len(key) + charged(item) for key, item in value.items())
    fixed = {"bash_20250124": 245, "text_editor_20250728": 700, "computer_20250124": 735 + 499}
    return whole * (3 if "citations" in value else 1) + fixed.get(str(value.get("type")), 0)


@given(
    st.lists(st.lists(blocks, max_size=5), min_size=1, max_size=4),
    st.lists(tools, max_size=4),
    texts,
)
def test_nothing_costs_more_than_was_reserved_for_it(  # threat X6
    said: list[list[dict[str, Any]]], offered: list[dict[str, Any]], system: str
) -> None:
    messages = [{"role": "user", "content": content} for content in said]
    call = checked(body(messages=messages, tools=offered, system=system))
    whole = charged(messages) + charged(offered) + charged(system) + 4 * len(messages)
    if offered:
        whole += 530  # its own words on tools
    encoded = at_once(call.encode())
    # More than the model reads is refused, and costs nothing.
    assert call.most_input(len(encoded), window=WINDOW) >= min(whole, WINDOW)


def test_a_call_is_made_to_fit_its_budget() -> None:
    call = checked(body(thinking={"type": "adaptive"}))
    assert call.affording(100) is call
    assert call.affording(40).document["max_tokens"] == call.affording(40).max_tokens == 40
    thinking = checked(body(thinking={"type": "enabled", "budget_tokens": 99}))
    with pytest.raises(Refusal):
        thinking.affording(40)


@settings(max_examples=20)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_a_large_body_is_written_in_steps_and_says_the_same(value: Any) -> None:  # threat N9
    document = {"model": "m", "messages": [value, "a\u20ac\n" * SLICE]}
    call = Call("m", 1, False, Contents(), document, large=True)
    whole = at_once(call.encode())
    assert whole == at_once(attrs.evolve(call, large=False).encode())
    assert sum(1 for _ in call.encode()) > 1


def test_no_step_of_a_large_body_holds_the_loop() -> None:  # threat N9
    size = MAX_BODY - 200
    for content in (
        b'"' + b"a" * size + b'"',
        b'"' + b'\\"' * (size // 2) + b'"',
        b" " * size + b'""',
    ):
        raw = b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":%s}]}' % content
        steps = check(WHO, raw, counting=False, user="u")
        call = timed(steps)
        timed(call.encode())
    with pytest.raises(Refusal):
        timed(decode(b"]" * MAX_BODY))


def timed(steps: Steps[T]) -> T:
    while True:
        began = time.thread_time()
        try:
            next(steps)
        except StopIteration as done:
            result: T = done.value
            return result
        finally:
            assert time.thread_time() - began < 0.25  # of the processor; a tenth of it is usual
