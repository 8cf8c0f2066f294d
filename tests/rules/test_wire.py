"""The wire: any chunking gives the same frames, any garbage is a `BadFrame`, everything comes back as it went."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from pynchy_agent import wire

# What survives the wire unchanged: any text without NUL and without lone surrogates.
texts = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
sessions = st.none() | st.uuids().map(str)
ids = st.lists(st.text("0123456789abcdef-", min_size=1, max_size=36), max_size=5).map(tuple)
seconds = st.floats(min_value=0, max_value=1e6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
names = st.from_regex(r"[a-z][a-z_]{0,30}", fullmatch=True)
commands = st.builds(wire.Command, name=names, args=st.dictionaries(texts, json_values, max_size=4))
frames = st.one_of(
    st.just(wire.Ready()),
    st.just(wire.Idle()),
    st.builds(wire.Accepted, prompts=ids),
    st.builds(wire.Progress, what=texts, timeout=seconds, session=sessions),
    st.builds(
        wire.Result,
        text=st.none() | texts,
        answered=ids,
        session=sessions,
        cut=st.booleans(),
    ),
    st.builds(wire.Retrying, attempt=st.integers(0, 99), delay=seconds, reason=texts),
    st.builds(
        wire.Error,
        kind=st.sampled_from(sorted(wire.ERROR_KINDS)),
        message=texts,
        prompts=ids,
        session=sessions,
        retry_at=st.none() | seconds,
        status=st.none() | st.integers(100, 599),
        text=st.none() | texts,
    ),
)
prompts = st.builds(
    wire.Prompt,
    id=st.uuids().map(str),
    text=texts,
    images=st.lists(st.builds(wire.Image, path=texts, media_type=texts), max_size=2).map(tuple),
)
tools = st.builds(
    wire.Tool,
    name=texts,
    description=texts,
    schema=st.dictionaries(texts, json_values, max_size=3),
    parallel=st.booleans(),
    speaks=st.booleans(),
    timeout=seconds,
)
lines = st.one_of(
    st.builds(
        wire.Start,
        run=texts,
        group=texts,
        chat=texts,
        is_main=st.booleans(),
        scheduled=st.booleans(),
        session=sessions,
        model=st.none() | texts,
        tools=st.lists(tools, max_size=3).map(tuple),
        timezone=texts,
        assistant=texts,
        token=texts,
        gateway=texts,
        prompts=st.lists(prompts, max_size=2).map(tuple),
    ),
    prompts,
    st.builds(wire.Compact, id=texts),
    st.builds(wire.Answer, id=texts, ok=st.booleans(), text=texts),
    st.just(wire.Interrupt()),
    st.just(wire.Close()),
)


def heard(data: bytes, cuts: list[int]) -> list[object]:
    """What a decoder makes of ``data`` when it comes cut at ``cuts``; errors by their words."""
    decoder = wire.FrameDecoder()
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    found: list[object] = []
    for begin, end in pairwise(edges):
        for item in decoder.feed(data[begin:end]):
            found.append(str(item) if isinstance(item, wire.BadFrame) else item)
    return [*found, decoder.noise]


@given(frame=frames)
@example(frame=wire.Result(text="x\n---PYNCHY_OUTPUT_END---\n", answered=(), session=None))
@example(frame=wire.Result(text="\u2028\u0085\r", answered=(), session=None))
def test_a_frame_comes_back_as_it_went(frame: wire.Frame) -> None:  # threat S2
    # invariant 53: an agent that prints our markers inside its text cuts nothing off
    assume(not isinstance(frame, wire.Progress) or len(frame.what) <= 200)
    assume(not isinstance(frame, wire.Retrying) or len(frame.reason) <= 200)
    (found,) = wire.FrameDecoder().feed(wire.encode_frame(frame))
    assert found == frame


@given(line=lines)
def test_a_line_comes_back_as_it_went(line: wire.ToContainer) -> None:
    data = wire.encode_line(line)
    assert data.count(b"\n") == 1
    assert data.endswith(b"\n")
    assert wire.decode_line(data[:-1]) == line


@given(command=commands)
def test_a_command_comes_back_as_it_went(command: wire.Command) -> None:
    assert wire.decode_command(wire.encode_command(command)) == command


@given(text=st.text())
@example(text="a\0b")
@example(text="\ud800 \ude00")
@example(text="\\u0000 \\ud800")
def test_whatever_the_text_the_other_side_can_read_it(text: str) -> None:
    line = wire.decode_line(wire.encode_line(wire.Prompt(id="1", text=text))[:-1])
    assert isinstance(line, wire.Prompt)
    readable = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert line.text == readable.replace("\0", "\N{REPLACEMENT CHARACTER}")


@given(
    parts=st.lists(
        frames.map(wire.encode_frame)
        | st.binary(max_size=60)
        | st.sampled_from(
            [
                wire.START_MARKER + b"\n",
                wire.END_MARKER + b"\n",
                b"{}\n",
                b"\n",
                b"noise ---PYNCHY_OUTPUT_START---\n",
            ]
        ),
        max_size=8,
    ),
    cuts=st.lists(st.integers(0, 10_000), max_size=8),
)
def test_any_chunking_gives_the_same_frames(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    assert heard(data, cuts) == heard(data, [])
    assert heard(data, list(range(len(data)))) == heard(data, [])


@given(data=st.binary(max_size=400) | texts.map(str.encode))
@example(data=b"\xef\xbb\xbf{}")
@example(data=b"[" * 100_000)
@example(data=b'{"a":' * 5000)
@example(data=b'{"a":1e999}')
@example(data=b'{"a":' + b"9" * 5000 + b"}")
@example(data=b'{"a":"\\ud800"}')
@example(data=b'{"a":1,"a":2}')
@example(data=b'{"a":NaN}')
def test_garbage_is_a_bad_frame_and_nothing_else(data: bytes) -> None:
    for decode in (wire.loads_strict, wire.decode_line, wire.decode_frame, wire.decode_command):
        with suppress(wire.BadFrame):
            decode(data)


@given(
    body=st.dictionaries(st.sampled_from(["type", "prompts", "text", "id", "images"]), json_values)
)
@example(body={"type": "result", "text": None, "answered": [1]})
@example(body={"type": "progress", "what": "x", "timeout": True})
@example(body={"type": "error", "kind": "session", "message": "", "session": "../../etc"})
def test_ill_typed_fields_are_bad_frames(body: dict[str, object]) -> None:
    for kind in (
        "ready",
        "accepted",
        "progress",
        "result",
        "retrying",
        "error",
        "command",
        "prompt",
        "start",
    ):
        for decode in (wire.decode_frame, wire.decode_line):
            with suppress(wire.BadFrame):
                decode(json.dumps({**body, "type": kind}).encode())


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1e400}',
        b'{"a":9223372036854775808}',
        b'{"a":-9223372036854775809}',
        b'{"a":"\\u0000"}',
        b'{"a":"\\udc00"}',
        b'{"\\ud800":1}',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":"\xff"}',
        b"[]",
        b'"text"',
        b"null",
        b"",
        b"{} {}",
        b"{'a':1}",
        b"[" * 33 + b"]" * 33,
        b'{"a":[' + b"1," * wire.MAX_NODES + b"1]}",
        b" " * (wire.MAX_LINE + 1),
    ],
)
def test_strict_json_refuses(data: bytes) -> None:
    # threat I4: what two parsers could read differently is read by none
    with pytest.raises(wire.BadFrame):
        wire.loads_strict(data)


def test_depth_is_counted_outside_strings_only() -> None:
    deep = b'{"a":' * (wire.MAX_DEPTH - 1) + b'"[[[[ \\" [["' + b"}" * (wire.MAX_DEPTH - 1)
    assert wire.loads_strict(deep)
    with pytest.raises(wire.BadFrame):
        wire.loads_strict(b'{"a":' + deep + b"}" + b"}")


def test_a_line_without_an_end_is_given_up_on() -> None:
    # invariant 94: no output of a container grows the host without bound
    decoder = wire.FrameDecoder()
    for _ in range(wire.MAX_LINE >> 16):
        assert list(decoder.feed(b"x" * (1 << 16))) == []
    with pytest.raises(wire.BadFrame):
        next(decoder.feed(b"x"))


def test_an_unknown_field_of_a_frame_is_refused_and_a_longer_reason_is_cut() -> None:
    with pytest.raises(wire.BadFrame, match="unknown field 'more'"):
        wire.decode_frame(b'{"type":"ready","more":1}')
    cut = wire.decode_frame(json.dumps({"type": "progress", "what": "x" * 500}).encode())
    assert cut == wire.Progress(what="x" * 200)


@pytest.mark.parametrize(
    "unit",
    [
        b"[",
        b"]",
        b"{}",
        b"{",
        b'{"a":',
        b'"',
        b'\\"',
        b'"\\',
        b"\\",
        b",",
        b'"",',
        b"9",
        b"0.",
        b"1e5,",
        b"\xf0\x9f\x98\x80",
        b" ",
    ],
)
@pytest.mark.parametrize("head", [b"", b'{"type":"prompt","text":"', b'{"a":[', b'{"a":'])
def test_no_mebibyte_is_slow(unit: bytes, head: bytes) -> None:
    """Linear, whatever is repeated: a quadratic scan of a mebibyte would take hours, not the seconds allowed here."""
    data = head + unit * ((1 << 20) // len(unit))
    began = time.process_time()
    for decode in (wire.decode_frame, wire.decode_command, wire.decode_line):
        with pytest.raises(wire.BadFrame):
            decode(data)
    assert time.process_time() - began < 10  # a guard against hanging, no measurement
