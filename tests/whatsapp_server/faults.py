"""What goes wrong at WhatsApp, or on the way to it. All of it can be changed at any time."""

from __future__ import annotations

from typing import Literal

import attrs

#: How far a new connection gets.
Network = Literal[
    "whole",
    "black hole",  # it is taken, and nothing comes back
    "reset",
    "proxy refuses",  # 502
    "no TLS",  # nothing after the proxy's word
    "not WhatsApp",  # 403 in place of a websocket
    "no hello",  # nothing after the client's hello
]
#: What a message of the client meets.
Acknowledgement = Literal[
    "given",
    "late",
    "never",
    "refused",  # with `Faults.refusal`
    "connection lost once",  # it is taken; its acknowledgement is not sent
    "connection lost",  # the same each time
]
#: What asking for a file, or leaving one, meets.
Media = Literal["given", "hangs", "refused", "cut short", "damaged"]


@attrs.frozen
class Refusal:
    """The server's no to a login, by its number: 401 unlinked, 402 banned for a time, 403, 405 outdated, 406, 409,
    500, 503 …"""

    reason: int
    more: dict[str, str] = attrs.field(factory=dict)  # of a ban: code, expire


@attrs.define(eq=False)
class Faults:
    """The present ones. Nothing is wrong at first."""

    network: Network = "whole"
    login: Refusal | None = None
    acknowledgement: Acknowledgement = "given"
    refusal: str = "463"
    lateness: float = 0.0  # seconds, of a late acknowledgement
    slowness: float = 0.0  # seconds before anything of the client is looked at
    unanswered: bool = False  # questions whose answer is empty get none
    receipts_lost: bool = False  # a delivery counts as not made, and is made again
    code_error: str = ""  # what a wish for a code to type in is refused with: 400, 429
    media: Media = "given"
    media_status: int = 404  # of a file that is refused
    asks_again: bool = True  # a phone that cannot read what the client said asks for it again
