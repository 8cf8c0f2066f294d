"""What passes between daemon and bridge: bounded, of the right types, or refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy.model import Attachment, ChatId, Message, Micros, Quoted, SenderId
from pynchy.text.prompt import TEXT_LIMIT
from pynchy.whatsapp import lines

TEXTS = st.text(st.characters(exclude_categories=())) | st.sampled_from(
    ["x" * 3_000_000, "\U0001f600" * 70_000, "\ud800", "\x00", "a\u202eb", "y" * 64_990]
)
MESSAGES = st.builds(
    Message,
    chat=st.just(ChatId("1@g.us")),
    id=TEXTS,
    sender=st.just(SenderId("2@s.whatsapp.net")),
    sender_name=TEXTS,
    sent_at=st.integers(-(2**70), 2**70).map(Micros),
    text=TEXTS,
    quoted=st.none() | st.builds(Quoted, id=TEXTS, sender_name=TEXTS, text=TEXTS),
    attachments=st.lists(
        st.builds(Attachment, path=st.just("f"), media_type=TEXTS, size=st.integers(), name=TEXTS),
        max_size=2,
    ).map(tuple),
    edits=st.none() | TEXTS,
    chat_name=st.none() | TEXTS,
)


@given(MESSAGES)
def test_whatever_somebody_sends_fits_a_line_and_comes_out_the_same(message: Message) -> None:
    fitted = lines.fitted(message)
    line = lines.encode({"line": "message", "message": lines.message_out(fitted)})
    assert len(line) < 1024 * 1024 < lines.LONGEST
    assert lines.message_in(lines.decode(line)["message"]) == fitted
    assert lines.fitted(fitted) == fitted
    assert len(fitted.text) <= TEXT_LIMIT  # so that the prompt does not cut the note off
    fitted.text.encode()
    if len(message.text) < lines.TEXT and message.text.isprintable():
        assert fitted.text == message.text


def test_long_ids_stay_apart() -> None:
    ids = {lines.short_id("x" * 1000 + str(n)) for n in range(10)}
    assert len(ids) == 10
    assert all(len(each) <= lines.ID for each in ids)


GOOD = lines.message_out(
    Message(ChatId("1@g.us"), "M1", SenderId("2@s.whatsapp.net"), "Ann", Micros(1), "hello")
)


@pytest.mark.parametrize(
    "fields",
    [
        {**GOOD, "text": None},
        {**GOOD, "sent_at": "soon"},
        {**GOOD, "sent_at": True},
        {**GOOD, "from_a_newer_version": 1},
        {**GOOD, "quoted": {"id": 1, "sender_name": "", "text": ""}},
        {**GOOD, "attachments": None},
        {**GOOD, "attachments": [7]},
        {key: value for key, value in GOOD.items() if key != "sender"},
        None,
        "message",
    ],
)
def test_what_is_no_message_is_refused(fields: Any) -> None:
    with pytest.raises(lines.BadLine):
        lines.message_in(fields)


@pytest.mark.parametrize("raw", [b"[" * 100_000, b"7", b"{", b"\xff", b'{"number": ' + b"9" * 5000])
def test_what_is_no_line_is_refused(raw: bytes) -> None:
    with pytest.raises(lines.BadLine):
        lines.decode(raw)
