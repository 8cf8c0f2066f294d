"""The error for an act that is refused."""

from __future__ import annotations


class Refused(Exception):
    """The act is not carried out, and no row was written. The text says why, to whoever asked.

    ``code`` is for programs: "not_allowed", "unknown_group", "bad_request" and the like.
    """

    def __init__(self, text: str, code: str = "not_allowed") -> None:
        super().__init__(text)
        self.code = code
