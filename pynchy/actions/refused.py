"""Refuse an act: the error, and a block that makes other errors refusals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Refused(Exception):
    """The act is not carried out, and no row was written. The text says why, to whoever asked.

    ``code`` is for programs: "not_allowed", "unknown_group", "bad_request" and the like.
    """

    def __init__(self, text: str, code: str = "not_allowed") -> None:
        super().__init__(text)
        self.code = code


@contextmanager
def refused(*errors: type[Exception], code: str = "bad_request") -> Iterator[None]:
    """A block in which these errors are refusals, in the same words."""
    try:
        yield
    except errors as error:
        raise Refused(str(error), code) from None
