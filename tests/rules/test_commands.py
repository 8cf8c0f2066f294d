"""Which lines are commands, and from whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy.chat import command_handlers
from pynchy.chat.commands import COMMANDS, Command, help_text, parse, refusal
from pynchy.model import Attachment, ChatId, Group, GroupId, Message, Micros, SenderId

ANN = SenderId("4917@s.whatsapp.net")
BOB = SenderId("4918@s.whatsapp.net")


def group(
    *, main: bool = False, allowed: tuple[SenderId, ...] | None = None, trigger: str = "Pynchy"
) -> Group:
    return Group(
        folder=GroupId("main" if main else "family"),
        name="Family",
        trigger=trigger,
        requires_trigger=not main,
        is_main=main,
        allowed_senders=allowed,
    )


def message(
    text: str,
    *,
    sender: SenderId = ANN,
    chat: str = "1203@g.us",
    from_me: bool = False,
    attachments: tuple[Attachment, ...] = (),
    edits: str | None = None,
) -> Message:
    return Message(
        chat=ChatId(chat),
        id="A1",
        sender=sender,
        sender_name="Ann",
        sent_at=Micros(0),
        text=text,
        from_me=from_me,
        attachments=attachments,
        edits=edits,
    )


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("/help", Command("help")),
        ("  /Stop \n", Command("stop")),
        ("/new", Command("new")),
        ("/model", Command("model")),
        ("/model claude-opus-4-1", Command("model", "claude-opus-4-1")),
        ("@Pynchy /stop", Command("stop")),
        ("@pynchy: /stop", Command("stop")),
        ("\u2068@Pynchy\u2069 /stop", Command("stop")),
    ],
)
def test_a_line_that_is_wholly_a_command_is_one(text: str, order: Command) -> None:
    assert parse(message(text), group()) == order


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "//stop",
        "/ stop",
        "/new idea: we could paint it",
        "/stop it",
        "/etc/passwd is a file",
        "/unknown",
        "stop",
        "please /stop",
        "@Pynchy stop",
        "@Pynchy please /stop",
        "@Pynchy2 /stop",
        "/st\u043ep",  # a Cyrillic o
        "/\uff53top",
        "/STOP\u0130",
        "/model two words",
        "/model ../../x",
        "/groups",  # main's
        "/pause family",
        "/help\n/stop",
        "/" + "x" * 100_000,
    ],
)
def test_text_that_merely_starts_with_a_slash_is_said_to_the_agent(text: str) -> None:
    assert parse(message(text), group()) is None


def test_main_knows_more() -> None:
    main = group(main=True)
    assert parse(message("/groups"), main) == Command("groups")
    assert parse(message("/pause"), main) is None
    assert parse(message("/pause family; /resume work"), main) is None
    assert parse(message("/pause f\u0430mily"), main) is None  # a Cyrillic a
    assert parse(message("/pause family"), main) == Command("pause", "family")
    assert parse(message("/pause ../family"), main) is None
    assert "/groups" in help_text(main)
    assert "/groups" not in help_text(group())


def test_pictures_and_edits_are_no_commands() -> None:
    picture = Attachment(path="a.jpg", media_type="image/jpeg", size=1)
    assert parse(message("/stop", attachments=(picture,)), group()) is None
    assert parse(message("/stop", edits="A0"), group()) is None  # threat P5


def test_a_name_with_a_slash_in_it_is_still_an_address() -> None:
    assert parse(message("/stop"), group(trigger="a/b")) == Command("stop")


def test_who_may_order_in_main() -> None:  # invariants 155, 156
    order, text = Command("pause", "family"), message("/pause family")
    assert refusal(order, text, group(main=True)) is not None
    assert refusal(order, text, group(main=True, allowed=(ANN,))) is None
    assert refusal(order, text, group(main=True, allowed=(BOB,))) is not None
    assert refusal(order, message("x", from_me=True), group(main=True)) is None
    assert refusal(order, message("x", chat="console:main"), group(main=True)) is None
    assert refusal(Command("new"), text, group(main=True)) is not None


def test_who_may_order_elsewhere() -> None:
    assert refusal(Command("stop"), message("/stop"), group()) is None
    assert refusal(Command("stop"), message("/stop"), group(allowed=(BOB,))) is not None
    assert refusal(Command("model"), message("/model"), group()) is None
    dearer = Command("model", "claude-opus-4-1")
    assert refusal(dearer, message("/model"), group()) is not None
    assert refusal(dearer, message("/model"), group(allowed=(ANN,))) is None


@given(text=st.text(), main=st.booleans())
def test_any_text_is_a_known_order_or_none(text: str, main: bool) -> None:
    for line in (text, "/" + text, "@Pynchy /" + text):
        order = parse(message(line), group(main=main))
        assert order is None or order.name in COMMANDS


def test_every_command_is_carried_out_by_somebody() -> None:
    assert set(COMMANDS) == set(command_handlers.HANDLERS)
