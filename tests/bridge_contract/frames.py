"""The lines of a bridge, each as a class. One with a field that is missing, unknown or of another type is refused."""

from __future__ import annotations

from typing import Any, Final, Literal

import attrs

from pynchy.chat.channel import State
from pynchy.model import Message
from pynchy.whatsapp import lines
from pynchy_agent.values import Instance, Wrong


@attrs.frozen
class StateIs:
    state: State
    detail: str = ""


@attrs.frozen
class Me:
    number: str


@attrs.frozen
class Chat:
    chat: str
    name: str


@attrs.frozen
class Arrived:
    number: int
    message: Message


@attrs.frozen
class Aside:
    number: int
    chat: str
    who: str
    reason: str


@attrs.frozen
class Transcribe:
    number: int
    chat: str
    file: str


@attrs.frozen
class Answer:
    """To ``send``: outcome and reason. To ``was_sent``: sent. To ``groups``: groups. To ``pulse``: nothing more."""

    request: int
    outcome: Literal["sent", "not_connected", "uncertain", "retry", "refused", "never"] | None = (
        None
    )
    reason: str = ""
    sent: bool | None = None
    groups: tuple[tuple[str, str], ...] | None = None


@attrs.frozen
class Qr:
    data: str


@attrs.frozen
class Code:
    code: str


@attrs.frozen
class Taken:
    pass


@attrs.frozen
class IsLinked:
    number: str
    new: bool
    doubt: str = ""


@attrs.frozen
class Unlinked:
    pass


@attrs.frozen
class Failed:
    reason: str


Frame = (
    StateIs
    | Me
    | Chat
    | Arrived
    | Aside
    | Transcribe
    | Answer
    | Qr
    | Code
    | Taken
    | IsLinked
    | Unlinked
    | Failed
)

#: What a bridge may say while it runs, and while it links.
RUNNING: Final[dict[str, type[Frame]]] = {
    "state": StateIs,
    "me": Me,
    "chat": Chat,
    "message": Arrived,
    "aside": Aside,
    "transcribe": Transcribe,
    "answer": Answer,
}
LINKING: Final[dict[str, type[Frame]]] = {
    "qr": Qr,
    "code": Code,
    "taken": Taken,
    "linked": IsLinked,
    "unlinked": Unlinked,
    "failed": Failed,
    "chat": Chat,
}


def read_frame(raw: bytes, known: dict[str, type[Frame]]) -> Frame:
    """The frame of a line. Raises `BadLine`."""
    assert len(raw) <= lines.LONGEST
    fields: dict[str, Any] = lines.decode(raw)
    name = fields.pop("line", None)
    if name not in known:
        raise lines.BadLine(f"{name!r} is no line of a bridge")
    cls: type[Any] = known[name]
    unknown = fields.keys() - {field.name for field in attrs.fields(cls)}
    if unknown:
        raise lines.BadLine(f"{name}: {', '.join(unknown)} is not known")
    if cls is Arrived:
        return Arrived(int(fields["number"]), lines.message_in(fields["message"]))
    try:
        frame: Frame = Instance.of(cls).take(fields)
    except Wrong as error:
        raise lines.BadLine(f"{name}: {error}") from None
    return frame
